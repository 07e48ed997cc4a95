//! What trials look at from outside: a team's requests at Vault and at the API
//! server, the words that a person would read, and proxies in front of both.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ground::faults::{HttpProxy, TcpProxy};
use ground::judges::vault_audit::VaultRequest;
use ground::judges::workloads::{Kind, Templates};
use ground::judges::{ApiAudit, ApiFilter, Mark, VaultAudit, VaultFilter};
use ground::{Ground, Tenant, wait_for};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::{Value, json};
use tokio::process::Command;
use vault_tenant_operator::api::Rollouts;

use crate::support::{LONG, Suite, Team, config, merge, prepare};

/// How long nothing may come before a count is taken: longer than the longest
/// backoff of a trial's operator.
pub const QUIET: Duration = Duration::from_secs(4);

/// The logs of one tenant's requests.
pub struct Eye {
    pub vault: VaultAudit,
    pub api: ApiAudit,
    tenant: Tenant,
}

impl Eye {
    pub fn on(suite: &Suite, team: &Team) -> Self {
        Self::of(&suite.ground, &team.tenant)
    }

    pub fn of(ground: &Ground, tenant: &Tenant) -> Self {
        Self {
            vault: VaultAudit::new(&ground.vault.audit_log),
            api: ApiAudit::new(&ground.plane.audit_log),
            tenant: tenant.clone(),
        }
    }

    /// Requests to Vault that the team's operator made.
    pub fn at_vault(&self) -> VaultFilter {
        self.tenant.at_vault()
    }

    /// Those of them that read a secret.
    pub fn reads(&self) -> VaultFilter {
        self.tenant.reads()
    }

    /// Those of them that log in.
    pub fn logins(&self) -> VaultFilter {
        self.tenant.logins()
    }

    /// Requests to the API server that the team's operator made for its work.
    pub fn at_api(&self) -> ApiFilter {
        self.tenant.at_api()
    }

    /// Those that it made to be allowed to work: leadership and claims.
    pub fn at_leases(&self) -> ApiFilter {
        self.tenant.at_leases()
    }

    /// Both logs' present ends.
    pub fn mark(&self) -> Result<(Mark, Mark)> {
        Ok((self.vault.mark()?, self.api.mark()?))
    }

    /// All that matches at Vault, once nothing more comes.
    pub async fn settled(&self, filter: &VaultFilter) -> Result<Vec<VaultRequest>> {
        self.vault.settle(filter, QUIET, LONG).await
    }
}

/// A proxy in front of Vault: put its URL into `tenant.vault_address`.
pub async fn vault_proxy(ground: &Ground) -> Result<HttpProxy> {
    proxy(ground, "vault-proxy", &ground.vault.address).await
}

/// A proxy in front of the API server.
pub async fn api_proxy(ground: &Ground) -> Result<HttpProxy> {
    proxy(ground, "api-proxy", &ground.plane.url).await
}

async fn proxy(ground: &Ground, name: &str, upstream: &str) -> Result<HttpProxy> {
    let certificate = ground.pki.server(name, &["127.0.0.1", "localhost"])?;
    HttpProxy::builder()
        .tls(certificate.cert_pem, certificate.key_pem)
        .upstream_tls(host(upstream)?.parse()?, &ground.pki.ca_pem)
        .start()
        .await
}

/// A proxy that knows no protocol in front of an `https` address, and its own address.
pub async fn tcp_proxy(upstream: &str) -> Result<(TcpProxy, String)> {
    let proxy = TcpProxy::start(host(upstream)?.parse()?).await?;
    let url = format!("https://{}", proxy.address());
    Ok((proxy, url))
}

fn host(url: &str) -> Result<&str> {
    url.strip_prefix("https://")
        .context("the upstream serves no https")
}

