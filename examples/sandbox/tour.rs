//! The tour: ten things that the operator does, each done for real, looked at from outside, and timed.
//!
//! A step that doesn't see what it should is an error; nothing is printed as seen that wasn't.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use ground::judges::{AccessFilter, AccessLog};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;
use vault_tenant_operator::api::{VaultAuth, VaultStaticSecret};

use crate::certificate;
use crate::database;
use crate::observe::{self, LONG};
use crate::platform::{Site, TENANT};
use crate::screen::Screen;
use crate::window;

/// The name of nearly everything in `examples/first-secret.yaml`.
pub const APP: &str = "app";

/// How a step ended: what was done and what was seen.
pub struct Told {
    /// In the words of who did it.
    pub done: String,
    /// One sentence each.
    pub seen: Vec<String>,
}

/// Walks through all steps.
///
/// # Errors
/// The first step that doesn't see what it should.
pub async fn walk(screen: &Screen, site: &Site<'_>) -> Result<()> {
    screen.heading("The tour");
    let begun = Instant::now();
    step(
        screen,
        "1. A KV v2 secret arrives as a Secret",
        arrives(site),
    )
    .await?;
    step(
        screen,
        "2. A new version in Vault arrives, and its Deployment rolls, once",
        rolls(site),
    )
    .await?;
    step(
        screen,
        "3. A Secret that was edited by hand is repaired",
        repaired(site),
    )
    .await?;
    step(
        screen,
        "4. A Secret that was deleted comes back",
        comes_back(site),
    )
    .await?;
    step(
        screen,
        "5. A VaultAuth with a method that isn't allowed is refused, and Vault sees nothing of it",
        refused(site),
    )
    .await?;
    database::walk(screen, site).await?;
    certificate::walk(screen, site).await?;
    window::walk(screen, site).await?;
    let restarts = observe::restarts(&site.tenant, APP).await?;
    ensure!(
        restarts == 2,
        "the Deployment {APP} has rolled {restarts} times in the whole tour, not twice"
    );
    screen.success(&format!(
        "All ten steps went as they should, in {:.1} s; the Deployment app rolled twice in all, for two changes.",
        begun.elapsed().as_secs_f64()
    ));
    Ok(())
}

/// Does a step and tells of it.
///
/// # Errors
/// It doesn't see what it should.
pub async fn step(
    screen: &Screen,
    title: &str,
    work: impl Future<Output = Result<Told>>,
) -> Result<()> {
    screen.heading(title);
    let begun = Instant::now();
    let told = work.await.with_context(|| format!("step {title:?}"))?;
    let took = begun.elapsed();
    screen.fact("done", &told.done);
    for seen in &told.seen {
        screen.fact("seen", seen);
    }
    screen.took(took);
    Ok(())
}

async fn arrives(site: &Site<'_>) -> Result<Told> {
    let tenant = &site.tenant;
    put(site, "first").await?;
    tenant.apply(&site.app_manifests().await?).await?;
    let secret = observe::secret_with(tenant, APP, "password", "first").await?;
    let owner = observe::owner(&secret);
    ensure!(
        owner == "VaultStaticSecret app",
        "the Secret {APP} is owned by {owner}"
    );
    let ready = observe::condition::<VaultStaticSecret>(tenant, APP, "Ready", "True").await?;
    let login = observe::condition::<VaultAuth>(tenant, APP, "Ready", "True").await?;
    let pods = observe::rolled_out(tenant, APP).await?;
    Ok(Told {
        done:
            "wrote password=first to example/app in Vault, and applied examples/first-secret.yaml"
                .to_owned(),
        seen: vec![
            format!(
                "the Secret app with {}, password=first, owned by {owner}",
                observe::keys(&secret)
            ),
            format!(
                "VaultStaticSecret app is {}: {}",
                ready.reason, ready.message
            ),
            format!("VaultAuth app is {}: {}", login.reason, login.message),
            format!("the Deployment app runs {pods} pod that takes its password from the Secret"),
        ],
    })
}

async fn rolls(site: &Site<'_>) -> Result<Told> {
    let tenant = &site.tenant;
    let before = observe::restarts(tenant, APP).await?;
    ensure!(
        before == 0,
        "the Deployment has rolled {before} times before the change"
    );
    put(site, "second").await?;
    observe::secret_with(tenant, APP, "password", "second").await?;
    let arrived = Instant::now();
    ground::wait_for("the Deployment app to roll", LONG, || async {
        let seen = observe::restarts(tenant, APP).await?;
        ensure!(seen == 1, "it has rolled {seen} times");
        Ok(())
    })
    .await?;
    let pods = observe::rolled_out(tenant, APP).await?;
    let after = arrived.elapsed().as_secs_f64();
    let rollout =
        observe::condition::<VaultStaticSecret>(tenant, APP, "RolloutRestart", "True").await?;
    let restarts = observe::restarts(tenant, APP).await?;
    ensure!(restarts == 1, "the Deployment has rolled {restarts} times");
    Ok(Told {
        done: "wrote password=second to example/app".to_owned(),
        seen: vec![
            "the Secret app with password=second".to_owned(),
            format!(
                "the Deployment has rolled once, {after:.1} s later, and {pods} new pod is available"
            ),
            format!("RolloutRestart is {}: {}", rollout.reason, rollout.message),
        ],
    })
}

