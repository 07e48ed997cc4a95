//! The rights of a tenant's role, each by itself, and the lives of its tokens.

use anyhow::{Context, Result, ensure};
use reqwest::Method;
use serde_json::{Value, json};

use super::{HOUR, auth, login, text};
use crate::engines::DatabaseRole;
use crate::{Ground, Right, TokenRules, VaultApi};

/// With all rights every request is let through; without one of them exactly its own is refused.
pub(super) async fn rights(ground: &Ground) -> Result<()> {
    let tenant = ground.tenant("forbidden-rights").await?;
    let database = ground.postgres().await?.database(&tenant.namespace).await?;
    let engine = tenant.database_engine(&database).await?;
    let path = engine.role("app", &DatabaseRole::default()).await?;
    let rules = TokenRules {
        ttl: HOUR,
        no_default_policy: true,
        ..TokenRules::default()
    };
    tenant.token_rules(&rules).await?;
    tenant.grant(&[&path], &Right::ALL).await?;
    // A policy counts from the next request on, for tokens that were given before too.
    let (first, app) = (auth(&tenant).await?, login(&tenant).await?);
    let accessor = text(&first["accessor"])?;
    let refused = refused(&app, &path, &accessor).await?;
    ensure!(refused.is_empty(), "with all rights: {refused:?}");
    for right in Right::ALL {
        tenant.grant(&[&path], &Right::all_but(&[right])).await?;
        // The last one ends the token that is looked up.
        let accessor = text(&auth(&tenant).await?["accessor"])?;
        let refused = self::refused(&app, &path, &accessor).await?;
        ensure!(refused == [right], "without {right:?}: {refused:?}");
    }
    Ok(())
}

/// The rights that `app` lacks, by one request for each.
async fn refused(app: &VaultApi, path: &str, accessor: &str) -> Result<Vec<Right>> {
    let mut refused = Vec::new();
    let (by_path, in_body) = (lease(app, path).await?, lease(app, path).await?);
    let (body, of_token) = (
        json!({ "lease_id": in_body }),
        json!({ "accessor": accessor }),
    );
    let none = Value::Null;
    for right in Right::ALL {
        let (path, body) = match right {
            Right::RenewByPath => (format!("sys/leases/renew/{by_path}"), &none),
            Right::RenewInBody => ("sys/leases/renew".to_owned(), &body),
            Right::RevokeByPath => (format!("sys/leases/revoke/{by_path}"), &none),
            Right::LookUpLease => ("sys/leases/lookup".to_owned(), &body),
            // Until it is looked up, it must be live.
            Right::RevokeInBody => continue,
            Right::RenewAccessor => ("auth/token/renew-accessor".to_owned(), &of_token),
            Right::LookUpAccessor => ("auth/token/lookup-accessor".to_owned(), &of_token),
            Right::RevokeAccessor => ("auth/token/revoke-accessor".to_owned(), &of_token),
            Right::OwnToken => ("auth/token/renew-self".to_owned(), &none),
        };
        note(app, &path, body, right, &mut refused).await?;
    }
    note(
        app,
        "sys/leases/revoke",
        &body,
        Right::RevokeInBody,
        &mut refused,
    )
    .await?;
    Ok(refused)
}

async fn lease(app: &VaultApi, path: &str) -> Result<String> {
    text(&app.read(path).await?["lease_id"])
}

async fn note(
    app: &VaultApi,
    path: &str,
    body: &Value,
    right: Right,
    refused: &mut Vec<Right>,
) -> Result<()> {
    let answer = app.request(Method::POST, path, Some(body)).await?;
    match answer.status {
        200 | 204 => {}
        403 => refused.push(right),
        _ => anyhow::bail!("{right:?}: {answer:?}"),
    }
    Ok(())
}

/// TTL and longest life, a period, and a batch token.
pub(super) async fn lives(ground: &Ground) -> Result<()> {
    let tenant = ground.tenant("token-lives").await?;
    let rules = TokenRules {
        ttl: HOUR,
        max_ttl: HOUR * 2,
        ..TokenRules::default()
    };
    tenant.token_rules(&rules).await?;
    let auth_of = async |rules| -> Result<Value> {
        tenant.token_rules(&rules).await?;
        auth(&tenant).await
    };
    let limited = auth_of(rules).await?;
    ensure!(limited["lease_duration"] == HOUR.as_secs(), "{limited}");
    let token = tenant.vault.with_token(&text(&limited["client_token"])?);
    let renewed = token
        .write("auth/token/renew-self", &json!({ "increment": "24h" }))
        .await?;
    let lasts = renewed["auth"]["lease_duration"].as_u64();
    ensure!(
        lasts > Some(HOUR.as_secs()) && lasts <= Some(2 * HOUR.as_secs()),
        "{renewed}"
    );
    let seen = tenant.vault.tokens(&tenant.namespace).await?;
    let accessor = text(&limited["accessor"])?;
    ensure!(
        seen.iter().any(|token| token.accessor == accessor) && seen.len() == 1,
        "{seen:?}"
    );
    tenant
        .vault
        .write(
            "auth/token/revoke-accessor",
            &json!({ "accessor": accessor }),
        )
        .await?;
    ensure!(
        tenant.vault.token_of(&accessor).await?.is_none(),
        "the token is live"
    );

    let periodic = TokenRules {
        period: HOUR * 3,
        ..TokenRules::default()
    };
    let periodic = auth_of(periodic).await?;
    ensure!(
        periodic["lease_duration"] == 3 * HOUR.as_secs(),
        "{periodic}"
    );
    let batch = TokenRules {
        ttl: HOUR,
        batch: true,
        ..TokenRules::default()
    };
    let batch = auth_of(batch).await?;
    ensure!(
        batch["token_type"] == "batch" && batch["accessor"] == "" && batch["renewable"] == false,
        "{batch}"
    );
    text(&batch["client_token"]).context("no token")?;
    Ok(())
}
