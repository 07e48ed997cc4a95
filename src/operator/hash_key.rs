//! The operator's key for content hashes: a Secret in its own namespace, made
//! once. Two instances that start together end up with the same one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{Patch, PatchParams};
use ring::rand::{SecureRandom as _, SystemRandom};
use serde_json::json;

use super::kube_errors::classify;
use crate::problem::Problem;
use crate::render::{HashKey, KEY_LENGTH, hex};

/// Name of the Secret.
pub const SECRET_NAME: &str = "vault-tenant-operator-key";

/// Its key.
const DATA_KEY: &str = "key";

/// Reads the key, or makes it. `known` is written back when the Secret is
/// missing, so that a key deleted under a running operator changes nothing.
///
/// # Errors
/// Rights, transport, or a Secret that holds something else.
pub async fn obtain(
    client: &kube::Client,
    namespace: &str,
    known: Option<&HashKey>,
) -> Result<HashKey, Problem> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    if let Some(key) = read(&api).await? {
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
    let made = api
        .patch_metadata(SECRET_NAME, &params, &Patch::Apply(body))
        .await;
    match made.map_err(|error| classify(format!("create Secret {namespace}/{SECRET_NAME}"), &error))
    {
        Ok(_) => HashKey::new(bytes).map_err(|why| Problem::Internal { why }),
        Err(Problem::Conflict { what, why }) => {
            read(&api).await?.ok_or(Problem::Conflict { what, why })
        }
        Err(problem) => Err(problem),
    }
}

async fn read(api: &Api<Secret>) -> Result<Option<HashKey>, Problem> {
    let found = api
        .get_opt(SECRET_NAME)
        .await
        .map_err(|error| classify(format!("get Secret {SECRET_NAME}"), &error))?;
    let Some(secret) = found else { return Ok(None) };
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