async fn repaired(site: &Site<'_>) -> Result<Told> {
    let tenant = &site.tenant;
    let by_hand = PatchParams {
        field_manager: Some("kubectl-edit".to_owned()),
        ..PatchParams::default()
    };
    let wrong = Patch::Merge(json!({ "stringData": { "password": "wrong" } }));
    let edited = tenant.api::<Secret>().patch(APP, &by_hand, &wrong).await?;
    let repaired = observe::secret_with(tenant, APP, "password", "second").await?;
    ensure!(
        edited.uid() == repaired.uid() && edited.resource_version() != repaired.resource_version(),
        "the Secret {APP} was not changed after it was edited"
    );
    let told = observe::event(tenant, APP, "SecretDataDrift", "kubectl-edit").await?;
    Ok(Told {
        done: "set password=wrong in the Secret app, as kubectl edit would".to_owned(),
        seen: vec![
            "password=second again in the same Secret".to_owned(),
            format!("an event SecretDataDrift: {told}"),
        ],
    })
}

async fn comes_back(site: &Site<'_>) -> Result<Told> {
    let tenant = &site.tenant;
    let secrets = tenant.api::<Secret>();
    let before = secrets.get(APP).await?.uid();
    secrets.delete(APP, &DeleteParams::default()).await?;
    let after = observe::secret_with(tenant, APP, "password", "second").await?;
    ensure!(after.uid() != before, "the Secret {APP} was never gone");
    Ok(Told {
        done: "deleted the Secret app".to_owned(),
        seen: vec!["a new Secret app with password=second".to_owned()],
    })
}

async fn refused(site: &Site<'_>) -> Result<Told> {
    let tenant = &site.tenant;
    let log = AccessLog::new(&site.ground.vault.access_log);
    let logins = log.count(&AccessFilter::new().path_prefix("/v1/auth/kubernetes/login"))?;
    ensure!(
        logins > 0,
        "Vault's access log doesn't show the login of step 1"
    );
    let begun = log.mark()?;
    tenant.apply(REFUSED).await?;
    let auth = observe::condition::<VaultAuth>(tenant, "by-approle", "Ready", "False").await?;
    let secret =
        observe::condition::<VaultStaticSecret>(tenant, "by-approle", "Ready", "False").await?;
    for refusal in [&auth, &secret] {
        ensure!(
            refusal.reason == "PolicyDenied"
                && refusal.message.contains("policy.allowedAuthMethods"),
            "it is refused for another reason: {}: {}",
            refusal.reason,
            refusal.message
        );
    }
    // The next look at the first secret shows that time has passed, and that the log is written.
    let own_path = format!("/v1/{TENANT}/data/{APP}");
    let refresh = AccessFilter::new()
        .path_prefix(&own_path)
        .since(log.mark()?);
    log.wait_for(&refresh, 1, LONG).await?;
    let others = log.requests(&AccessFilter::new().since(begun))?;
    let (own, others): (Vec<_>, Vec<_>) = others
        .into_iter()
        .partition(|request| request.path == own_path);
    ensure!(others.is_empty(), "Vault has seen {others:?}");
    ensure!(
        tenant.secret("by-approle").await?.is_none(),
        "there is a Secret by-approle"
    );
    Ok(Told {
        done: "applied a VaultAuth by-approle with method appRole, and a VaultStaticSecret that uses it, where \
               policy.allowedAuthMethods is [kubernetes]"
            .to_owned(),
        seen: vec![
            format!("VaultAuth by-approle is {}: {}", auth.reason, auth.message),
            format!("VaultStaticSecret by-approle is {} too, and there is no Secret", secret.reason),
            format!(
                "Vault's access log: no request for it; {} for example/app in the same time",
                own.len()
            ),
        ],
    })
}

/// Writes a new version of the secret in Vault.
///
/// # Errors
/// Vault refuses it.
pub async fn put(site: &Site<'_>, password: &str) -> Result<()> {
    let vault = &site.ground.vault.api;
    vault
        .kv2_put(TENANT, APP, &json!({ "password": password }))
        .await?;
    Ok(())
}

/// A login by AppRole, and a secret that would be read with it.
const REFUSED: &str = "\
apiVersion: v1
kind: Secret
metadata: {name: approle}
stringData: {id: 00000000-0000-0000-0000-000000000000}
---
apiVersion: secrets.hashicorp.com/v1beta1
kind: VaultAuth
metadata: {name: by-approle}
spec:
  method: appRole
  mount: approle
  appRole: {roleId: example, secretRef: approle}
---
apiVersion: secrets.hashicorp.com/v1beta1
kind: VaultStaticSecret
metadata: {name: by-approle}
spec:
  vaultAuthRef: by-approle
  type: kv-v2
  mount: example
  path: app
  destination: {name: by-approle, create: true}
";
