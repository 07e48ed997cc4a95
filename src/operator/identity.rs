//! Who the operator is, read from its own credentials: namespace,
//! ServiceAccount, the API server's addresses and audiences. The guardrails
//! compare against it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;

use super::hash_key;
use crate::policy::OwnIdentity;
use crate::reconcile::ledger;

/// Where a pod's own namespace stands.
const NAMESPACE_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// Environment in which a pod finds the API server's address.
const SERVICE_HOST: &str = "KUBERNETES_SERVICE_HOST";

/// The claims of a ServiceAccount token that matter here.
#[derive(Default, Deserialize)]
struct Claims {
    #[serde(default)]
    sub: String,
    #[serde(default)]
    aud: Audiences,
}

/// `aud` is a list or a single text (RFC 7519, 4.1.3).
#[derive(Deserialize)]
#[serde(untagged)]
enum Audiences {
    Many(Vec<String>),
    One(String),
}

impl Default for Audiences {
    fn default() -> Self {
        Audiences::Many(Vec::new())
    }
}

/// The Secrets of an operator's own: its key and its ledger.
#[must_use]
pub fn secret_names() -> Vec<String> {
    let key = hash_key::SECRET_NAME.to_owned();
    std::iter::once(key).chain(ledger::secret_names()).collect()
}

/// Reads the identity from the client's configuration.
pub async fn read(config: &kube::Config) -> OwnIdentity {
    let claims = token(config)
        .as_deref()
        .and_then(claims)
        .unwrap_or_default();
    let mut subject = claims
        .sub
        .strip_prefix("system:serviceaccount:")
        .unwrap_or_default()
        .splitn(2, ':');
    let from_token = subject.next().filter(|part| !part.is_empty());
    let namespace = std::fs::read_to_string(NAMESPACE_FILE)
        .ok()
        .map(|text| text.trim().to_owned())
        .filter(|text| !text.is_empty())
        .or_else(|| from_token.map(str::to_owned))
        .unwrap_or_else(|| config.default_namespace.clone());
    OwnIdentity {
        namespace,
        service_account: subject.next().unwrap_or_default().to_owned(),
        api_server: api_server(config).await,
        api_audiences: match claims.aud {
            Audiences::Many(list) => list,
            Audiences::One(one) => vec![one],
        },
        secret_names: secret_names(),
    }
}

fn token(config: &kube::Config) -> Option<String> {
    use kube::config::AuthInfo;
    let AuthInfo {
        token, token_file, ..
    } = &config.auth_info;
    if let Some(file) = token_file {
        return std::fs::read_to_string(file).ok();
    }
    // Not secrecy's type: only its exposed text is needed, here and now.
    token
        .as_ref()
        .map(|token| secrecy::ExposeSecret::expose_secret(token).to_owned())
}

fn claims(token: &str) -> Option<Claims> {
    let payload = token.trim().split('.').nth(1)?;
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}

/// The API server by the name in the configuration, its environment, and what
/// they resolve to now.
async fn api_server(config: &kube::Config) -> Vec<String> {
    let url = &config.cluster_url;
    let port = url.port_u16().unwrap_or(443);
    let mut names: Vec<String> = url.host().map(str::to_owned).into_iter().collect();
    names.extend(std::env::var(SERVICE_HOST));
    let mut all = names.clone();
    for name in names {
        let bare = name.trim_matches(['[', ']']).to_owned();
        if let Ok(found) = tokio::net::lookup_host((bare, port)).await {
            all.extend(found.map(|address| address.ip().to_string()));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn token(payload: &str) -> String {
        format!("e30.{}.sig", URL_SAFE_NO_PAD.encode(payload))
    }

    #[tokio::test]
    async fn a_token_says_who_we_are() {
        let mut config = kube::Config::new("https://127.0.0.1:6443".parse().unwrap());
        let text = token(
            r#"{"sub":"system:serviceaccount:team:vto","aud":["https://kubernetes.default.svc"]}"#,
        );
        config.auth_info.token = Some(text.into());
        let own = read(&config).await;
        assert_eq!(
            (own.namespace.as_str(), own.service_account.as_str()),
            ("team", "vto")
        );
        assert_eq!(own.api_audiences, ["https://kubernetes.default.svc"]);
        assert!(own.api_server.contains(&"127.0.0.1".to_owned()));
    }

    #[tokio::test]
    async fn no_token_leaves_the_audiences_unknown() {
        let config = kube::Config::new("https://127.0.0.1:6443".parse().unwrap());
        let own = read(&config).await;
        assert!(own.api_audiences.is_empty() && own.service_account.is_empty());
        assert!(claims("nonsense").is_none() && claims("a.!.c").is_none());
        assert!(matches!(
            claims(&token(r#"{"aud":"x"}"#)).unwrap().aud,
            Audiences::One(_)
        ));
    }
}
