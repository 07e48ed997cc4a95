//! The grade of rights by names, where it is another one than that of the
//! namespace: what a name is not allowed for, what a Role forgets, how many
//! names are watched, and that nothing else is asked for.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use ground::faults::{Answer, Match};
use ground::judges::{ApiFilter, ApiRequest, RoleUse};
use ground::tenant::OPERATOR_ACCOUNT;
use ground::wait_for;
use k8s_openapi::api::rbac::v1::Role;
use kube::Api;
use serde_json::json;

use crate::endpoints::sample;
use crate::grades::{Grade, Names, tenant_of};
use crate::probes::{Eye, QUIET};
use crate::support::{LONG, Suite, Team};

crate::trials![
    "named": a_name_that_the_role_lacks_is_told_with_its_rule,
    a_former_name_that_the_role_forgot_is_told_and_goes_once_it_may,
    beyond_the_watched_names_the_others_are_looked_at,
    its_rights_are_reviewed_once_and_no_request_goes_without_a_name,
    more_rights_than_needed_are_warned_of, an_answer_that_is_not_whole_is_asked_right_by_right,
];

/// What a condition says about a missing rule.
pub fn rule(resource: &str, name: &str, verbs: &str) -> String {
    let group = match resource {
        "secrets" | "serviceaccounts/token" => "\"\"",
        _ => "apps",
    };
    format!(
        "{{apiGroups: [{group}], resources: [{resource}], resourceNames: [\"{name}\"], verbs: [{verbs}]}}"
    )
}

impl Team {
    /// Waits until so many rights are counted as missing.
    pub async fn wait_missing(&self, expected: f64) -> Result<()> {
        wait_for(
            &format!("{expected} rights to be missing"),
            LONG,
            || async {
                let metrics = self.operator.metrics().await?;
                let place = &self.tenant.namespace;
                let seen = sample(&metrics, "vto_rights_missing", &[place]);
                ensure!(seen == Some(expected), "{seen:?}");
                Ok(())
            },
        )
        .await
    }
}

async fn a_name_that_the_role_lacks_is_told_with_its_rule(suite: &Suite) -> Result<()> {
    let team = Team::graded(suite, Grade::Named, "forbidden-name", Names::APP).await?;
    for name in ["app", "other"] {
        team.put(name, json!({ "password": "vault" })).await?;
    }
    let targets = json!([{ "kind": "Deployment", "name": "web" }]);
    team.static_secret("other", json!({ "refreshAfter": "720h" }))
        .await?;
    team.static_secret("app", json!({ "rolloutRestartTargets": targets }))
        .await?;
    // The others go on.
    team.wait_value("app", "password", "vault").await?;
    team.wait_ready("app").await?;
    let message = team.wait_problem("other", "KubernetesForbidden").await?;
    let secret = rule(
        "secrets",
        "other",
        "get, list, watch, create, patch, delete",
    );
    ensure!(message.contains(&secret), "{message}");
    let workload = rule("deployments", "web", "list, watch, patch");
    let told = team
        .wait_for_condition("VaultStaticSecret", "app", "RolloutRestart", |c| {
            c.reason == "TargetsNotVisible"
        })
        .await?;
    ensure!(told.message.contains(&workload), "{}", told.message);
    team.wait_missing(9.0).await?;
    let log = team.operator.log()?;
    ensure!(log.contains(&secret.replace('"', "\\\"")), "{log}");
    // What is refused is not asked for in a tight loop.
    let eye = Eye::on(suite, &team);
    let mark = eye.api.mark()?;
    tokio::time::sleep(QUIET).await;
    let refused = eye.api.forbidden(&eye.at_api().since(mark))?;
    ensure!(
        refused.len() <= 4,
        "{} refusals: {refused:?}",
        refused.len()
    );
    // With the rule it goes on by itself.
    team.regrant(Names {
        secrets: &["app", "other"],
        ..Names::ROLLED
    })
    .await?;
    team.wait_value("other", "password", "vault").await?;
    team.wait_ready("other").await?;
    team.wait_for_condition("VaultStaticSecret", "app", "RolloutRestart", |c| {
        c.reason == "TargetMissing"
    })
    .await?;
    team.wait_missing(0.0).await
}

