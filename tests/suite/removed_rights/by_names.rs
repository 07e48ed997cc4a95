//! What tells of a right that a single name lacks: each of the names here lacks
//! one verb, all of them at once, and what is told names that verb and no other.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use ground::Tenant;
use ground::judges::role_use::Right;
use ground::judges::workloads::Kind;
use ground::tenant::{APP_ACCOUNT, AUDIENCE, OPERATOR_ACCOUNT};
use ground::wait_for;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde_json::{Value, json};

use super::shipped::{Shipped, names};
use super::{LEADERSHIP, OURS, delete_roles, is_for_work, is_of_ledger};
use crate::endpoints::sample;
use crate::grades::{Grade, placed};
use crate::named::rule;
use crate::probes::workload;
use crate::support::{LONG, Suite, Team, config, merge, static_secret};

const WORKLOADS: [(Kind, &str); 3] = [
    (Kind::DaemonSet, "daemonsets"),
    (Kind::Deployment, "deployments"),
    (Kind::StatefulSet, "statefulsets"),
];

/// Secrets that the rights without a name are tried with.
const OTHERS: [&str; 4] = ["again", "minted", "told", "unpublished"];

/// Where a right is told of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    /// Ready is False.
    NotReady,
    /// Ready is True, and says that the former Secret is left as it is.
    Left,
    /// Ready of the VaultConnection is True, and says that a new CA goes unseen.
    UnseenAuthority,
    /// RolloutRestart has this reason.
    Restart(&'static str),
}

/// A VaultStaticSecret and the verb that something it names lacks.
struct Case {
    right: Right,
    /// The VaultStaticSecret, the Secret that it asks for, and what it names.
    name: String,
    told: Told,
}

impl Case {
    fn new(resource: &str, verb: &str, name: String, told: Told) -> Self {
        let group = if WORKLOADS.iter().any(|(_, of)| *of == resource) {
            "apps"
        } else {
            ""
        };
        let right = Right {
            group: group.to_owned(),
            resource: resource.to_owned(),
            verb: verb.to_owned(),
            name: Some(name.clone()),
        };
        Self { right, name, told }
    }

    fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for verb in ["list", "watch", "create", "patch"] {
            all.push(Self::new(
                "secrets",
                verb,
                format!("no-{verb}"),
                Told::NotReady,
            ));
        }
        for verb in ["get", "delete"] {
            all.push(Self::new("secrets", verb, format!("no-{verb}"), Told::Left));
        }
        for (verb, told) in [
            ("get", Told::NotReady),
            ("list", Told::UnseenAuthority),
            ("watch", Told::UnseenAuthority),
        ] {
            let name = format!("no-{verb}-ca");
            all.push(Self::new("secrets", verb, name, told));
        }
        let token = "serviceaccounts/token";
        all.push(Self::new(
            token,
            "create",
            "no-token".to_owned(),
            Told::NotReady,
        ));
        for (_, workloads) in WORKLOADS {
            for (verb, reason) in [
                ("list", "TargetsNotVisible"),
                ("watch", "TargetsNotVisible"),
                ("patch", "RolloutRestartFailed"),
            ] {
                let name = format!("no-{verb}-{workloads}");
                all.push(Self::new(workloads, verb, name, Told::Restart(reason)));
            }
        }
        all
    }

    fn is_of_token(&self) -> bool {
        self.right.resource == "serviceaccounts/token"
    }

    fn is_of_ca(&self) -> bool {
        self.name.ends_with("-ca")
    }

    fn workload(&self) -> Option<Kind> {
        let found = WORKLOADS.iter().find(|(_, of)| *of == self.right.resource);
        found.map(|(kind, _)| *kind)
    }

    /// Where the former Secret is left, the next one.
    fn next(&self) -> String {
        format!("{}-next", self.name)
    }

    /// What is there before.
    fn prepared(&self, tenant: &Tenant) -> Vec<Value> {
        let name = &self.name;
        let ours = |kind: &str, spec: Value| {
            json!({
                "apiVersion": format!("{OURS}/v1beta1"), "kind": kind,
                "metadata": { "name": name }, "spec": spec,
            })
        };
        let auth = |more: Value| {
            let mut spec = json!({
                "method": "kubernetes", "mount": "kubernetes",
                "kubernetes": {
                    "role": tenant.vault_role(), "serviceAccount": APP_ACCOUNT,
                    "audiences": [AUDIENCE],
                },
            });
            merge(&mut spec, more);
            ours("VaultAuth", spec)
        };
        if let Some(kind) = self.workload() {
            return vec![workload(kind, name, name, json!({}))];
        }
        if self.is_of_token() {
            return vec![auth(json!({ "kubernetes": { "serviceAccount": name } }))];
        }
        if !self.is_of_ca() {
            return Vec::new();
        }
        let address = &tenant.vault_address;
        let spec = json!({ "address": address, "caCertSecretRef": name });
        vec![
            json!({
                "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name },
                "stringData": { "ca.crt": tenant.ca_pem },
            }),
            ours("VaultConnection", spec),
            auth(json!({ "vaultConnectionRef": name })),
        ]
    }

    /// What asks for the right.
    fn asking(&self, tenant: &Tenant) -> Value {
        let mut more = json!({ "path": "app", "refreshAfter": "720h" });
        if let Some(kind) = self.workload() {
            let target = json!({ "kind": format!("{kind:?}"), "name": self.name });
            more["rolloutRestartTargets"] = json!([target]);
        } else if self.is_of_ca() {
            // The CA's own name is taken.
            more["destination"] = json!({ "name": self.next() });
        }
        if self.is_of_ca() || self.is_of_token() {
            more["vaultAuthRef"] = json!(self.name);
        }
        static_secret(tenant, &self.name, more)
    }

    /// All of ours that names something, for the Role.
    fn naming(&self, tenant: &Tenant) -> Vec<Value> {
        let mut all = self.prepared(tenant);
        all.retain(|one| {
            one["apiVersion"]
                .as_str()
                .is_some_and(|v| v.starts_with(OURS))
        });
        all.push(self.asking(tenant));
        if self.told == Told::Left {
            let more = json!({ "path": "app" });
            all.push(static_secret(tenant, &self.next(), more));
        }
        all
    }

    /// The verb that is lacking, as a rule to add.
    fn rule(&self) -> String {
        rule(&self.right.resource, &self.name, &self.right.verb)
    }

    /// Waits until a condition tells of the right, with its rule.
    async fn wait_told(&self, team: &Team) -> Result<()> {
        let (type_, status, reason) = match self.told {
            Told::NotReady => ("Ready", "False", "KubernetesForbidden"),
            Told::Left => ("Ready", "True", "Synced"),
            Told::UnseenAuthority => ("Ready", "True", "Accepted"),
            Told::Restart("TargetsNotVisible") => {
                ("RolloutRestart", "Unknown", "TargetsNotVisible")
            }
            Told::Restart(reason) => ("RolloutRestart", "False", reason),
        };
        let kind = match self.told {
            Told::UnseenAuthority => "VaultConnection",
            _ => "VaultStaticSecret",
        };
        team.wait_for_condition(kind, &self.name, type_, |told| {
            told.status == status
                && told.reason == reason
                && names(&told.message, &self.right)
                && told.message.contains(&self.rule())
        })
        .await
        .map(drop)
    }
}

