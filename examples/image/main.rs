//! The image of the operator, as one file: FROM scratch, one static binary and the roots of public CAs.
//!
//! ```text
//! cargo run --example image                                  # into target/image/
//! cargo run --example image -- --name registry.example.com/vault-tenant-operator:0.1.0
//! ```
//!
//! No container engine is needed, and none is asked. The same source and the same compiler give the same bytes. Beside
//! the image lies its bill of materials (CycloneDX). `docs/releasing.md` says what to do with both.

mod bill;

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Parser;
use ground::image::{Description, File, Name, architecture, pack};
use ground::paths;
use ground::shipped::{self, Sources};
use object::Object as _;

/// Name of the binary, and of the image.
const PROGRAM: &str = "vault-tenant-operator";

/// Nobody, as the manifests ask for.
const USER: &str = "65532:65532";

/// Where programs look for the roots that they trust, on Debian and in this image.
const ROOTS: &str = "etc/ssl/certs/ca-certificates.crt";

/// The most that the image may weigh on a node, unpacked, in bytes.
const LIMIT: usize = 14_000_000;

/// What is in the binary: our own code, crates under the licences that deny.toml allows, glibc, and the list of roots.
const LICENCES: &str = "Apache-2.0 AND BSD-3-Clause AND CDLA-Permissive-2.0 AND ISC AND LGPL-2.1-or-later AND MIT AND Unicode-3.0 AND Zlib";

/// Writes the image of the operator.
#[derive(Debug, Parser)]
#[command(name = "image")]
struct Arguments {
    /// Repository and tag that the image is loaded under
    #[arg(long, default_value = concat!("vault-tenant-operator:", env!("CARGO_PKG_VERSION")))]
    name: Name,
    /// Folder for the image and its bill of materials; target/image by default
    #[arg(long)]
    out: Option<PathBuf>,
    /// Folder to write the image's files into, in place of the image
    #[arg(long, conflicts_with = "out")]
    root: Option<PathBuf>,
    /// URL of the source code, for the label org.opencontainers.image.source
    #[arg(long)]
    source: Option<String>,
    /// Commit to build, in place of the sources as they are: an earlier version, to upgrade from or to go back to. The
    /// list of CA roots is the present one
    #[arg(long, value_name = "COMMIT", conflicts_with_all = ["revision", "root"])]
    commit: Option<String>,
    /// Commit that this is built from, where git can't say it
    #[arg(long, requires = "created")]
    revision: Option<String>,
    /// When that was made, RFC 3339, where git can't say it
    #[arg(long, requires = "revision")]
    created: Option<String>,
}

