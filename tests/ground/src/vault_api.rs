//! A small client of Vault's HTTP API, for tests: JSON in, JSON out, errors that name path, code and Vault's own words.
//!
//! It acts with the root token unless told otherwise; it is how a test plays Vault's administrator, never the operator.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::wait::wait_for;

/// The answer to one request.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body; null when there is none.
    pub body: Value,
}

/// A client of one Vault with one token.
#[derive(Clone, Debug)]
pub struct VaultApi {
    http: reqwest::Client,
    address: String,
    token: String,
    /// The display names of the tokens that were looked up, by accessor: they never change.
    pub(crate) display_names: Arc<Mutex<HashMap<String, String>>>,
}

impl VaultApi {
    /// A client for `https://HOST:PORT` that trusts this CA (PEM).
    ///
    /// # Errors
    /// The certificate isn't PEM.
    pub fn new(address: &str, ca_pem: &str, token: &str) -> Result<Self> {
        let http = reqwest::Client::builder()
            .tls_certs_only([reqwest::Certificate::from_pem(ca_pem.as_bytes())?])
            .no_proxy()
            .timeout(Duration::from_secs(30))
            .build()?;
        Ok(Self {
            http,
            address: address.to_owned(),
            token: token.to_owned(),
            display_names: Arc::default(),
        })
    }

    /// The same Vault with another token; empty for none.
    #[must_use]
    pub fn with_token(&self, token: &str) -> Self {
        Self {
            token: token.to_owned(),
            ..self.clone()
        }
    }

