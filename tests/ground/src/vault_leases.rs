//! Leases and tokens as Vault's administrator sees them: for assertions, and to take one away out of band.

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::vault_api::VaultApi;

/// A live lease.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Lease {
    /// Its id, which begins with the path that gave it.
    pub id: String,
    /// When it was given.
    pub issue_time: String,
    /// When it was renewed last.
    pub last_renewal: Option<String>,
    /// When it ends.
    pub expire_time: Option<String>,
    /// Whether it can be renewed.
    pub renewable: bool,
    /// Its rest, in seconds.
    pub ttl: i64,
}

/// A live token, as its accessor shows it. Batch tokens have no accessor.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Token {
    /// Its accessor.
    pub accessor: String,
    /// What logged in, such as `kubernetes-NAMESPACE-ACCOUNT`.
    pub display_name: String,
    /// The entity behind it, or empty.
    #[serde(default)]
    pub entity_id: String,
    /// When it ends; none for the root token.
    pub expire_time: Option<String>,
    /// Where it logged in.
    pub path: String,
    /// Its rest, in seconds; 0 for the root token.
    pub ttl: i64,
    /// Its policies.
    pub policies: Vec<String>,
}

impl VaultApi {
    /// The ids of all live leases that begin with this prefix (whole segments), such as `MOUNT/creds/ROLE`.
    ///
    /// # Errors
    /// Vault doesn't answer.
    pub async fn leases(&self, prefix: &str) -> Result<Vec<String>> {
        let mut found = Vec::new();
        let mut folders = vec![format!("{}/", prefix.trim_end_matches('/'))];
        while let Some(folder) = folders.pop() {
            for key in self.list(&format!("sys/leases/lookup/{folder}")).await? {
                let path = format!("{folder}{key}");
                match path.ends_with('/') {
                    true => folders.push(path),
                    false => found.push(path),
                }
            }
        }
        found.sort();
        Ok(found)
    }

    /// A lease; none when there is no such lease any more.
    ///
    /// # Errors
    /// Vault doesn't answer.
    pub async fn lease(&self, id: &str) -> Result<Option<Lease>> {
        let answer = self
            .request(
                Method::PUT,
                "sys/leases/lookup",
                Some(&json!({ "lease_id": id })),
            )
            .await?;
        // What Vault answers for a lease that it doesn't know.
        if answer.body.to_string().contains("invalid lease") {
            return Ok(None);
        }
        ensure!(
            answer.status == 200,
            "Vault answered {} to the lookup of {id}: {}",
            answer.status,
            answer.body
        );
        Ok(Some(data(answer.body)?))
    }

    /// Revokes a lease behind its holder's back, and returns when it is done.
    ///
    /// # Errors
    /// Vault refuses it, also when the engine can't.
    pub async fn revoke_lease(&self, id: &str) -> Result<()> {
        let body = json!({ "lease_id": id, "sync": true });
        self.write("sys/leases/revoke", &body).await?;
        Ok(())
    }

    /// The accessors of all live tokens.
    ///
    /// # Errors
    /// Vault doesn't answer.
    pub async fn accessors(&self) -> Result<Vec<String>> {
        self.list("auth/token/accessors/").await
    }

    /// A token by its accessor; none when there is no such token any more.
    ///
    /// # Errors
    /// Vault doesn't answer.
    pub async fn token_of(&self, accessor: &str) -> Result<Option<Token>> {
        let body = json!({ "accessor": accessor });
        let answer = self
            .request(Method::POST, "auth/token/lookup-accessor", Some(&body))
            .await?;
        if answer.body.to_string().contains("invalid accessor") {
            return Ok(None);
        }
        ensure!(
            answer.status == 200,
            "Vault answered {} to the lookup of an accessor: {}",
            answer.status,
            answer.body
        );
        Ok(Some(data(answer.body)?))
    }

    /// All live tokens whose display name contains this: those of a tenant name its namespace.
    ///
    /// # Errors
    /// Vault doesn't answer.
    pub async fn tokens(&self, display_name: &str) -> Result<Vec<Token>> {
        let mut found = Vec::new();
        for accessor in self.accessors().await? {
            let known = self.display_names.lock().await.get(&accessor).cloned();
            if known.is_some_and(|name| !name.contains(display_name)) {
                continue;
            }
            let Some(token) = self.token_of(&accessor).await? else {
                continue;
            };
            let name = token.display_name.clone();
            if name.contains(display_name) {
                found.push(token);
            }
            self.display_names.lock().await.insert(accessor, name);
        }
        Ok(found)
    }
}

fn data<T: serde::de::DeserializeOwned>(mut answer: Value) -> Result<T> {
    serde_json::from_value(answer["data"].take()).context("the data of Vault's answer")
}
