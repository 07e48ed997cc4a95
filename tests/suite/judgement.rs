//! Judges over the whole suite: what the shipped Role allows and nobody used,
//! and what an operator asked for and was refused. Each shows first that it
//! can find what it looks for.

use anyhow::{Context, Result, ensure};
use ground::control_plane::USER_AGENT;
use ground::judges::{ApiAudit, ApiFilter, ApiRequest, RoleUse};
use ground::tenant::OPERATOR_ACCOUNT;
use ground::{Ground, wait_for};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::rbac::v1::{PolicyRule, Role};
use kube::Api;
use kube::api::ListParams;

use crate::support::{LONG, Suite};

crate::trials!["judgement": no_operator_was_refused, no_right_is_unused];

/// Tenants in which trials provoke refusals have names that begin so.
const PROVOKING: &str = "t-forbidden-";

/// The judge that also speaks when a trial has failed.
pub const OF_REFUSALS: &str = "judgement::no_operator_was_refused";

/// All requests that carry an operator's account.
fn of_operators_accounts(log: &ApiAudit) -> Result<Vec<ApiRequest>> {
    let is_operator = |request: &ApiRequest| {
        let account = request.user.strip_prefix("system:serviceaccount:");
        account
            .and_then(|account| account.split_once(':'))
            .is_some_and(|(_, name)| name == OPERATOR_ACCOUNT)
    };
    let all = log.requests(&ApiFilter::new())?;
    Ok(all.into_iter().filter(is_operator).collect())
}

/// All requests of operators: not those that the ground itself makes in their name.
fn of_operators(log: &ApiAudit) -> Result<Vec<ApiRequest>> {
    let mut requests = of_operators_accounts(log)?;
    requests.retain(|request| request.user_agent != USER_AGENT);
    Ok(requests)
}

/// Whether a request is of an operator in a tenant that provokes refusals.
fn is_provoked(request: &ApiRequest) -> bool {
    request
        .user
        .starts_with(&format!("system:serviceaccount:{PROVOKING}"))
}

async fn no_operator_was_refused(suite: &Suite) -> Result<()> {
    let log = ApiAudit::new(&suite.ground.plane.audit_log);
    // The planted refusal: no shipped rule lets an operator list pods.
    let tenant = suite.ground.tenant("forbidden-planted").await?;
    let client = tenant.client_as(OPERATOR_ACCOUNT).await?;
    let pods: Api<Pod> = Api::namespaced(client, &tenant.namespace);
    ensure!(
        pods.list(&ListParams::default()).await.is_err(),
        "an operator may list pods"
    );
    let planted =
        |request: &ApiRequest| request.resource == "pods" && request.namespace == tenant.namespace;
    wait_for("the planted refusal", LONG, || async {
        let found = RoleUse::of(&[], &of_operators_accounts(&log)?).forbidden;
        ensure!(
            found.iter().any(planted),
            "it is not among {} refusals",
            found.len()
        );
        Ok(())
    })
    .await?;
    ensure!(
        !of_operators(&log)?.iter().any(planted),
        "what the ground asked for counts as the operator's"
    );
    judge_refusals(&suite.ground)
}

/// Fails when an operator of this ground was refused, but where a trial
/// provokes it. Trials with a ground of their own ask this before they stop it.
pub fn judge_refusals(ground: &Ground) -> Result<()> {
    let mut requests = of_operators(&ApiAudit::new(&ground.plane.audit_log))?;
    requests.retain(|request| !is_provoked(request));
    ensure!(!requests.is_empty(), "no operator asked for anything");
    println!("{} requests of operators judged", requests.len());
    // Who reads the API server's audit log sees what asked, not only as whom.
    let nameless = requests
        .iter()
        .find(|request| !request.user_agent.starts_with("vault-tenant-operator/"));
    ensure!(nameless.is_none(), "without its name: {nameless:?}");
    let refused = RoleUse::of(&[], &requests).forbidden;
    ensure!(
        refused.is_empty(),
        "{} refusals, such as {:?}",
        refused.len(),
        refused.first()
    );
    Ok(())
}

async fn no_right_is_unused(suite: &Suite) -> Result<()> {
    let log = ApiAudit::new(&suite.ground.plane.audit_log);
    let tenant = suite.ground.tenant("judged").await?;
    let roles: Api<Role> = tenant.api();
    let shipped = roles
        .get(OPERATOR_ACCOUNT)
        .await?
        .rules
        .context("the shipped Role has no rules")?;
    let requests = of_operators(&log)?;
    let mut rules = shipped;
    rules.push(PolicyRule {
        api_groups: Some(vec![String::new()]),
        resources: Some(vec!["pods".to_owned()]),
        verbs: vec!["get".to_owned()],
        ..PolicyRule::default()
    });
    let mut unused = RoleUse::of(&rules, &requests).unused;
    let before = unused.len();
    unused.retain(|right| right.to_string() != "get pods");
    ensure!(
        before == unused.len() + 1,
        "the planted right is not found unused"
    );
    let unused: Vec<String> = unused.iter().map(ToString::to_string).collect();
    ensure!(
        unused.is_empty(),
        "rights that no trial needed: {}",
        unused.join(", ")
    );
    Ok(())
}
