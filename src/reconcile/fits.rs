//! What the API server would refuse about a whole Secret, found before anything
//! is sent or deleted. (Single keys are looked at where they are rendered.)
//!
//! Source: Kubernetes, `ValidateSecret`.

use crate::api::Destination;
use crate::key::{Redacted, is_label_value, is_metadata_key};
use crate::problem::{Problem, printable};
use crate::render::{RAW_KEY, SecretData};

/// What the API server takes as the data of one Secret (Kubernetes,
/// `MaxSecretSize`).
const SECRET_SIZE_LIMIT: usize = 1024 * 1024;

/// The keys without which a Secret of a type is refused: one of them must be there.
const REQUIRED: [(&str, &[&str]); 6] = [
    ("kubernetes.io/tls", &["tls.crt"]),
    ("kubernetes.io/tls", &["tls.key"]),
    ("kubernetes.io/dockerconfigjson", &[".dockerconfigjson"]),
    ("kubernetes.io/dockercfg", &[".dockercfg"]),
    ("kubernetes.io/basic-auth", &["username", "password"]),
    ("kubernetes.io/ssh-auth", &["ssh-privatekey"]),
];

/// Whether the data is small enough for one Secret.
///
/// # Errors
/// [`Problem::DestinationInvalid`] naming the largest key.
pub fn check_size(secret: &str, data: &SecretData) -> Result<(), Problem> {
    let size = |value: &Redacted<Vec<u8>>| value.expose().len();
    let total: usize = data.values().map(size).sum();
    if total <= SECRET_SIZE_LIMIT {
        return Ok(());
    }
    // `_raw` repeats all of them, and so says nothing about which one it is.
    let raw = data.get(RAW_KEY).map(size);
    let largest = data
        .iter()
        .filter(|(name, _)| *name != RAW_KEY || data.len() == 1)
        .max_by_key(|(_, value)| size(value));
    let (name, bytes) = largest.map_or(("", 0), |(name, value)| (name.as_str(), size(value)));
    let raw = raw.filter(|_| name != RAW_KEY);
    let raw = raw.map_or_else(String::new, |bytes| {
        format!(", and {RAW_KEY}, which repeats all that Vault holds, has {bytes}")
    });
    Err(Problem::DestinationInvalid {
        name: secret.to_owned(),
        why: format!(
            "{total} bytes of data are more than the {SECRET_SIZE_LIMIT} that a Secret can hold; the largest key is {name} with {bytes}{raw}: exclude keys, or set excludeRaw"
        ),
    })
}

/// Whether a Secret of this type can hold the data.
///
/// # Errors
/// [`Problem::DestinationInvalid`] naming type and key.
pub fn check_type(secret: &str, type_: &str, data: &SecretData) -> Result<(), Problem> {
    let lacks = REQUIRED
        .iter()
        .find(|(of, keys)| *of == type_ && !keys.iter().any(|key| data.contains_key(*key)));
    let broken = [".dockerconfigjson", ".dockercfg"].iter().find(|key| {
        let held = type_.strip_prefix("kubernetes.io/") == key.strip_prefix('.');
        held && data.get(**key).is_some_and(|value| {
            serde_json::from_slice::<serde::de::IgnoredAny>(value.expose()).is_err()
        })
    });
    let why = match (lacks, broken) {
        (Some((_, keys)), _) => format!("has no key {}", keys.join(" or ")),
        (None, Some(key)) => format!("has a key {key} that is no JSON"),
        (None, None) => return Ok(()),
    };
    Err(Problem::DestinationInvalid {
        name: secret.to_owned(),
        why: format!(
            "what is to be written {why}, which the type {type_} needs; nothing was changed: correct the source, the filters or spec.destination.type"
        ),
    })
}

