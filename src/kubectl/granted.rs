//! What an operator has been granted: from files, from Roles of the cluster, or
//! from the API server's own word about its ServiceAccount.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::str::FromStr;

use crate::rights::Granted;
use k8s_openapi::api::authorization::v1::{
    SelfSubjectRulesReview, SelfSubjectRulesReviewSpec, SubjectRulesReviewStatus,
};
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, Role, RoleBinding};
use kube::api::PostParams;
use kube::{Api, Client};

use crate::kubectl::cluster::{self, Cluster, connect, runtime};
use crate::kubectl::manifests::{self, STDIN};

/// Where to look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// All that the ServiceAccount may do.
    Account,
    /// A Role of the cluster.
    Role(String),
    /// What a RoleBinding of the cluster leads to.
    RoleBinding(String),
    /// A file, a folder, or standard input.
    File(String),
}

impl FromStr for Source {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        let name = |kind| text.strip_prefix(kind).map(str::to_owned);
        Ok(if text.is_empty() {
            Self::Account
        } else if let Some(name) = name("role/") {
            Self::Role(name)
        } else if let Some(name) = name("rolebinding/") {
            Self::RoleBinding(name)
        } else {
            Self::File(text.to_owned())
        })
    }
}

impl Source {
    /// Whether it is standard input.
    pub fn is_stdin(&self) -> bool {
        matches!(self, Self::File(path) if path == STDIN)
    }
}

/// What is granted, by namespace.
type ByNamespace = BTreeMap<String, Vec<Granted>>;

/// All that the sources grant to the account in `namespaces`, and in others
/// where a file says so.
///
/// # Errors
/// A sentence: what cannot be read or asked, and what to do.
pub fn collect(
    sources: &[Source],
    account: (&str, &str),
    namespaces: &BTreeSet<String>,
    watched: &[String],
) -> Result<ByNamespace, String> {
    let mut granted = ByNamespace::new();
    let mut live = Vec::new();
    for source in sources {
        match source {
            Source::File(path) => of_file(path, watched, &mut granted)?,
            other => live.push(other),
        }
    }
    if live.is_empty() {
        return Ok(granted);
    }
    runtime()?.block_on(async {
        for source in live {
            let found = match source {
                Source::Role(name) => of_role(name, namespaces).await?,
                Source::RoleBinding(name) => of_binding(name, namespaces).await?,
                Source::Account | Source::File(_) => of_account(account, namespaces).await?,
            };
            for (namespace, rules) in found {
                granted.entry(namespace).or_default().extend(rules);
            }
        }
        Ok(granted)
    })
}

/// The Roles of a file; whom they are bound to is not looked at.
fn of_file(path: &str, watched: &[String], granted: &mut ByNamespace) -> Result<(), String> {
    let mut found = false;
    for document in manifests::documents(path)? {
        if document.kind() != "Role" {
            continue;
        }
        found = true;
        let namespace = document.namespace(watched)?;
        let role: Role = serde_yaml::from_value(document.value.clone())
            .map_err(|error| document.wrong(&format!("does not fit its kind: {error}")))?;
        granted
            .entry(namespace)
            .or_default()
            .extend(rules(role.rules));
    }
    if found {
        Ok(())
    } else {
        Err(format!(
            "{path} holds no Role: give a file or folder that does"
        ))
    }
}

fn rules(rules: Option<Vec<PolicyRule>>) -> Vec<Granted> {
    rules.iter().flatten().map(Granted::from).collect()
}

/// The Roles of this name in all of the namespaces.
async fn of_role(name: &str, namespaces: &BTreeSet<String>) -> Result<ByNamespace, String> {
    let client = client(None).await?;
    let mut found = ByNamespace::new();
    for namespace in namespaces {
        let roles: Api<Role> = Api::namespaced(client.clone(), namespace);
        if let Some(role) = ask("Role", name, roles.get_opt(name)).await? {
            found.insert(namespace.clone(), rules(role.rules));
        }
    }
    some(found, "Role", name, namespaces)
}

