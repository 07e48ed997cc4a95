//! The image as one tar that is an OCI image layout and a docker-archive at once: containerd, docker and skopeo each
//! take it as it is.
//!
//! ```text
//! oci-layout, index.json    OCI Image Layout Specification 1.0.0
//! manifest.json             what `docker load` looks for (Moby image specification v1.2)
//! blobs/sha256/<digest>     manifest, config and the one layer, named by both
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write as _;
use std::str::FromStr;

use anyhow::{Result, bail};
use flate2::Compression;
use flate2::write::GzEncoder;
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

/// A file of the image's root.
pub struct File<'a> {
    /// Path without the leading slash.
    pub path: &'a str,
    /// Permission bits.
    pub mode: u32,
    /// Content.
    pub data: &'a [u8],
}

/// What the image is beside its files.
pub struct Description<'a> {
    /// Name that it is loaded under.
    pub name: &'a Name,
    /// Architecture as Go names it, such as `amd64`.
    pub architecture: &'a str,
    /// When it was made, RFC 3339: of the source, so that the same source gives the same bytes.
    pub created: &'a str,
    /// `uid:gid` of its process.
    pub user: &'a str,
    /// Its command, with arguments.
    pub entrypoint: &'a [&'a str],
    /// Labels (OCI Image Format Specification, "Pre-Defined Annotation Keys").
    pub labels: BTreeMap<&'static str, String>,
}

/// A repository and a tag, such as `vault-tenant-operator:0.1.0`.
#[derive(Clone, Debug)]
pub struct Name {
    repository: String,
    tag: String,
}

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // A colon before the last slash is that of a registry's port.
        let begin = text.rfind('/').map_or(0, |slash| slash + 1);
        match text[begin..].split_once(':') {
            Some((name, tag)) if !name.is_empty() && !tag.is_empty() && !text.contains('@') => {
                Ok(Self {
                    repository: text[..begin + name.len()].to_owned(),
                    tag: tag.to_owned(),
                })
            }
            _ => Err("it is no repository with a tag, such as registry.example.com/vault-tenant-operator:0.1.0".to_owned()),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.repository, self.tag)
    }
}

impl Name {
    /// As docker and containerd write it out: of Docker Hub, where no registry is named.
    fn canonical(&self) -> String {
        match self.repository.split_once('/') {
            None => format!("docker.io/library/{self}"),
            Some((host, _)) if host.contains(['.', ':']) || host == "localhost" => self.to_string(),
            Some(_) => format!("docker.io/{self}"),
        }
    }
}

/// The bytes of an archive, and by what it is known.
pub struct Archive {
    /// The tar.
    pub bytes: Vec<u8>,
    /// Digest of the manifest, by which registries know the image.
    pub manifest: String,
}

/// The architecture as Go names it, and so OCI: of a target such as `x86_64-unknown-linux-gnu`, or its first part.
///
/// # Errors
/// It is none that an image of ours runs on.
pub fn architecture(target: &str) -> Result<&'static str> {
    match target.split('-').next() {
        Some("x86_64") => Ok("amd64"),
        Some("aarch64") => Ok("arm64"),
        _ => bail!("an image runs on x86_64 or aarch64: this is {target}"),
    }
}

