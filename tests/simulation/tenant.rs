//! What people do in the tenant's namespace and at Vault: manifests, edits by
//! hand, rollouts, new versions.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;
use vault_tenant_operator::api::{
    VaultAuth, VaultConnection, VaultDynamicSecret, VaultPKISecret, VaultStaticSecret,
};
use vault_tenant_operator::key::{Kind, ResourceKey};
use vault_tenant_operator::reconcile::PREFIX;
use vault_tenant_operator::reconcile::view::Use;

use crate::api_server::resource;
use crate::judge::content;
use crate::objects::{Field, NAMESPACE, Object, Workload};
use crate::vault::{ADDRESS, Source, Version};
use crate::world::{Server, World};

/// The people.
#[derive(Clone)]
pub struct Tenant(pub Rc<World>);

/// `a=b` pairs as a source's fields.
pub fn source(pairs: &[(&str, &str)]) -> Source {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), json!(value)))
        .collect()
}

/// A VaultStaticSecret of KV v2 with the Deployment `web` as its target.
pub fn static_secret(name: &str) -> Value {
    json!({
        "apiVersion": "secrets.hashicorp.com/v1beta1",
        "kind": "VaultStaticSecret",
        "metadata": { "name": name, "namespace": NAMESPACE },
        "spec": {
            "mount": "kv", "path": name, "type": "kv-v2", "refreshAfter": "30s",
            "destination": { "name": name, "create": true, "labels": { "app": "web" } },
            "rolloutRestartTargets": [{ "kind": "Deployment", "name": "web" }],
        },
    })
}

impl Tenant {
    pub fn note(&self, what: impl Into<String>) {
        self.0.note(format!("     > {}", what.into()));
    }

    /// The connection and the login that everything uses.
    pub fn basics(&self) {
        self.connection();
        self.login();
    }

    fn connection(&self) {
        self.apply(&json!({
            "apiVersion": "secrets.hashicorp.com/v1beta1",
            "kind": "VaultConnection",
            "metadata": { "name": "default", "namespace": NAMESPACE },
            "spec": { "address": ADDRESS },
        }));
    }

    /// The login alone: then the connection is that of the configuration.
    pub fn login(&self) {
        self.apply(&json!({
            "apiVersion": "secrets.hashicorp.com/v1beta1",
            "kind": "VaultAuth",
            "metadata": { "name": "default", "namespace": NAMESPACE },
            "spec": {
                "method": "kubernetes", "mount": "kubernetes",
                "kubernetes": { "role": "app", "serviceAccount": "app" },
            },
        }));
    }

    /// Applies a manifest: creates, or raises the generation when the spec differs.
    pub fn apply(&self, manifest: &Value) {
        let name = manifest["metadata"]["name"].as_str().unwrap();
        let kind = Kind::ALL
            .into_iter()
            .find(|kind| kind.as_str() == manifest["kind"])
            .unwrap();
        let key = resource(kind, name);
        self.note(format!("apply {key}"));
        let found = self.0.api.borrow().resources.get(&key).cloned();
        let mut uid = self.0.api.borrow_mut().new_uid();
        macro_rules! object {
            ($type:ty, $variant:ident) => {{
                let mut new: $type = serde_json::from_value(manifest.clone()).unwrap();
                let mut generation = 1;
                if let Some(Object::$variant(old)) = found {
                    uid = old.metadata.uid.clone().unwrap();
                    generation = old.metadata.generation.unwrap() + i64::from(old.spec != new.spec);
                    new.status = old.status.clone();
                }
                new.metadata.uid = Some(uid);
                new.metadata.generation = Some(generation);
                Object::$variant(Rc::new(new))
            }};
        }
        let new = match kind {
            Kind::VaultConnection => object!(VaultConnection, Connection),
            Kind::VaultAuth => object!(VaultAuth, Auth),
            Kind::VaultDynamicSecret => object!(VaultDynamicSecret, Dynamic),
            Kind::VaultPkiSecret => object!(VaultPKISecret, Pki),
            _ => object!(VaultStaticSecret, Static),
        };
        self.0.at_api(|api| api.put_resource(&key, new));
    }

    fn static_key(name: &str) -> ResourceKey {
        resource(Kind::VaultStaticSecret, name)
    }

    pub fn delete_resource(&self, name: &str) {
        self.delete(&Self::static_key(name));
    }

    pub fn delete(&self, key: &ResourceKey) {
        self.note(format!("delete {key}"));
        if let Some(found) = self.0.api.borrow().resources.get(key) {
            self.0.judge.borrow_mut().died(found, self.0.now());
        }
        self.0.at_api(|api| api.delete_resource(key));
    }

    /// Writes a new version (v2), and the same to KV v1.
    pub fn write_vault(&self, path: &str, fields: &Source) {
        self.note(format!("write {path} at Vault: {fields:?}"));
        self.0.judge.borrow_mut().sources.push(content(fields));
        let mut vault = self.0.vault.borrow_mut();
        let version = Version {
            fields: fields.clone(),
            deleted: false,
            destroyed: false,
        };
        vault
            .versions
            .entry(path.to_owned())
            .or_default()
            .push(version);
        vault.plain.insert(path.to_owned(), fields.clone());
    }

