//! The operator's port to Kubernetes on the model world.

use std::collections::BTreeMap;

use vault_tenant_operator::key::{ObjectKey, Redacted, ResourceKey};
use vault_tenant_operator::problem::Problem;
use vault_tenant_operator::reconcile::ports::{
    Cluster, Fence, Life, ManagedFields, Note, SecretContent, SecretWrite, Stored, WorkloadPatch,
};
use vault_tenant_operator::reconcile::view::{SecretMeta, WorkloadKey, WorkloadMeta};
use vault_tenant_operator::render::SecretData;
use vault_tenant_operator::rights::Right;
use vault_tenant_operator::vault::Credentials;

use crate::lease_judge::Remembered;
use crate::line::Line;
use crate::objects::{Field, Fields};
use crate::world::World;
use crate::{defects, lease_defects, managed};

/// Kubernetes.
pub struct SimCluster(pub Line);

impl Credentials for SimCluster {
    async fn service_account_token(
        &self,
        account: &ObjectKey,
        _: &[String],
        _: i64,
    ) -> Result<Redacted<String>, Problem> {
        let token = format!("token of {account}");
        self.0
            .kubernetes(format!("token request {account}"), |_| {
                Ok(Redacted::new(token))
            })
            .await
    }

    async fn secret_value(
        &self,
        secret: &ObjectKey,
        key: &str,
    ) -> Result<Redacted<Vec<u8>>, Problem> {
        let field = Field::Data(key.to_owned());
        self.0
            .kubernetes(format!("get Secret {secret}"), |world| {
                let api = world.api.borrow();
                let value = api
                    .secrets
                    .get(&secret.name)
                    .and_then(|found| found.fields.get(&field));
                value
                    .cloned()
                    .map(Redacted::new)
                    .ok_or_else(|| Problem::CredentialUnusable {
                        why: "no such Secret or key".to_owned(),
                    })
            })
            .await
    }
}

fn fields_of(write: &SecretWrite) -> Fields {
    let mut fields = Fields::new();
    for (key, value) in &write.data {
        fields.insert(Field::Data(key.clone()), value.expose().clone());
    }
    for (key, value) in &write.labels {
        fields.insert(Field::Label(key.clone()), value.clone().into_bytes());
    }
    for (key, value) in &write.annotations {
        fields.insert(Field::Annotation(key.clone()), value.clone().into_bytes());
    }
    if let Some(owner) = &write.owner {
        fields.insert(
            Field::Owner(owner.uid.clone()),
            owner.name.clone().into_bytes(),
        );
    }
    if let Some(type_) = &write.type_ {
        fields.insert(Field::Type, type_.clone().into_bytes());
    }
    fields
}

impl Cluster for SimCluster {
    async fn apply_secret(&self, write: &SecretWrite) -> Result<SecretMeta, Problem> {
        let mut write = write.clone();
        let how = if write.fence == Fence::Create {
            "create"
        } else {
            "update"
        };
        let what = format!("apply Secret {} ({how})", write.secret.name);
        for (workload, patch) in defects::restarts_first(&self.0.world, &write) {
            let _ = self.patch_workload(&workload, &patch).await;
        }
        let name = write.secret.name.clone();
        let answer = self
            .0
            .kubernetes(what, |world| {
                let fence = defects::in_write(world, &mut write);
                let now = world.now();
                let (name, manager) = (&write.secret.name, &write.manager);
                let before = world.api.borrow().secrets.get(name).cloned();
                let after = world.at_api(|api| {
                    api.apply_secret(name, manager, fence.as_ref(), &fields_of(&write), now)
                })?;
                if before
                    .as_ref()
                    .is_some_and(|before| before.data_of(manager) != after.data_of(manager))
                {
                    self.0.wrote.set(true);
                }
                world.judge.borrow_mut().secret_applied(
                    world,
                    name,
                    manager,
                    before.as_ref(),
                    &after,
                );
                world.see_ends();
                let written = after.data_of(manager);
                world.leases.borrow_mut().written(world, name, &written);
                lease_defects::after_write(world, before.as_ref(), &after);
                world.note(format!("     {name} holds {}", after.summary(manager)));
                Ok(after.meta())
            })
            .await;
        if answer.is_err() {
            lease_defects::after_failed_write(&self.0.world, &name);
        }
        answer
    }

