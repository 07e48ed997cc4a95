//! Judges over the whole suite: what the shipped Role allows and nobody used,
//! what an operator asked for and was refused, and where it asked. Each shows
//! first that it can find what it looks for.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use ground::control_plane::USER_AGENT;
use ground::judges::api_audit::service_account;
use ground::judges::bindings::{Bound, bound};
use ground::judges::role_use::{Right, rights};
use ground::judges::{ApiAudit, ApiFilter, ApiRequest, RoleUse, VaultAudit, VaultFilter};
use ground::tenant::OPERATOR_ACCOUNT;
use ground::{Ground, wait_for};
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Secret};
use k8s_openapi::api::rbac::v1::{PolicyRule, Role};
use kube::Api;
use kube::api::ListParams;

use crate::documents::{quoted, rows};
use crate::support::{LONG, Suite};

const VAULT_POLICY: &str = include_str!("../../docs/vault-policy.md");

crate::trials![
    "judgement": no_operator_was_refused, no_operator_asked_outside_its_namespaces,
    no_right_is_unused,
    no_request_goes_without_a_name_in_the_grade_named, no_right_of_the_grade_named_is_unused,
    no_path_at_vault_is_undocumented,
];

/// Tenants in which trials provoke refusals have names that begin so.
const PROVOKING: &str = "t-forbidden-";

/// The judges that also speak when a trial has failed.
pub const SPEAK_ALWAYS: [&str; 2] = [
    "judgement::no_operator_was_refused",
    "judgement::no_operator_asked_outside_its_namespaces",
];

/// Tenants whose operators have rights to names alone have names that end so,
/// before their number.
const NAMED: &str = "-named";

/// Tenants whose operators go by names, though they have rights to all.
const SURPLUS: &str = "t-surplus-";

/// What an account may ask about itself, of no namespace.
const SELF_REVIEWS: [&str; 2] = ["selfsubjectaccessreviews", "selfsubjectrulesreviews"];

/// Of what such an operator may ask only by name.
const BY_NAME: [&str; 5] = [
    "secrets",
    "serviceaccounts/token",
    "daemonsets",
    "deployments",
    "statefulsets",
];

/// The namespace and the name of the ServiceAccount that asks.
fn account(request: &ApiRequest) -> Option<(&str, &str)> {
    let account = request.user.strip_prefix("system:serviceaccount:")?;
    account.split_once(':')
}

/// All requests that carry an operator's account.
fn of_operators_accounts(log: &ApiAudit) -> Result<Vec<ApiRequest>> {
    let is_operator =
        |request: &ApiRequest| account(request).is_some_and(|(_, name)| name == OPERATOR_ACCOUNT);
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
    account(request).is_some_and(|(namespace, _)| namespace.starts_with(PROVOKING))
}

/// Whether the operator that asks goes by names.
fn is_by_names(request: &ApiRequest) -> bool {
    account(request)
        .is_some_and(|(namespace, _)| is_named(namespace) || namespace.starts_with(SURPLUS))
}

