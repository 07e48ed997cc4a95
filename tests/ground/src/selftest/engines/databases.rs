//! Credentials of the database engine, used at a real PostgreSQL.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{HOUR, login, text};
use crate::engines::{DatabaseRole, Rotation};
use crate::judges::vault_audit::{VaultAudit, VaultFilter};
use crate::postgres::{Database, Login};
use crate::selftest::LONG;
use crate::wait::wait_for;
use crate::{Ground, Postgres, Right};

/// Mint, connect, renew by the path and in the body, revoke, and once more out of band.
pub(super) async fn leased(ground: &Ground) -> Result<()> {
    let tenant = ground.tenant("database").await?;
    let database = ground.postgres().await?.database(&tenant.namespace).await?;
    let engine = tenant.database_engine(&database).await?;
    let role = DatabaseRole {
        max_ttl: HOUR * 2,
        ..DatabaseRole::default()
    };
    let path = engine.role("app", &role).await?;
    tenant.grant(&[&path], &Right::ALL).await?;
    let (app, admin) = (login(&tenant).await?, &tenant.vault);
    let (first, second) = (app.read(&path).await?, app.read(&path).await?);
    let (one, two) = (text(&first["lease_id"])?, text(&second["lease_id"])?);
    let mut minted = vec![one.clone(), two.clone()];
    minted.sort();
    ensure!(admin.leases(&path).await? == minted, "not {minted:?}");
    for credential in [&first, &second] {
        let login = connect(&database, credential).await?;
        ensure!(login == Login::Accepted, "{login:?}");
    }
    let wrong = database
        .login(&text(&first["data"]["username"])?, "wrong")
        .await?;
    ensure!(matches!(wrong, Login::Refused(_)), "{wrong:?}");

    let longest = json!({ "increment": "24h" });
    let renewed = app
        .write(&format!("sys/leases/renew/{one}"), &longest)
        .await?;
    ensure!(
        renewed["lease_duration"].as_u64() > Some(HOUR.as_secs())
            && renewed["lease_duration"].as_u64() <= Some(2 * HOUR.as_secs()),
        "not truncated to the longest life: {renewed}"
    );
    let in_body = json!({ "lease_id": two, "increment": "24h" });
    app.write("sys/leases/renew", &in_body).await?;
    let lease = admin.lease(&two).await?.context("no lease")?;
    ensure!(lease.renewable && lease.last_renewal.is_some(), "{lease:?}");
    // The database's own limit has moved with the lease.
    ensure!(
        connect(&database, &second).await? == Login::Accepted,
        "refused once it was renewed"
    );

    app.write(
        &format!("sys/leases/revoke/{one}"),
        &json!({ "sync": true }),
    )
    .await?;
    admin.revoke_lease(&two).await?;
    for (credential, id) in [(&first, &one), (&second, &two)] {
        let login = connect(&database, credential).await?;
        ensure!(matches!(login, Login::Refused(_)), "{id}: {login:?}");
        ensure!(admin.lease(id).await?.is_none(), "{id} is live");
    }
    ensure!(admin.leases(&path).await?.is_empty(), "leases were left");
    counted(ground, &path, &[&one, &two])
}

/// What Vault's audit log tells of the trial above.
fn counted(ground: &Ground, path: &str, leases: &[&String]) -> Result<()> {
    let audit = VaultAudit::new(&ground.vault.audit_log);
    let reads = audit.requests(&VaultFilter::new().path(path))?;
    let given: Vec<&String> = reads.iter().map(|read| &read.lease).collect();
    ensure!(given == leases, "the audit log gave out {given:?}");
    let renewals = VaultFilter::new().path_prefix(&format!("sys/leases/renew/{path}/"));
    let counts = audit.count_by_path(&renewals)?;
    ensure!(
        counts.into_values().collect::<Vec<_>>() == [1],
        "not one renewal by its path"
    );
    Ok(())
}

async fn connect(database: &Database, credential: &Value) -> Result<Login> {
    let [user, password] = ["username", "password"].map(|key| text(&credential["data"][key]));
    database.login(&user?, &password?).await
}

/// A static role: by its period, at once, and by a schedule.
pub(super) async fn rotated(ground: &Ground) -> Result<()> {
    let tenant = ground.tenant("static-role").await?;
    let database = ground.postgres().await?.database(&tenant.namespace).await?;
    let engine = tenant.database_engine(&database).await?;
    let often = Rotation::Period(Duration::from_secs(5));
    let path = engine.static_role("often", often).await?;
    let vault = &tenant.vault;
    let first = vault.read(&path).await?;
    ensure!(
        first["lease_id"] == "" && first["data"]["rotation_period"] == 5,
        "{first}"
    );
    ensure!(
        connect(&database, &first).await? == Login::Accepted,
        "the first password is refused"
    );

    let yearly = engine
        .static_role("yearly", Rotation::Schedule("0 0 1 1 *"))
        .await?;
    let before = vault.read(&yearly).await?;
    ensure!(
        before["data"]["rotation_schedule"] == "0 0 1 1 *",
        "{before}"
    );
    engine.rotate("yearly").await?;
    let after = vault.read(&yearly).await?;
    let (old, new) = (
        connect(&database, &before).await?,
        connect(&database, &after).await?,
    );
    ensure!(
        matches!(old, Login::Refused(_)) && new == Login::Accepted,
        "after the rotation the old password is {old:?}, the new one {new:?}"
    );

    wait_for("the rotation of a static role", LONG, || async {
        let now = vault.read(&path).await?;
        ensure!(
            now["data"]["password"] != first["data"]["password"],
            "the same password, for {} s more",
            now["data"]["ttl"]
        );
        let login = connect(&database, &first).await?;
        ensure!(matches!(login, Login::Refused(_)), "{login:?}");
        Ok(())
    })
    .await
}

/// The way of a machine without PostgreSQL.
pub(super) async fn brought(ground: &Ground) -> Result<()> {
    let (components, run) = (ground.components(), ground.dir());
    let postgres =
        Postgres::start(components, run, "postgresql-brought", None, "127.0.0.1").await?;
    let database = postgres.database("a \"quoted\" name").await?;
    let login = database.login(database.name(), database.password()).await?;
    ensure!(login == Login::Accepted, "{login:?}");
    let nobody = database.login("nobody", "").await?;
    ensure!(matches!(nobody, Login::Refused(_)), "{nobody:?}");
    postgres.end().await;
    let gone = database.login(database.name(), database.password()).await;
    ensure!(gone.is_err(), "a server that has ended says {gone:?}");
    Ok(())
}
