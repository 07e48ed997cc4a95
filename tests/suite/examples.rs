//! What lies under `examples/` works as it lies there: the manifests are applied
//! and served, and the script for Vault gives a tenant what they need.

use anyhow::{Context, Result, ensure};
use ground::documents::path_with_tools;
use ground::tenant::{OPERATOR_ACCOUNT, Tenant};
use ground::vault_api::KubernetesRole;
use ground::wait_for;
use k8s_openapi::api::rbac::v1::Role;
use kube::Api;
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::sync::Mutex;

use crate::applied::{apply_without_warning, render_own};
use crate::endpoints::sample;
use crate::grades::{Grade, narrowed, placed};
use crate::support::{LONG, Suite, Team, config};

crate::trials![
    "examples": the_script_prepares_vault_for_the_first_secret;
    in each grade: the_manifests_are_served,
];

const FIRST_SECRET: &str = include_str!("../../examples/first-secret.yaml");

/// The examples name mounts and roles of Vault, the same for whoever applies
/// them: one trial at a time.
pub static NAMES_AT_VAULT: Mutex<()> = Mutex::const_new(());

async fn the_manifests_are_served(suite: &Suite, grade: Grade) -> Result<()> {
    let _turn = NAMES_AT_VAULT.lock().await;
    let tenant = grade.tenant(&suite.ground, "examples").await?;
    let (vault, namespace) = (&tenant.vault, &tenant.namespace);
    vault.delete("sys/mounts/kv").await?;
    vault.mount_kv2("kv").await?;
    let settings = json!({ "COLOUR": "green" });
    vault.kv2_put("kv", "web/settings", &settings).await?;
    let policy = "path \"kv/data/web/*\" { capabilities = [\"read\"] }";
    vault.policy("web", policy).await?;
    let role = KubernetesRole {
        service_account: "web",
        namespace,
        audience: Some("vault"),
        policies: &["web"],
        ttl: LONG * 60,
    };
    vault.kubernetes_role("kubernetes", "web", &role).await?;
    // What everybody has to say for themselves: where Vault is, and its CA.
    let dir = tenant.dir.join("examples");
    std::fs::create_dir_all(&dir)?;
    std::fs::write(dir.join("ca.crt"), &tenant.ca_pem)?;
    let place =
        json!([{ "op": "replace", "path": "/spec/address", "value": tenant.vault_address }]);
    let overlay = json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization",
        "namespace": namespace,
        "resources": ["examples/manifests"],
        "secretGenerator": [{ "name": "vault-ca", "files": ["ca.crt"] }],
        "generatorOptions": { "disableNameSuffixHash": true },
        "patches": [{ "target": { "kind": "VaultConnection" }, "patch": place.to_string() }],
    });
    let rendered = render_own(suite, &dir, overlay, &["resources"]).await?;
    if grade == Grade::Named {
        // By the Role as it lies there, for the first secret too.
        apply_overlays_role(&tenant).await?;
        prepare_first_secret(suite, &tenant).await?;
    }
    let team = with_operator(suite, tenant, grade.lines()).await?;
    apply_without_warning(&team.tenant.client, &team.tenant.namespace, &rendered).await?;
    for (kind, name) in [
        ("VaultConnection", "default"),
        ("VaultAuth", "default"),
        ("VaultStaticSecret", "web-settings"),
    ] {
        team.wait_condition(kind, name, "Ready", "True").await?;
    }
    team.wait_value("web-settings", "COLOUR", "green").await?;
    team.wait_current("web-settings").await?;
    if grade == Grade::Named {
        apply_without_warning(&team.tenant.client, &team.tenant.namespace, FIRST_SECRET).await?;
        team.wait_ready("app").await?;
        team.wait_current("app").await?;
        rights_fit(&team).await?;
    }
    ensure!(team.operator.terminate(LONG).await.success());
    Ok(())
}

/// Gives the tenant's operator the Role of the overlay of names, as it lies there
/// but for the namespace.
async fn apply_overlays_role(tenant: &Tenant) -> Result<()> {
    let place = format!("namespace: {}", tenant.namespace);
    let role = include_str!("../../kustomize/overlays/named/rbac.yaml");
    tenant
        .apply(&role.replace("namespace: example", &place))
        .await?;
    narrowed(tenant, &tenant.namespace).await?;
    let roles: Api<Role> = tenant.api();
    let rules = roles.get(OPERATOR_ACCOUNT).await?.rules;
    let names = |name: &str| {
        let mut all = rules
            .iter()
            .flatten()
            .flat_map(|rule| rule.resource_names.iter().flatten());
        all.any(|one| one == name)
    };
    ensure!(
        names("web-settings") && names("app"),
        "not the Role of the examples: {rules:?}"
    );
    Ok(())
}

/// The operator itself, as it begins anew, finds that its Role holds what the
/// resources need, and nothing else.
async fn rights_fit(team: &Team) -> Result<()> {
    ensure!(team.operator.terminate(LONG).await.success());
    team.operator.restart().await?;
    team.operator.wait_ready(LONG).await?;
    wait_for("the Role to fit", LONG, || async {
        let metrics = team.operator.metrics().await?;
        for name in ["vto_rights_missing", "vto_rights_surplus"] {
            let found = sample(&metrics, name, &[&team.tenant.namespace]);
            ensure!(found == Some(0.0), "{name}: {found:?}");
        }
        Ok(())
    })
    .await
}

