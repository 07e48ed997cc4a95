//! A source in Vault that no Secret can be made of, or that is gone.

use serde_json::{Map, Value, json};

use super::{CANARY, Case, Gone, Wrong, taken, told};

const CONTROL: &str = "\u{0}\u{1b}[31m\r\n\u{7f}\u{202e} canary \"/+ of a bad input";

pub fn cases() -> Vec<Case> {
    let source = Wrong::Source;
    let many: Map<String, Value> = (0..5000)
        .map(|number| (format!("key-{number}"), json!(CANARY)))
        .collect();
    let one = |key: &str| source(json!({ key: CANARY }));
    vec![
        told(
            "deleted",
            Wrong::Gone(Gone::Deleted),
            "SecretDeleted",
            &[
                "was deleted at",
                "is kept",
                "write a new version, or undelete",
            ],
        ),
        told(
            "destroyed",
            Wrong::Gone(Gone::Destroyed),
            "SecretDeleted",
            &["was destroyed", "is kept", "write a new version"],
        ),
        told(
            "purged",
            Wrong::Gone(Gone::Purged),
            "SecretNotFound",
            &["no such secret", "write it"],
        ),
        told(
            "empty",
            source(json!({})),
            "SecretDeleted",
            &["holds no data"],
        ),
        told(
            "key-with-spaces",
            one("a key"),
            "DestinationInvalid",
            &["\"a key\"", "rename it in Vault, or exclude it"],
        ),
        told(
            "key-empty",
            one(""),
            "DestinationInvalid",
            &["\"\"", "rename it in Vault, or exclude it"],
        ),
        told(
            "key-of-dots",
            one(".."),
            "DestinationInvalid",
            &["\"..\"", "rename it in Vault, or exclude it"],
        ),
        told(
            "key-with-a-slash",
            one("a/b"),
            "DestinationInvalid",
            &["\"a/b\"", "rename it in Vault, or exclude it"],
        ),
        told(
            "key-with-umlauts",
            one("schlüssel"),
            "DestinationInvalid",
            &["schlüssel", "rename it in Vault, or exclude it"],
        ),
        told(
            "key-too-long",
            one(&"k".repeat(254)),
            "DestinationInvalid",
            &["253", "rename it in Vault, or exclude it"],
        ),
        told(
            "key-raw",
            one("_raw"),
            "TransformationError",
            &["_raw", "excludeRaw"],
        ),
        // Half of it, and once more in _raw.
        told(
            "over-one-mebibyte",
            source(json!({ "large": CANARY.repeat(24 * 1024) })),
            "DestinationInvalid",
            &["1048576", "largest key is", "exclude"],
        ),
        taken(
            "five-thousand-keys",
            source(Value::Object(many)),
            "key-4999",
            CANARY,
        ),
        taken(
            "value-with-control-characters",
            source(json!({ "value": CONTROL })),
            "value",
            CONTROL,
        ),
        taken(
            "value-null",
            source(json!({ "value": null, "secret": CANARY })),
            "value",
            "null",
        ),
    ]
}
