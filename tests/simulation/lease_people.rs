//! What people do about credentials that Vault leases, in the tenant's namespace
//! and at Vault.

use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};
use vault_tenant_operator::api::VaultDynamicSecret;
use vault_tenant_operator::key::{Kind, ResourceKey};

use crate::api_server::resource;
use crate::judge::Pods;
use crate::leases::{Lives, Rotates};
use crate::objects::{Field, NAMESPACE, Object, Secret, mark};
use crate::tenant::Tenant;
use crate::world::World;

/// A VaultDynamicSecret into the Secret of its name, without targets.
pub fn dynamic_secret(name: &str) -> Value {
    json!({
        "apiVersion": "secrets.hashicorp.com/v1beta1",
        "kind": "VaultDynamicSecret",
        "metadata": { "name": name, "namespace": NAMESPACE },
        "spec": {
            "mount": "db", "path": format!("creds/{name}"),
            "destination": { "name": name, "create": true, "labels": { "app": "web" } },
        },
    })
}

fn key(name: &str) -> ResourceKey {
    resource(Kind::VaultDynamicSecret, name)
}

impl Tenant {
    /// The engine gets a role for a resource, under two paths.
    pub fn role(&self, name: &str, ttl: u64, max: u64, renewable: bool) {
        let lives = Lives {
            ttl: Duration::from_secs(ttl),
            max: Some(Duration::from_secs(max)),
            renewable,
        };
        let roles = &mut self.0.vault.borrow_mut().leases.roles;
        for path in [format!("db/creds/{name}"), format!("db/creds/{name}-2")] {
            roles.insert(path, lives);
        }
    }

    /// The engine gets a static role.
    pub fn rotated_role(&self, name: &str, period: u64) {
        let rotates = Rotates {
            first: self.0.now(),
            period: Duration::from_secs(period),
        };
        let rotated = &mut self.0.vault.borrow_mut().leases.rotated;
        rotated.insert(format!("db/static-creds/{name}"), rotates);
    }

    /// Applies one, and counts what that may cost.
    pub fn apply_dynamic(&self, manifest: &Value) {
        let name = manifest["metadata"]["name"].as_str().unwrap();
        let before = dynamic(&self.0, name);
        self.apply(manifest);
        let after = dynamic(&self.0, name).unwrap();
        let mut leases = self.0.leases.borrow_mut();
        let Some(before) = before else {
            leases.allow(name);
            return;
        };
        let (was, is) = (&before.spec, &after.spec);
        if (&was.mount, &was.path, &was.params) != (&is.mount, &is.path, &is.params) {
            leases.allow(name);
        }
        if was.rollout_restart_targets != is.rollout_restart_targets {
            leases.retargeted(name, self.0.now());
        }
    }

    pub fn delete_dynamic(&self, name: &str) {
        self.delete(&key(name));
    }

    /// The login's VaultAuth goes.
    pub fn delete_login(&self) {
        self.0.trouble(0);
        self.delete(&resource(Kind::VaultAuth, "default"));
    }

    /// It comes again, where it is gone; what came due without it is made up for from
    /// then on.
    pub fn restore_login(&self) {
        let auth = resource(Kind::VaultAuth, "default");
        if !self.0.api.borrow().resources.contains_key(&auth) {
            self.0.trouble(0);
        }
        self.login();
    }

    /// The Secret's credentials are overwritten, or the Secret deleted.
    pub fn spoil(&self, name: &str, delete: bool) {
        if !self.0.api.borrow().secrets.contains_key(name) {
            return;
        }
        self.0.leases.borrow_mut().allow(name);
        if delete {
            self.delete_secret(name);
        } else {
            self.edit_secret(name, Field::Data("password".to_owned()), Some("by hand"));
        }
    }

    /// Somebody revokes what a Secret holds.
    pub fn revoke_held(&self, secret: &str) {
        self.note(format!("revoke what {secret} holds"));
        let api = self.0.api.borrow();
        let mark = api.secrets.get(secret).and_then(Secret::mark);
        let now = self.0.now();
        {
            let leases = &mut self.0.vault.borrow_mut().leases;
            let id = mark.and_then(|mark| leases.of_mark(mark).cloned());
            id.iter().for_each(|id| leases.revoke(id, now));
        }
        drop(api);
        self.0.see_ends();
    }

    /// Takes rights to paths away, or gives them back.
    pub fn set_paths_denied(&self, rules: &[&str], denied: bool) {
        self.note(format!("{rules:?} denied: {denied}"));
        self.0.trouble(0);
        let all = &mut self.0.vault.borrow_mut().denied;
        for rule in rules {
            if denied {
                all.insert((*rule).to_owned());
            } else {
                all.remove(*rule);
            }
        }
    }
}

/// The workload controllers of a world whose rollouts take time.
pub async fn roll_workloads(world: Rc<World>) {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        world.see_ends();
        let now = world.now();
        let longer = |began: &jiff::Timestamp, than: Duration| {
            let took = Duration::try_from(now.duration_since(*began));
            took.is_ok_and(|took| took >= than)
        };
        let over = |began: &jiff::Timestamp| longer(began, world.rollout.get());
        // Those that are through, and those that do not get on.
        let mut moved: Vec<(String, bool)> = Vec::new();
        for (name, pods) in &mut world.judge.borrow_mut().pods {
            let fails = is_unfit(&world, name, pods);
            if !fails {
                pods.ending.retain(|(began, _)| !over(began));
            }
            let Some(began) = pods.rolls.filter(over) else {
                continue;
            };
            if !fails {
                (pods.rolls, pods.ending) = Default::default();
                moved.push((name.clone(), false));
            } else if longer(&began, Duration::from_secs(world.deadline.get().into())) {
                moved.push((name.clone(), true));
            }
        }
        for (name, fails) in moved {
            let Some(before) = world.api.borrow().workloads.get(&name).cloned() else {
                continue;
            };
            let mut workload = before.clone();
            (workload.rolling, workload.failing) = match fails {
                true => (before.rolling, before.rolling),
                false => (false, false),
            };
            if fails && workload == before {
                continue;
            }
            let how = if fails {
                "does not get on"
            } else {
                "has rolled"
            };
            world.note(format!("     {name} {how}"));
            world.at_api(|api| api.put_workload(&name, workload));
        }
    }
}

/// Whether the new pods of a workload don't come up with what they got.
fn is_unfit(world: &World, name: &str, pods: &Pods) -> bool {
    let unfit = world.unfit.borrow();
    let mut unfit = unfit.iter().filter(|(workload, _)| workload == name);
    unfit.any(|(_, password)| {
        let mut run = pods.run.values().flatten();
        run.any(|content| mark(content).is_some_and(|mark| *mark == *password.as_bytes()))
    })
}

fn dynamic(world: &World, name: &str) -> Option<Rc<VaultDynamicSecret>> {
    let mut all = dynamics(world).into_iter();
    all.find(|found| found.metadata.name.as_deref() == Some(name))
}

/// The resources of the kind, by name.
pub fn dynamics(world: &World) -> Vec<Rc<VaultDynamicSecret>> {
    let api = world.api.borrow();
    let of = api.resources.values().filter_map(|object| match object {
        Object::Dynamic(found) => Some(Rc::clone(found)),
        _ => None,
    });
    of.collect()
}