/// Whether a Secret can have the labels and annotations.
///
/// # Errors
/// [`Problem::InvalidSpec`] naming field and key.
pub fn check_metadata(destination: &Destination) -> Result<(), Problem> {
    const PLAIN: &str =
        "at most 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends";
    let invalid = |field: &str, key: &str, why: String| Problem::InvalidSpec {
        field: format!("spec.destination.{field}[{}]", printable(key, 100)),
        why,
    };
    for (field, map) in [
        ("labels", &destination.labels),
        ("annotations", &destination.annotations),
    ] {
        if let Some(key) = map
            .iter()
            .flatten()
            .map(|(key, _)| key)
            .find(|key| !is_metadata_key(key))
        {
            let why = format!("this is no key: use {PLAIN}, perhaps behind a domain and a slash");
            return Err(invalid(field, key, why));
        }
    }
    let mut labels = destination.labels.iter().flatten();
    match labels.find(|(_, value)| !is_label_value(value)) {
        Some((key, value)) => Err(invalid(
            "labels",
            key,
            format!(
                "{:?} is no value of a label: use {PLAIN}",
                printable(value, 100)
            ),
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn data(pairs: &[(&str, &str)]) -> SecretData {
        let value = |text: &str| Redacted::new(text.as_bytes().to_vec());
        pairs
            .iter()
            .map(|(key, text)| ((*key).to_owned(), value(text)))
            .collect()
    }

    #[test]
    fn a_type_that_the_data_does_not_fit_is_named_before_anything_is_deleted() {
        let held = data(&[
            ("tls.crt", "x"),
            ("password", "x"),
            (".dockercfg", "no json"),
        ]);
        for (type_, named) in [
            ("kubernetes.io/tls", "tls.key"),
            ("kubernetes.io/dockerconfigjson", ".dockerconfigjson"),
            ("kubernetes.io/dockercfg", "is no JSON"),
            ("kubernetes.io/ssh-auth", "ssh-privatekey"),
        ] {
            let text = check_type("app", type_, &held).unwrap_err().to_string();
            assert!(text.contains(named) && text.contains(type_), "{text}");
        }
        for fits in ["Opaque", "example.com/own", "kubernetes.io/basic-auth"] {
            assert_eq!(check_type("app", fits, &held), Ok(()), "{fits}");
        }
        let json = data(&[(".dockerconfigjson", "{}")]);
        assert_eq!(
            check_type("app", "kubernetes.io/dockerconfigjson", &json),
            Ok(())
        );
    }

    #[test]
    fn what_is_too_large_names_its_largest_key() {
        let large = "x".repeat(SECRET_SIZE_LIMIT);
        assert_eq!(check_size("app", &data(&[("a", &large)])), Ok(()));
        let text = check_size("app", &data(&[("a", &large), ("b", "y")]))
            .unwrap_err()
            .to_string();
        assert!(
            text.contains("the largest key is a with 1048576: "),
            "{text}"
        );
        let raw = format!("{{\"data\":\"{large}\"}}");
        for (held, told) in [
            (
                &[("a", "x"), ("b", "yy"), ("_raw", &raw)][..],
                "b with 2, and _raw",
            ),
            (&[("_raw", &raw)], "_raw with 1048587: "),
        ] {
            let text = check_size("app", &data(held)).unwrap_err().to_string();
            assert!(
                text.contains(&format!("the largest key is {told}")),
                "{text}"
            );
        }
    }

    #[test]
    fn labels_and_annotations_that_no_secret_can_have_are_named() {
        let checked = |field: &str, key: &str, value: &str| {
            let destination = serde_json::json!({ "name": "app", field: { key: value } });
            check_metadata(&serde_json::from_value(destination).unwrap())
        };
        assert_eq!(checked("labels", "example.com/team", ""), Ok(()));
        assert_eq!(checked("annotations", "note", "any text!"), Ok(()));
        for (field, key, value) in [
            ("labels", "team", "not a value!"),
            ("labels", "a/b/c", "x"),
            ("annotations", "a/b/c", "x"),
        ] {
            let text = checked(field, key, value).unwrap_err().to_string();
            let named = format!("spec.destination.{field}[{key}]: ");
            assert!(text.starts_with(&named), "{text}");
        }
    }
}