/// A team that the example's manifests are applied for, after what its script did at Vault;
/// the operator's configuration says where Vault is.
pub async fn with_example(
    suite: &Suite,
    grade: Grade,
    tenant: Tenant,
    manifests: &str,
) -> Result<Team> {
    let connection = format!(
        "connection: {{address: \"{}\", caCertPath: \"{}\"}}\n{}",
        tenant.vault_address,
        suite.ground.pki.ca_file().display(),
        grade.lines()
    );
    let resources = ground::manifests::parse(manifests)?.into_iter();
    let resources = resources.map(|one| Ok(placed(&tenant, serde_json::to_value(one)?)));
    let resources: Vec<Value> = resources.collect::<Result<_>>()?;
    let rights = config(&tenant, &connection);
    grade.allow(&tenant, &rights, &resources).await?;
    let team = with_operator(suite, tenant, &connection).await?;
    apply_without_warning(&team.tenant.client, &team.tenant.namespace, manifests).await?;
    Ok(team)
}

async fn the_script_prepares_vault_for_the_first_secret(suite: &Suite) -> Result<()> {
    let _turn = NAMES_AT_VAULT.lock().await;
    let tenant = suite.ground.tenant("first-secret").await?;
    let said = vault_setup(suite, &tenant, &["example", &tenant.namespace]).await;
    ensure!(said.is_err(), "two arguments were taken");
    prepare_first_secret(suite, &tenant).await?;
    let ca = suite.ground.pki.ca_file();
    let connection = format!(
        "connection: {{address: \"{}\", caCertPath: \"{}\"}}\n",
        tenant.vault_address,
        ca.display()
    );
    let team = with_operator(suite, tenant, &connection).await?;
    apply_without_warning(&team.tenant.client, &team.tenant.namespace, FIRST_SECRET).await?;
    team.wait_ready("app").await?;
    team.wait_value("app", "password", "sesame").await?;
    team.wait_current("app").await?;
    // What the role promises besides: nothing but reading, for one account and audience.
    let role = team
        .tenant
        .vault
        .read("auth/kubernetes/role/tenant-example")
        .await?;
    let role = &role["data"];
    ensure!(
        role["audience"] == "vault"
            && role["bound_service_account_names"] == json!(["app"])
            && role["bound_service_account_namespaces"] == json!([team.tenant.namespace])
            && role["token_period"] == 3600,
        "{role}"
    );
    let token = team.tenant.token("app", &["vault"]).await?;
    let vault = &team.tenant.vault;
    let login = vault
        .kubernetes_login("kubernetes", "tenant-example", &token)
        .await?;
    let vault = vault.with_token(login["client_token"].as_str().context("no token")?);
    ensure!(
        vault.read("example/data/app").await.is_ok(),
        "it cannot read"
    );
    ensure!(
        vault
            .kv2_put("example", "app", &json!({ "password": "other" }))
            .await
            .is_err()
            && vault.list("example/metadata").await.is_err(),
        "it may more than read"
    );
    Ok(())
}

/// What the script makes for the first secret, and the secret.
async fn prepare_first_secret(suite: &Suite, tenant: &Tenant) -> Result<()> {
    tenant.vault.delete("sys/mounts/example").await?;
    vault_setup(suite, tenant, &["example", &tenant.namespace, "app"]).await?;
    let secret = json!({ "password": "sesame" });
    wait_for("the new mount to take a secret", LONG, || async {
        tenant.vault.kv2_put("example", "app", &secret).await
    })
    .await
    .map(drop)
}

async fn vault_setup(suite: &Suite, tenant: &Tenant, arguments: &[&str]) -> Result<()> {
    vault_script(suite, tenant, "examples/vault-setup.sh", arguments).await
}

/// Runs a script of the examples with a `vault` that stands in for the CLI.
pub async fn vault_script(
    suite: &Suite,
    tenant: &Tenant,
    script: &str,
    arguments: &[&str],
) -> Result<()> {
    let path = path_with_tools(suite.ground.components(), &tenant.dir.join("bin"))?;
    let created = tenant.vault.write("auth/token/create", &json!({})).await?;
    let token = created["auth"]["client_token"]
        .as_str()
        .context("no token")?;
    let output = Command::new(ground::paths::repository().join(script))
        .args(arguments)
        .env("PATH", path)
        .env("VAULT_ADDR", &tenant.vault_address)
        .env("VAULT_CACERT", suite.ground.pki.ca_file())
        .env("VAULT_TOKEN", token)
        .output()
        .await?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{arguments:?}: {said}");
    Ok(())
}

/// The tenant with an operator, and no resource of the suite's own.
pub async fn with_operator(suite: &Suite, tenant: Tenant, more: &str) -> Result<Team> {
    let config = config(&tenant, more);
    let builder = tenant.operator(&suite.binary).config(&config);
    let operator = builder.start().await?;
    operator.wait_ready(LONG).await?;
    Ok(Team { tenant, operator })
}