    async fn secret_meta(&self, secret: &ObjectKey) -> Result<Option<SecretMeta>, Problem> {
        self.0
            .kubernetes(format!("get metadata of Secret {}", secret.name), |world| {
                Ok(defects::look(world, &secret.name))
            })
            .await
    }

    async fn secret_content(
        &self,
        secret: &ObjectKey,
        manager: &str,
    ) -> Result<Option<SecretContent>, Problem> {
        self.0
            .kubernetes(format!("get Secret {}", secret.name), |world| {
                let api = world.api.borrow();
                Ok(api.secrets.get(&secret.name).map(|found| {
                    let data = found.data_of(manager).into_iter();
                    let type_ = found.fields.get(&Field::Type);
                    SecretContent {
                        uid: found.uid.clone(),
                        resource_version: found.version.to_string(),
                        type_: String::from_utf8_lossy(type_.map_or(b"Opaque", |t| t)).into_owned(),
                        data: data
                            .map(|(key, value)| (key, Redacted::new(value)))
                            .collect(),
                    }
                }))
            })
            .await
    }

    async fn delete_secret(&self, secret: &ObjectKey, seen: &SecretMeta) -> Result<(), Problem> {
        let name = &secret.name;
        self.0
            .kubernetes(format!("delete Secret {name}"), |world| {
                let gone = world.api.borrow().secrets.get(name).cloned();
                world.at_api(|api| api.delete_secret_as(name, seen))?;
                let mut judge = world.judge.borrow_mut();
                judge.others.remove(name);
                world.leases.borrow_mut().secret_gone(name);
                if let Some(gone) = gone {
                    judge.secret_gone(world, &gone, name);
                }
                Ok(())
            })
            .await
    }

    async fn annotate_secret(
        &self,
        secret: &ObjectKey,
        seen: &SecretMeta,
        (annotation, value): (&str, Option<&str>),
    ) -> Result<SecretMeta, Problem> {
        let name = &secret.name;
        let field = Field::Annotation(annotation.to_owned());
        self.0
            .kubernetes(format!("annotate Secret {name}"), |world| {
                let now = world.now();
                world.at_api(|api| {
                    api.check_seen(name, seen)?;
                    api.edit_secret(name, "vault-tenant-operator", field, value, now);
                    Ok(api.secrets[name].meta())
                })
            })
            .await
    }

    async fn managed_fields(&self, secret: &ObjectKey) -> Result<Option<ManagedFields>, Problem> {
        let what = format!("get managed fields of Secret {}", secret.name);
        let answer = |world: &World| {
            let api = world.api.borrow();
            let found = api.secrets.get(&secret.name);
            Ok(found.map(|found| ManagedFields {
                uid: found.uid.clone(),
                resource_version: found.version.to_string(),
                entries: managed::entries(found),
            }))
        };
        self.0.kubernetes(what, answer).await
    }

    async fn set_managed_fields(
        &self,
        secret: &ObjectKey,
        fields: &ManagedFields,
    ) -> Result<SecretMeta, Problem> {
        let what = format!("set managed fields of Secret {}", secret.name);
        self.0
            .kubernetes(what, |world| {
                world.at_api(|api| api.set_managed_fields(&secret.name, fields))
            })
            .await
    }

    async fn ledger(&self, secret: &ObjectKey) -> Result<Option<SecretData>, Problem> {
        let name = &secret.name;
        self.0
            .kubernetes(format!("get ledger {name}"), |world| {
                let found = world.api.borrow().ledger.get(name).cloned();
                Ok(found.map(|found| {
                    let entries = found.into_iter();
                    entries
                        .map(|(name, value)| (name, Redacted::new(value)))
                        .collect()
                }))
            })
            .await
    }

