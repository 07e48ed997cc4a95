//! What a table of cases plays on: one tenant with one operator, whose way to
//! Vault leads through a proxy that knows the cases apart.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use futures::future::join_all;
use ground::Tenant;
use ground::faults::{HttpProxy, Match};
use ground::judges::Canary;
use ground::pki::Pki;
use kube::api::ListParams;
use serde_json::{Value, json};

use super::stage::Stage;
use super::{Case, STATIC};
use crate::grades::Grade;
use crate::secrecy::shown;
use crate::support::{LONG, Suite, Team};

/// In each value that a case has to do with, right or wrong. What encodings
/// change is in it.
pub const CANARY: &str = "canary \"/+ of a bad input";

/// A Secret that somebody made by hand.
pub const OF_OTHERS: &str = "of-others";

/// Where nobody listens.
pub const NOBODY: &str = "https://127.0.0.1:1";
/// A name that never resolves (RFC 6761).
pub const NO_NAME: &str = "https://vault.invalid:8200";

pub struct Scene {
    pub tenant: Tenant,
    grade: Grade,
    /// A server whose certificate has expired.
    pub expired: HttpProxy,
    /// That certificate.
    pub expired_pem: String,
    /// Certificates of a CA that signed no server.
    pub other_ca: String,
    /// The way to Vault.
    pub proxy: HttpProxy,
}

impl Scene {
    /// All but the operator.
    pub async fn set(suite: &Suite, grade: Grade, name: &str) -> Result<Self> {
        let mut tenant = grade.tenant(&suite.ground, name).await?;
        let vault = tenant
            .vault_address
            .trim_start_matches("https://")
            .parse()?;
        let pki = &suite.ground.pki;
        let serve = async |identity: ground::pki::Identity| {
            HttpProxy::builder()
                .tls(identity.cert_pem, identity.key_pem)
                .upstream_tls(vault, &tenant.ca_pem)
                .start()
                .await
        };
        let proxy = serve(pki.server(name, &["127.0.0.1"])?).await?;
        let ended = pki.expired_server(&format!("{name}-expired"), &["127.0.0.1"])?;
        let expired_pem = ended.cert_pem.clone();
        let expired = serve(ended).await?;
        tenant.vault_address = proxy.url();
        // Both mounts whole, so that a mistake is answered by the engine.
        let (kv1, kv2) = (&tenant.kv1, &tenant.kv2);
        let policy = format!(
            "path \"{kv1}/*\" {{ capabilities = [\"read\"] }}\npath \"{kv2}/*\" {{ capabilities = [\"read\"] }}\n"
        );
        tenant.vault.policy(&tenant.namespace, &policy).await?;
        let by_hand = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": { "name": OF_OTHERS },
            "stringData": { "password": format!("{CANARY}, made by hand") },
        });
        tenant.apply(&by_hand.to_string()).await?;
        let other_ca = Pki::new(&tenant.dir.join("other-ca"))?.ca_pem;
        Ok(Self {
            tenant,
            grade,
            expired,
            expired_pem,
            other_ca,
            proxy,
        })
    }

    /// How often each case goes wrong. That it heals in the same process again is of
    /// no grade, so once will do in the other one.
    pub const fn rounds(&self) -> u64 {
        match self.grade {
            Grade::Namespace => 2,
            Grade::Named => 1,
        }
    }

    /// The operator, with the rights for what the cases are about.
    async fn enter(&self, suite: &Suite, cases: &[Case]) -> Result<Team> {
        let Self { tenant, grade, .. } = self;
        let mut config = json!({
            "policy": {
                "vaultAddresses": [self.proxy.url(), self.expired.url(), NOBODY, NO_NAME],
                "allowedAuthMethods": ["kubernetes", "jwt"],
            },
            "rollout": { "debounce": "1s" },
            "sync": {
                "backoff": { "initialInterval": "300ms", "maxInterval": "2s" },
                "vaultRequestsPerSecond": 500, "vaultRequestsBurst": 500,
            },
        });
        if *grade == Grade::Named {
            config["secretAccess"] = json!("named");
            // There are more names than are watched.
            config["sync"]["pollInterval"] = json!("10s");
        }
        let config = config.to_string();
        let named = cases.iter().flat_map(|case| case.resources(tenant));
        let named: Vec<Value> = named.collect();
        grade.allow(tenant, &config, &named).await?;
        let builder = tenant.operator(&suite.binary).config(&config);
        let operator = builder.log_level("trace").start().await?;
        operator.wait_ready(LONG).await?;
        Ok(Team {
            tenant: tenant.clone(),
            operator,
        })
    }

    /// All tokens of Vault that were sent.
    fn tokens(&self) -> Result<Vec<Canary>> {
        let requests = self.proxy.requests(&Match::any());
        let sent: BTreeSet<&[u8]> = requests
            .iter()
            .filter_map(|request| request.headers.get("X-Vault-Token"))
            .map(http::HeaderValue::as_bytes)
            .collect();
        ensure!(!sent.is_empty(), "no token was sent");
        sent.into_iter()
            .map(|token| Canary::new(String::from_utf8_lossy(token)))
            .collect()
    }

    /// Plays all cases at a time, and looks for their canaries at the end.
    pub async fn play(&self, suite: &Suite, cases: Vec<Case>) -> Result<()> {
        let team = self.enter(suite, &cases).await?;
        let process = &team.operator.process;
        let pid = process.pid();
        let played = join_all(cases.iter().map(|case| async {
            let (scene, team) = (self, &team);
            let stage = Stage { scene, team, case };
            stage.play().await.with_context(|| case.name.to_owned())
        }))
        .await;
        let failed: Vec<String> = played
            .into_iter()
            .filter_map(|outcome| outcome.err().map(|error| format!("{error:#}")))
            .collect();
        ensure!(
            failed.is_empty(),
            "{} of {} cases:\n{}",
            failed.len(),
            cases.len(),
            failed.join("\n")
        );
        ensure!(
            process.is_running() && process.pid() == pid,
            "the operator was restarted"
        );
        let canary = Canary::new(CANARY)?;
        let tokens = self.tokens()?;
        for secret in tokens.iter().chain([&canary]) {
            for (place, findings) in shown(&team, secret).await? {
                ensure!(findings.is_empty(), "{place} shows a secret: {findings:?}");
            }
        }
        // The search finds them where they belong.
        let secrets = team.secrets().list(&ListParams::default()).await?;
        let kept = canary.in_text("Secrets", serde_json::to_string(&secrets.items)?);
        let expected = cases.iter().filter(|case| case.kind == STATIC).count();
        ensure!(kept.len() >= expected, "no canary was kept: {kept:?}");
        Ok(())
    }
}