async fn a_former_name_that_the_role_forgot_is_told_and_goes_once_it_may(
    suite: &Suite,
) -> Result<()> {
    let team = Team::graded(suite, Grade::Named, "forbidden-renamed", Names::APP).await?;
    team.put("app", json!({ "password": "vault" })).await?;
    team.static_secret("app", json!({ "refreshAfter": "720h" }))
        .await?;
    team.wait_ready("app").await?;
    // As a pipeline does it: the Role made anew for the new manifests, then these,
    // and what the operator remembers is lost in between.
    team.operator.terminate(LONG).await;
    team.regrant(Names::secrets(&["new"])).await?;
    team.edit("app", json!({ "destination": { "name": "new" } }))
        .await?;
    team.operator.restart().await?;
    team.wait_value("new", "password", "vault").await?;
    let told = rule("secrets", "app", "get, list, watch, delete");
    team.wait_told("app", &told).await?;
    ensure!(team.value("app", "password").await? == "vault", "it stays");
    let object = team.resources("VaultStaticSecret").get("app").await?;
    let destinations = &object.data["status"]["destinations"];
    ensure!(*destinations == json!(["new", "app"]), "{destinations}");
    team.wait_missing(4.0).await?;
    team.regrant(Names::secrets(&["new", "app"])).await?;
    team.gone("app").await?;
    team.wait_missing(0.0).await?;
    team.wait_for_condition("VaultStaticSecret", "app", "Ready", |c| {
        c.status == "True" && !c.message.contains("the Secret app")
    })
    .await?;
    let object = team.resources("VaultStaticSecret").get("app").await?;
    let destinations = &object.data["status"]["destinations"];
    ensure!(*destinations == json!(["new"]), "{destinations}");
    Ok(())
}

async fn beyond_the_watched_names_the_others_are_looked_at(suite: &Suite) -> Result<()> {
    let all: Vec<String> = (0..40).map(|n| format!("s-{n}")).collect();
    let names: Vec<&str> = all.iter().map(String::as_str).collect();
    let names = Names::secrets(&names);
    // So rarely that no second look at those which are not watched is counted as the
    // start's.
    let more = "  pollInterval: 10s\n";
    let (tenant, more) = tenant_of(suite, Grade::Named, "many", names, more).await?;
    let team = Team::of(suite, tenant, None, &more).await?;
    team.put("app", json!({ "password": "vault" })).await?;
    for name in &all {
        team.static_secret(name, json!({ "path": "app", "refreshAfter": "720h" }))
            .await?;
    }
    for name in &all {
        team.wait_ready(name).await?;
    }
    let eye = Eye::on(suite, &team);
    let of_secrets = |verb: &str| eye.at_api().resource("secrets").verb(verb);
    let watches = eye.api.requests(&of_secrets("watch"))?;
    let name_of = |request: &ApiRequest| request.name.clone();
    let watched: BTreeSet<String> = watches.iter().map(name_of).collect();
    // One of them is the CA's.
    ensure!(
        watched.len() == 32,
        "{} are watched: {watched:?}",
        watched.len()
    );
    let polled = all
        .iter()
        .find(|name| !watched.contains(*name))
        .context("all are watched")?;
    team.edit_secret(polled, "password", "wrong").await?;
    team.wait_value(polled, "password", "vault").await?;
    // Who goes makes room for who was only looked at, and is asked for no more.
    let first = watched.iter().find(|name| all.contains(name));
    let first = first.context("none of them is watched")?;
    team.resources("VaultStaticSecret")
        .delete(first, &kube::api::DeleteParams::default())
        .await?;
    team.gone(first).await?;
    wait_for("the free place to be taken", LONG, || async {
        let watches = eye.api.requests(&of_secrets("watch"))?;
        let now: BTreeSet<String> = watches.iter().map(name_of).collect();
        ensure!(now.len() == 33, "{now:?}");
        Ok(())
    })
    .await?;
    // A start costs two requests for each name, and few beside.
    let mark = eye.api.mark()?;
    team.operator.terminate(LONG).await;
    team.operator.restart().await?;
    team.operator.wait_ready(LONG).await?;
    let seen = of_secrets("list").since(mark);
    wait_for("a look at each name", LONG, || async {
        let lists = eye.api.requests(&seen)?;
        let names: BTreeSet<String> = lists.iter().map(name_of).collect();
        ensure!(names.len() >= all.len(), "{} names", names.len());
        Ok(())
    })
    .await?;
    let counts = eye.api.counts(&eye.at_api().since(mark))?;
    let total: usize = counts.values().sum();
    ensure!(total <= 2 * all.len() + 30, "{total} requests: {counts:?}");
    ensure!(!counts.contains_key("patch secrets"), "{counts:?}");
    Ok(())
}