    async fn merge_ledger(
        &self,
        secret: &ObjectKey,
        changes: &BTreeMap<String, Option<Redacted<Vec<u8>>>>,
    ) -> Result<bool, Problem> {
        let name = &secret.name;
        self.0
            .kubernetes(format!("patch ledger {name}"), |world| {
                world.see_ends();
                let Some(before) = world.api.borrow().ledger.get(name).cloned() else {
                    return Ok(false);
                };
                let after = lease_defects::merged(world, &before, changes);
                let gone = before.iter().filter(|(name, _)| !after.contains_key(*name));
                for entry in gone.filter_map(|(_, text)| Remembered::parse(text)) {
                    world.leases.borrow().forgotten(world, &entry);
                }
                let mut api = world.api.borrow_mut();
                api.ledger.insert(name.clone(), after);
                Ok(true)
            })
            .await
    }

    async fn make_ledger(&self, secret: &ObjectKey) -> Result<(), Problem> {
        let name = &secret.name;
        self.0
            .kubernetes(format!("make ledger {name}"), |world| {
                let mut api = world.api.borrow_mut();
                api.ledger.entry(name.clone()).or_default();
                Ok(())
            })
            .await
    }

    async fn life(&self, key: &ResourceKey, uid: &str) -> Result<Life, Problem> {
        let answer = self
            .0
            .kubernetes(format!("get {key}"), |world| Ok(defects::life(world, uid)))
            .await;
        lease_defects::in_life(&self.0.world, answer)
    }

    async fn patch_workload(
        &self,
        workload: &WorkloadKey,
        patch: &WorkloadPatch,
    ) -> Result<WorkloadMeta, Problem> {
        let name = &workload.object.name;
        let how = if patch.template.is_empty() {
            "baseline"
        } else {
            "restart"
        };
        self.0
            .kubernetes(format!("patch {workload} ({how})"), |world| {
                let (patch, fenced) = defects::in_patch(world, patch);
                let before = world.api.borrow().workloads.get(name).cloned();
                if let Some(found) = before
                    .as_ref()
                    .filter(|_| defects::forgets(world, self.0.wrote.get(), &patch))
                {
                    return Ok(found.meta(workload.kind));
                }
                let after = world.at_api(|api| api.patch_workload(name, &patch, fenced))?;
                world.note(format!("     {:?} {:?}", patch.annotations, patch.template));
                world
                    .judge
                    .borrow_mut()
                    .workload_patched(world, name, before.as_ref(), &after);
                Ok(after.meta(workload.kind))
            })
            .await
    }

    async fn apply_status(
        &self,
        key: &ResourceKey,
        status: &serde_json::Value,
    ) -> Result<Stored, Problem> {
        let ready = status["conditions"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|one| one["type"] == "Ready");
        let ready = ready
            .map(|one| format!("{} {}", one["status"], one["reason"]))
            .unwrap_or_default();
        self.0
            .kubernetes(format!("write the status of {key}: {ready}"), |world| {
                let status = defects::in_status(world, status);
                let version = world.at_api(|api| api.apply_status(key, &status))?;
                Ok(Stored { version, status })
            })
            .await
    }

    async fn publish(&self, note: &Note) -> Result<(), Problem> {
        self.0
            .kubernetes(
                format!("event about {}: {}", note.about, note.reason),
                |world| {
                    world
                        .api
                        .borrow_mut()
                        .events
                        .push((note.reason, note.message.clone()));
                    Ok(())
                },
            )
            .await
    }

    async fn may(&self, _: &str, right: &Right, _: bool) -> Result<bool, Problem> {
        self.0
            .kubernetes(format!("may {right}"), |_| Ok(false))
            .await
    }

    async fn set_finalizers(
        &self,
        key: &ResourceKey,
        _: &str,
        _: &[String],
    ) -> Result<(), Problem> {
        self.0
            .kubernetes(format!("set finalizers of {key}"), |_| Ok(()))
            .await
    }
}
