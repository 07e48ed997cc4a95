//! The example of a database's credentials works as it lies there, on a real
//! PostgreSQL, with the rights at Vault that its script gives.

use anyhow::{Context, Result, ensure};
use ground::postgres::Login;
use ground::wait_for;
use kube::api::DeleteParams;
use serde_json::json;

use crate::examples::{NAMES_AT_VAULT, vault_script, with_example};
use crate::grades::Grade;
use crate::lessee::KIND;
use crate::probes::Eye;
use crate::support::{LONG, Suite};

crate::trials!["example_database": ; in each grade: a_login_is_served_and_given_back_by_the_rights_of_its_script];

const DATABASE: &str = include_str!("../../examples/database.yaml");

async fn a_login_is_served_and_given_back_by_the_rights_of_its_script(
    suite: &Suite,
    grade: Grade,
) -> Result<()> {
    let _turn = NAMES_AT_VAULT.lock().await;
    let tenant = grade.tenant(&suite.ground, "orders").await?;
    let postgres = suite.ground.postgres().await?;
    let database = postgres.database(&tenant.namespace).await?;
    let password = tenant.dir.join("password.txt");
    std::fs::write(&password, database.password())?;
    tenant.vault.delete("sys/mounts/example-database").await?;
    let (url, file) = (database.vault_url(), password.display().to_string());
    let arguments = [
        "example",
        &tenant.namespace,
        "orders",
        &url,
        database.name(),
        &file,
    ];
    let script = "examples/vault-database.sh";
    let few = vault_script(suite, &tenant, script, &arguments[..5]).await;
    ensure!(few.is_err(), "five arguments were taken");
    vault_script(suite, &tenant, script, &arguments).await?;

    let team = with_example(suite, grade, tenant, DATABASE).await?;
    team.wait_condition(KIND, "orders", "Ready", "True").await?;
    team.wait_condition(KIND, "orders", "RolloutRestart", "True")
        .await?;
    let user = team.value("orders", "username").await?;
    let password = team.value("orders", "password").await?;
    ensure!(database.login(&user, &password).await? == Login::Accepted);
    let status = team.resources(KIND).get("orders").await?.data["status"].clone();
    let lease = status["secretLease"]["id"].as_str().context("no lease")?;

    // The policy of the script lets its lease be renewed by its path, and no other's.
    let token = team.tenant.token("orders", &["vault"]).await?;
    let vault = &team.tenant.vault;
    let login = vault
        .kubernetes_login("kubernetes", "tenant-example-database", &token)
        .await?;
    let vault = vault.with_token(login["client_token"].as_str().context("no token")?);
    let renew = format!("sys/leases/renew/{lease}");
    vault.write(&renew, &json!({})).await?;
    let others = "sys/leases/revoke/example-database/creds/other/x";
    ensure!(vault.write(others, &json!({})).await.is_err());
    team.resources(KIND)
        .delete("orders", &DeleteParams::default())
        .await?;
    wait_for("the login to end", LONG, || async {
        let found = team.tenant.vault.lease(lease).await?;
        ensure!(found.is_none(), "{found:?}");
        let login = database.login(&user, &password).await?;
        ensure!(login != Login::Accepted, "it works on");
        Ok(())
    })
    .await?;
    let eye = Eye::on(suite, &team);
    let by_path = eye.at_vault().path(&format!("sys/leases/revoke/{lease}"));
    ensure!(eye.vault.count(&by_path)? == 1, "revoked in another way");
    ensure!(team.operator.terminate(LONG).await.success());
    Ok(())
}
