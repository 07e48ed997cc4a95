//! What logins need from Kubernetes: tokens of ServiceAccounts and values of
//! Secrets. Nothing of it is kept.

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Api, PostParams};
use kube::core::ObjectMeta;

use super::cluster::KubeCluster;
use crate::key::{ObjectKey, Redacted};
use crate::problem::Problem;
use crate::vault::Credentials;

impl Credentials for KubeCluster {
    async fn service_account_token(
        &self,
        account: &ObjectKey,
        audiences: &[String],
        expiration_seconds: i64,
    ) -> Result<Redacted<String>, Problem> {
        self.tenure.admit_in(&account.namespace)?;
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &account.namespace);
        let request = TokenRequest {
            metadata: ObjectMeta::default(),
            spec: TokenRequestSpec {
                audiences: audiences.to_vec(),
                expiration_seconds: Some(expiration_seconds),
                bound_object_ref: None,
            },
            status: None,
        };
        let what = || format!("request a token of the ServiceAccount {account}");
        let params = PostParams::default();
        let answer = self
            .count("create", what, api.create_token_request(&account.name, &params, &request))
            .await
            .map_err(|problem| match problem {
                Problem::Conflict { why, .. } => Problem::CredentialUnusable {
                    why: format!("no token of the ServiceAccount {account}: {why}; create it, or correct the VaultAuth's serviceAccount"),
                },
                other => other,
            })?;
        let token = answer
            .status
            .map(|status| status.token)
            .filter(|token| !token.is_empty());
        token
            .map(Redacted::new)
            .ok_or_else(|| Problem::CredentialUnusable {
                why: format!("the API server gave an empty token for the ServiceAccount {account}"),
            })
    }

    async fn secret_value(
        &self,
        secret: &ObjectKey,
        key: &str,
    ) -> Result<Redacted<Vec<u8>>, Problem> {
        let unusable = |why: String| Problem::CredentialUnusable { why };
        let found = self.get_secret(secret).await?.ok_or_else(|| {
            unusable(format!(
                "the Secret {secret} does not exist; create it with the key {key}"
            ))
        })?;
        let value = found.data.and_then(|mut data| data.remove(key));
        value
            .map(|bytes| Redacted::new(bytes.0))
            .ok_or_else(|| unusable(format!("the Secret {secret} has no key {key}; add it")))
    }
}
