//! The model API server gives the same answers as the real one (the suite's
//! trial `conformance` runs the same script there).

use std::cell::Cell;
use std::rc::Rc;

use vault_tenant_operator::key::Kind;

use crate::api_server::resource;
use crate::objects::{Field, NAMESPACE};
use crate::ports::{Line, SimCluster};
use crate::script::{EXPECTED, People, run};
use crate::tenant::{Tenant, static_secret};
use crate::world::World;

impl People for Tenant {
    async fn edit(&self, secret: &str, key: &str, value: &str) {
        self.edit_secret(secret, Field::Data(key.to_owned()), Some(value));
    }

    async fn deployment(&self, name: &str) -> (String, String) {
        self.create_workload(name, &[]);
        let made = self.0.api.borrow().workloads[name].meta();
        (made.uid, made.resource_version)
    }

    async fn resource(&self, name: &str) -> String {
        self.apply(&static_secret(name));
        let key = resource(Kind::VaultStaticSecret, name);
        self.0.api.borrow().resources[&key].uid()
    }
}

#[test]
fn the_model_answers_as_the_real_api_server() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let said = runtime.block_on(async {
        let world = World::new(1, None);
        let cluster = SimCluster(Line {
            world: Rc::clone(&world),
            alive: Rc::new(Cell::new(true)),
            leads: Rc::new(Cell::new(true)),
            wrote: Rc::default(),
        });
        run(&cluster, NAMESPACE, &Tenant(world)).await
    });
    assert_eq!(said.join("\n"), EXPECTED.trim_end());
}
