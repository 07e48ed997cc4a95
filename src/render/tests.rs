//! What a Secret holds for what Vault answered.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::key::{Kind, ObjectKey, ResourceKey};

fn material(json: &str) -> Material {
    let raw: Box<RawValue> = serde_json::from_str(json).unwrap();
    Material {
        content: Content {
            fields: serde_json::from_str(json).unwrap(),
            ..Content::default()
        },
        raw: Redacted::new(raw),
        version: "3".into(),
        grant: None,
        volatile: &[],
    }
}

fn rendered(json: &str, exclude_raw: bool) -> Result<Rendered, Problem> {
    let tag = ResourceTag::of(&ResourceKey {
        kind: Kind::VaultStaticSecret,
        object: ObjectKey::new("team", "app"),
    });
    let key = HashKey::new(vec![1; KEY_LENGTH]).unwrap();
    render(
        &material(json),
        &Filter::default(),
        exclude_raw,
        "app",
        &tag,
        &key,
    )
}

fn texts(rendered: &Rendered) -> Vec<(String, String)> {
    rendered
        .data
        .iter()
        .map(|(k, v)| (k.clone(), String::from_utf8(v.expose().clone()).unwrap()))
        .collect()
}

#[test]
fn strings_stay_and_everything_else_is_json() {
    let secret = rendered(
        r#"{"s":"a\nb","n":1.50,"o":{"b":1,"a":[]},"z":null,"t":true}"#,
        true,
    )
    .unwrap();
    let expected = [
        ("n", "1.50"),
        ("o", r#"{"a":[],"b":1}"#),
        ("s", "a\nb"),
        ("t", "true"),
        ("z", "null"),
    ];
    assert_eq!(
        texts(&secret),
        expected.map(|(k, v)| (k.to_owned(), v.to_owned()))
    );
    assert_eq!((secret.keys, secret.raw_hash.is_none()), (5, true));
}

#[test]
fn raw_is_the_answer_and_does_not_touch_the_hash() {
    let with = rendered(r#"{ "a" : "<" }"#, false).unwrap();
    let without = rendered(r#"{"a":"<"}"#, true).unwrap();
    assert_eq!(
        texts(&with)[0],
        ("_raw".to_owned(), r#"{"a":"\u003c"}"#.to_owned())
    );
    assert_eq!(with.hash, without.hash);
    assert_eq!(with.keys, 1);
}

#[test]
fn keys_that_cannot_be_are_named_without_their_values() {
    for key in ["", "a b", "..", "..a", ".", "ä", "a/b", &"x".repeat(254)] {
        let json = format!("{{{}:\"hunter2\"}}", serde_json::to_string(key).unwrap());
        let text = rendered(&json, true).unwrap_err().to_string();
        assert!(text.contains("cannot be a key"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
    let text = rendered(r#"{"_raw":"x"}"#, false).unwrap_err().to_string();
    assert!(text.contains("excludeRaw"), "{text}");
    assert!(rendered(r#"{"_raw":"x"}"#, true).is_ok());
}
