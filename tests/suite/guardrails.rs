//! The guardrails that protect the operator: whoever may write resources still
//! can't make it connect, send a token, read a file or write a Secret that the
//! platform did not mean. What was refused reached nobody: neither a request
//! nor a connection at the other end, and no token was even asked for.

use anyhow::{Result, ensure};
use ground::faults::Sink;
use ground::judges::{AccessFilter, AccessLog, ApiAudit, ApiFilter};
use ground::tenant::OPERATOR_ACCOUNT;
use ground::wait_for;
use serde_json::{Value, json};

use crate::attempts::{
    Attempt, QUIET, make_and_judge, nothing_arrived, own_connection, server, team, tenant,
    token_at, tokens_asked_for,
};
use crate::grades::{Grade, Names};
use crate::support::{LONG, Suite, Team, config, merge, prepare};

crate::trials![
    "guardrails": ; in each grade:
    refused_resources_reach_nobody, an_address_that_is_not_listed_sees_nothing,
    without_a_list_only_https_names_are_spoken_to,
    a_method_that_is_not_allowed_never_reaches_vault,
];

/// What a connection to an allowed address may still not ask for.
fn connections(address: &str) -> Vec<Attempt> {
    let with = |more: Value| {
        let mut spec = json!({ "address": address });
        merge(&mut spec, more);
        spec
    };
    let header = |name: &str| json!({ "headers": { name: "mine" } });
    let headers = "reserved headers";
    vec![
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
        Attempt::connection(
            "token-header-underscored",
            with(header("X_Vault_Token")),
            [headers, "X_Vault_Token"],
        ),
        Attempt::connection("host-header", with(header("hOST")), [headers, "hOST"]),
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
            ["plain paths", ".."],
        ),
        Attempt::connection(
            "own-key-encoded",
            with(json!({ "caCertSecretRef": "vault-tenant-operator%2Dkey" })),
            ["spec.caCertSecretRef", "no name of a Secret"],
        )
        .reason("InvalidConfiguration"),
        Attempt::connection(
            "any-certificate",
            with(json!({ "skipTLSVerify": true })),
            ["policy.allowSkipTLSVerify", "skipTLSVerify"],
        ),
    ]
}

/// What a login there may not ask for.
fn logins(address: &str) -> Vec<Attempt> {
    let header = |name: &str| json!({ "headers": { name: "mine" } });
    let account = |name: &str| json!({ "kubernetes": { "serviceAccount": name } });
    let headers = "reserved headers";
    let no_account = ["spec.kubernetes.serviceAccount", "no name of a"];
    vec![
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
        Attempt::auth(
            "own-account",
            account(OPERATOR_ACCOUNT),
            ["the operator's own ServiceAccount", OPERATOR_ACCOUNT],
        ),
        // The API client puts a name into the URL as it is.
        Attempt::auth(
            "own-account-by-query",
            account(&format!("{OPERATOR_ACCOUNT}/token?")),
            no_account,
        )
        .reason("InvalidConfiguration"),
        Attempt::auth(
            "own-account-encoded",
            account(&OPERATOR_ACCOUNT.replace('-', "%2D")),
            no_account,
        )
        .reason("InvalidConfiguration"),
        Attempt::auth(
            "cloud-endpoint",
            json!({ "method": "aws", "aws": { "role": "x", "region": "x", "stsEndpoint": address } }),
            ["the auth method aws", ""],
        )
        .reason("NotServedYet"),
    ]
}

/// What may be neither read nor written.
fn secrets() -> Vec<Attempt> {
    let destination = |more: Value| json!({ "destination": more });
    let path = |mount: &str, path: &str| json!({ "mount": mount, "path": path, "type": "kv-v1" });
    let types = "destination types";
    vec![
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
            "own-key-by-query",
            destination(json!({ "name": "vault-tenant-operator-key?", "overwrite": true })),
            ["spec.destination.name", "no name of a Secret"],
        )
        .reason("InvalidConfiguration"),
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
    ]
}

async fn refused_resources_reach_nobody(suite: &Suite, grade: Grade) -> Result<()> {
    let vault = server(suite, "refused", "refused.example").await?;
    let attempts = [connections(&vault.url()), logins(&vault.url()), secrets()].concat();
    let tenant = tenant(suite, grade, "refused").await?;
    let allowed = Attempt::new("allowed", "", ["", ""]);
    let config = own_connection(suite, &vault);
    let resources = allowed.resources(&tenant);
    let team = team(suite, grade, tenant, &config, &resources).await?;
    make_and_judge(&team, &attempts).await?;
    nothing_arrived(suite, &team, &[&vault]).await?;
    // The same server sees all of what is allowed.
    allowed.make(&team.tenant).await?;
    wait_for("the login that is allowed", LONG, || async {
        token_at(&vault)
    })
    .await?;
    ensure!(tokens_asked_for(suite, &team.tenant).await? > 0);
    Ok(())
}

async fn an_address_that_is_not_listed_sees_nothing(suite: &Suite, grade: Grade) -> Result<()> {
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
        Attempt::connection(
            "by-likeness",
            // A Cyrillic letter.
            at("https://v\u{430}ult.example"),
            [list, "xn--"],
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
    let tenant = tenant(suite, grade, "not-listed").await?;
    prepare(&tenant).await?;
    let list = format!(
        "policy:\n  vaultAddresses: [\"{}\"]\n",
        tenant.vault_address
    );
    let good = Names::secrets(&["good"]).resources(&tenant);
    let team = team(suite, grade, tenant, &list, &good).await?;
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

async fn without_a_list_only_https_names_are_spoken_to(suite: &Suite, grade: Grade) -> Result<()> {
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
    let tenant = tenant(suite, grade, "no-list").await?;
    let team = team(suite, grade, tenant, "", &[]).await?;
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

async fn a_method_that_is_not_allowed_never_reaches_vault(
    suite: &Suite,
    grade: Grade,
) -> Result<()> {
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
    let tenant = tenant(suite, grade, "methods").await?;
    prepare(&tenant).await?;
    let config = config(&tenant, grade.lines());
    let resources = Names::secrets(&[]).resources(&tenant);
    grade.allow(&tenant, &config, &resources).await?;
    let operator = tenant
        .operator(&suite.binary)
        .config(&config)
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
