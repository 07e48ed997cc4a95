#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;

const GO: &str = "go version go1.26.0 linux/amd64";

/// A Go module in a folder of its own, and how it is built.
fn module() -> (tempfile::TempDir, Recipe) {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [
        ("go.mod", "module example.test\n"),
        ("go.sum", ""),
        ("main.go", "package main\n"),
        ("README.md", "a module\n"),
    ] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let recipe = Recipe {
        name: "tool".to_owned(),
        dir: folder.path().to_owned(),
        package: ".".to_owned(),
        ldflags: "-s -w".to_owned(),
        tags: String::new(),
        cgo: false,
        cold: Duration::from_secs(1),
    };
    (folder, recipe)
}

fn slot(recipe: &Recipe, go: &str) -> PathBuf {
    Slot::of(Path::new("/built"), recipe, go).unwrap().program
}

#[test]
fn the_key_covers_sources_flags_and_the_version_of_go() {
    let (folder, recipe) = module();
    let first = slot(&recipe, GO);
    assert!(first.starts_with("/built") && first.ends_with("tool"));
    let mut keys = vec![first.clone()];
    let mut differs = |what: &str, key: PathBuf| {
        assert!(!keys.contains(&key), "{what} changes nothing");
        keys.push(key);
    };
    differs("the version of Go", slot(&recipe, "go version go1.27.0"));
    let mut flags = recipe.clone();
    flags.ldflags.push_str(" -X main.version=1");
    differs("ldflags", slot(&flags, GO));
    let mut tags = recipe.clone();
    tags.tags = "netgo".to_owned();
    differs("tags", slot(&tags, GO));
    let mut c = recipe.clone();
    c.cgo = true;
    differs("C", slot(&c, GO));
    for name in ["go.mod", "go.sum", "main.go"] {
        let file = folder.path().join(name);
        let before = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, format!("{before}// more\n")).unwrap();
        differs(name, slot(&recipe, GO));
        std::fs::write(&file, before).unwrap();
    }
    let added = folder.path().join("sub/added.go");
    std::fs::create_dir(added.parent().unwrap()).unwrap();
    std::fs::write(&added, "package sub\n").unwrap();
    differs("a new file", slot(&recipe, GO));
    std::fs::remove_file(&added).unwrap();
    assert_eq!(slot(&recipe, GO), first, "all is as it was");
}

#[test]
fn what_is_not_built_does_not_change_the_key() {
    let (folder, recipe) = module();
    let before = slot(&recipe, GO);
    std::fs::write(folder.path().join("README.md"), "another text\n").unwrap();
    std::fs::write(folder.path().join("main_test.go"), "package main\n").unwrap();
    assert_eq!(slot(&recipe, GO), before);
    let elsewhere = tempfile::tempdir().unwrap();
    for name in ["go.mod", "go.sum", "main.go"] {
        let copy = elsewhere.path().join(name);
        std::fs::copy(folder.path().join(name), copy).unwrap();
    }
    let mut moved = recipe;
    moved.dir = elsewhere.path().to_owned();
    assert_eq!(
        slot(&moved, GO),
        before,
        "the same sources in another place"
    );
}

#[test]
fn a_variable_that_names_no_program_is_told_with_the_mend() {
    let sentence = |name: &str, set: &'static str, value: &'static str| {
        let variable = move |asked: &str| (asked == set).then(|| OsString::from(value));
        format!("{:#}", given(name, variable).unwrap_err())
    };
    let vault = sentence("vault", "VTO_VAULT_BIN", "/nowhere");
    assert!(
        vault.starts_with("VTO_VAULT_BIN names /nowhere, which is no file")
            && vault.contains("unset it"),
        "{vault}"
    );
    let assets = sentence("etcd", "KUBEBUILDER_ASSETS", "/nowhere");
    assert!(
        assets.contains("/nowhere/etcd is no file") && assets.contains("unset it"),
        "{assets}"
    );
    let other = given("kwok", |_| Some(OsString::from("/nowhere"))).unwrap();
    assert_eq!(other, None, "assets need not hold kwok");
    assert_eq!(given("vault", |_| None).unwrap(), None);
}

#[test]
fn the_tables_of_components_can_be_read() {
    let go = paths::repository().join("tests/ground/go");
    for (table, expected) in [
        (
            "build.tsv",
            ["etcd", "kube-apiserver", "kwok", "vault", "kustomize"].as_slice(),
        ),
        ("node.tsv", &["kubelet", "containerd", "runc"]),
    ] {
        let recipes = read_table(&go, table).unwrap();
        for name in expected {
            assert!(
                recipes.iter().any(|recipe| recipe.name == *name),
                "{recipes:?}"
            );
        }
        let module = |recipe: &Recipe| recipe.dir.join("go.mod").is_file();
        assert!(recipes.iter().all(module), "{recipes:?}");
    }
}