/// Packs the image. The same input gives the same bytes.
///
/// # Errors
/// None but of the libraries that write into memory.
pub fn pack(files: &[File<'_>], is: &Description<'_>) -> Result<Archive> {
    let root = tar_of(files)?;
    let unpacked = digest_of(&root);
    // Registries get it compressed; so it keeps its digest on the way.
    let layer = Blob::new("application/vnd.oci.image.layer.v1.tar+gzip", gzip(&root)?);
    let config = Blob::json(
        "application/vnd.oci.image.config.v1+json",
        &json!({
            "architecture": is.architecture,
            "os": "linux",
            "created": is.created,
            "config": {
                "User": is.user,
                "Entrypoint": is.entrypoint,
                "WorkingDir": "/",
                "Labels": is.labels,
            },
            "rootfs": { "type": "layers", "diff_ids": [unpacked] },
            "history": [{ "created": is.created, "created_by": "cargo run --example image" }],
        }),
    )?;
    let manifest = Blob::json(
        "application/vnd.oci.image.manifest.v1+json",
        &json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config.descriptor(),
            "layers": [layer.descriptor()],
            "annotations": is.labels,
        }),
    )?;
    let mut listed = manifest.descriptor();
    listed["platform"] = json!({ "architecture": is.architecture, "os": "linux" });
    listed["annotations"] = json!({
        // containerd takes the whole name from here, with its registry.
        "io.containerd.image.name": is.name.canonical(),
        "org.opencontainers.image.ref.name": is.name.tag,
    });
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [listed],
    });
    let docker = json!([{
        "Config": config.path(),
        "RepoTags": [is.name.to_string()],
        "Layers": [layer.path()],
    }]);
    let (index, docker) = (serde_json::to_vec(&index)?, serde_json::to_vec(&docker)?);
    let layout = br#"{"imageLayoutVersion":"1.0.0"}"#;
    let blobs = [&config, &layer, &manifest].map(|blob| (blob.path(), blob.data.as_slice()));
    let mut entries: Vec<(&str, &[u8])> = blobs
        .iter()
        .map(|(path, data)| (path.as_str(), *data))
        .collect();
    entries.extend([
        ("index.json", index.as_slice()),
        ("manifest.json", &docker),
        ("oci-layout", layout),
    ]);
    let files: Vec<File<'_>> = entries
        .into_iter()
        .map(|(path, data)| File {
            path,
            mode: 0o644,
            data,
        })
        .collect();
    Ok(Archive {
        bytes: tar_of(&files)?,
        manifest: manifest.digest,
    })
}

/// Something that others name by its digest.
struct Blob {
    media_type: &'static str,
    digest: String,
    data: Vec<u8>,
}

impl Blob {
    fn new(media_type: &'static str, data: Vec<u8>) -> Self {
        Self {
            media_type,
            digest: digest_of(&data),
            data,
        }
    }

    fn json(media_type: &'static str, value: &Value) -> Result<Self> {
        Ok(Self::new(media_type, serde_json::to_vec(value)?))
    }

    fn descriptor(&self) -> Value {
        json!({ "mediaType": self.media_type, "digest": self.digest, "size": self.data.len() })
    }

    fn path(&self) -> String {
        format!("blobs/{}", self.digest.replace(':', "/"))
    }
}

fn digest_of(data: &[u8]) -> String {
    let sum = digest(&SHA256, data);
    let hex = sum.as_ref().iter().map(|byte| format!("{byte:02x}"));
    format!("sha256:{}", hex.collect::<String>())
}

fn gzip(data: &[u8]) -> Result<Vec<u8>> {
    // Without a name and a time in its header.
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    gzip.write_all(data)?;
    Ok(gzip.finish()?)
}

/// A tar with these files and the folders above them, of root and of no time.
fn tar_of(files: &[File<'_>]) -> Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut folders: Vec<String> = Vec::new();
    for file in files {
        let above = file
            .path
            .match_indices('/')
            .map(|(end, _)| &file.path[..=end]);
        for folder in above {
            if !folders.iter().any(|known| known == folder) {
                tar.append_data(
                    &mut header(0o755, tar::EntryType::Directory, 0),
                    folder,
                    &b""[..],
                )?;
                folders.push(folder.to_owned());
            }
        }
        let size = u64::try_from(file.data.len())?;
        let mut header = header(file.mode, tar::EntryType::Regular, size);
        tar.append_data(&mut header, file.path, file.data)?;
    }
    Ok(tar.into_inner()?)
}

fn header(mode: u32, what: tar::EntryType, size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(what);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}

#[cfg(test)]
#[path = "image_tests.rs"]
mod tests;
