//! What a tenant's role may do at Vault beyond reading its kv mounts, right by right, so that a test can leave one out;
//! and how the tokens of its logins live.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use crate::tenant::Tenant;
use crate::vault::KUBERNETES_AUTH;

/// A right to leases or to tokens.
///
/// Vault's own policy `default` lets every token renew and look up a lease by an id in the body, and look up, renew and
/// revoke itself: see [`TokenRules::no_default_policy`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// `sys/leases/renew/LEASE`.
    RenewByPath,
    /// `sys/leases/renew` with any lease id in the body.
    RenewInBody,
    /// `sys/leases/revoke/LEASE`.
    RevokeByPath,
    /// `sys/leases/revoke` with any lease id in the body.
    RevokeInBody,
    /// `sys/leases/lookup` with any lease id in the body.
    LookUpLease,
    /// `auth/token/renew-accessor`.
    RenewAccessor,
    /// `auth/token/lookup-accessor`.
    LookUpAccessor,
    /// `auth/token/revoke-accessor`.
    RevokeAccessor,
    /// `auth/token/lookup-self`, `renew-self` and `revoke-self`.
    OwnToken,
}

impl Right {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::RenewByPath,
        Self::RenewInBody,
        Self::RevokeByPath,
        Self::RevokeInBody,
        Self::LookUpLease,
        Self::RenewAccessor,
        Self::LookUpAccessor,
        Self::RevokeAccessor,
        Self::OwnToken,
    ];

    /// All of them but these.
    pub fn all_but(without: &[Self]) -> Vec<Self> {
        let mut rights = Self::ALL.to_vec();
        rights.retain(|right| !without.contains(right));
        rights
    }

    /// Its paths; an id of a lease begins with the path of the secret.
    fn paths(self, secrets: &[&str]) -> Vec<String> {
        let leases = |what: &str| {
            let of = |secret| format!("sys/leases/{what}/{secret}/*");
            secrets.iter().map(of).collect()
        };
        let token = |paths: &[&str]| {
            let of = |path| format!("auth/token/{path}");
            paths.iter().map(of).collect()
        };
        match self {
            Self::RenewByPath => leases("renew"),
            Self::RenewInBody => vec!["sys/leases/renew".to_owned()],
            Self::RevokeByPath => leases("revoke"),
            Self::RevokeInBody => vec!["sys/leases/revoke".to_owned()],
            Self::LookUpLease => vec!["sys/leases/lookup".to_owned()],
            Self::RenewAccessor => token(&["renew-accessor"]),
            Self::LookUpAccessor => token(&["lookup-accessor"]),
            Self::RevokeAccessor => token(&["revoke-accessor"]),
            Self::OwnToken => token(&["lookup-self", "renew-self", "revoke-self"]),
        }
    }
}

/// How the tokens of the tenant's logins live; Vault's defaults but for what is set.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokenRules {
    /// `token_ttl`, in whole seconds; zero: Vault's own.
    pub ttl: Duration,
    /// `token_max_ttl`, in whole seconds; zero: Vault's own.
    pub max_ttl: Duration,
    /// `token_period`, in whole seconds; zero: none.
    pub period: Duration,
    /// `token_type` `batch`: no accessor, no renewal.
    pub batch: bool,
    /// `token_no_default_policy`: nothing is granted but the tenant's policy.
    pub no_default_policy: bool,
}

impl Tenant {
    /// Lets the tenant's role read and write these paths (as [`engines`](crate::engines) return them), with these rights
    /// to their leases; the kv mounts stay readable. Replaces what was granted before.
    ///
    /// # Errors
    /// Vault refuses the policy.
    pub async fn grant(&self, secrets: &[&str], rights: &[Right]) -> Result<()> {
        let mut policy = self.kv_policy();
        let mut allow = |path: &str, capabilities: &str| {
            policy += &format!("path \"{path}\" {{ capabilities = [{capabilities}] }}\n");
        };
        for secret in secrets {
            allow(secret, "\"create\", \"read\", \"update\"");
        }
        for path in rights.iter().flat_map(|right| right.paths(secrets)) {
            allow(&path, "\"read\", \"update\"");
        }
        self.vault.policy(&self.namespace, &policy).await
    }

    /// Sets how the tokens of later logins live.
    ///
    /// # Errors
    /// Vault refuses it.
    pub async fn token_rules(&self, rules: &TokenRules) -> Result<()> {
        let body = json!({
            "token_ttl": rules.ttl.as_secs(),
            "token_max_ttl": rules.max_ttl.as_secs(),
            "token_period": rules.period.as_secs(),
            "token_type": if rules.batch { "batch" } else { "default" },
            "token_no_default_policy": rules.no_default_policy,
        });
        let role = format!("auth/{KUBERNETES_AUTH}/role/{}", self.vault_role());
        self.vault.write(&role, &body).await?;
        Ok(())
    }
}
