//! One attempt against a guardrail: its manifests, and the refusal that its
//! resources must show; and the tenants and servers that attempts are made with.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ground::faults::Sink;
use ground::judges::{ApiAudit, ApiFilter};
use ground::tenant::{AUDIENCE, OPERATOR_ACCOUNT};
use ground::{Tenant, wait_for};
use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;
use serde_json::{Value, json};

use crate::grades::Grade;
use crate::support::{LONG, Suite, Team, merge, static_secret};

/// The account whose token an attacker is after; nothing but an attack names it.
pub const VICTIM: &str = "victim";

/// Long enough that what was going to be sent would have been.
pub const QUIET: Duration = Duration::from_millis(500);

/// One attempt: the manifests, and what the refusal must say and where.
#[derive(Clone)]
pub struct Attempt {
    pub name: &'static str,
    /// Of a VaultConnection; none: the operator's own connection is used.
    pub connection: Option<Value>,
    /// Merged into the spec of a good VaultAuth.
    pub auth: Value,
    /// Merged into the spec of a good VaultStaticSecret.
    pub secret: Value,
    /// The resource at fault. Those that refer to it say the same.
    pub kind: &'static str,
    pub reason: &'static str,
    /// The rule, and what it is about.
    pub says: [&'static str; 2],
}

impl Attempt {
    pub fn new(name: &'static str, kind: &'static str, says: [&'static str; 2]) -> Self {
        Self {
            name,
            connection: None,
            auth: json!({}),
            secret: json!({}),
            kind,
            reason: "PolicyDenied",
            says,
        }
    }

    pub fn connection(name: &'static str, spec: Value, says: [&'static str; 2]) -> Self {
        Self {
            connection: Some(spec),
            ..Self::new(name, "VaultConnection", says)
        }
    }

    pub fn auth(name: &'static str, auth: Value, says: [&'static str; 2]) -> Self {
        Self {
            auth,
            ..Self::new(name, "VaultAuth", says)
        }
    }

    pub fn secret(name: &'static str, secret: Value, says: [&'static str; 2]) -> Self {
        Self {
            secret,
            ..Self::new(name, "VaultStaticSecret", says)
        }
    }

    pub fn reason(self, reason: &'static str) -> Self {
        Self { reason, ..self }
    }

    pub async fn make(&self, tenant: &Tenant) -> Result<()> {
        for resource in self.resources(tenant) {
            tenant.apply(&resource.to_string()).await?;
        }
        Ok(())
    }

    /// Its manifests.
    pub fn resources(&self, tenant: &Tenant) -> Vec<Value> {
        let resource = |kind: &str, spec: &Value| {
            json!({
                "apiVersion": "secrets.hashicorp.com/v1beta1", "kind": kind,
                "metadata": { "name": self.name }, "spec": spec,
            })
        };
        let mut auth = json!({
            "method": "kubernetes", "mount": "kubernetes",
            "kubernetes": { "role": tenant.vault_role(), "serviceAccount": VICTIM, "audiences": [AUDIENCE] },
        });
        let mut resources = Vec::new();
        if let Some(connection) = &self.connection {
            let ca = json!({ "caCertSecretRef": "vault-ca" });
            let mut spec = if connection.get("caCertPath").is_some() {
                json!({})
            } else {
                ca
            };
            merge(&mut spec, connection.clone());
            resources.push(resource("VaultConnection", &spec));
            auth["vaultConnectionRef"] = self.name.into();
        }
        merge(&mut auth, self.auth.clone());
        resources.push(resource("VaultAuth", &auth));
        let mut more = json!({ "vaultAuthRef": self.name, "path": "app" });
        merge(&mut more, self.secret.clone());
        resources.push(static_secret(tenant, self.name, more));
        resources
    }

    /// Condition and event of the resource at fault and of all that rest on it.
    pub async fn judge(&self, team: &Team) -> Result<()> {
        let chain = ["VaultConnection", "VaultAuth", "VaultStaticSecret"];
        for kind in chain.into_iter().skip_while(|kind| *kind != self.kind) {
            let condition = team
                .wait_for_condition(kind, self.name, "Ready", |c| c.reason == self.reason)
                .await?;
            let complete = self
                .says
                .iter()
                .all(|part| condition.message.contains(part));
            ensure!(
                condition.status == "False" && complete,
                "{kind} {} is to say {:?}: {condition:?}",
                self.name,
                self.says
            );
            let event = format!("an event {} about {kind} {}", self.reason, self.name);
            wait_for(&event, LONG, || async {
                let notes = notes(&team.tenant, kind, self.name).await?;
                let told = notes
                    .iter()
                    .any(|(reason, note)| reason == self.reason && note.contains(self.says[0]));
                ensure!(told, "events: {notes:?}");
                Ok(())
            })
            .await?;
        }
        Ok(())
    }
}

