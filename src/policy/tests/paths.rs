//! Paths at random, and those that the fuzz target begins with.

use std::path::Path;

use proptest::prelude::*;

#[path = "../../../fuzz/paths.rs"]
mod property;

use property::{Asked, check};

/// What stands between slashes: names, names like them, and tricks.
fn segment() -> impl Strategy<Value = String> {
    let names = prop::sample::select(vec![
        "kv",
        "KV",
        "data",
        "metadata",
        "team",
        "team-a",
        "team-ab",
        "t\u{435}am",
        "ns1",
        "root",
        "sys",
        "SYS",
        "auth",
        "token",
        "identity",
        "cubbyhole",
        "",
        ".",
        "..",
        "...",
        "%2e%2e",
        "%2f",
        "..%2f",
        "\\",
        "a b",
        " ",
        "x?y",
        "x#y",
        "x;y",
        "x\0y",
        "\u{ff0e}\u{ff0e}",
        "\u{2215}",
        "\u{202e}x",
        "x\ny",
    ]);
    prop_oneof![8 => names.prop_map(str::to_owned), 1 => any::<String>()]
}

fn path() -> impl Strategy<Value = String> {
    prop::collection::vec(segment(), 0..5).prop_map(|segments| segments.join("/"))
}

/// Lists are mostly beginnings of what is asked for, cut anywhere.
fn asked() -> impl Strategy<Value = Asked> {
    let cuts = || prop::collection::vec(any::<prop::sample::Index>(), 0..3);
    (
        path(),
        path(),
        path(),
        any::<bool>(),
        cuts(),
        cuts(),
        path(),
    )
        .prop_map(
            |(mount, path, namespace, versioned, paths, namespaces, other)| {
                let whole = static_path(&mount, &path, versioned);
                let mut asked = Asked {
                    paths: beginnings(&whole, &paths),
                    namespaces: beginnings(&namespace, &namespaces),
                    mount,
                    path,
                    namespace,
                    versioned,
                };
                if paths.len() == 2 {
                    asked.paths.push(other);
                }
                asked
            },
        )
}

fn beginnings(text: &str, cuts: &[prop::sample::Index]) -> Vec<String> {
    let cut = |index: &prop::sample::Index| {
        let length = index.index(text.chars().count() + 1);
        text.chars().take(length).collect()
    };
    cuts.iter().map(cut).collect()
}

fn static_path(mount: &str, path: &str, versioned: bool) -> String {
    let data = if versioned { "/data" } else { "" };
    let (mount, path) = (mount.trim_matches('/'), path.trim_matches('/'));
    format!("{mount}{data}/{path}")
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 4096,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_passes_arrives_as_itself_below_the_list_and_a_refusal_has_a_name(asked in asked()) {
        check(&asked);
    }

    /// The same where most is let pass: plain names, each list with the path in it.
    #[test]
    fn what_a_list_names_passes(
        mount in "[a-z]{1,3}(/[a-z]{1,3})?",
        path in "[a-z \u{e4}.*+-]{0,4}x(/[a-z]{1,4}){0,2}",
        versioned: bool,
    ) {
        prop_assume!(!mount.split('/').chain(path.split('/')).any(|s| s == "sys"));
        let whole = static_path(&mount, &path, versioned);
        let mut asked = Asked { mount, path, versioned, ..Asked::default() };
        prop_assert!(check(&asked));
        // Each beginning of it covers it; what only begins with the same letters does not.
        let beginnings = whole.match_indices('/').map(|(at, _)| whole[..at].to_owned());
        for beginning in beginnings.chain([whole.clone()]).filter(|path| !path.contains('*')) {
            asked.paths = vec![beginning.clone()];
            prop_assert!(check(&asked), "{beginning}");
            asked.paths = vec![beginning[..beginning.len() - 1].to_owned(), format!("{beginning}x")];
            prop_assert!(!check(&asked) || asked.paths[0].ends_with('/'), "{beginning}");
        }
    }
}

/// The seeds of the fuzz target, each in its folder by what becomes of it.
#[test]
fn each_seed_passes_or_is_refused() {
    let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/paths");
    let mut seen = [0, 0];
    for file in std::fs::read_dir(&seeds).unwrap() {
        let file = file.unwrap().path();
        let text = std::fs::read_to_string(&file).unwrap();
        let passes = file
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with("passes-");
        assert_eq!(check(&Asked::parse(&text)), passes, "{}", file.display());
        seen[usize::from(passes)] += 1;
    }
    assert!(seen[0] >= 15 && seen[1] >= 5, "{seen:?}");
}
