#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::Read as _;

use flate2::read::GzDecoder;
use serde_json::Value;

use super::*;

const FILES: [File<'static>; 2] = [
    File {
        path: "etc/ssl/certs/roots.crt",
        mode: 0o644,
        data: b"roots",
    },
    File {
        path: "program",
        mode: 0o755,
        data: b"program",
    },
];

fn packed(name: &str) -> Archive {
    let is = Description {
        name: &name.parse().unwrap(),
        architecture: "amd64",
        created: "2026-01-01T00:00:00Z",
        user: "65532:65532",
        entrypoint: &["/program"],
        labels: BTreeMap::from([("org.opencontainers.image.version", "1".to_owned())]),
    };
    pack(&FILES, &is).unwrap()
}

/// Its entries, with mode and content.
fn entries(bytes: &[u8]) -> BTreeMap<String, (u32, Vec<u8>)> {
    let mut tar = tar::Archive::new(bytes);
    let entries = tar.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let header = entry.header().clone();
        let of_nobody = (
            header.uid().unwrap(),
            header.gid().unwrap(),
            header.mtime().unwrap(),
        );
        assert_eq!(of_nobody, (0, 0, 0));
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let path = entry.path().unwrap().to_str().unwrap().to_owned();
        (path, (header.mode().unwrap(), content))
    });
    entries.collect()
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let (one, other) = (packed("program:1"), packed("program:1"));
    assert!(one.bytes == other.bytes);
    assert_eq!(one.manifest, other.manifest);
}

#[test]
fn both_forms_name_what_is_there_by_its_digest() {
    let archive = packed("program:1");
    let entries = entries(&archive.bytes);
    let json = |path: &str| -> Value { serde_json::from_slice(&entries[path].1).unwrap() };
    let blob = |descriptor: &Value| {
        let digest = descriptor["digest"].as_str().unwrap();
        let (_, content) = &entries[&format!("blobs/{}", digest.replace(':', "/"))];
        assert_eq!(digest, digest_of(content));
        assert_eq!(descriptor["size"], content.len());
        content.clone()
    };
    let listed = &json("index.json")["manifests"][0];
    assert_eq!(listed["digest"], archive.manifest);
    let annotations = &listed["annotations"];
    assert_eq!(
        annotations["io.containerd.image.name"],
        "docker.io/library/program:1"
    );
    assert_eq!(annotations["org.opencontainers.image.ref.name"], "1");
    let manifest: Value = serde_json::from_slice(&blob(listed)).unwrap();
    let config: Value = serde_json::from_slice(&blob(&manifest["config"])).unwrap();
    assert_eq!(config["config"]["User"], "65532:65532");
    assert_eq!(config["config"]["Entrypoint"][0], "/program");
    let mut root = Vec::new();
    let layer = blob(&manifest["layers"][0]);
    GzDecoder::new(layer.as_slice())
        .read_to_end(&mut root)
        .unwrap();
    assert_eq!(config["rootfs"]["diff_ids"][0], digest_of(&root));
    let docker = &json("manifest.json")[0];
    let path = |of: &Value| of["digest"].as_str().unwrap().replace(':', "/");
    assert_eq!(
        docker["Config"],
        format!("blobs/{}", path(&manifest["config"]))
    );
    assert_eq!(
        docker["Layers"][0],
        format!("blobs/{}", path(&manifest["layers"][0]))
    );
    assert_eq!(docker["RepoTags"][0], "program:1");
}

#[test]
fn its_root_holds_the_files_and_the_folders_above_them() {
    let root = entries(&tar_of(&FILES).unwrap());
    let listed: Vec<(&str, u32)> = root
        .iter()
        .map(|(path, (mode, _))| (path.as_str(), *mode))
        .collect();
    assert_eq!(
        listed,
        [
            ("etc/", 0o755),
            ("etc/ssl/", 0o755),
            ("etc/ssl/certs/", 0o755),
            ("etc/ssl/certs/roots.crt", 0o644),
            ("program", 0o755),
        ]
    );
    assert_eq!(root["program"].1, b"program");
}

#[test]
fn names_are_written_out_as_containerd_has_them() {
    for (name, whole) in [
        ("program:1", "docker.io/library/program:1"),
        ("team/program:1", "docker.io/team/program:1"),
        (
            "registry.example.com/program:1",
            "registry.example.com/program:1",
        ),
        ("localhost/program:1", "localhost/program:1"),
        ("host:5000/program:1", "host:5000/program:1"),
    ] {
        assert_eq!(name.parse::<Name>().unwrap().canonical(), whole);
        assert_eq!(name.parse::<Name>().unwrap().to_string(), name);
    }
    for wrong in [
        "",
        "program",
        "program:",
        ":1",
        "host:5000/program",
        "program@sha256:1",
        "program:1@sha256:1",
    ] {
        assert!(wrong.parse::<Name>().is_err(), "{wrong}");
    }
}