    /// Any request; every HTTP status is an answer. `path` begins below `/v1/`.
    ///
    /// # Errors
    /// No answer came, or its body isn't JSON.
    pub async fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer> {
        let failed = || format!("{method} {path} at Vault");
        let (status, bytes) = self
            .send(method.clone(), path, body)
            .await
            .with_context(failed)?;
        let body = if bytes.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&bytes).with_context(failed)?
        };
        Ok(Answer { status, body })
    }

    /// Reads a path whose answer isn't JSON, such as a CRL.
    ///
    /// # Errors
    /// Vault answers anything but 200.
    pub async fn bytes(&self, path: &str) -> Result<Vec<u8>> {
        let (status, bytes) = self.send(Method::GET, path, None).await?;
        ensure!(status == 200, "Vault answered {status} to GET {path}");
        Ok(bytes)
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(u16, Vec<u8>)> {
        let mut request = self
            .http
            .request(method, format!("{}/v1/{path}", self.address));
        if !self.token.is_empty() {
            request = request.header("X-Vault-Token", &self.token);
        }
        if let Some(body) = body {
            request = request.body(body.to_string());
        }
        let response = request.send().await?;
        Ok((response.status().as_u16(), response.bytes().await?.to_vec()))
    }

    async fn ok(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let answer = self.request(method.clone(), path, body).await?;
        if !(200..300).contains(&answer.status) {
            bail!(
                "Vault answered {} to {method} {path}: {}",
                answer.status,
                answer.body
            );
        }
        Ok(answer.body)
    }

    /// Reads a path: the whole answer, so a kv-v1 value is under `/data`, a kv-v2 value under `/data/data`.
    ///
    /// # Errors
    /// Vault answers anything but 2xx.
    pub async fn read(&self, path: &str) -> Result<Value> {
        self.ok(Method::GET, path, None).await
    }

    /// Writes (POST) a path and returns the whole answer, null if there is none.
    ///
    /// # Errors
    /// Vault answers anything but 2xx.
    pub async fn write(&self, path: &str, body: &Value) -> Result<Value> {
        self.ok(Method::POST, path, Some(body)).await
    }

    /// Deletes a path.
    ///
    /// # Errors
    /// Vault answers anything but 2xx.
    pub async fn delete(&self, path: &str) -> Result<()> {
        self.ok(Method::DELETE, path, None).await?;
        Ok(())
    }

    /// The keys below a path; none when there is nothing.
    ///
    /// # Errors
    /// Vault answers anything but 2xx and 404.
    pub async fn list(&self, path: &str) -> Result<Vec<String>> {
        let answer = self
            .request(Method::GET, &format!("{path}?list=true"), None)
            .await?;
        if answer.status == 404 {
            return Ok(Vec::new());
        }
        ensure!(
            answer.status == 200,
            "Vault answered {} to LIST {path}: {}",
            answer.status,
            answer.body
        );
        let keys = answer.body.pointer("/data/keys").and_then(Value::as_array);
        Ok(keys
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect())
    }

    /// Mounts a secrets engine.
    ///
    /// # Errors
    /// Vault refuses it.
    pub async fn mount(&self, path: &str, body: &Value) -> Result<()> {
        self.write(&format!("sys/mounts/{path}"), body).await?;
        Ok(())
    }

    /// Mounts kv version 1 at `path`.
    ///
    /// # Errors
    /// Vault refuses it.
    pub async fn mount_kv1(&self, path: &str) -> Result<()> {
        self.mount(
            path,
            &json!({ "type": "kv", "options": { "version": "1" } }),
        )
        .await
    }

    /// Mounts kv version 2 at `path` and waits until it takes requests (Vault sets it up after it has answered).
    ///
    /// # Errors
    /// Vault refuses it, or it isn't usable in time.
    pub async fn mount_kv2(&self, path: &str) -> Result<()> {
        self.mount(
            path,
            &json!({ "type": "kv", "options": { "version": "2" } }),
        )
        .await?;
        let config = format!("{path}/config");
        wait_for("a new kv-v2 mount", Duration::from_secs(30), || {
            self.read(&config)
        })
        .await?;
        Ok(())
    }

    /// Writes a new version of a kv-v2 secret and returns its number.
    ///
    /// # Errors
    /// Vault refuses it.
    pub async fn kv2_put(&self, mount: &str, path: &str, data: &Value) -> Result<u64> {
        let answer = self
            .write(&format!("{mount}/data/{path}"), &json!({ "data": data }))
            .await?;
        let version = answer.pointer("/data/version").and_then(Value::as_u64);
        version.with_context(|| format!("Vault named no version: {answer}"))
    }

    /// Writes a kv-v1 secret.
    ///
    /// # Errors
    /// Vault refuses it.
    pub async fn kv1_put(&self, mount: &str, path: &str, data: &Value) -> Result<()> {
        self.write(&format!("{mount}/{path}"), data).await?;
        Ok(())
    }

    /// Writes an ACL policy (HCL).
    ///
    /// # Errors
    /// Vault refuses it.
    pub async fn policy(&self, name: &str, hcl: &str) -> Result<()> {
        self.write(
            &format!("sys/policies/acl/{name}"),
            &json!({ "policy": hcl }),
        )
        .await?;
        Ok(())
    }

    /// Writes a role of the kubernetes auth method mounted at `mount`.
    ///
    /// # Errors
    /// Vault refuses it.
    pub async fn kubernetes_role(
        &self,
        mount: &str,
        name: &str,
        role: &KubernetesRole<'_>,
    ) -> Result<()> {
        let body = json!({
            "bound_service_account_names": [role.service_account],
            "bound_service_account_namespaces": [role.namespace],
            "audience": role.audience,
            "token_policies": role.policies,
            "token_ttl": role.ttl.as_secs(),
        });
        self.write(&format!("auth/{mount}/role/{name}"), &body)
            .await?;
        Ok(())
    }

    /// Logs in at the kubernetes auth method and returns the `auth` part of the answer.
    ///
    /// # Errors
    /// Vault refuses the token.
    pub async fn kubernetes_login(&self, mount: &str, role: &str, jwt: &str) -> Result<Value> {
        let body = json!({ "role": role, "jwt": jwt });
        let answer = self
            .with_token("")
            .write(&format!("auth/{mount}/login"), &body)
            .await?;
        answer
            .get("auth")
            .cloned()
            .with_context(|| format!("the login answered without a token: {answer}"))
    }

    /// Appends every request and answer (values hashed) to this file.
    ///
    /// # Errors
    /// Vault refuses it, or can't write the file.
    pub async fn audit_to_file(&self, device: &str, file: &Path) -> Result<()> {
        let body = json!({ "type": "file", "options": { "file_path": file } });
        self.write(&format!("sys/audit/{device}"), &body).await?;
        Ok(())
    }
}

/// What binds a Vault role to a ServiceAccount.
#[derive(Clone, Copy, Debug)]
pub struct KubernetesRole<'a> {
    /// The ServiceAccount's name.
    pub service_account: &'a str,
    /// The ServiceAccount's namespace.
    pub namespace: &'a str,
    /// The audience that its token must be for; none: any that the API server takes.
    pub audience: Option<&'a str>,
    /// The policies of the tokens that Vault gives out.
    pub policies: &'a [&'a str],
    /// How long they live, in whole seconds.
    pub ttl: Duration,
}
