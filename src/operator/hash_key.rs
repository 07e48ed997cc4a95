//! The operator's key for content hashes: a Secret in its own namespace, made
//! once. Two instances that start together end up with the same one.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube::api::{Patch, PatchParams};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::json;

use super::cluster::KubeCluster;
use crate::key::ObjectKey;
use crate::problem::Problem;
use crate::render::{HashKey, KEY_LENGTH, hex};

/// Name of the Secret.
pub const SECRET_NAME: &str = "vault-tenant-operator-key";

/// Its key.
const DATA_KEY: &str = "key";

/// How long one attempt may take: the client itself waits for an answer without end.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(10);

/// Reads the key, or makes it, within [`ATTEMPT_LIMIT`]. `known` is written back
/// when the Secret is missing, so that a key deleted under a running operator
/// changes nothing.
///
/// # Errors
/// Rights, transport, no answer in time, or a Secret that holds something else.
pub async fn obtain(
    cluster: &KubeCluster,
    namespace: &str,
    known: Option<&HashKey>,
) -> Result<HashKey, Problem> {
    let secret = ObjectKey::new(namespace, SECRET_NAME);
    let attempt = tokio::time::timeout(ATTEMPT_LIMIT, read_or_make(cluster, &secret, known));
    attempt.await.unwrap_or_else(|_| {
        Err(Problem::KubernetesUnavailable {
            what: format!("get or create Secret {secret}"),
            why: format!("no answer within {} s", ATTEMPT_LIMIT.as_secs()),
        })
    })
}

async fn read_or_make(
    cluster: &KubeCluster,
    secret: &ObjectKey,
    known: Option<&HashKey>,
) -> Result<HashKey, Problem> {
    if let Some(key) = read(cluster, secret).await? {
        return Ok(key);
    }
    let mut bytes = vec![0; KEY_LENGTH];
    let mut suffix = [0; 8];
    let random = SystemRandom::new();
    random
        .fill(&mut bytes)
        .and_then(|()| random.fill(&mut suffix))
        .map_err(|_| Problem::Internal {
            why: "the system gives no random numbers".to_owned(),
        })?;
    if let Some(known) = known {
        bytes.clone_from(known.bytes().expose());
    }
    let body = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": SECRET_NAME,
            "labels": { "app.kubernetes.io/managed-by": "vault-tenant-operator" },
        },
        "data": { DATA_KEY: STANDARD.encode(&bytes) },
    });
    // A manager of this process alone: whoever comes second gets a 409.
    let params = PatchParams::apply(&format!("vto-key-{}", hex(&suffix)));
    let (api, body) = (cluster.secrets(secret), Patch::Apply(body));
    let request = api.patch_metadata(SECRET_NAME, &params, &body);
    let made = cluster.count("patch", || format!("create Secret {secret}"), request);
    match made.await {
        Ok(_) => HashKey::new(bytes).map_err(|why| Problem::Internal { why }),
        Err(Problem::Conflict { what, why }) => read(cluster, secret)
            .await?
            .ok_or(Problem::Conflict { what, why }),
        Err(problem) => Err(problem),
    }
}

async fn read(cluster: &KubeCluster, secret: &ObjectKey) -> Result<Option<HashKey>, Problem> {
    let Some(secret) = cluster.get_secret(secret).await? else {
        return Ok(None);
    };
    let bytes = secret
        .data
        .and_then(|mut data| data.remove(DATA_KEY))
        .map(|b| b.0);
    let unusable = |why: String| Problem::CredentialUnusable {
        why: format!(
            "the Secret {SECRET_NAME} cannot be used: {why}; delete it, a new one is made"
        ),
    };
    let bytes = bytes.ok_or_else(|| unusable(format!("it has no key {DATA_KEY}")))?;
    HashKey::new(bytes).map(Some).map_err(unusable)
}
