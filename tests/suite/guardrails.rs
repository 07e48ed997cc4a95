//! The guardrails that protect the operator: whoever may write resources still
//! can't make it connect, send a token, read a file or write a Secret that the
//! platform did not mean. What was refused reached nobody: neither a request
//! nor a connection at the other end, and no token was even asked for.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ground::faults::{Answer, HttpProxy, Sink};
use ground::judges::{AccessFilter, AccessLog, ApiAudit, ApiFilter};
use ground::tenant::{AUDIENCE, OPERATOR_ACCOUNT};
use ground::{OperatorBinary, Tenant, wait_for};
use k8s_openapi::api::authentication::v1::TokenReview;
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::{ListParams, PostParams};
use serde_json::{Value, json};

use crate::support::{LONG, Suite, Team, config, merge, prepare, static_secret};

crate::trials![
    "guardrails": what_nothing_may_lift_reaches_nobody, an_address_that_is_not_listed_sees_nothing,
    without_a_list_only_https_names_are_spoken_to, a_tenants_own_server_gets_no_usable_token,
    a_redirect_leads_no_token_elsewhere, a_method_that_is_not_allowed_never_reaches_vault,
    lists_narrow_what_a_tenant_may_name
];

/// The account whose token an attacker is after; nothing but an attack names it.
const VICTIM: &str = "victim";

/// Long enough that what was going to be sent would have been.
const QUIET: Duration = Duration::from_millis(500);

/// One attempt: the manifests, and what the refusal must say and where.
struct Attempt {
    name: &'static str,
    /// Of a VaultConnection; none: the operator's own connection is used.
    connection: Option<Value>,
    /// Merged into the spec of a good VaultAuth.
    auth: Value,
    /// Merged into the spec of a good VaultStaticSecret.
    secret: Value,
    /// The resource at fault. Those that refer to it say the same.
    kind: &'static str,
    reason: &'static str,
    /// The rule, and what it is about.
    says: [&'static str; 2],
}

impl Attempt {
    fn new(name: &'static str, kind: &'static str, says: [&'static str; 2]) -> Self {
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

    fn connection(name: &'static str, spec: Value, says: [&'static str; 2]) -> Self {
        Self {
            connection: Some(spec),
            ..Self::new(name, "VaultConnection", says)
        }
    }

    fn auth(name: &'static str, auth: Value, says: [&'static str; 2]) -> Self {
        Self {
            auth,
            ..Self::new(name, "VaultAuth", says)
        }
    }

    fn secret(name: &'static str, secret: Value, says: [&'static str; 2]) -> Self {
        Self {
            secret,
            ..Self::new(name, "VaultStaticSecret", says)
        }
    }

    fn reason(self, reason: &'static str) -> Self {
        Self { reason, ..self }
    }

    async fn make(&self, tenant: &Tenant) -> Result<()> {
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
        if let Some(connection) = &self.connection {
            let ca = json!({ "caCertSecretRef": "vault-ca" });
            let mut spec = if connection.get("caCertPath").is_some() {
                json!({})
            } else {
                ca
            };
            merge(&mut spec, connection.clone());
            tenant
                .apply(&resource("VaultConnection", &spec).to_string())
                .await?;
            auth["vaultConnectionRef"] = self.name.into();
        }
        merge(&mut auth, self.auth.clone());
        tenant
            .apply(&resource("VaultAuth", &auth).to_string())
            .await?;
        let mut more = json!({ "vaultAuthRef": self.name, "path": "app" });
        merge(&mut more, self.secret.clone());
        let secret = static_secret(tenant, self.name, more);
        tenant.apply(&secret.to_string()).await?;
        Ok(())
    }