/// A team whose Role lacks, for each of many names, one verb: what tells of each.
/// Gives back the team with its Role as it was printed.
pub async fn each_name_lacks_a_verb(suite: &Suite, name: &str) -> Result<(Team, Shipped)> {
    let grade = Grade::Named;
    let tenant = grade.tenant(&suite.ground, name).await?;
    let cases = Case::all();
    let others = OTHERS
        .iter()
        .map(|name| static_secret(&tenant, name, json!({})));
    let resources: Vec<Value> = ground::resources::references(&tenant)
        .into_iter()
        .chain(cases.iter().flat_map(|case| case.naming(&tenant)))
        .chain(others)
        .map(|resource| placed(&tenant, resource))
        .collect();
    let config = config(&tenant, grade.lines());
    grade.allow(&tenant, &config, &resources).await?;
    delete_roles(&tenant, &[LEADERSHIP]).await?;
    let shipped = Shipped::of(&tenant, OPERATOR_ACCOUNT).await?;
    let removed: BTreeSet<Right> = cases.iter().map(|case| case.right.clone()).collect();
    tried_are_all(&shipped, &removed)?;

    let team = Team::of(suite, tenant, None, grade.lines()).await?;
    let tenant = &team.tenant;
    team.put("app", json!({ "password": "vault" })).await?;
    let apply = async |manifest: Value| tenant.apply(&manifest.to_string()).await.map(drop);
    let (left, fresh): (Vec<_>, Vec<_>) = cases.iter().partition(|case| case.told == Told::Left);
    for case in &left {
        apply(case.asking(tenant)).await?;
        team.wait_ready(&case.name).await?;
    }
    shipped.without_each(&removed).await?;
    for case in &fresh {
        // What is watched already stays watched without the right.
        for manifest in case.prepared(tenant) {
            apply(manifest).await?;
        }
        apply(case.asking(tenant)).await?;
    }
    for case in &left {
        team.edit(
            &case.name,
            json!({ "destination": { "name": case.next() } }),
        )
        .await?;
    }
    for case in &cases {
        case.wait_told(&team)
            .await
            .with_context(|| format!("without {}", case.right))?;
    }
    told_beside_conditions(&team, &cases).await?;
    // All of them go on by themselves.
    shipped.with_all(&removed).await?;
    for case in &cases {
        // The account whose token may be asked for now is not there.
        let is_well = |ready: &Condition| match case.is_of_token() {
            true => ready.reason == "VaultClientConfigError",
            false => ready.status == "True" && !ready.message.contains("cannot"),
        };
        team.wait_for_condition("VaultStaticSecret", &case.name, "Ready", is_well)
            .await?;
        if case.told == Told::UnseenAuthority {
            team.wait_for_condition("VaultConnection", &case.name, "Ready", |told| {
                told.status == "True" && !told.message.contains("unseen")
            })
            .await?;
        }
    }
    team.wait_missing(0.0).await?;
    Ok((team, shipped))
}

/// Each verb on each resource that names are needed for is tried with one.
fn tried_are_all(shipped: &Shipped, tried: &BTreeSet<Right>) -> Result<()> {
    let by_name = |right: &&Right| right.name.is_some() && is_for_work(right);
    let needed = shipped.rights.iter().filter(by_name);
    let needed = needed.filter(|right| !is_of_ledger(right));
    let verb = |right: &Right| (right.resource.clone(), right.verb.clone());
    let needed: BTreeSet<_> = needed.map(verb).collect();
    let tried_verbs: BTreeSet<_> = tried.iter().map(verb).collect();
    ensure!(needed == tried_verbs, "{needed:?}, tried {tried_verbs:?}");
    ensure!(
        tried.is_subset(&shipped.rights),
        "not all of {tried:?} are printed"
    );
    Ok(())
}

/// The metric counts them, the log has each rule, and `/readyz` and a metric tell
/// which names cannot be seen.
async fn told_beside_conditions(team: &Team, cases: &[Case]) -> Result<()> {
    team.wait_missing(cases.len() as f64).await?;
    let log = team.operator.log()?.replace('\\', "");
    for case in cases {
        ensure!(log.contains(&case.rule()), "the log lacks {}", case.rule());
    }
    let unseen = |case: &&Case| ["list", "watch"].contains(&case.right.verb.as_str());
    wait_for("names that cannot be seen to be told of", LONG, || async {
        let said = team.operator.readyz().await?;
        let metrics = team.operator.metrics().await?;
        for case in cases.iter().filter(unseen) {
            ensure!(names(&said, &case.right), "{}: {said}", case.right);
            let store = format!("\"{}\"", case.right.resource);
            let place = [store.as_str(), team.tenant.namespace.as_str()];
            let failing = sample(&metrics, "vto_watch_failing", &place);
            ensure!(failing >= Some(1.0), "{store}: {failing:?}");
        }
        Ok(())
    })
    .await
}
