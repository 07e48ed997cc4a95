//! One script of requests through the port to the API server, and what must come
//! of it. The suite runs it against the real server, the simulation against its
//! model: as both give this transcript, the model is like the server where the
//! operator's promises depend on it.

pub mod certificates;
pub mod leases;
pub mod vault;

use std::collections::BTreeMap;

use serde_json::json;
use vault_tenant_operator::key::{Kind, ObjectKey, Redacted, ResourceKey};
use vault_tenant_operator::problem::Problem;
use vault_tenant_operator::reconcile::PREFIX;
use vault_tenant_operator::reconcile::ports::{Cluster, Fence, Life, SecretWrite, WorkloadPatch};
use vault_tenant_operator::reconcile::view::{SecretMeta, WorkloadKey, WorkloadKind};

/// What people do meanwhile, each world in its own way.
#[allow(async_fn_in_trait, reason = "static dispatch on one thread")]
pub trait People {
    /// Sets a key of a Secret as `kubectl-edit`.
    async fn edit(&self, secret: &str, key: &str, value: &str);
    /// Makes a Deployment; its uid and resourceVersion.
    async fn deployment(&self, name: &str) -> (String, String);
    /// Makes a VaultStaticSecret; its uid.
    async fn resource(&self, name: &str) -> String;
}

/// What the script must answer, a line for each request.
pub const EXPECTED: &str = include_str!("transcript.txt");

/// A script's progress.
struct Script<'a, C> {
    cluster: &'a C,
    namespace: &'a str,
    said: Vec<String>,
    uid: String,
}

impl<C: Cluster> Script<'_, C> {
    fn key(&self, name: &str) -> ObjectKey {
        ObjectKey::new(self.namespace, name)
    }

    fn say(&mut self, what: &str, answer: impl std::fmt::Display) {
        self.said.push(format!("{what}: {answer}"));
    }

    /// Managers and states of a Secret, and whether it is the one from the beginning.
    fn shown(&mut self, meta: &SecretMeta) -> String {
        if self.uid.is_empty() {
            self.uid.clone_from(&meta.uid);
        }
        let mut managers: Vec<String> = meta
            .managers
            .iter()
            .map(|one| {
                let owns =
                    |yes: bool, what: &str| if yes { what.to_owned() } else { String::new() };
                format!("{}{}", one.name, owns(one.owns_type, " with the type"))
            })
            .collect();
        managers.sort();
        let same = if meta.uid == self.uid {
            "same"
        } else {
            "another"
        };
        let states: Vec<&str> = meta
            .states
            .keys()
            .filter_map(|k| k.strip_prefix(PREFIX))
            .collect();
        format!("{same}; {}; states {states:?}", managers.join(", "))
    }

    async fn apply(
        &mut self,
        what: &str,
        manager: &str,
        fence: Fence,
        data: &[(&str, &str)],
        type_: Option<&str>,
    ) -> Option<SecretMeta> {
        let state = format!("{PREFIX}state-{manager}");
        let annotations = match data {
            [] => BTreeMap::new(),
            _ => BTreeMap::from([(state, "{}".to_owned())]),
        };
        let write = SecretWrite {
            secret: self.key("one"),
            manager: format!("vto-{manager}"),
            fence,
            type_: type_.map(str::to_owned),
            data: data
                .iter()
                .map(|(key, value)| ((*key).to_owned(), Redacted::new(value.as_bytes().to_vec())))
                .collect(),
            labels: BTreeMap::new(),
            annotations,
            owner: None,
        };
        let answer = self.cluster.apply_secret(&write).await;
        match answer {
            Ok(meta) => {
                let shown = self.shown(&meta);
                self.say(what, shown);
                Some(meta)
            }
            Err(problem) => {
                self.say(what, problem.reason());
                None
            }
        }
    }

    async fn holds(&mut self, manager: &str) {
        let secret = self.key("one");
        let found = self
            .cluster
            .secret_content(&secret, &format!("vto-{manager}"))
            .await;
        let text = |data: vault_tenant_operator::render::SecretData| {
            let pairs = data
                .into_iter()
                .map(|(key, value)| format!("{key}={}", String::from_utf8_lossy(value.expose())));
            pairs.collect::<Vec<_>>().join(" ")
        };
        let answer = match found {
            Ok(Some(found)) => text(found.data),
            Ok(None) => "no Secret".to_owned(),
            Err(problem) => problem.reason().to_owned(),
        };
        self.say(&format!("  {manager} owns"), answer);
    }

    async fn live(&mut self) -> Option<SecretMeta> {
        let secret = self.key("one");
        self.cluster.secret_meta(&secret).await.ok().flatten()
    }
}

fn told<T>(answer: &Result<T, Problem>) -> &'static str {
    answer.as_ref().err().map_or("done", Problem::reason)
}

fn at(meta: &SecretMeta) -> Fence {
    Fence::Update {
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
    }
}

/// Runs the script; `None` where a step that the others need failed.
pub async fn run<C: Cluster>(cluster: &C, namespace: &str, people: &impl People) -> Vec<String> {
    let mut script = Script {
        cluster,
        namespace,
        said: Vec::new(),
        uid: String::new(),
    };
    let _ = secrets(&mut script, people).await;
    let _ = workloads(&mut script, people).await;
    script.said
}