    /// Condition and event of the resource at fault and of all that rest on it.
    async fn judge(&self, team: &Team) -> Result<()> {
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
async fn tenant(suite: &Suite, name: &str) -> Result<Tenant> {
    let tenant = suite.ground.tenant(name).await?;
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

async fn team(tenant: Tenant, binary: &OperatorBinary, config: &str) -> Result<Team> {
    let config = format!("sync:\n  backoff: {{initialInterval: 300ms, maxInterval: 2s}}\n{config}");
    let operator = tenant.operator(binary).config(&config).start().await?;
    operator.wait_ready(LONG).await?;
    Ok(Team { tenant, operator })
}

/// A server of the tenant's with a certificate that everybody trusts here.
async fn server(suite: &Suite, name: &str, host: &str) -> Result<Sink> {
    let identity = suite
        .ground
        .pki
        .server(name, &["127.0.0.1", "localhost", host])?;
    Sink::tls(&identity.cert_pem, &identity.key_pem).await
}

async fn make_and_judge(team: &Team, attempts: &[Attempt]) -> Result<()> {
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

/// Nobody asked the API server for a token of the victim, and none of these
/// servers was ever connected to.
async fn nothing_arrived(suite: &Suite, team: &Team, servers: &[&Sink]) -> Result<()> {
    let asked = tokens_of_the_victim(suite, &team.tenant).await?;
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

async fn tokens_of_the_victim(suite: &Suite, tenant: &Tenant) -> Result<usize> {
    let audit = ApiAudit::new(&suite.ground.plane.audit_log);
    let tokens = ApiFilter::service_account(&tenant.namespace, OPERATOR_ACCOUNT)
        .resource("serviceaccounts/token")
        .name(VICTIM);
    Ok(audit.settle(&tokens, QUIET, LONG).await?.len())
}

/// The token that a login brought to a server.
fn token_at(server: &Sink) -> Result<String> {
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

/// Whether a token makes its bearer somebody at the API server.
async fn is_usable(suite: &Suite, token: &str) -> Result<bool> {
    let review = serde_json::from_value(json!({ "spec": { "token": token } }))?;
    let reviews: Api<TokenReview> = Api::all(suite.ground.client.clone());
    let answer = reviews.create(&PostParams::default(), &review).await?;
    let status = answer.status.context("no answer to the review")?;
    Ok(status.authenticated == Some(true))
}

/// The configuration's own connection leads to a server, so that only the
/// guardrails keep what the tenant asks for from arriving there.
fn own_connection(suite: &Suite, server: &Sink) -> String {
    format!(
        "connection:\n  address: \"{}\"\n  caCertPath: \"{}\"\n",
        server.url(),
        suite.ground.pki.ca_file().display()
    )
}

async fn what_nothing_may_lift_reaches_nobody(suite: &Suite) -> Result<()> {
    let vault = server(suite, "refused", "refused.example").await?;
    let address = vault.url();
    let with = |more: Value| {
        let mut spec = json!({ "address": address });
        merge(&mut spec, more);
        spec
    };
    let destination = |more: Value| json!({ "destination": more });
    let header = |name: &str| json!({ "headers": { name: "mine" } });
    let path = |mount: &str, path: &str| json!({ "mount": mount, "path": path, "type": "kv-v1" });
    let account = |name: &str| json!({ "kubernetes": { "serviceAccount": name } });
    let headers = "reserved headers";
    let types = "destination types";
    let attempts = [
        Attempt::connection(
            "token-header",
            with(header("X-Vault-Token")),
            [headers, "X-Vault-Token"],
        ),
        Attempt::connection(
            "token-header-lower",
            with(header("x-vault-token")),
            [headers, "x-vault-token"],
        ),
        Attempt::connection(
            "namespace-header",
            with(header("X-VAULT-NAMESPACE")),
            [headers, "X-VAULT-NAMESPACE"],
        ),
        Attempt::connection("host-header", with(header("hOST")), [headers, "hOST"]),
        Attempt::auth(
            "auth-token-header",
            header("x-Vault-tOKEN"),
            [headers, "x-Vault-tOKEN"],
        ),
        Attempt::auth(
            "auth-wrap-header",
            header("X-Vault-Wrap-TTL"),
            [headers, "X-Vault-Wrap-TTL"],
        ),
        Attempt::auth(
            "auth-authorization",
            header("authorization"),
            [headers, "authorization"],
        ),
        Attempt::auth("auth-cookie", header("Cookie"), [headers, "Cookie"]),
        Attempt::connection(
            "some-file",
            with(json!({ "caCertPath": "/etc/passwd" })),
            ["policy.filePaths", "/etc/passwd"],
        ),
        Attempt::connection(
            "own-token-file",
            with(json!({ "caCertPath": "/var/run/secrets/kubernetes.io/serviceaccount/token" })),
            ["protected files", "/var/run/secrets"],
        ),
        Attempt::connection(
            "own-environment",
            with(json!({ "caCertPath": "/proc/self/environ" })),
            ["protected files", "/proc/self"],
        ),
        Attempt::connection(
            "climbing-file",
            with(json!({ "caCertPath": "/etc/ssl/../passwd" })),
            ["spec.caCertPath", ".."],
        )
        .reason("InvalidConfiguration"),
        Attempt::connection(
            "any-certificate",
            with(json!({ "skipTLSVerify": true })),
            ["policy.allowSkipTLSVerify", "skipTLSVerify"],
        ),
        Attempt::auth(
            "own-account",
            account(OPERATOR_ACCOUNT),
            ["the operator's own ServiceAccount", OPERATOR_ACCOUNT],
        ),
        Attempt::secret(
            "account-token",
            destination(json!({ "type": "kubernetes.io/service-account-token" })),
            [types, "service-account-token"],
        ),
        Attempt::secret(
            "bootstrap-token",
            destination(json!({ "type": "bootstrap.kubernetes.io/token" })),
            [types, "bootstrap"],
        ),
        Attempt::secret(
            "release",
            destination(json!({ "type": "helm.sh/release.v1" })),
            [types, "helm.sh"],
        ),
        Attempt::secret(
            "account-annotation",
            destination(
                json!({ "annotations": { "kubernetes.io/service-account.name": "default" } }),
            ),
            [
                "reserved labels and annotations",
                "kubernetes.io/service-account.name",
            ],
        ),
        Attempt::secret(
            "own-key",
            destination(json!({ "name": "vault-tenant-operator-key", "overwrite": true })),
            ["own Secrets", "vault-tenant-operator-key"],
        ),
        Attempt::secret(
            "system",
            path("sys", "internal/ui/mounts"),
            ["policy.systemPaths", "sys/internal"],
        ),
        Attempt::secret(
            "own-vault-token",
            path("auth", "token/lookup-self"),
            ["policy.systemPaths", "auth/token"],
        ),
        Attempt::secret(
            "other-tokens-place",
            path("cubbyhole", "x"),
            ["policy.systemPaths", "cubbyhole"],
        ),
        Attempt::secret(
            "entities",
            path("identity", "entity/id"),
            ["policy.systemPaths", "identity/"],
        ),
    ];
    let team = team(
        tenant(suite, "refused").await?,
        &suite.binary,
        &own_connection(suite, &vault),
    )
    .await?;
    make_and_judge(&team, &attempts).await?;
    nothing_arrived(suite, &team, &[&vault]).await?;
    // The same server sees all of what is allowed.
    Attempt::new("allowed", "", ["", ""])
        .make(&team.tenant)
        .await?;
    wait_for("the login that is allowed", LONG, || async {
        token_at(&vault)
    })
    .await?;
    ensure!(tokens_of_the_victim(suite, &team.tenant).await? > 0);
    Ok(())
}

async fn an_address_that_is_not_listed_sees_nothing(suite: &Suite) -> Result<()> {
    let theirs = server(suite, "not-listed", "vault.example").await?;
    let plain = Sink::plain().await?;
    let list = "policy.vaultAddresses";
    let at = |address: &str| json!({ "address": address });
    let by_name = theirs.url().replace("127.0.0.1", "localhost");
    let below = format!("{}/elsewhere", suite.ground.vault.address);
    let attempts = [
        Attempt::connection(
            "by-address",
            at(&theirs.url()),
            [list, "not one of those listed"],
        ),
        Attempt::connection("by-name", at(&by_name), [list, "not one of those listed"]),
        Attempt::connection("plain", at(&plain.url()), [list, "not one of those listed"]),
        Attempt::connection(
            "listed-but-below",
            at(&below),
            [list, "not one of those listed"],
        ),
        Attempt::connection(
            "api-server",
            at(&suite.ground.plane.url),
            [list, "not one of those listed"],
        ),
    ];
    let tenant = tenant(suite, "not-listed").await?;
    prepare(&tenant).await?;
    let list = format!(
        "policy:\n  vaultAddresses: [\"{}\"]\n",
        tenant.vault_address
    );
    let team = team(tenant, &suite.binary, &list).await?;
    make_and_judge(&team, &attempts).await?;
    nothing_arrived(suite, &team, &[&theirs, &plain]).await?;
    nothing_at_the_api_server(suite, &team).await?;
    team.put("good", json!({ "password": "right" })).await?;
    team.static_secret("good", json!({})).await?;
    team.wait_value("good", "password", "right").await
}

/// No request of Vault's API went to the API server.
async fn nothing_at_the_api_server(suite: &Suite, team: &Team) -> Result<()> {
    let audit = ApiAudit::new(&suite.ground.plane.audit_log);
    let agent = format!("({})", team.tenant.namespace);
    let filter = ApiFilter::new()
        .uri_contains("/v1/sys/health")
        .user_agent_contains(&agent);
    let found = audit.settle(&filter, QUIET, LONG).await?;
    ensure!(
        found.is_empty(),
        "the API server was taken for a Vault: {found:?}"
    );
    Ok(())
}

async fn without_a_list_only_https_names_are_spoken_to(suite: &Suite) -> Result<()> {
    let theirs = server(suite, "no-list", "vault.example").await?;
    let plain = Sink::plain().await?;
    let list = "policy.vaultAddresses";
    let at = |address: &str| json!({ "address": address });
    let by_name = |server: &Sink| server.url().replace("127.0.0.1", "localhost");
    let api_port = suite
        .ground
        .plane
        .url
        .rsplit(':')
        .next()
        .unwrap_or_default();
    let with_user = by_name(&theirs).replace("https://", "https://me:word@");
    let attempts = [
        Attempt::connection("plain", at(&by_name(&plain)), [list, "is not https"]),
        Attempt::connection("literal", at(&theirs.url()), [list, "is an IP address"]),
        Attempt::connection(
            "machine",
            at(&by_name(&theirs)),
            [list, "leads to the machine"],
        ),
        Attempt::connection(
            "metadata",
            at("https://169.254.169.254"),
            [list, "is an IP address"],
        ),
        Attempt::connection(
            "metadata-name",
            at("https://metadata.google.internal"),
            [list, "metadata"],
        ),
        Attempt::connection(
            "api-name",
            at("https://kubernetes.default.svc"),
            [list, "API server"],
        ),
        Attempt::connection(
            "api-name-with-port",
            at(&format!(
                "https://kubernetes.default.svc.cluster.local:{api_port}"
            )),
            [list, "API server"],
        ),
        Attempt::connection(
            "api-address",
            at(&suite.ground.plane.url),
            [list, "is an IP address"],
        ),
        Attempt::connection("user", at(&with_user), ["spec.address", "user"])
            .reason("InvalidConfiguration"),
        Attempt::connection(
            "path",
            at("https://vault.example/elsewhere"),
            [list, "has a path"],
        ),
    ];
    let team = team(tenant(suite, "no-list").await?, &suite.binary, "").await?;
    make_and_judge(&team, &attempts).await?;
    nothing_arrived(suite, &team, &[&theirs, &plain]).await?;
    nothing_at_the_api_server(suite, &team).await?;
    let log = team.operator.log()?;
    ensure!(
        !log.contains("me:word"),
        "the user info of an address is in the log"
    );
    Ok(())
}

/// The theft: a tenant lets the operator log in at a server of the tenant's, to
/// get a token of a ServiceAccount that opens the API server.
async fn a_tenants_own_server_gets_no_usable_token(suite: &Suite) -> Result<()> {
    // A name that leads here, if this machine knows itself by one. Where it
    // leads nowhere, the refusals are the same: they come before any look-up.
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname")?;
    let name = name.trim().to_ascii_lowercase();
    let theirs = server(suite, "theft", &name).await?;
    let address = theirs.url().replace("127.0.0.1", &name);
    let list = "policy.vaultAddresses";
    let connection = json!({ "address": address });
    let theft = |name: &'static str, audiences: &[&str], says: &'static str| Attempt {
        connection: Some(connection.clone()),
        auth: json!({ "kubernetes": { "audiences": audiences } }),
        ..Attempt::new(name, "VaultAuth", [list, says])
    };
    let good_there = "good for the Kubernetes API server";
    let attempts = [
        theft("no-audience", &[], "needs audiences of its own"),
        theft("empty-audience", &[""], "needs audiences of its own"),
        theft(
            "api-audience",
            &["https://kubernetes.default.svc"],
            good_there,
        ),
        theft(
            "api-audience-too",
            &["vault", "https://kubernetes.default.svc"],
            good_there,
        ),
        theft(
            "usual-audience",
            &["https://kubernetes.default.svc.cluster.local"],
            good_there,
        ),
    ];
    let prey = team(tenant(suite, "theft").await?, &suite.binary, "").await?;
    make_and_judge(&prey, &attempts).await?;
    nothing_arrived(suite, &prey, &[&theirs]).await?;
    // What would have been stolen: where the platform lists the server, a login
    // without audiences, as existing manifests have it, brings a token that is
    // good for the API server.
    let listed = team(
        tenant(suite, "theft-listed").await?,
        &suite.binary,
        &own_connection(suite, &theirs),
    )
    .await?;
    let open = json!({ "kubernetes": { "audiences": [] } });
    Attempt::auth("open", open, ["", ""])
        .make(&listed.tenant)
        .await?;
    let token = wait_for("the token of a listed server", LONG, || async {
        token_at(&theirs)
    })
    .await?;
    ensure!(
        is_usable(suite, &token).await?,
        "the control's token is of no use"
    );
    Ok(())
}

async fn a_redirect_leads_no_token_elsewhere(suite: &Suite) -> Result<()> {
    let theirs = server(suite, "redirected-to", "vault.example").await?;
    let plain = Sink::plain().await?;
    let identity = suite.ground.pki.server("redirecting", &["127.0.0.1"])?;
    let redirecting = |to: &Sink| {
        let server = HttpProxy::builder().tls(&identity.cert_pem, &identity.key_pem);
        Sink::start(server, Answer::redirect(to.url()))
    };
    let (away, down) = (redirecting(&theirs).await?, redirecting(&plain).await?);
    let list = "policy.vaultAddresses";
    let at = |server: &Sink| json!({ "address": server.url() });
    let attempts = [
        Attempt::connection("away", at(&away), [list, "redirects to"]),
        Attempt::connection("down", at(&down), [list, "redirects to"]),
    ];
    // Listed: both of those that redirect, and nothing that they lead to.
    let config = format!(
        "policy:\n  vaultAddresses: [\"{}\", \"{}\"]\n",
        away.url(),
        down.url()
    );
    let team = team(tenant(suite, "redirect").await?, &suite.binary, &config).await?;
    for attempt in &attempts {
        attempt.make(&team.tenant).await?;
    }
    for attempt in &attempts {
        // A VaultAuth reports what came of its login: the same refusal.
        attempt.judge(&team).await?;
    }
    for (from, to) in [(&away, &theirs), (&down, &plain)] {
        ensure!(token_at(from).is_ok(), "{} saw no login", from.url());
        ensure!(
            to.connections() == 0,
            "{} was redirected to: {:?}",
            to.url(),
            to.requests()
        );
    }
    Ok(())
}

async fn a_method_that_is_not_allowed_never_reaches_vault(suite: &Suite) -> Result<()> {
    let key = "policy.allowedAuthMethods";
    let method = |name: &str| json!({ "method": name, "vaultConnectionRef": "default" });
    let attempts = [
        Attempt::auth(
            "kubernetes",
            method("kubernetes"),
            [
                key,
                "kubernetes is not one of those allowed (aws, gcp, token)",
            ],
        ),
        Attempt::auth("jwt", method("jwt"), [key, "jwt"]),
        Attempt::auth("aws", method("aws"), ["the auth method aws", ""]).reason("NotServedYet"),
    ];
    let tenant = tenant(suite, "methods").await?;
    prepare(&tenant).await?;
    let operator = tenant
        .operator(&suite.binary)
        .config(&config(&tenant, ""))
        .arg("--allowed-auth-methods=aws,gcp,token")
        .start()
        .await?;
    operator.wait_ready(LONG).await?;
    let team = Team { tenant, operator };
    make_and_judge(&team, &attempts).await?;
    nothing_arrived(suite, &team, &[]).await?;
    let access = AccessLog::new(&suite.ground.vault.access_log);
    let ours = format!("({})", team.tenant.namespace);
    let seen = access.requests(&AccessFilter::new().user_agent_contains(&ours))?;
    // The health of the connection is asked, which proves that the log shows this operator.
    let (health, others): (Vec<_>, Vec<_>) = seen
        .into_iter()
        .partition(|request| request.path == "/v1/sys/health");
    ensure!(
        !health.is_empty() && others.is_empty(),
        "Vault saw {others:?}"
    );
    Ok(())
}

async fn lists_narrow_what_a_tenant_may_name(suite: &Suite) -> Result<()> {
    let vault = server(suite, "narrow", "narrow.example").await?;
    let kubernetes = |more: Value| json!({ "kubernetes": more });
    let path = |path: &str| json!({ "mount": "team", "type": "kv-v1", "path": path });
    let attempts = [
        Attempt::auth(
            "account",
            kubernetes(json!({ "serviceAccount": "other" })),
            ["policy.serviceAccounts", "other"],
        ),
        Attempt::auth(
            "role",
            kubernetes(json!({ "role": "admin" })),
            ["policy.vaultRoles", "admin"],
        ),
        Attempt::auth(
            "mount",
            json!({ "mount": "kubernetes-other" }),
            ["policy.authMounts", "kubernetes-other"],
        ),
        Attempt::secret(
            "path",
            path("other/app"),
            ["policy.secretPaths", "team/other/app"],
        ),
        Attempt::secret(
            "path-not-at-a-segment",
            path("applications"),
            ["policy.secretPaths", "team/applications"],
        ),
        Attempt::secret(
            "app-name",
            json!({ "mount": "team", "type": "kv-v1", "path": "app", "destination": { "name": "other" } }),
            ["policy.destinationNames", "other"],
        ),
    ];
    let tenant = tenant(suite, "narrow").await?;
    let config = format!(
        "{}policy:\n  serviceAccounts: [{VICTIM}]\n  vaultRoles: [\"{}\"]\n  authMounts: [kubernetes]\n  secretPaths: [team/app]\n  destinationNames: [\"app-*\"]\n",
        own_connection(suite, &vault),
        tenant.vault_role()
    );
    let team = team(tenant, &suite.binary, &config).await?;
    make_and_judge(&team, &attempts).await?;
    nothing_arrived(suite, &team, &[&vault]).await?;
    Attempt::secret("app-allowed", path("app"), ["", ""])
        .make(&team.tenant)
        .await?;
    wait_for("the login that is allowed", LONG, || async {
        token_at(&vault)
    })
    .await?;
    Ok(())
}
