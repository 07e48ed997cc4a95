//! What holds of every path that a tenant can write and every list that a
//! platform can set. What the guardrails let pass arrives at Vault as itself,
//! below a prefix of the list, at a segment boundary; what they refuse names a
//! rule or a field; and what is canonical stays as it is.
//!
//! One function for the fuzz target `paths` and for the unit test
//! `policy::tests::paths`, over items that this crate shows outside.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;
use vault_tenant_operator::config::{Config, PathPrefix, vault_namespace};
use vault_tenant_operator::key::{Kind, ObjectKey, ResourceKey};
use vault_tenant_operator::policy::{
    CaSource, Connection, DestinationRequest, Login, LoginMethod, OwnIdentity, Policy, Read,
    Resolved, permit,
};
use vault_tenant_operator::problem::Problem;
use vault_tenant_operator::reconcile::static_read;
use vault_tenant_operator::vault::target;

/// What a VaultStaticSecret and the configuration say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// `spec.mount`
    pub mount: String,
    /// `spec.path`
    pub path: String,
    /// `spec.namespace`
    pub namespace: String,
    /// `spec.type` is kv-v2.
    pub versioned: bool,
    /// `policy.secretPaths`
    pub paths: Vec<String>,
    /// `policy.vaultNamespaces`
    pub namespaces: Vec<String>,
}

impl Asked {
    /// From lines: mount, path, namespace, `kv-v1` or `kv-v2`, the listed paths,
    /// and after an empty line the listed namespaces.
    pub fn parse(text: &str) -> Self {
        let mut lines = text.lines().map(str::to_owned);
        let mut next = || lines.next().unwrap_or_default();
        let (mount, path, namespace, versioned) = (next(), next(), next(), next() == "kv-v2");
        let paths = lines.by_ref().take_while(|line| !line.is_empty()).collect();
        Self {
            mount,
            path,
            namespace,
            versioned,
            paths,
            namespaces: lines.collect(),
        }
    }
}

/// Panics where the property does not hold; whether it was let pass.
pub fn check(asked: &Asked) -> bool {
    let (paths, namespaces) = (prefixes(&asked.paths), prefixes(&asked.namespaces));
    let mut config = Config::default();
    config.policy.secret_paths.clone_from(&paths);
    config.policy.vault_namespaces.clone_from(&namespaces);
    let policy = Policy::new(&config);
    let verdict = read(asked).and_then(|read| permit(resolved(read), &policy, &own()));
    let permitted = match verdict {
        Ok(permitted) => permitted,
        Err(problem) => {
            named(&problem);
            return false;
        }
    };
    let read = permitted.read();
    arrives(read, &paths, &namespaces);
    // What is canonical stays.
    let again = Asked {
        mount: read.mount.clone(),
        path: below_mount(read, asked.versioned),
        ..asked.clone()
    };
    assert_eq!(self::read(&again).as_ref(), Ok(read), "{asked:?}");
    true
}

/// What the spec asks for.
fn read(asked: &Asked) -> Result<Read, Problem> {
    let spec = json!({
        "mount": asked.mount, "path": asked.path,
        "type": if asked.versioned { "kv-v2" } else { "kv-v1" },
        "destination": { "name": "app" },
    });
    let spec = serde_json::from_value(spec).expect("a spec");
    static_read(&spec, Some(asked.namespace.clone()))
}

fn below_mount(read: &Read, versioned: bool) -> String {
    let rest = read
        .path
        .strip_prefix(&read.mount)
        .expect("below its mount");
    let lead = if versioned { "/data/" } else { "/" };
    rest.strip_prefix(lead)
        .expect("the engine's own part")
        .to_owned()
}

/// A refusal says what refused: a rule that its message repeats, or a field.
fn named(problem: &Problem) {
    let message = problem.to_string();
    match problem {
        Problem::PolicyDenied { rule, .. } => {
            assert!(!rule.is_empty() && message.contains(rule), "{message}");
        }
        Problem::InvalidSpec { field, .. } => {
            assert!(field.starts_with("spec."), "{message}");
        }
        other => panic!("{other:?}"),
    }
}

