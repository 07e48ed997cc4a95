//! One case: its resources, how they go wrong, and how they are mended.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use ground::faults::{Answer, Match, RuleHandle};
use ground::tenant::AUDIENCE;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::api::DeleteParams;
use serde_json::{Value, json};

use super::objects::{ca_of, pki_of, tag};
use super::scene::{CANARY, Scene};
use super::{Case, Expected, Gone, STATIC, Wrong, certificates};
use crate::support::{Team, merge};

/// Seconds that a token of Vault lives where a case is about the login.
const SHORT_LIFE: u64 = 3;

/// Fields that only other kinds have.
const STRANGE: [&str; 3] = ["spec.path", "spec.type", "spec.params"];

/// One case on its scene.
pub struct Stage<'a> {
    pub scene: &'a Scene,
    pub team: &'a Team,
    pub case: &'a Case,
}

/// What of the world outside the cluster is wrong until it is taken back.
type Fault = Option<RuleHandle>;

impl Stage<'_> {
    /// Right, then wrong and right again, as often as the scene says.
    ///
    /// # Errors
    /// What is not as the case expects.
    pub async fn play(&self) -> Result<()> {
        let name = self.case.name;
        self.role(&Value::Null).await?;
        self.issuing(&Value::Null).await?;
        self.write(self.good(0)).await?;
        for kind in [
            "ServiceAccount",
            "Secret",
            "VaultConnection",
            "VaultAuth",
            self.case.kind,
        ] {
            self.apply(kind, &Value::Null).await?;
        }
        self.is_well(0).await.context("at first")?;
        for round in 1..=self.scene.rounds() {
            let before = self.kept().await?;
            let fault = self.go_wrong(round).await;
            let fault = self
                .is_told(fault)
                .await
                .with_context(|| format!("wrong, round {round}"))?;
            if !matches!(self.case.expected, Expected::Taken(..)) {
                ensure!(self.kept().await? == before, "the Secret {name} changed");
            }
            if !matches!(self.case.wrong, Wrong::Source(_) | Wrong::Gone(_)) {
                self.write(self.good(round)).await?;
            }
            self.mend(fault, round).await?;
            self.is_well(round)
                .await
                .with_context(|| format!("mended, round {round}"))?;
        }
        Ok(())
    }

    /// The kinds that tell of what is wrong.
    fn kinds(&self) -> Vec<&'static str> {
        let also = match &self.case.wrong {
            Wrong::Auth(_) | Wrong::Account | Wrong::Role(_) | Wrong::Login(_) => Some("VaultAuth"),
            Wrong::Connection(_) | Wrong::Authority(_) => Some("VaultConnection"),
            _ => None,
        };
        also.into_iter().chain([self.case.kind]).collect()
    }

    async fn go_wrong(&self, round: u64) -> Result<Fault> {
        let Self { scene, case, .. } = self;
        let tenant = &scene.tenant;
        let name = case.name;
        match &case.wrong {
            Wrong::Spec(patch) => self.apply(case.kind, patch).await?,
            Wrong::Auth(patch) => self.apply("VaultAuth", patch).await?,
            Wrong::Connection(patch) => self.apply("VaultConnection", patch).await?,
            Wrong::Authority(Value::Null) => {
                let secrets = tenant.api::<Secret>();
                secrets
                    .delete(&ca_of(name), &DeleteParams::default())
                    .await?;
            }
            Wrong::Authority(content) => self.apply("Secret", content).await?,
            Wrong::Account => {
                let accounts = tenant.api::<ServiceAccount>();
                accounts.delete(name, &DeleteParams::default()).await?;
            }
            Wrong::Role(patch) => self.role(patch).await?,
            Wrong::Source(content) => self.write(content.clone()).await?,
            Wrong::Gone(gone) => self.remove(*gone).await?,
            Wrong::Issuing(patch) => {
                self.issuing(patch).await?;
                self.ask_anew(round).await?;
            }
            Wrong::Read(answer) if case.kind != STATIC => {
                let rule = self.answer("/v1/", answer, "/issue/");
                self.ask_anew(round).await?;
                return Ok(Some(rule));
            }
            Wrong::Read(answer) => return Ok(Some(self.answer("/v1/", answer, "/data/"))),
            Wrong::Login(answer) => return Ok(Some(self.answer("/v1/auth/", answer, "/login"))),
        }
        Ok(None)
    }

    async fn mend(&self, fault: Fault, round: u64) -> Result<()> {
        match &self.case.wrong {
            Wrong::Spec(_) => self.apply(self.case.kind, &Value::Null).await,
            Wrong::Issuing(_) => self.issuing(&Value::Null).await,
            Wrong::Auth(_) => self.apply("VaultAuth", &Value::Null).await,
            Wrong::Connection(_) => self.apply("VaultConnection", &Value::Null).await,
            Wrong::Authority(_) => self.apply("Secret", &Value::Null).await,
            Wrong::Account => self.apply("ServiceAccount", &Value::Null).await,
            Wrong::Role(_) => self.role(&Value::Null).await,
            Wrong::Source(_) | Wrong::Gone(_) => self.write(self.good(round)).await,
            Wrong::Read(_) | Wrong::Login(_) => {
                fault.context("no rule")?.remove();
                Ok(())
            }
        }
    }

    async fn is_told(&self, wrong: Result<Fault>) -> Result<Fault> {
        let team = self.team;
        match &self.case.expected {
            Expected::Refused(words) => {
                let refusal = wrong.err().context("the API server took it")?;
                let text = format!("{refusal:#}");
                let missing = words.iter().find(|word| !text.contains(*word));
                ensure!(missing.is_none(), "no {missing:?} in {text}");
                Ok(None)
            }
            Expected::Taken(key, value) => {
                let fault = wrong?;
                if self.case.kind != STATIC {
                    // What is expected may have been there before.
                    team.wait_condition(self.case.kind, self.case.name, "Ready", "True")
                        .await?;
                }
                team.wait_value(self.case.name, key, value).await?;
                Ok(fault)
            }
            Expected::Told {
                condition,
                reason,
                words,
            } => {
                let fault = wrong?;
                for kind in self.kinds() {
                    let told = team
                        .wait_for_condition(kind, self.case.name, condition, |c| {
                            c.reason == *reason && words.iter().all(|word| c.message.contains(word))
                        })
                        .await
                        .with_context(|| format!("{reason} {words:?}"))?;
                    let strange = STRANGE.iter().find(|field| told.message.contains(**field));
                    ensure!(
                        kind == STATIC || strange.is_none(),
                        "a {kind} has no such field: {}",
                        told.message
                    );
                }
                Ok(fault)
            }
        }
    }

    /// Waits until the content of a round is there and all is well.
    async fn is_well(&self, round: u64) -> Result<()> {
        let Self { team, case, .. } = self;
        if case.kind == STATIC {
            let wanted = self.good(round);
            let password = wanted["password"].as_str().context("no password")?;
            team.wait_value(case.name, "password", password).await?;
        }
        for kind in ["VaultConnection", "VaultAuth", case.kind] {
            team.wait_condition(kind, case.name, "Ready", "True")
                .await?;
        }
        Ok(())
    }

    /// Uid and data of its Secret.
    async fn kept(&self) -> Result<(Option<String>, Option<BTreeMap<String, ByteString>>)> {
        let secret = self.scene.tenant.secret(self.case.name).await?;
        let secret = secret.with_context(|| format!("the Secret {} is gone", self.case.name))?;
        Ok((secret.metadata.uid, secret.data))
    }

    /// Applies one of its objects as it should be, but for a patch of its spec
    /// (of a Secret: another content).
    async fn apply(&self, kind: &str, patch: &Value) -> Result<()> {
        let tenant = &self.scene.tenant;
        let manifest = self.case.manifest(tenant, kind, patch).to_string();
        tenant.apply(&manifest).await.map(drop)
    }

    fn answer(&self, prefix: &str, answer: &Answer, part: &str) -> RuleHandle {
        let of_case = Match::any()
            .header_contains("X-Case", tag(self.case.name))
            .path_prefix(prefix)
            .path_contains(part);
        self.scene.proxy.on(of_case).answer(answer.clone())
    }

    /// Writes its role in Vault, with a patch.
    async fn role(&self, patch: &Value) -> Result<()> {
        let tenant = &self.scene.tenant;
        let life = match self.case.wrong {
            Wrong::Account | Wrong::Role(_) | Wrong::Login(_) => SHORT_LIFE,
            _ => 3600,
        };
        let mut role = json!({
            "bound_service_account_names": [self.case.name],
            "bound_service_account_namespaces": [tenant.namespace],
            "audience": AUDIENCE, "token_policies": [tenant.namespace],
            "token_ttl": life, "token_max_ttl": life,
        });
        if !patch.is_null() {
            merge(&mut role, patch.clone());
        }
        let path = format!("auth/kubernetes/role/{}", self.case.role_name(tenant));
        tenant.vault.write(&path, &role).await.map(drop)
    }

    /// Writes its role of the PKI engine, with a patch.
    async fn issuing(&self, patch: &Value) -> Result<()> {
        if self.case.kind == STATIC {
            return Ok(());
        }
        let tenant = &self.scene.tenant;
        let path = format!("{}/roles/{}", pki_of(tenant), self.case.name);
        let mut role = certificates::role();
        if !patch.is_null() {
            merge(&mut role, patch.clone());
        }
        tenant.vault.write(&path, &role).await.map(drop)
    }

    /// Asks for another certificate: what is there is not asked for again.
    async fn ask_anew(&self, round: u64) -> Result<()> {
        let other = json!({ "altNames": [format!("round-{round}.web.test")] });
        self.apply(self.case.kind, &other).await
    }

    /// The source's right content in a round.
    fn good(&self, round: u64) -> Value {
        json!({ "password": format!("{CANARY}: {}, round {round}", self.case.name) })
    }

    /// Writes its source.
    async fn write(&self, content: Value) -> Result<()> {
        let tenant = &self.scene.tenant;
        let name = self.case.name;
        if self.case.kind != STATIC {
            return Ok(());
        }
        if self.case.always["type"] == "kv-v1" {
            return tenant.vault.kv1_put(&tenant.kv1, name, &content).await;
        }
        tenant.vault.kv2_put(&tenant.kv2, name, &content).await?;
        Ok(())
    }

    async fn remove(&self, gone: Gone) -> Result<()> {
        let tenant = &self.scene.tenant;
        let (kv2, name) = (&tenant.kv2, self.case.name);
        let metadata = format!("{kv2}/metadata/{name}");
        match gone {
            Gone::Purged => tenant.vault.delete(&metadata).await,
            Gone::Deleted => tenant.vault.delete(&format!("{kv2}/data/{name}")).await,
            Gone::Destroyed => {
                let found = tenant.vault.read(&metadata).await?;
                let versions = json!({ "versions": [found["data"]["current_version"]] });
                let path = format!("{kv2}/destroy/{name}");
                tenant.vault.write(&path, &versions).await.map(drop)
            }
        }
    }
}
