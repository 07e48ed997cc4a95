//! Thefts of a token: a tenant's own server, named by a connection or by the
//! redirect of a Vault that is allowed, gets nothing. And of power: a Secret that
//! somebody powerful will read is not written into.

use anyhow::{Context, Result, ensure};
use ground::faults::{Answer, HttpProxy, Sink};
use ground::wait_for;
use k8s_openapi::api::authentication::v1::TokenReview;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use serde_json::{Value, json};

use crate::attempts::{
    Attempt, make_and_judge, nothing_arrived, own_connection, server, team, tenant, token_at,
};
use crate::grades::{Grade, Names};
use crate::probes::Eye;
use crate::support::{LONG, Suite, Team};

crate::trials![
    "thefts": ; in each grade:
    a_tenants_own_server_gets_no_usable_token, a_redirect_leads_no_token_elsewhere,
    secrets_that_give_power_are_not_written_into,
];

/// Whether a token makes its bearer somebody at the API server.
async fn is_usable(suite: &Suite, token: &str) -> Result<bool> {
    let review = serde_json::from_value(json!({ "spec": { "token": token } }))?;
    let reviews: Api<TokenReview> = Api::all(suite.ground.client.clone());
    let answer = reviews.create(&PostParams::default(), &review).await?;
    let status = answer.status.context("no answer to the review")?;
    Ok(status.authenticated == Some(true))
}

/// The theft: a tenant lets the operator log in at a server of the tenant's, to
/// get a token of a ServiceAccount that opens the API server.
async fn a_tenants_own_server_gets_no_usable_token(suite: &Suite, grade: Grade) -> Result<()> {
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
    let prey = tenant(suite, grade, "theft").await?;
    // The connections are allowed, the logins are not.
    let of_attempts = attempts.iter().flat_map(|one| one.resources(&prey));
    let connections: Vec<Value> = of_attempts
        .filter(|one| one["kind"] == "VaultConnection")
        .collect();
    let prey = team(suite, grade, prey, "", &connections).await?;
    make_and_judge(&prey, &attempts).await?;
    nothing_arrived(suite, &prey, &[&theirs]).await?;
    // What would have been stolen: where the platform lists the server, a login
    // without audiences, as existing manifests have it, brings a token that is
    // good for the API server.
    let listed = tenant(suite, grade, "theft-listed").await?;
    let open = json!({ "kubernetes": { "audiences": [] } });
    let open = Attempt::auth("open", open, ["", ""]);
    let (config, resources) = (own_connection(suite, &theirs), open.resources(&listed));
    let listed = team(suite, grade, listed, &config, &resources).await?;
    open.make(&listed.tenant).await?;
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

async fn a_redirect_leads_no_token_elsewhere(suite: &Suite, grade: Grade) -> Result<()> {
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
    let tenant = tenant(suite, grade, "redirect").await?;
    let of_attempts = attempts.iter().flat_map(|one| one.resources(&tenant));
    let resources: Vec<Value> = of_attempts.collect();
    let team = team(suite, grade, tenant, &config, &resources).await?;
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

/// A tenant who may write nothing but custom resources lets the operator write
/// into what Helm, the bootstrap of nodes or a ServiceAccount goes by.
async fn secrets_that_give_power_are_not_written_into(suite: &Suite, grade: Grade) -> Result<()> {
    let names = Names::secrets(&["release", "bootstrap", "account", "good"]);
    let team = Team::graded(suite, grade, "power", names).await?;
    let types = [
        ("release", "helm.sh/release.v1"),
        ("bootstrap", "bootstrap.kubernetes.io/token"),
        ("account", "kubernetes.io/service-account-token"),
    ];
    let mut before = Vec::new();
    for (name, type_) in types {
        let made = json!({
            "apiVersion": "v1", "kind": "Secret", "type": type_,
            "metadata": { "name": name,
                "annotations": { "kubernetes.io/service-account.name": "default" } },
            "stringData": { "theirs": "kept" },
        });
        team.tenant.apply(&made.to_string()).await?;
        team.put(name, json!({ "release": "forged" })).await?;
    }
    wait_for("the token of the account", LONG, || async {
        let token = team.value("account", "token").await?;
        anyhow::ensure!(!token.is_empty());
        Ok(())
    })
    .await?;
    for (name, _) in types {
        before.push(team.secret(name).await?);
    }
    for (way, destination) in [
        ("fill", json!({ "create": false })),
        ("take", json!({ "create": true, "overwrite": true })),
    ] {
        for ((name, type_), before) in types.iter().zip(&before) {
            let mut spec = json!({ "destination": destination });
            spec["destination"]["name"] = json!(name);
            spec["path"] = json!(name);
            let resource = format!("{way}-{name}");
            team.static_secret(&resource, spec).await?;
            let message = team.wait_problem(&resource, "PolicyDenied").await?;
            ensure!(
                message.contains(type_) && message.contains("destination types"),
                "{message}"
            );
            ensure!(team.secret(name).await? == *before, "{name} was changed");
            team.resources("VaultStaticSecret")
                .delete(&resource, &DeleteParams::default())
                .await?;
        }
    }
    let eye = Eye::on(suite, &team);
    let asked = eye.settled(&eye.at_vault()).await?;
    let only_health = asked.iter().all(|request| request.path == "sys/health");
    ensure!(only_health, "refused before Vault is asked: {asked:?}");
    // One without power is written.
    team.put("good", json!({ "password": "vault" })).await?;
    team.static_secret("good", json!({})).await?;
    team.wait_value("good", "password", "vault").await
}
