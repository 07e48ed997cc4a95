//! What a table of cases plays on: one tenant with one operator, whose way to
//! Vault leads through a proxy that knows the cases apart.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use futures::future::join_all;
use ground::faults::{HttpProxy, Match, RuleHandle};
use ground::judges::Canary;
use ground::pki::Pki;
use ground::tenant::AUDIENCE;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::api::{DeleteParams, ListParams};
use serde_json::{Value, json};

use super::{Case, Expected, Gone, Wrong};
use crate::secrecy::shown;
use crate::support::{LONG, Suite, Team, merge, static_secret};

/// In each value that a case has to do with, right or wrong. What encodings
/// change is in it.
pub const CANARY: &str = "canary \"/+ of a bad input";

/// A Secret that somebody made by hand.
pub const OF_OTHERS: &str = "of-others";

/// Seconds that a token of Vault lives where a case is about the login.
const SHORT_LIFE: u64 = 3;

pub struct Scene {
    pub team: Team,
    /// A server whose certificate has expired.
    pub expired: HttpProxy,
    /// Certificates of a CA that signed no server.
    pub other_ca: String,
    proxy: HttpProxy,
}

impl Scene {
    pub async fn start(suite: &Suite, name: &str) -> Result<Self> {
        let mut tenant = suite.ground.tenant(name).await?;
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
        let expired =
            serve(pki.expired_server(&format!("{name}-expired"), &["127.0.0.1"])?).await?;
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
        let config = json!({
            "policy": {
                "vaultAddresses": [proxy.url(), expired.url(), NOBODY, NO_NAME],
                "allowedAuthMethods": ["kubernetes", "jwt"],
            },
            "rollout": { "debounce": "1s" },
            "sync": {
                "backoff": { "initialInterval": "300ms", "maxInterval": "2s" },
                "vaultRequestsPerSecond": 500, "vaultRequestsBurst": 500,
            },
        });
        let operator = tenant
            .operator(&suite.binary)
            .config(&config.to_string())
            .log_level("trace")
            .start()
            .await?;
        operator.wait_ready(LONG).await?;
        let other_ca = Pki::new(&tenant.dir.join("other-ca"))?.ca_pem;
        Ok(Self {
            team: Team { tenant, operator },
            expired,
            other_ca,
            proxy,
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
    pub async fn play(&self, cases: Vec<Case>) -> Result<()> {
        let process = &self.team.operator.process;
        let pid = process.pid();
        let played = join_all(cases.iter().map(|case| async {
            let stage = Stage { scene: self, case };
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
            for (place, findings) in shown(&self.team, secret).await? {
                ensure!(findings.is_empty(), "{place} shows a secret: {findings:?}");
            }
        }
        // The search finds them where they belong.
        let secrets = self.team.secrets().list(&ListParams::default()).await?;
        let kept = canary.in_text("Secrets", serde_json::to_string(&secrets.items)?);
        ensure!(kept.len() >= cases.len(), "no canary was kept: {kept:?}");
        Ok(())
    }
}

/// Where nobody listens.
pub const NOBODY: &str = "https://127.0.0.1:1";
/// A name that never resolves (RFC 6761).
pub const NO_NAME: &str = "https://vault.invalid:8200";

/// One case on its scene.
struct Stage<'a> {
    scene: &'a Scene,
    case: &'a Case,
}

/// What of the world outside the cluster is wrong until it is taken back.
type Fault = Option<RuleHandle>;

impl Stage<'_> {
    async fn play(&self) -> Result<()> {
        let name = self.case.name;
        self.role(&Value::Null).await?;
        self.write(self.good(0)).await?;
        for kind in [
            "ServiceAccount",
            "Secret",
            "VaultConnection",
            "VaultAuth",
            "VaultStaticSecret",
        ] {
            self.apply(kind, &Value::Null).await?;
        }
        self.is_well(0).await.context("at first")?;
        for round in 1..=2 {
            let before = self.kept().await?;
            let fault = self.go_wrong().await;
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
    fn kinds(&self) -> &'static [&'static str] {
        match &self.case.wrong {
            Wrong::Auth(_) | Wrong::Account | Wrong::Role(_) | Wrong::Login(_) => {
                &["VaultAuth", "VaultStaticSecret"]
            }
            Wrong::Connection(_) | Wrong::Authority(_) => &["VaultConnection", "VaultStaticSecret"],
            Wrong::Spec(_) | Wrong::Source(_) | Wrong::Gone(_) | Wrong::Read(_) => {
                &["VaultStaticSecret"]
            }
        }
    }

    async fn go_wrong(&self) -> Result<Fault> {
        let Self { scene, case } = self;
        let tenant = &scene.team.tenant;
        let name = case.name;
        match &case.wrong {
            Wrong::Spec(patch) => self.apply("VaultStaticSecret", patch).await?,
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
            Wrong::Read(answer) => return Ok(Some(self.answer("/v1/", answer, "/data/"))),
            Wrong::Login(answer) => return Ok(Some(self.answer("/v1/auth/", answer, "/login"))),
        }
        Ok(None)
    }

    async fn mend(&self, fault: Fault, round: u64) -> Result<()> {
        match &self.case.wrong {
            Wrong::Spec(_) => self.apply("VaultStaticSecret", &Value::Null).await,
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
        let team = &self.scene.team;
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
                    team.wait_for_condition(kind, self.case.name, condition, |c| {
                        c.reason == *reason && words.iter().all(|word| c.message.contains(word))
                    })
                    .await
                    .with_context(|| format!("{reason} {words:?}"))?;
                }
                Ok(fault)
            }
        }
    }

    /// Waits until the content of a round is there and all is well.
    async fn is_well(&self, round: u64) -> Result<()> {
        let Self { scene, case } = self;
        let wanted = self.good(round);
        let password = wanted["password"].as_str().context("no password")?;
        scene
            .team
            .wait_value(case.name, "password", password)
            .await?;
        for kind in ["VaultConnection", "VaultAuth", "VaultStaticSecret"] {
            scene
                .team
                .wait_condition(kind, case.name, "Ready", "True")
                .await?;
        }
        Ok(())
    }

    /// Uid and data of its Secret.
    async fn kept(&self) -> Result<(Option<String>, Option<BTreeMap<String, ByteString>>)> {
        let secret = self.scene.team.tenant.secret(self.case.name).await?;
        let secret = secret.with_context(|| format!("the Secret {} is gone", self.case.name))?;
        Ok((secret.metadata.uid, secret.data))
    }

    /// Applies one of its objects as it should be, but for a patch of its spec
    /// (of a Secret: another content).
    async fn apply(&self, kind: &str, patch: &Value) -> Result<()> {
        let Self { scene, case } = self;
        let tenant = &scene.team.tenant;
        let name = case.name;
        let mut manifest = match kind {
            "ServiceAccount" => json!({ "apiVersion": "v1", "metadata": { "name": name } }),
            "Secret" => {
                let good = json!({ "ca.crt": tenant.ca_pem });
                let content = if patch.is_null() { &good } else { patch };
                json!({
                    "apiVersion": "v1", "metadata": { "name": ca_of(name) }, "data": encoded(content),
                })
            }
            "VaultConnection" => ours(
                name,
                json!({
                    "address": tenant.vault_address, "caCertSecretRef": ca_of(name),
                    "headers": { "X-Case": tag(name) },
                }),
            ),
            "VaultAuth" => ours(
                name,
                json!({
                    "method": "kubernetes", "mount": "kubernetes", "vaultConnectionRef": name,
                    "kubernetes": {
                        "role": self.role_name(), "serviceAccount": name, "audiences": [AUDIENCE],
                    },
                }),
            ),
            _ => {
                let mut more = json!({ "vaultAuthRef": name });
                merge(&mut more, case.always.clone());
                static_secret(tenant, name, more)
            }
        };
        manifest["kind"] = kind.into();
        if kind.starts_with("Vault") && !patch.is_null() {
            merge(&mut manifest["spec"], patch.clone());
        }
        let manifest = without_nulls(manifest).to_string();
        tenant.apply(&manifest).await.map(drop)
    }

    fn answer(&self, prefix: &str, answer: &ground::faults::Answer, part: &str) -> RuleHandle {
        let of_case = Match::any()
            .header_contains("X-Case", tag(self.case.name))
            .path_prefix(prefix)
            .path_contains(part);
        self.scene.proxy.on(of_case).answer(answer.clone())
    }

    fn role_name(&self) -> String {
        format!("{}-{}", self.scene.team.tenant.namespace, self.case.name)
    }

    /// Writes its role in Vault, with a patch.
    async fn role(&self, patch: &Value) -> Result<()> {
        let tenant = &self.scene.team.tenant;
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
        let path = format!("auth/kubernetes/role/{}", self.role_name());
        tenant.vault.write(&path, &role).await.map(drop)
    }

    /// The source's right content in a round.
    fn good(&self, round: u64) -> Value {
        json!({ "password": format!("{CANARY}: {}, round {round}", self.case.name) })
    }

    /// Writes its source.
    async fn write(&self, content: Value) -> Result<()> {
        let tenant = &self.scene.team.tenant;
        let name = self.case.name;
        if self.case.always["type"] == "kv-v1" {
            return tenant.vault.kv1_put(&tenant.kv1, name, &content).await;
        }
        tenant.vault.kv2_put(&tenant.kv2, name, &content).await?;
        Ok(())
    }

    async fn remove(&self, gone: Gone) -> Result<()> {
        let tenant = &self.scene.team.tenant;
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

fn ours(name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "secrets.hashicorp.com/v1beta1",
        "metadata": { "name": name }, "spec": spec,
    })
}

fn ca_of(name: &str) -> String {
    format!("{name}-ca")
}

/// What no other case's header contains.
fn tag(name: &str) -> String {
    format!("<{name}>")
}

/// The `data` of a Secret. (Of what was applied as `stringData` nothing goes again.)
fn encoded(content: &Value) -> BTreeMap<&String, ByteString> {
    let fields = content.as_object().into_iter().flatten();
    fields
        .map(|(key, value)| (key, ByteString(value.as_str().unwrap_or_default().into())))
        .collect()
}

/// Fields that are null, in whatever depth, are not there.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .into_iter()
            .filter(|(_, field)| !field.is_null())
            .map(|(name, field)| (name, without_nulls(field)))
            .collect(),
        other => other,
    }
}