/// The request as Vault takes it apart: Go decodes the path of the request line
/// and cleans it, Vault takes off `/v1/`, and splits what is left at slashes.
fn arrives(read: &Read, paths: &[PathPrefix], namespaces: &[PathPrefix]) {
    let target = match target(read) {
        Ok(target) => target,
        Err(problem) => {
            assert!(read.path.len() > 4096, "{problem}");
            return named(&problem);
        }
    };
    let path = target.split('?').next().unwrap_or_default();
    let arrived = decoded(path);
    assert_eq!(arrived, format!("/v1/{}", read.path), "{target}");
    // Somebody on the way who decodes once more reads the same.
    assert_eq!(decoded(&arrived), arrived);
    let segments: Vec<&str> = arrived.split('/').skip(2).collect();
    for segment in &segments {
        assert!(!matches!(*segment, "" | "." | ".."), "{arrived}");
        let lower = segment.to_ascii_lowercase();
        assert!(!matches!(lower.as_str(), "sys" | "cubbyhole"), "{arrived}");
    }
    let first = segments[0].to_ascii_lowercase();
    assert!(!matches!(first.as_str(), "auth" | "identity"), "{arrived}");
    assert!(
        paths.is_empty() || paths.iter().any(|path| begins(&segments, path)),
        "{arrived}"
    );

    let header = read.vault_namespace.as_deref().unwrap_or_default();
    // HTTP takes white space off the ends.
    assert_eq!(header, header.trim(), "{header:?}");
    let header = header.trim_matches('/');
    let segments: Vec<&str> = header.split('/').collect();
    let fits = namespaces.iter().any(|allowed| match allowed.as_str() {
        "root" => matches!(header, "" | "root"),
        _ => begins(&segments, allowed),
    });
    assert!(namespaces.is_empty() || fits, "{header:?}");
    let canonical = vault_namespace(header).expect("a namespace that was let pass");
    assert_eq!(vault_namespace(canonical), Ok(canonical));
}

/// Whether the segments begin with those of the prefix.
fn begins(segments: &[&str], prefix: &PathPrefix) -> bool {
    let prefix: Vec<&str> = prefix.as_str().split('/').collect();
    segments.starts_with(&prefix)
}

/// As Go reads the path of a request line.
fn decoded(path: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || rest.next().and_then(|b| char::from(b).to_digit(16));
                let (high, low) = (digit().expect("a digit"), digit().expect("a digit"));
                u8::try_from(high * 16 + low).expect("a byte")
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).expect("text")
}

/// Those of the entries that the configuration takes; each is its own
/// canonical form.
fn prefixes(entries: &[String]) -> Vec<PathPrefix> {
    let read = |entry: &String| PathPrefix::try_from(entry.clone()).ok();
    let prefixes: Vec<PathPrefix> = entries.iter().filter_map(read).collect();
    for prefix in &prefixes {
        assert_eq!(
            PathPrefix::try_from(prefix.to_string()).as_ref(),
            Ok(prefix)
        );
    }
    prefixes
}

fn own() -> OwnIdentity {
    OwnIdentity {
        namespace: "vto".to_owned(),
        service_account: "vault-tenant-operator".to_owned(),
        api_audiences: vec!["https://issuer.example".to_owned()],
        ..OwnIdentity::default()
    }
}

/// A request that only its read can make wrong.
fn resolved(read: Read) -> Resolved {
    let object = ObjectKey::new("team", "app");
    Resolved {
        resource: ResourceKey {
            kind: Kind::VaultStaticSecret,
            object: object.clone(),
        },
        connection: Connection {
            origin: None,
            address: "https://vault.example".to_owned(),
            ca: CaSource::System,
            tls_server_name: None,
            skip_tls_verify: false,
            headers: BTreeMap::new(),
            timeout: Duration::from_secs(1),
        },
        login: Login {
            origin: None,
            mount: "kubernetes".to_owned(),
            vault_namespace: read.vault_namespace.clone(),
            params: BTreeMap::new(),
            headers: BTreeMap::new(),
            method: LoginMethod::Kubernetes {
                role: "app".to_owned(),
                service_account: object.clone(),
                audiences: vec!["vault".to_owned()],
                expiration_seconds: 600,
            },
        },
        read,
        destination: DestinationRequest {
            secret: object,
            type_: String::new(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
        },
    }
}