impl Team {
    /// The team of a tenant, ready; `api` is another address of the API server.
    pub async fn of(suite: &Suite, tenant: Tenant, api: Option<&str>, more: &str) -> Result<Self> {
        prepare(&tenant).await?;
        let config = config(&tenant, more);
        let mut builder = tenant.operator(&suite.binary).config(&config);
        if let Some(api) = api {
            builder = builder.api_url(api);
        }
        let operator = builder.start().await?;
        operator.wait_ready(LONG).await?;
        Ok(Self { tenant, operator })
    }

    /// Waits until the resource is not ready for this reason, and returns the message.
    pub async fn wait_problem(&self, name: &str, reason: &str) -> Result<String> {
        let ready = self
            .wait_for_condition("VaultStaticSecret", name, "Ready", |c| {
                c.status == "False" && c.reason == reason
            })
            .await?;
        Ok(ready.message)
    }

    /// The Secret, which must be there.
    pub async fn secret(&self, name: &str) -> Result<Secret> {
        self.tenant.secret(name).await?.context("no Secret")
    }

    /// The keys of a Secret, sorted.
    pub async fn keys(&self, name: &str) -> Result<Vec<String>> {
        let secret = self.secret(name).await?;
        Ok(secret.data.unwrap_or_default().into_keys().collect())
    }

    pub async fn uid(&self, secret: &str) -> Result<String> {
        self.secret(secret).await?.metadata.uid.context("no uid")
    }

    /// Asks for a read at once; `token` must differ from the last one.
    pub async fn resync(&self, name: &str, token: &str) -> Result<()> {
        let asked = json!({ "metadata": { "annotations": { "vso.hashicorp.com/resync": token } } });
        self.resources("VaultStaticSecret")
            .patch(name, &PatchParams::default(), &Patch::Merge(asked))
            .await?;
        Ok(())
    }

    /// Merges into the spec of an existing VaultStaticSecret; `null` removes.
    pub async fn edit(&self, name: &str, spec: Value) -> Result<()> {
        self.merge_into("VaultStaticSecret", name, json!({ "spec": spec }))
            .await
    }

    /// Merges into an existing resource; `null` removes.
    pub async fn merge_into(&self, kind: &str, name: &str, patch: Value) -> Result<()> {
        let resources = self.resources(kind);
        let patch = Patch::Merge(patch);
        resources
            .patch(name, &PatchParams::default(), &patch)
            .await?;
        Ok(())
    }

    pub async fn status(&self, kind: &str, name: &str) -> Result<Value> {
        let found = self.resources(kind).get(name).await?;
        Ok(found.data["status"].clone())
    }

    /// How the status of a VaultStaticSecret says that its workloads stand.
    pub async fn rollouts(&self, name: &str) -> Result<Rollouts> {
        let status = self.status("VaultStaticSecret", name).await?;
        Ok(serde_json::from_value(status)?)
    }

    pub async fn delete(&self, kind: &str, name: &str) -> Result<()> {
        let resources = self.resources(kind);
        resources.delete(name, &DeleteParams::default()).await?;
        Ok(())
    }

    /// Waits until the condition Ready is True with these words in its message.
    pub async fn wait_told(&self, name: &str, words: &str) -> Result<()> {
        self.wait_for_condition("VaultStaticSecret", name, "Ready", |c| {
            c.status == "True" && c.message.contains(words)
        })
        .await
        .map(drop)
    }

    /// How often a workload was restarted.
    pub async fn restarts(&self, kind: Kind, name: &str) -> Result<usize> {
        let (client, namespace) = (&self.tenant.client, &self.tenant.namespace);
        let seen = Templates::of(client, kind, namespace, name).await?;
        Ok(seen.restarts())
    }

    pub async fn wait_restarts(&self, kind: Kind, name: &str, expected: usize) -> Result<()> {
        let what = format!("{expected} restarts of {kind:?} {name}");
        wait_for(&what, LONG, || async {
            let seen = self.restarts(kind, name).await?;
            ensure!(seen == expected, "{seen} restarts");
            Ok(())
        })
        .await
    }