async fn secrets<C: Cluster>(script: &mut Script<'_, C>, people: &impl People) -> Option<()> {
    let other = |meta: &SecretMeta| Fence::Update {
        uid: "00000000-0000-0000-0000-000000000000".to_owned(),
        resource_version: meta.resource_version.clone(),
    };
    let opaque = Some("Opaque");
    let first = script
        .apply("create", "a", Fence::Create, &[("k", "1")], opaque)
        .await?;
    script
        .apply("create again", "a", Fence::Create, &[("k", "1")], opaque)
        .await;
    let create = Fence::Create;
    script
        .apply("create by another", "b", create, &[("m", "1")], opaque)
        .await;
    script
        .apply("write beside it", "b", at(&first), &[("m", "1")], opaque)
        .await?;
    script.holds("a").await;
    script.holds("b").await;
    script
        .apply("at an old version", "a", at(&first), &[("k", "2")], opaque)
        .await;
    let live = script.live().await?;
    script
        .apply("with another uid", "a", other(&live), &[("k", "2")], opaque)
        .await;
    let live = script
        .apply("update", "a", at(&live), &[("n", "2")], opaque)
        .await?;
    script.holds("a").await;
    script
        .apply(
            "another type",
            "a",
            at(&live),
            &[("n", "2")],
            Some("example.com/own"),
        )
        .await;
    people.edit("one", "n", "by hand").await;
    let live = script.live().await?;
    let shown = script.shown(&live);
    script.say("edited by hand", shown);
    script.holds("a").await;
    let live = script
        .apply("taken back", "a", at(&live), &[("n", "2")], opaque)
        .await?;
    script.holds("a").await;
    script.apply("take out", "b", at(&live), &[], None).await?;
    script.holds("b").await;
    let secret = script.key("one");
    let mut fields = script.cluster.managed_fields(&secret).await.ok()??;
    let stale = fields.clone();
    fields
        .entries
        .retain(|entry| entry.manager.as_deref() != Some("vto-b"));
    let set = script.cluster.set_managed_fields(&secret, &fields).await;
    let shown = set.map(|meta| script.shown(&meta)).unwrap_or_default();
    script.say("without its name", shown);
    let set = script.cluster.set_managed_fields(&secret, &stale).await;
    script.say("fields of an old version", told(&set));
    let live = script.live().await?;
    let mark = (format!("{PREFIX}orphaned-at"), "now");
    let marked = script
        .cluster
        .annotate_secret(&secret, &live, (mark.0.as_str(), Some(mark.1)))
        .await;
    let shown = marked.map(|meta| script.shown(&meta)).unwrap_or_default();
    script.say("annotate", shown);
    let deleted = script.cluster.delete_secret(&secret, &live).await;
    script.say("delete an old version", told(&deleted));
    let live = script.live().await?;
    let deleted = script.cluster.delete_secret(&secret, &live).await;
    script.say("delete", told(&deleted));
    script
        .apply("update what is gone", "a", at(&live), &[("n", "3")], opaque)
        .await;
    let gone = script.live().await.is_none();
    script.say("  it stays gone", gone);
    script
        .apply("create anew", "a", Fence::Create, &[("n", "3")], opaque)
        .await?;
    Some(())
}

async fn workloads<C: Cluster>(script: &mut Script<'_, C>, people: &impl People) -> Option<()> {
    let (uid, version) = people.deployment("web").await;
    let workload = WorkloadKey {
        kind: WorkloadKind::Deployment,
        object: script.key("web"),
    };
    let patch = |uid: &str, version: &str| WorkloadPatch {
        uid: uid.to_owned(),
        resource_version: version.to_owned(),
        annotations: BTreeMap::from([(format!("{PREFIX}base-x"), "h".to_owned())]),
        template: BTreeMap::from([(format!("{PREFIX}c-x"), "h".to_owned())]),
    };
    let none = "00000000-0000-0000-0000-000000000000";
    let patched = script
        .cluster
        .patch_workload(&workload, &patch(none, &version))
        .await;
    script.say("patch another workload", told(&patched));
    let patched = script
        .cluster
        .patch_workload(&workload, &patch(&uid, &version))
        .await;
    script.say("patch", told(&patched));
    let patched = script
        .cluster
        .patch_workload(&workload, &patch(&uid, "1"))
        .await;
    script.say("patch an old version", told(&patched));
    let missing = WorkloadKey {
        object: script.key("missing"),
        ..workload
    };
    let patched = script
        .cluster
        .patch_workload(&missing, &patch(&uid, &version))
        .await;
    script.say("patch what is not there", told(&patched));

    let uid = people.resource("app").await;
    let key = |name: &str| ResourceKey {
        kind: Kind::VaultStaticSecret,
        object: script.key(name),
    };
    let (app, missing) = (key("app"), key("missing"));
    let status = json!({ "lastGeneration": 1 });
    let written = script.cluster.apply_status(&app, &status).await;
    script.say("status", told(&written));
    let written = script.cluster.apply_status(&missing, &status).await;
    script.say("status of what is not there", told(&written));
    for (key, uid) in [(&app, uid.as_str()), (&app, none), (&missing, none)] {
        let life = script.cluster.life(key, uid).await;
        let life = match life {
            Ok(Life::Alive(generation)) => format!("alive at {generation}"),
            Ok(Life::Leaving) => "leaving".to_owned(),
            Ok(Life::Gone) => "gone".to_owned(),
            Err(problem) => problem.reason().to_owned(),
        };
        script.say("life", life);
    }
    Some(())
}