/// Whether the tenant of this namespace is one with rights to names alone.
fn is_named(namespace: &str) -> bool {
    namespace
        .rsplit_once('-')
        .is_some_and(|(name, _number)| name.ends_with(NAMED))
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

/// What holds on each ground: trials with one of their own ask this before they
/// stop it.
pub fn judge(ground: &Ground) -> Result<()> {
    judge_refusals(ground)?;
    judge_reach(ground)
}

/// Fails when an operator of this ground was refused, but where a trial
/// provokes it.
fn judge_refusals(ground: &Ground) -> Result<()> {
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

async fn no_operator_asked_outside_its_namespaces(suite: &Suite) -> Result<()> {
    let log = ApiAudit::new(&suite.ground.plane.audit_log);
    // The planted requests: of the cluster, which is allowed to every account, of
    // a kind that has no namespace, and of a namespace that is another's.
    let tenant = suite.ground.tenant("outside").await?;
    let client = tenant.client_as(OPERATOR_ACCOUNT).await?;
    client.apiserver_version().await?;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let nodes: Api<Node> = Api::all(client.clone());
    let others: Api<Secret> = Api::namespaced(client.clone(), "default");
    let own: Api<Secret> = Api::namespaced(client, &tenant.namespace);
    ensure!(
        namespaces.get(&tenant.namespace).await.is_err()
            && nodes.list(&ListParams::default()).await.is_err()
            && others.get("app").await.is_err(),
        "an operator may look beyond its namespaces"
    );
    own.list(&ListParams::default()).await?;
    let planted =
        |request: &ApiRequest| request.user == service_account(&tenant.namespace, OPERATOR_ACCOUNT);
    let bound = bound(&suite.ground.plane.audit_log)?;
    wait_for("the planted requests", LONG, || async {
        let mut found = of_operators_accounts(&log)?;
        found.retain(planted);
        ensure!(found.len() >= 5, "{found:?}");
        found.retain(|request| !is_within(request, &bound));
        let path = |one: &ApiRequest| one.uri.trim_end_matches('?').to_owned();
        let found: BTreeSet<String> = found.iter().map(path).collect();
        let own = format!("/api/v1/namespaces/{}", tenant.namespace);
        let other = "/api/v1/namespaces/default/secrets/app";
        let wanted = ["/version", own.as_str(), "/api/v1/nodes", other];
        let wanted = wanted.map(str::to_owned).into();
        ensure!(
            found == wanted,
            "found outside: {found:?}, planted: {wanted:?}"
        );
        Ok(())
    })
    .await?;
    judge_reach(&suite.ground)
}

/// Fails when an operator of this ground asked for anything outside the
/// namespaces that it watches and its own, but reviews of its own rights.
fn judge_reach(ground: &Ground) -> Result<()> {
    let requests = of_operators(&ApiAudit::new(&ground.plane.audit_log))?;
    ensure!(!requests.is_empty(), "no operator asked for anything");
    let bound = bound(&ground.plane.audit_log)?;
    println!(
        "{} requests of operators in {} namespaces judged",
        requests.len(),
        bound.len()
    );
    let outside: Vec<_> = requests
        .iter()
        .filter(|request| !is_within(request, &bound))
        .collect();
    ensure!(
        outside.is_empty(),
        "{} requests outside, such as {:?}",
        outside.len(),
        outside.first()
    );
    Ok(())
}

/// Whether a request is about the operator's own rights, its own namespace, or one
/// in which its account is, or was, bound.
fn is_within(request: &ApiRequest, bound: &Bound) -> bool {
    let (user, namespace) = (&request.user, &request.namespace);
    let is_review = request.group == "authorization.k8s.io"
        && request.verb == "create"
        && SELF_REVIEWS.contains(&request.resource.as_str());
    // A Namespace counts as being in itself, and is an object of the cluster.
    let is_namespaced = !namespace.is_empty() && request.resource != "namespaces";
    let is_own = *user == service_account(namespace, OPERATOR_ACCOUNT);
    is_review || is_namespaced && (is_own || bound.contains(&(user.clone(), namespace.clone())))
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
    // What only an operator of the other grade does is no use of this Role.
    let mut requests = of_operators(&log)?;
    requests.retain(|request| !is_by_names(request));
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
    let (named, others): (Vec<_>, Vec<_>) = of_operators(&log)?.into_iter().partition(is_by_names);
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

/// Each verb of the printed Roles was used on its resource somewhere, and each
/// name where it is.
async fn no_right_of_the_grade_named_is_unused(suite: &Suite) -> Result<()> {
    let log = ApiAudit::new(&suite.ground.plane.audit_log);
    let all = of_operators(&log)?;
    let roles: Api<Role> = Api::all(suite.ground.client.clone());
    let of_operator = ListParams::default().fields(&format!("metadata.name={OPERATOR_ACCOUNT}"));
    let (mut verbs, mut used, mut count) = (BTreeSet::new(), BTreeSet::new(), 0);
    for role in roles.list(&of_operator).await? {
        let namespace = role.metadata.namespace.unwrap_or_default();
        if !is_named(&namespace) || namespace.starts_with(PROVOKING) {
            continue;
        }
        let mut requests = all.clone();
        requests.retain(|request| request.namespace == namespace && is_by_names(request));
        let mut rights = rights(&role.rules.unwrap_or_default());
        // The planted right: nothing is ever updated.
        rights.extend(rights.clone().into_iter().map(|right| Right {
            verb: "update".to_owned(),
            ..right
        }));
        for right in &rights {
            let place = (
                right.group.clone(),
                right.resource.clone(),
                right.verb.clone(),
            );
            if requests.iter().any(|request| right.covers(request)) {
                used.insert(place.clone());
            }
            verbs.insert(place);
            count += 1;
            if right.name.is_none() || !BY_NAME.contains(&right.resource.as_str()) {
                continue;
            }
            let is_touched = requests.iter().any(|request| {
                request.resource == right.resource && Some(&request.name) == right.name.as_ref()
            });
            ensure!(
                is_touched,
                "{right} is in {namespace} and its name was never asked for"
            );
        }
    }
    println!("{count} rights of the grade named judged");
    ensure!(count > 100, "{count} rights");
    let resources: BTreeSet<_> = verbs.iter().map(|(group, of, _)| (group, of)).collect();
    let unused: BTreeSet<_> = verbs.difference(&used).collect();
    let (planted, unused): (Vec<_>, Vec<_>) = unused
        .into_iter()
        .partition(|(_, _, verb)| verb == "update");
    ensure!(
        planted.len() == resources.len(),
        "planted on {resources:?}, found unused: {planted:?}"
    );
    ensure!(unused.is_empty(), "never used: {unused:?}");
    Ok(())
}

/// What operators asked of Vault itself, beside the engines, is what the document
/// lists, and all that it lists was asked.
async fn no_path_at_vault_is_undocumented(suite: &Suite) -> Result<()> {
    let log = VaultAudit::new(&suite.ground.vault.audit_log);
    let of_operators = VaultFilter::new().user_agent_contains("vault-tenant-operator/");
    let mut asked: BTreeSet<String> = log.count_by_path(&of_operators)?.into_keys().collect();
    asked.retain(|path| is_vaults_own(path));
    println!("{} paths of Vault's own judged", asked.len());
    let listed = rows(VAULT_POLICY).flat_map(|row| quoted(row[0]).collect::<Vec<_>>());
    let listed: BTreeSet<&str> = listed.filter(|path| is_vaults_own(path)).collect();
    let (planted, foreign) = ("auth/token/lookup-accessor", "sys/mounts");
    ensure!(listed.iter().any(|form| is_of(planted, form)));
    ensure!(!listed.iter().any(|form| is_of(foreign, form)));
    let is_listed = |path: &&String| listed.iter().any(|form| is_of(path, form));
    let unlisted: Vec<_> = asked.iter().filter(|path| !is_listed(path)).collect();
    ensure!(unlisted.is_empty(), "not in the document: {unlisted:?}");
    // Vault's audit log lacks requests for its health.
    let is_used = |form: &&str| *form == "sys/health" || asked.iter().any(|path| is_of(path, form));
    let unused: Vec<_> = listed.iter().filter(|form| !is_used(form)).collect();
    ensure!(unused.is_empty(), "never asked: {unused:?}");
    Ok(())
}

fn is_vaults_own(path: &str) -> bool {
    ["sys/", "auth/"].iter().any(|own| path.starts_with(own))
}

/// Whether a path is of a form, in which `<...>` stands for one segment or several,
/// and `*` for one.
fn is_of(path: &str, form: &str) -> bool {
    match (form.split_once('/'), path.split_once('/')) {
        (None, None) => form == path || form == "*",
        (Some((part, forms)), Some((segment, paths))) if part.starts_with('<') => {
            !segment.is_empty() && (is_of(paths, forms) || is_of(paths, form))
        }
        (Some((part, forms)), Some((segment, paths))) => part == segment && is_of(paths, forms),
        _ => false,
    }
}
