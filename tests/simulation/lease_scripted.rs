//! One situation of a lease's life each, with what must come of it.

use std::rc::Rc;

use serde_json::json;
use vault_tenant_operator::key::Kind;

use crate::api_server::resource;
use crate::lease_people::dynamic_secret;
use crate::runs::{rest, run, seconds};
use crate::tenant::Tenant;
use crate::verdict::ready;
use crate::world::{Server, World};

/// A lease of five minutes, an hour at most.
fn leased(world: &Rc<World>) -> Tenant {
    let tenant = Tenant(Rc::clone(world));
    tenant.basics();
    tenant.role("app", 300, 3600, true);
    tenant.apply_dynamic(&dynamic_secret("app"));
    tenant
}

fn live(world: &World) -> usize {
    world.vault.borrow().leases.live.len()
}

#[test]
fn a_login_for_a_lease_is_told_of() {
    let ended = run(1, None, async |world: Rc<World>| {
        leased(&world);
        seconds(5).await;
        let auth = resource(Kind::VaultAuth, "default");
        let said = ready(&world.api.borrow().resources[&auth]);
        assert_eq!(said.1, "LoggedIn", "{}", world.last_of_trace());
        rest(&world).await;
    });
    ended.expect_right("a login");
}

#[test]
fn a_lease_that_was_renewed_is_given_back_after_an_outage() {
    let ended = run(1, None, async |world: Rc<World>| {
        let tenant = leased(&world);
        seconds(900).await;
        assert_eq!(live(&world), 1);
        tenant.cut_off(Server::Vault, 100);
        tenant.delete_dynamic("app");
        seconds(95).await;
        assert_eq!(live(&world), 1, "Vault is not there");
        seconds(60).await;
        assert_eq!(live(&world), 0, "{}", world.last_of_trace());
        rest(&world).await;
    });
    ended.expect_right("a deletion in an outage");
}

#[test]
fn an_edit_as_an_outage_ends_makes_one_credential() {
    for delay in 0..40 {
        let ended = run(1, None, async |world: Rc<World>| {
            let tenant = leased(&world);
            seconds(200).await;
            tenant.cut_off(Server::Vault, 100);
            // Until it waits for Vault's return.
            seconds(85).await;
            tokio::time::sleep(std::time::Duration::from_millis(500 * delay)).await;
            world.latency.set(std::time::Duration::from_secs(1));
            let mut manifest = dynamic_secret("app");
            manifest["spec"]["params"] = json!({ "ttl": "1h" });
            tenant.apply_dynamic(&manifest);
            seconds(30).await;
            rest(&world).await;
        });
        ended.expect_right(&format!("an edit after {delay}"));
    }
}