async fn its_rights_are_reviewed_once_and_no_request_goes_without_a_name(
    suite: &Suite,
) -> Result<()> {
    let names = Names {
        secrets: &["app", "new"],
        ..Names::ROLLED
    };
    let team = Team::graded(suite, Grade::Named, "reviewed", names).await?;
    team.put("app", json!({ "password": "first" })).await?;
    let web = crate::support::deployment("web", "app");
    team.tenant.apply(&web.to_string()).await?;
    let targets = json!({ "rolloutRestartTargets": [{ "kind": "Deployment", "name": "web" }] });
    team.static_secret("app", targets).await?;
    team.wait_ready("app").await?;
    team.wait_current("app").await?;
    team.put("app", json!({ "password": "second" })).await?;
    team.wait_value("app", "password", "second").await?;
    team.wait_restarts(ground::judges::workloads::Kind::Deployment, "web", 1)
        .await?;
    team.edit("app", json!({ "destination": { "name": "new" } }))
        .await?;
    team.gone("app").await?;
    team.wait_current("app").await?;
    let eye = Eye::on(suite, &team);
    let requests = eye.api.settle(&eye.at_api().writes(), QUIET, LONG).await?;
    ensure!(!requests.is_empty());
    let mine = ApiFilter::service_account(&team.tenant.namespace, OPERATOR_ACCOUNT);
    let counts = eye.api.counts(&mine)?;
    ensure!(
        counts.get("create selfsubjectrulesreviews") == Some(&1),
        "{counts:?}"
    );
    ensure!(
        !counts.contains_key("create selfsubjectaccessreviews"),
        "{counts:?}"
    );
    let requests = eye.api.requests(&mine)?;
    let nameless = requests.iter().find(|request| {
        ["secrets", "serviceaccounts/token", "deployments"].contains(&request.resource.as_str())
            && request.name.is_empty()
    });
    ensure!(nameless.is_none(), "{nameless:?}");
    let kinds = requests
        .iter()
        .find(|request| ["statefulsets", "daemonsets"].contains(&request.resource.as_str()));
    ensure!(kinds.is_none(), "named by nobody: {kinds:?}");
    // Each right was used, by verb, resource and name, but what nothing here asks
    // for: the new Secret is made without a look and need not go, and nothing is of
    // another kind.
    let roles: Api<Role> = team.tenant.api();
    let rules = roles
        .get(OPERATOR_ACCOUNT)
        .await?
        .rules
        .context("no rules")?;
    let used = RoleUse::of(&rules, &requests);
    let unused: Vec<String> = used.unused.iter().map(ToString::to_string).collect();
    ensure!(used.forbidden.is_empty(), "{:?}", used.forbidden);
    let status = |kind: &str| format!("patch {kind}/status.secrets.hashicorp.com");
    let secret = |verb: &str, name: &str| format!("{verb} secrets \"{name}\"");
    let ledger =
        |verb: &str| [0, 1].map(|n| secret(verb, &format!("vault-tenant-operator-ledger-{n}")));
    let mut expected = ledger("create").to_vec();
    expected.extend(["delete", "get"].map(|verb| secret(verb, "new")));
    expected.extend(ledger("patch"));
    expected.extend(["secrettransformations", "vaultauthglobals"].map(status));
    for kind in ["vaultdynamicsecrets", "vaultpkisecrets"] {
        expected.extend([format!("get {kind}.secrets.hashicorp.com"), status(kind)]);
    }
    ensure!(unused == expected, "{unused:?}");
    Ok(())
}

async fn more_rights_than_needed_are_warned_of(suite: &Suite) -> Result<()> {
    let tenant = suite.ground.tenant("surplus").await?;
    // The Role for the namespace, and an operator that goes by names.
    let team = Team::of(suite, tenant, None, "secretAccess: named\n").await?;
    team.put("app", json!({ "password": "vault" })).await?;
    team.static_secret("app", json!({})).await?;
    team.wait_ready("app").await?;
    wait_for("the surplus to be counted", LONG, || async {
        let metrics = team.operator.metrics().await?;
        let surplus = sample(&metrics, "vto_rights_surplus", &[&team.tenant.namespace]);
        ensure!(surplus > Some(0.0), "{surplus:?}");
        let missing = sample(&metrics, "vto_rights_missing", &[&team.tenant.namespace]);
        ensure!(missing == Some(0.0), "{missing:?}");
        Ok(())
    })
    .await?;
    let log = team.operator.log()?;
    let warned = log.lines().find(|line| line.contains("more than it needs"));
    let warned = warned.context("no warning")?;
    ensure!(
        warned.contains("resources: [secrets], verbs: [get, list, watch"),
        "{warned}"
    );
    Ok(())
}

async fn an_answer_that_is_not_whole_is_asked_right_by_right(suite: &Suite) -> Result<()> {
    let name = "incomplete";
    let (team, proxy) =
        Team::graded_behind_api_proxy(suite, Grade::Named, name, Names::APP).await?;
    team.put("app", json!({ "password": "vault" })).await?;
    team.static_secret("app", json!({})).await?;
    team.wait_ready("app").await?;
    let nothing = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectRulesReview",
        "spec": {},
        "status": { "incomplete": true, "resourceRules": [], "nonResourceRules": [] },
    });
    let asked = proxy
        .on(Match::method("POST").path_contains("selfsubjectrulesreviews"))
        .answer(Answer::json(201, &nothing));
    team.operator.terminate(LONG).await;
    let mark = Eye::on(suite, &team).api.mark()?;
    team.operator.restart().await?;
    asked.hit(1, LONG).await?;
    team.wait_missing(0.0).await?;
    let eye = Eye::on(suite, &team);
    let single = eye.at_api().resource("selfsubjectaccessreviews");
    let single = eye.api.count(&single.since(mark))?;
    ensure!((20..=64).contains(&single), "{single} single reviews");
    Ok(())
}
