//! No secret shows: not in logs at any level, events, status or metrics, and no
//! longer in the operator's memory once it rests. Each search is also made for
//! something that must be found, so that silence means something. (What failures
//! could show: `bad_inputs`.)

use anyhow::{Context, Result, ensure};
use ground::faults::{HttpProxy, Match};
use ground::judges::Canary;
use ground::judges::canary::Finding;
use ground::tenant::OPERATOR_ACCOUNT;
use ground::wait_for;
use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;
use serde_json::{Value, json};

use crate::grades::{Grade, Names, tenant_of};
use crate::support::{LONG, Suite, Team, config, prepare};

crate::trials![
    "secrecy": ; in each grade:
    nothing_written_shows_a_secret, memory_forgets_what_was_synced
];

/// A name that may be seen, and is long enough to be searched for.
const SEEN: &str = "seen-in-the-open";

/// Where a secret could show, and what was found there.
pub async fn shown(team: &Team, canary: &Canary) -> Result<Vec<(&'static str, Vec<Finding>)>> {
    let events = team
        .tenant
        .api::<Event>()
        .list(&ListParams::default())
        .await?;
    let mut resources = Vec::new();
    for kind in ["VaultConnection", "VaultAuth", "VaultStaticSecret"] {
        resources.extend(
            team.resources(kind)
                .list(&ListParams::default())
                .await?
                .items,
        );
    }
    let resources = serde_json::to_string(&resources)?;
    let metrics = team.operator.metrics().await?;
    Ok(vec![
        ("log", canary.in_files(team.operator.process.log())?),
        (
            "events",
            canary.in_text("events", serde_json::to_string(&events.items)?),
        ),
        ("resources", canary.in_text("resources", resources)),
        ("metrics", canary.in_text("metrics", metrics)),
    ])
}

/// A team whose Vault is behind a proxy that keeps what passes, so that tokens
/// can be searched for too; its operator logs all that it can.
async fn traced(
    suite: &Suite,
    grade: Grade,
    name: &str,
    names: Names<'_>,
) -> Result<(Team, HttpProxy)> {
    let (mut tenant, more) = tenant_of(suite, grade, name, names, "").await?;
    let identity = suite.ground.pki.server(name, &["127.0.0.1"])?;
    let vault = tenant
        .vault_address
        .trim_start_matches("https://")
        .parse()?;
    let proxy = HttpProxy::builder()
        .tls(&identity.cert_pem, &identity.key_pem)
        .upstream_tls(vault, &tenant.ca_pem)
        .capture_bodies()
        .start()
        .await?;
    tenant.vault_address = proxy.url();
    prepare(&tenant).await?;
    let operator = tenant
        .operator(&suite.binary)
        .config(&config(&tenant, &more))
        .log_level("trace")
        .start()
        .await?;
    operator.wait_ready(LONG).await?;
    Ok((Team { tenant, operator }, proxy))
}

/// The token of the ServiceAccount and the one of Vault that passed the proxy.
fn tokens(proxy: &HttpProxy) -> Result<[String; 2]> {
    let requests = proxy.requests(&Match::any());
    let login = requests
        .iter()
        .find(|request| request.path.ends_with("/login"));
    let login = login.context("no login")?;
    let body: Value = serde_json::from_slice(&login.request_body)?;
    let header = requests.iter().find_map(|r| r.headers.get("X-Vault-Token"));
    Ok([
        body["jwt"]
            .as_str()
            .context("no jwt in the login")?
            .to_owned(),
        header.context("no token was sent")?.to_str()?.to_owned(),
    ])
}

async fn nothing_written_shows_a_secret(suite: &Suite, grade: Grade) -> Result<()> {
    let (team, proxy) = traced(suite, grade, "secrecy", Names::secrets(&[SEEN])).await?;
    let first = Canary::new("canary-one \"/+ of the first version")?;
    let second = Canary::new("canary-two \"/+ of the second version")?;
    let edited = Canary::new("canary-three \"/+ of a hand edit")?;
    team.put(SEEN, json!({ "password": first.value(), "port": 5432 }))
        .await?;
    team.static_secret(SEEN, json!({})).await?;
    team.wait_value(SEEN, "password", first.value()).await?;
    team.put(SEEN, json!({ "password": second.value() }))
        .await?;
    team.wait_value(SEEN, "password", second.value()).await?;
    team.edit_secret(SEEN, "password", edited.value()).await?;
    team.wait_value(SEEN, "password", second.value()).await?;

    let [jwt, vault_token] = tokens(&proxy)?;
    let own_token = std::fs::read_to_string(team.operator.dir.join("operator-1.token"))?;
    let tokens = [
        Canary::new(jwt)?,
        Canary::new(vault_token)?,
        Canary::new(own_token.trim())?,
    ];
    let secrets = [first, second, edited];
    for canary in secrets.iter().chain(&tokens) {
        for (place, findings) in shown(&team, canary).await? {
            ensure!(findings.is_empty(), "{place} shows a secret: {findings:?}");
        }
    }
    // The search sees what is there: names, everywhere but in the log.
    for (place, findings) in shown(&team, &Canary::new(SEEN)?).await? {
        ensure!(
            findings.is_empty() == (place == "log"),
            "{place}: {findings:?}"
        );
    }
    let account = shown(&team, &Canary::new(OPERATOR_ACCOUNT)?).await?;
    ensure!(
        account
            .iter()
            .any(|(place, found)| *place == "log" && !found.is_empty())
    );
    let metrics = shown(&team, &Canary::new("vto_vault_request")?).await?;
    ensure!(
        metrics
            .iter()
            .any(|(place, found)| *place == "metrics" && !found.is_empty())
    );
    Ok(())
}

async fn memory_forgets_what_was_synced(suite: &Suite, grade: Grade) -> Result<()> {
    let all: Vec<String> = (0..20).map(|index| format!("app-{index}")).collect();
    let names: Vec<&str> = all.iter().map(String::as_str).collect();
    let (team, proxy) = traced(suite, grade, "memory", Names::secrets(&names)).await?;
    let canary = Canary::new("canary-of-memory \"/+ that must go")?;
    let public = Canary::new("a-label-that-the-store-keeps")?;
    for (index, name) in all.iter().enumerate() {
        let long =
            json!({ "password": canary.value(), "filling": canary.value().repeat(index * 20) });
        team.put(name, long).await?;
        let more = json!({
            "refreshAfter": "720h",
            "destination": { "labels": { "kept": public.value() } },
        });
        team.static_secret(name, more).await?;
    }
    for name in &all {
        team.wait_ready(name).await?;
    }
    let pid = team.operator.process.pid();
    ensure!(
        !public.in_process(pid)?.is_empty(),
        "the search finds nothing that is there"
    );
    let [jwt, _] = tokens(&proxy)?;
    let jwt = Canary::new(jwt)?;
    wait_for("memory without a secret", LONG, || async {
        let mut found = canary.in_process(pid)?;
        found.extend(jwt.in_process(pid)?);
        ensure!(
            found.is_empty(),
            "{} times: {:?}",
            found.len(),
            found.iter().map(ToString::to_string).collect::<Vec<_>>()
        );
        Ok(())
    })
    .await
}