/// Reasons and notes of the events about one object.
async fn notes(tenant: &Tenant, kind: &str, name: &str) -> Result<Vec<(String, String)>> {
    let events = tenant.api::<Event>().list(&ListParams::default()).await?;
    let about = |event: &Event| {
        event.regarding.as_ref().is_some_and(|about| {
            about.kind.as_deref() == Some(kind) && about.name.as_deref() == Some(name)
        })
    };
    let found = events.items.into_iter().filter(about);
    Ok(found
        .map(|event| {
            (
                event.reason.unwrap_or_default(),
                event.note.unwrap_or_default(),
            )
        })
        .collect())
}

/// A tenant with the victim's account, and the CA of everything here.
pub async fn tenant(suite: &Suite, grade: Grade, name: &str) -> Result<Tenant> {
    let tenant = grade.tenant(&suite.ground, name).await?;
    let account =
        json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": VICTIM } });
    let ca = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "vault-ca" },
        "stringData": { "ca.crt": tenant.ca_pem },
    });
    tenant.apply(&account.to_string()).await?;
    tenant.apply(&ca.to_string()).await?;
    Ok(tenant)
}

/// The tenant's operator, with a Role for these resources where it goes by names.
/// For what it refuses as a whole it needs no right, so none of that is in there.
pub async fn team(
    suite: &Suite,
    grade: Grade,
    tenant: Tenant,
    config: &str,
    resources: &[Value],
) -> Result<Team> {
    let config = format!(
        "sync:\n  backoff: {{initialInterval: 300ms, maxInterval: 2s}}\n{config}{}",
        grade.lines()
    );
    grade.allow(&tenant, &config, resources).await?;
    let builder = tenant.operator(&suite.binary).config(&config);
    let operator = builder.start().await?;
    operator.wait_ready(LONG).await?;
    Ok(Team { tenant, operator })
}

/// A server of the tenant's with a certificate that everybody trusts here.
pub async fn server(suite: &Suite, name: &str, host: &str) -> Result<Sink> {
    let identity = suite
        .ground
        .pki
        .server(name, &["127.0.0.1", "localhost", host])?;
    Sink::tls(&identity.cert_pem, &identity.key_pem).await
}

pub async fn make_and_judge(team: &Team, attempts: &[Attempt]) -> Result<()> {
    for attempt in attempts {
        attempt.make(&team.tenant).await?;
    }
    for attempt in attempts {
        attempt.judge(team).await?;
    }
    for attempt in attempts {
        let secret = attempt.secret["destination"]["name"].as_str();
        let secret = secret.unwrap_or(attempt.name);
        let written = team.tenant.secret(secret).await?;
        let ours = written.is_some_and(|s| s.metadata.owner_references.is_some());
        ensure!(!ours, "{} wrote the Secret {secret}", attempt.name);
    }
    Ok(())
}

/// Nobody asked the API server for a token of anyone, and none of these
/// servers was ever connected to.
pub async fn nothing_arrived(suite: &Suite, team: &Team, servers: &[&Sink]) -> Result<()> {
    let asked = tokens_asked_for(suite, &team.tenant).await?;
    ensure!(asked == 0, "{asked} tokens were asked for");
    for server in servers {
        ensure!(
            server.connections() == 0 && server.requests().is_empty(),
            "{} saw {} connections and {:?}",
            server.url(),
            server.connections(),
            server.requests()
        );
    }
    Ok(())
}

/// How many tokens of ServiceAccounts the operator has asked for.
pub async fn tokens_asked_for(suite: &Suite, tenant: &Tenant) -> Result<usize> {
    let audit = ApiAudit::new(&suite.ground.plane.audit_log);
    let tokens = ApiFilter::service_account(&tenant.namespace, OPERATOR_ACCOUNT)
        .resource("serviceaccounts/token");
    Ok(audit.settle(&tokens, QUIET, LONG).await?.len())
}

/// The configuration's own connection leads to a server, so that only the
/// guardrails keep what the tenant asks for from arriving there.
pub fn own_connection(suite: &Suite, server: &Sink) -> String {
    format!(
        "connection:\n  address: \"{}\"\n  caCertPath: \"{}\"\n",
        server.url(),
        suite.ground.pki.ca_file().display()
    )
}

/// The token that a login brought to a server.
pub fn token_at(server: &Sink) -> Result<String> {
    let logins = server.requests();
    let login = logins
        .iter()
        .find(|request| request.path.ends_with("/login"));
    let login = login.with_context(|| format!("no login among {logins:?}"))?;
    let body: Value = serde_json::from_slice(&login.request_body)?;
    body["jwt"]
        .as_str()
        .map(str::to_owned)
        .context("no token in the login")
}