/// What the RoleBindings of this name lead to in all of the namespaces.
async fn of_binding(name: &str, namespaces: &BTreeSet<String>) -> Result<ByNamespace, String> {
    let client = client(None).await?;
    let mut found = ByNamespace::new();
    for namespace in namespaces {
        let bindings: Api<RoleBinding> = Api::namespaced(client.clone(), namespace);
        let binding = ask("RoleBinding", name, bindings.get_opt(name)).await?;
        let Some(binding) = binding else { continue };
        let role = &binding.role_ref.name;
        let granted = if binding.role_ref.kind == "ClusterRole" {
            let roles: Api<ClusterRole> = Api::all(client.clone());
            let role = ask("ClusterRole", role, roles.get_opt(role)).await?;
            role.and_then(|role| role.rules)
        } else {
            let roles: Api<Role> = Api::namespaced(client.clone(), namespace);
            let role = ask("Role", role, roles.get_opt(role)).await?;
            role.and_then(|role| role.rules)
        };
        found.insert(namespace.clone(), rules(granted));
    }
    some(found, "RoleBinding", name, namespaces)
}

fn some(
    found: ByNamespace,
    kind: &str,
    name: &str,
    namespaces: &BTreeSet<String>,
) -> Result<ByNamespace, String> {
    if !found.is_empty() {
        return Ok(found);
    }
    let namespaces: Vec<&str> = namespaces.iter().map(String::as_str).collect();
    Err(format!(
        "there is no {kind} {name} in {}: correct the name, or --namespace and the configuration",
        namespaces.join(", ")
    ))
}

/// What the API server says that the account may do, by whatever binding.
async fn of_account(
    (home, name): (&str, &str),
    namespaces: &BTreeSet<String>,
) -> Result<ByNamespace, String> {
    let user = format!("system:serviceaccount:{home}:{name}");
    let reviews: Api<SelfSubjectRulesReview> = Api::all(client(Some(&user)).await?);
    let mut found = ByNamespace::new();
    for namespace in namespaces {
        let review = SelfSubjectRulesReview {
            spec: SelfSubjectRulesReviewSpec {
                namespace: Some(namespace.clone()),
            },
            ..SelfSubjectRulesReview::default()
        };
        let answer = reviews.create(&PostParams::default(), &review).await;
        let answer = answer.map_err(|error| match error {
            kube::Error::Api(status) if status.code == 403 => format!(
                "what {user} may do cannot be asked: {}; it takes the right to impersonate it. Or name Roles: --check role/NAME",
                status.message
            ),
            other => unanswered(&format!("the rights of {user}"), &other),
        })?;
        let status = answer.status.unwrap_or_default();
        incomplete(namespace, &status);
        let rules = status.resource_rules.iter().map(Granted::from).collect();
        found.insert(namespace.clone(), rules);
    }
    Ok(found)
}

/// An authorizer beside RBAC may not be able to list what it allows.
fn incomplete(namespace: &str, status: &SubjectRulesReviewStatus) {
    if status.incomplete {
        let why = status
            .evaluation_error
            .as_deref()
            .unwrap_or("no cause is given");
        eprintln!("note: {namespace}: the API server's list of rights is not complete: {why}");
    }
}

/// A client of the kubeconfig's cluster, perhaps as somebody else.
async fn client(user: Option<&str>) -> Result<Client, String> {
    let mut config = Cluster::default().config().await?;
    config.auth_info.impersonate = user.map(str::to_owned);
    connect(config)
}

async fn ask<T>(
    kind: &str,
    name: &str,
    request: impl Future<Output = kube::Result<T>>,
) -> Result<T, String> {
    let answer = request.await;
    answer.map_err(|error| unanswered(&format!("{kind} {name}"), &error))
}

fn unanswered(what: &str, error: &kube::Error) -> String {
    format!("{what} cannot be read: {}", cluster::reason(error))
}