    /// Deletes the newest version, or brings it back.
    pub fn set_deleted(&self, path: &str, deleted: bool) {
        self.note(format!("newest version of {path} deleted: {deleted}"));
        let mut vault = self.0.vault.borrow_mut();
        if let Some(newest) = vault.versions.get_mut(path).and_then(|all| all.last_mut()) {
            newest.deleted = deleted;
        }
    }

    /// Reads of a source fail although Vault is well, or no longer.
    pub fn set_broken(&self, path: &str, broken: bool) {
        self.note(format!("reading {path} broken: {broken}"));
        let path = format!("kv/data/{path}");
        let mut vault = self.0.vault.borrow_mut();
        if broken {
            vault.broken.insert(path);
        } else {
            vault.broken.remove(&path);
        }
    }

    pub fn set_sealed(&self, sealed: bool) {
        self.note(format!("Vault sealed: {sealed}"));
        self.0.trouble(0);
        self.0.vault.borrow_mut().sealed = sealed;
    }

    /// Takes the right to read a source away, or gives it back; either way all
    /// tokens end.
    pub fn set_denied(&self, path: &str, denied: bool) {
        self.note(format!("reading {path} denied: {denied}"));
        let mut vault = self.0.vault.borrow_mut();
        vault.revoke_all(self.0.now());
        for path in [format!("kv/data/{path}"), format!("kv1/{path}")] {
            if denied {
                vault.denied.insert(path);
            } else {
                vault.denied.remove(&path);
            }
        }
    }

    /// Sets or removes a field of a Secret by hand. What is not the operator's
    /// is remembered: it must stay.
    pub fn edit_secret(&self, name: &str, field: Field, value: Option<&str>) {
        self.note(format!("edit {field:?} of the Secret {name}: {value:?}"));
        let now = self.0.now();
        let theirs = self.0.api.borrow().secrets.get(name).is_some_and(|found| {
            let ours = |(manager, owned): (&String, &crate::objects::Owned)| {
                manager.starts_with("vto-") && owned.fields.contains(&field)
            };
            !found.managers.iter().any(ours)
        });
        self.0
            .at_api(|api| api.edit_secret(name, "kubectl-edit", field.clone(), value, now));
        self.0.judge.borrow_mut().edited(name, &field);
        let exists = self.0.api.borrow().secrets.contains_key(name);
        if theirs && exists && field_is_foreign(&field) {
            let mut judge = self.0.judge.borrow_mut();
            let others = judge.others.entry(name.to_owned()).or_default();
            match value {
                Some(value) => others.insert(field, value.into()),
                None => others.remove(&field),
            };
        }
    }

    /// Removes the operator's state from a Secret.
    pub fn strip_state(&self, name: &str) {
        let found = self.0.api.borrow().secrets.get(name).cloned();
        let names = found.into_iter().flat_map(|found| found.fields.into_keys());
        for field in
            names.filter(|f| matches!(f, Field::Annotation(name) if name.starts_with(PREFIX)))
        {
            self.edit_secret(name, field, None);
        }
    }

    /// Rewrites the operator's state in a Secret.
    pub fn tamper_state(&self, name: &str, change: impl Fn(&mut Value)) {
        let found = self.0.api.borrow().secrets.get(name).cloned();
        for (field, value) in found.into_iter().flat_map(|found| found.fields) {
            if matches!(&field, Field::Annotation(name) if name.starts_with(PREFIX)) {
                let mut state: Value = serde_json::from_slice(&value).unwrap();
                change(&mut state);
                self.edit_secret(name, field, Some(&state.to_string()));
            }
        }
    }

    pub fn delete_secret(&self, name: &str) {
        self.note(format!("delete the Secret {name}"));
        let gone = self.0.at_api(|api| api.delete_secret(name));
        self.0.judge.borrow_mut().others.remove(name);
        self.0.leases.borrow_mut().secret_gone(name);
        if let Some(gone) = gone {
            self.0.judge.borrow_mut().secret_gone(&self.0, &gone, name);
        }
    }

    /// Somebody else makes a Secret of that name.
    pub fn create_foreign(&self, name: &str, fields: &[(Field, &str)]) {
        self.note(format!("create a foreign Secret {name}"));
        let fields = fields
            .iter()
            .map(|(field, value)| (field.clone(), value.as_bytes().to_vec()));
        let fields: BTreeMap<_, _> = fields.collect();
        let now = self.0.now();
        let made = self
            .0
            .at_api(|api| api.apply_secret(name, "helm", None, &fields, now));
        if made.is_ok() {
            self.0
                .judge
                .borrow_mut()
                .others
                .entry(name.to_owned())
                .or_default()
                .extend(fields);
        }
    }

