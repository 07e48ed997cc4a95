//! Judges over the whole suite: what the shipped Role allows and nobody used,
//! and what an operator asked for and was refused. Each shows first that it
//! can find what it looks for.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use ground::control_plane::USER_AGENT;
use ground::judges::role_use::{Right, rights};
use ground::judges::{ApiAudit, ApiFilter, ApiRequest, RoleUse};
use ground::tenant::OPERATOR_ACCOUNT;
use ground::{Ground, wait_for};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::rbac::v1::{PolicyRule, Role};
use kube::Api;
use kube::api::ListParams;

use crate::support::{LONG, Suite};

crate::trials![
    "judgement": no_operator_was_refused, no_right_is_unused,
    no_request_goes_without_a_name_in_the_grade_named, no_right_of_the_grade_named_is_unused,
];

/// Tenants in which trials provoke refusals have names that begin so.
const PROVOKING: &str = "t-forbidden-";

/// The judge that also speaks when a trial has failed.
pub const OF_REFUSALS: &str = "judgement::no_operator_was_refused";

/// Tenants whose operators have rights to names alone have names that end so,
/// before their number.
const NAMED: &str = "-named-";

/// Of what such an operator may ask only by name.
const BY_NAME: [&str; 5] = [
    "secrets",
    "serviceaccounts/token",
    "daemonsets",
    "deployments",
    "statefulsets",
];

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

async fn no_request_goes_without_a_name_in_the_grade_named(suite: &Suite) -> Result<()> {
    let log = ApiAudit::new(&suite.ground.plane.audit_log);
    let nameless = |request: &&ApiRequest| {
        BY_NAME.contains(&request.resource.as_str()) && request.name.is_empty()
    };
    let (named, others): (Vec<_>, Vec<_>) = of_operators(&log)?
        .into_iter()
        .partition(|request| request.user.contains(NAMED));
    ensure!(
        others.iter().any(|request| nameless(&request)),
        "no operator of the other grade is found to list"
    );
    println!("{} requests by names judged", named.len());
    ensure!(named.len() > 100, "{} requests", named.len());
    let found = named.iter().find(nameless);
    ensure!(found.is_none(), "{found:?}");
    Ok(())
}

/// Each verb of the printed Roles was used somewhere, and each name where it is.
async fn no_right_of_the_grade_named_is_unused(suite: &Suite) -> Result<()> {
    let log = ApiAudit::new(&suite.ground.plane.audit_log);
    let all = of_operators(&log)?;
    let roles: Api<Role> = Api::all(suite.ground.client.clone());
    let of_operator = ListParams::default().fields(&format!("metadata.name={OPERATOR_ACCOUNT}"));
    let (mut verbs, mut used, mut names) = (BTreeSet::new(), BTreeSet::new(), 0);
    for role in roles.list(&of_operator).await? {
        let namespace = role.metadata.namespace.unwrap_or_default();
        if !namespace.contains(NAMED) || namespace.starts_with(PROVOKING) {
            continue;
        }
        let mut requests = all.clone();
        requests.retain(|request| request.namespace == namespace);
        let mut rights = rights(&role.rules.unwrap_or_default());
        // The planted right: nothing is ever updated.
        rights.extend(rights.clone().into_iter().map(|right| Right {
            verb: "update".to_owned(),
            ..right
        }));
        let named = rights.iter().filter(|right| right.name.is_some());
        for right in named.filter(|right| BY_NAME.contains(&right.resource.as_str())) {
            let place = (right.resource.clone(), right.verb.clone());
            let touches = |request: &&ApiRequest| {
                request.resource == right.resource && Some(&request.name) == right.name.as_ref()
            };
            let mut touching = requests.iter().filter(touches);
            ensure!(
                touching.clone().next().is_some(),
                "{right} is in {namespace} and its name was never asked for"
            );
            if touching.any(|request| right.covers(request)) {
                used.insert(place.clone());
            }
            verbs.insert(place);
            names += 1;
        }
    }
    println!("{names} rights by names judged");
    ensure!(names > 100, "{names} rights");
    let unused: BTreeSet<_> = verbs.difference(&used).collect();
    let (planted, unused): (Vec<_>, Vec<_>) =
        unused.into_iter().partition(|(_, verb)| verb == "update");
    ensure!(
        planted.len() >= 3,
        "the planted rights are not found unused: {planted:?}"
    );
    ensure!(unused.is_empty(), "never used: {unused:?}");
    Ok(())
}