    /// Waits until the status says that all targets run the present content.
    pub async fn wait_current(&self, name: &str) -> Result<()> {
        self.wait_condition("VaultStaticSecret", name, "RolloutRestart", "True")
            .await
            .map(drop)
    }

    /// What `kubectl describe` prints, with single spaces between its words.
    pub async fn kubectl_describe(&self, suite: &Suite, kind: &str, name: &str) -> Result<String> {
        let text = self.kubectl(suite, &["describe", kind, name]).await?;
        Ok(text.split_whitespace().collect::<Vec<_>>().join(" "))
    }

    /// What kubectl prints, as administrator in the team's namespace.
    pub async fn kubectl(&self, suite: &Suite, arguments: &[&str]) -> Result<String> {
        let kubectl = suite.ground.components().path("kubectl")?;
        let output = Command::new(kubectl)
            .args(arguments)
            .arg(format!("--namespace={}", self.tenant.namespace))
            .env("KUBECONFIG", &suite.ground.plane.kubeconfig)
            .env("HOME", &self.tenant.dir)
            .output()
            .await?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "kubectl {arguments:?}: {said}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Conditions and events of a resource as text.
    pub async fn described(&self, kind: &str, name: &str) -> Result<String> {
        let object = self.resources(kind).get(name).await?;
        let mut text = String::new();
        for condition in object.data["status"]["conditions"]
            .as_array()
            .into_iter()
            .flatten()
        {
            text += &format!(
                "{} {} {} {}\n",
                condition["type"], condition["status"], condition["reason"], condition["message"]
            );
        }
        let events: Api<Event> = self.tenant.api();
        for event in events.list(&ListParams::default()).await? {
            let about = event.regarding.unwrap_or_default();
            if about.name.as_deref() == Some(name) && about.kind.as_deref() == Some(kind) {
                text += &format!(
                    "{} {} {}\n",
                    event.type_.unwrap_or_default(),
                    event.reason.unwrap_or_default(),
                    event.note.unwrap_or_default()
                );
            }
        }
        Ok(text)
    }

    /// Waits until conditions and events of a VaultStaticSecret say these words: an
    /// event comes after the condition, or waits while others miss their Secret.
    pub async fn wait_described(&self, name: &str, words: &str) -> Result<String> {
        wait_for(&format!("{words:?} about {name}"), LONG, || async {
            let text = self.described("VaultStaticSecret", name).await?;
            ensure!(text.contains(words), "{text}");
            Ok(text)
        })
        .await
    }

    /// Lets the application's role read all of the team's secrets, or none.
    pub async fn allow_reading(&self, allowed: bool) -> Result<()> {
        let tenant = &self.tenant;
        let policy = if allowed {
            format!(
                "path \"{}/*\" {{ capabilities = [\"read\"] }}\npath \"{}/data/*\" {{ capabilities = [\"read\"] }}\n",
                tenant.kv1, tenant.kv2
            )
        } else {
            "path \"nothing\" { capabilities = [\"read\"] }\n".to_owned()
        };
        tenant.vault.policy(&tenant.namespace, &policy).await
    }
}

/// A workload of one replica that reads the Secret.
pub fn workload(kind: Kind, name: &str, secret: &str, more: Value) -> Value {
    let mut manifest = crate::support::deployment(name, secret);
    match kind {
        Kind::Deployment => {}
        Kind::StatefulSet => {
            manifest["kind"] = json!("StatefulSet");
            manifest["spec"]["serviceName"] = json!(name);
        }
        Kind::DaemonSet => {
            manifest["kind"] = json!("DaemonSet");
            if let Some(spec) = manifest["spec"].as_object_mut() {
                spec.remove("replicas");
            }
        }
    }
    merge(&mut manifest, json!({ "spec": more }));
    manifest
}