    /// Creates a Deployment that uses these Secrets; one that is there goes first.
    pub fn create_workload(&self, name: &str, uses: &[&str]) {
        self.note(format!("create Deployment {name}"));
        let now = self.0.now();
        self.0.at_api(|api| {
            api.delete_workload(name);
            let new = Workload {
                uid: api.new_uid(),
                version: 0,
                created: jiff::Timestamp::from_second(now.as_second()).unwrap(),
                paused: false,
                uses: uses
                    .iter()
                    .map(|secret| Use {
                        secret: (*secret).to_owned(),
                        keys: BTreeSet::new(),
                    })
                    .collect(),
                annotations: BTreeMap::from([("team".to_owned(), "a".to_owned())]),
                template: BTreeMap::from([("team".to_owned(), "a".to_owned())]),
                slow: !self.0.rollout.get().is_zero(),
                rolling: false,
                updated: 0,
                deadline: self.0.deadline.get(),
                failing: false,
                pods: 10,
                revisions: Vec::new(),
            };
            api.put_workload(name, new);
        });
        self.0
            .judge
            .borrow_mut()
            .workload_created(&self.0, name, uses);
    }

    fn edit_workload(&self, name: &str, change: impl FnOnce(&mut Workload)) {
        let Some(before) = self.0.api.borrow().workloads.get(name).cloned() else {
            return;
        };
        let mut after = before.clone();
        change(&mut after);
        if after == before {
            return;
        }
        if before.paused && !after.paused && self.0.judge.borrow().is_held(name) {
            after.rolling = after.slow;
        }
        let after = self.0.at_api(|api| api.put_workload(name, after));
        let mut judge = self.0.judge.borrow_mut();
        if after.template != before.template {
            judge.stirred(&self.0, name, after.paused);
        }
        if before.paused && !after.paused {
            judge.resumed(&self.0, name);
        }
    }

    /// The pod template of a Deployment names these keys of a Secret, and no others.
    pub fn need(&self, name: &str, secret: &str, keys: &[&str]) {
        self.note(format!("{name} needs {keys:?} of {secret}"));
        self.edit_workload(name, |workload| {
            workload.uses = vec![Use {
                secret: secret.to_owned(),
                keys: keys.iter().map(ToString::to_string).collect(),
            }];
            let mut template = workload.template.clone();
            template.insert("needs".to_owned(), keys.join(" "));
            workload.set_template(template);
        });
    }

    /// One more of its pods is replaced.
    pub fn replace_a_pod(&self, name: &str) {
        self.note(format!("a further pod of {name} is new"));
        self.edit_workload(name, |workload| workload.updated += 1);
    }

    /// It has no pod from now on.
    pub fn scale_to_zero(&self, name: &str) {
        self.note(format!("scale {name} to zero"));
        self.edit_workload(name, |workload| workload.pods = 0);
    }

    /// Removes the operator's annotations from the pod template.
    pub fn strip_template(&self, name: &str) {
        self.note(format!("strip the template of {name}"));
        self.edit_workload(name, |workload| {
            let mut template = workload.template.clone();
            template.retain(|name, _| !name.starts_with(PREFIX));
            workload.set_template(template);
        });
    }

    /// A rollout by somebody else.
    pub fn touch_template(&self, name: &str) {
        self.note(format!("roll {name} by hand"));
        let now = self.0.now().to_string();
        self.edit_workload(name, |workload| {
            let mut template = workload.template.clone();
            template.insert("kubectl.kubernetes.io/restartedAt".to_owned(), now);
            workload.set_template(template);
        });
    }

    pub fn undo(&self, name: &str) {
        self.note(format!("rollout undo {name}"));
        self.edit_workload(name, |workload| {
            if let Some(earlier) = workload.revisions.last().cloned() {
                workload.set_template(earlier);
            }
        });
    }

    pub fn pause(&self, name: &str, paused: bool) {
        self.note(format!("pause {name}: {paused}"));
        self.0.judge.borrow_mut().paces.stirred(name);
        self.edit_workload(name, |workload| workload.paused = paused);
    }

    /// Another instance of the operator leads from now on.
    pub fn hand_over(&self) {
        self.note("hand the leadership over");
        self.0.trouble(0);
        self.0.handover.notify_one();
    }

    /// The operator reaches a server no more for so many seconds.
    pub fn cut_off(&self, server: Server, seconds: u64) {
        self.note(format!("{server:?} is cut off for {seconds} s"));
        let end = Instant::now() + Duration::from_secs(seconds);
        self.0.trouble(seconds);
        self.0.outages.borrow_mut().insert(server, end);
    }

    /// Restarts the operator, with a new HMAC key if `lose_key`.
    pub fn restart_operator(&self, lose_key: bool) {
        self.note(format!("restart the operator, key lost: {lose_key}"));
        self.0.trouble(0);
        if lose_key {
            self.0.hash_key.set(self.0.hash_key.get() + 1);
        }
        self.0.crash.notify_one();
    }
}

/// Fields of names that the operator never uses by itself.
fn field_is_foreign(field: &Field) -> bool {
    match field {
        Field::Data(name) | Field::Label(name) | Field::Annotation(name) => {
            name.starts_with("foreign")
        }
        Field::Owner(_) | Field::Type => false,
    }
}