fn main() -> ExitCode {
    match write(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn write(arguments: &Arguments) -> Result<()> {
    let mut sources = Sources::present();
    let created = match arguments {
        Arguments {
            commit: Some(commit),
            ..
        } => {
            let commit = said_by_git(&["rev-parse", "--verify", &format!("{commit}^{{commit}}")])?;
            sources = Sources::of(&commit)?;
            made(&commit)?
        }
        Arguments {
            revision: Some(revision),
            created: Some(created),
            ..
        } => {
            sources.revision.clone_from(revision);
            created.clone()
        }
        _ => {
            if sources.revision.ends_with("-dirty") {
                eprintln!("the sources differ from their commit: the image is not for others");
            }
            made("HEAD").context("git doesn't say what this is built from: give --revision and --created, as for sources without a history")?
        }
    };
    let revision = &sources.revision;
    created
        .parse::<jiff::Timestamp>()
        .with_context(|| format!("--created {created} is no time, such as 2026-01-31T12:00:00Z"))?;
    let target = shipped::host()?;
    let architecture = architecture(&target)?;
    let binary = std::fs::read(sources.build()?)?;
    ensure_static(&binary)?;
    let roots = roots();
    let files = [
        File {
            path: ROOTS,
            mode: 0o644,
            data: roots.as_bytes(),
        },
        File {
            path: PROGRAM,
            mode: 0o755,
            data: &binary,
        },
    ];
    let unpacked: usize = files.iter().map(|file| file.data.len()).sum();
    // An earlier version is as heavy as it is.
    ensure!(
        arguments.commit.is_some() || unpacked <= LIMIT,
        "unpacked, the image has {unpacked} bytes, more than the {LIMIT} that it may have"
    );
    if let Some(root) = &arguments.root {
        return unpack(root, &files);
    }
    let version = sources.version()?;
    let image = pack(
        &files,
        &Description {
            name: &arguments.name,
            architecture,
            created: &created,
            user: USER,
            entrypoint: &["/vault-tenant-operator"],
            labels: labels(&version, revision, arguments.source.as_deref()),
        },
    )?;
    let folder = arguments.out.clone();
    let folder = folder.unwrap_or_else(|| paths::target().join("image"));
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("the folder {} can't be made", folder.display()))?;
    let named = format!("{PROGRAM}-{version}-{architecture}");
    let file = folder.join(format!("{named}.tar"));
    std::fs::write(&file, &image.bytes)
        .with_context(|| format!("{} can't be written", file.display()))?;
    let bill = folder.join(format!("{named}.cdx.json"));
    bill::write(&sources, &target, &created, &bill)?;
    let packed = image.bytes.len();
    println!("{}", file.display());
    println!("{}", bill.display());
    println!("{architecture}, {packed} bytes, unpacked {unpacked}, of {revision}");
    println!("{} {}", arguments.name, image.manifest);
    Ok(())
}

/// The files of the image as a folder, for the Containerfile.
fn unpack(root: &Path, files: &[File<'_>]) -> Result<()> {
    for file in files {
        let path = root.join(file.path);
        let written = path.parent().map_or(Ok(()), std::fs::create_dir_all);
        written
            .and_then(|()| std::fs::write(&path, file.data))
            .and_then(|()| std::fs::set_permissions(&path, Permissions::from_mode(file.mode)))
            .with_context(|| format!("{} can't be written", path.display()))?;
    }
    Ok(())
}

/// When a commit was made.
fn made(commit: &str) -> Result<String> {
    said_by_git(&["log", "-1", "--format=%cI", commit])
}

fn said_by_git(arguments: &[&str]) -> Result<String> {
    let said = shipped::git(arguments)?;
    Ok(String::from_utf8_lossy(&said).trim().to_owned())
}

/// Nothing in the image could load it otherwise.
fn ensure_static(binary: &[u8]) -> Result<()> {
    let parsed = object::File::parse(binary)?;
    ensure!(
        parsed.section_by_name(".interp").is_none(),
        "the binary isn't static: it asks for a loader, and the image has none"
    );
    Ok(())
}

/// Mozilla's list of public CAs, as PEM.
fn roots() -> String {
    let mut pem = String::new();
    for root in webpki_root_certs::TLS_SERVER_ROOT_CERTS {
        pem.push_str("-----BEGIN CERTIFICATE-----\n");
        let text = STANDARD.encode(root);
        for line in text.as_bytes().chunks(64) {
            pem.extend(line.iter().copied().map(char::from));
            pem.push('\n');
        }
        pem.push_str("-----END CERTIFICATE-----\n");
    }
    pem
}

fn labels(version: &str, revision: &str, source: Option<&str>) -> BTreeMap<&'static str, String> {
    let mut labels = BTreeMap::from([
        ("org.opencontainers.image.title", PROGRAM.to_owned()),
        (
            "org.opencontainers.image.description",
            env!("CARGO_PKG_DESCRIPTION").to_owned(),
        ),
        ("org.opencontainers.image.version", version.to_owned()),
        ("org.opencontainers.image.revision", revision.to_owned()),
        ("org.opencontainers.image.licenses", LICENCES.to_owned()),
    ]);
    match source {
        Some(source) => {
            labels.insert("org.opencontainers.image.source", source.to_owned());
        }
        None => eprintln!("no label org.opencontainers.image.source: give --source"),
    }
    labels
}
