//! The models give the same answers as the real servers (the suite's trials
//! `conformance` run the same scripts there).

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use serde_json::Value;
use vault_tenant_operator::key::Kind;
use vault_tenant_operator::vault::Token;

use crate::api_server::resource;
use crate::leases::{Lives, Rotates};
use crate::line::Line;
use crate::objects::{Field, NAMESPACE};
use crate::ports::SimCluster;
use crate::script::certificates::{FORGETS, LEASES, STORES};
use crate::script::leases::{LeaseRights, MAX_TTL, PERIOD, TTL};
use crate::script::vault::{self, Change, Keepers, Place};
use crate::script::{EXPECTED, People, run};
use crate::tenant::{Tenant, static_secret};
use crate::vault::ADDRESS;
use crate::vault_port::SimVault;
use crate::world::World;

impl People for Tenant {
    async fn edit(&self, secret: &str, key: &str, value: &str) {
        self.edit_secret(secret, Field::Data(key.to_owned()), Some(value));
    }

    async fn deployment(&self, name: &str) -> (String, String) {
        self.create_workload(name, &[]);
        let made = self.0.api.borrow().workloads[name].clone();
        (made.uid, made.version.to_string())
    }

    async fn resource(&self, name: &str) -> String {
        self.apply(&static_secret(name));
        let key = resource(Kind::VaultStaticSecret, name);
        self.0.api.borrow().resources[&key].uid()
    }
}

impl Keepers for Tenant {
    async fn jwt(&self, account: &str) -> String {
        format!("token of {NAMESPACE}/{account}")
    }

    async fn put(&self, path: &str, fields: Value) {
        self.write_vault(path, &serde_json::from_value(fields).unwrap());
    }

    async fn change(&self, path: &str, version: u64, change: Change) {
        let mut vault = self.0.vault.borrow_mut();
        let versions = vault.versions.get_mut(path).unwrap();
        let version = &mut versions[usize::try_from(version).unwrap() - 1];
        match change {
            Change::Delete => version.deleted = true,
            Change::Undelete => version.deleted = false,
            Change::Destroy => version.destroyed = true,
        }
    }

    async fn allow(&self, path: &str, allowed: bool) {
        let denied = &mut self.0.vault.borrow_mut().denied;
        for path in [format!("kv1/{path}"), format!("kv/data/{path}")] {
            if allowed {
                denied.remove(&path);
            } else {
                denied.insert(path);
            }
        }
    }

    async fn revoke(&self, token: &Token) {
        let now = self.0.now();
        self.0.vault.borrow_mut().revoke(token, now);
    }

    async fn lease_rights(&self, rights: LeaseRights) {
        let denied = &mut self.0.vault.borrow_mut().denied;
        let forms = ["renew/*", "renew", "revoke/*", "revoke"];
        let forms = forms.map(|form| format!("sys/leases/{form}"));
        let count = match rights {
            LeaseRights::All => 0,
            LeaseRights::NoRenewalByPath => 1,
            LeaseRights::NoneOfLeases => forms.len(),
        };
        denied.retain(|rule| !rule.starts_with("sys/leases/"));
        denied.extend(forms.into_iter().take(count));
    }

    async fn seal(&self, sealed: bool) {
        self.set_sealed(sealed);
    }
}

/// Runs a script on virtual time, in a world of its own.
fn scripted(script: impl AsyncFnOnce(Line) -> Vec<String>) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let said = runtime.block_on(async {
        let world = World::new(1, None);
        script(Line {
            born: world.now(),
            world,
            alive: Rc::new(Cell::new(true)),
            leads: Rc::new(Cell::new(true)),
            wrote: Rc::default(),
        })
        .await
    });
    said.join("\n")
}

#[test]
fn the_model_answers_as_the_real_api_server() {
    let said = scripted(async |line| {
        let people = Tenant(Rc::clone(&line.world));
        run(&SimCluster(line), NAMESPACE, &people).await
    });
    assert_eq!(said, EXPECTED.trim_end());
}

#[test]
fn the_model_answers_as_the_real_vault() {
    let place = Place {
        address: ADDRESS.to_owned(),
        ca_pem: None,
        namespace: NAMESPACE.to_owned(),
        role: "app".to_owned(),
        kv1: "kv1".to_owned(),
        kv2: "kv".to_owned(),
        db: "db".to_owned(),
        pki: "pki".to_owned(),
    };
    let said = scripted(async |line| {
        {
            let leases = &mut line.world.vault.borrow_mut().leases;
            let seconds = Duration::from_secs;
            let lives = Lives {
                ttl: seconds(TTL),
                max: Some(seconds(MAX_TTL)),
                renewable: true,
            };
            let rotates = Rotates {
                first: line.world.now(),
                period: seconds(PERIOD),
            };
            leases.roles.insert("db/creds/app".to_owned(), lives);
            leases
                .rotated
                .insert("db/static-creds/turned".to_owned(), rotates);
        }
        let keepers = Tenant(Rc::clone(&line.world));
        keepers.issuing_role(STORES, TTL, false, false);
        keepers.issuing_role(LEASES, TTL, true, false);
        keepers.issuing_role(FORGETS, TTL, false, true);
        vault::run(&SimVault(line), &place, &keepers).await
    });
    assert_eq!(said, vault::EXPECTED.trim_end());
}
