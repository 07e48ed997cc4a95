//! Several watched namespaces: each by a Role of its own, none in the way of
//! the others, one operator for each.

use anyhow::{Context, Result, ensure};
use ground::judges::{ApiFilter, Mark};
use ground::operator::OperatorBuilder;
use ground::tenant::{APP_ACCOUNT, AUDIENCE, OPERATOR_ACCOUNT};
use ground::{Tenant, manifests, wait_for};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::endpoints::sample;
use crate::grades::{Grade, Names, grant, placed, tenant_of, widened};
use crate::leadership::{CLAIM, instance};
use crate::probes::{Eye, QUIET};
use crate::support::{LONG, Suite, Team, config, prepare, static_secret};

crate::trials![
    "namespaces": ; in each grade:
    one_without_its_role_reports_and_the_others_go_on, three_are_served_and_each_is_reviewed_once,
    references_cross_only_where_they_are_allowed,
    a_namespace_made_again_is_served_again, a_claimed_namespace_is_left_alone,
];

/// Lets the operator of `home` serve a tenant's namespace, by the Role that is there;
/// in the grade of names, by new ones in both, for these resources.
pub async fn serve(
    grade: Grade,
    tenant: &Tenant,
    home: &Tenant,
    resources: &[Value],
) -> Result<()> {
    if grade == Grade::Named {
        let config = config(home, grade.lines());
        return grant(&[home, tenant], &home.namespace, &config, resources).await;
    }
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": { "name": "served" },
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": OPERATOR_ACCOUNT,
        },
        "subjects": [{
            "kind": "ServiceAccount", "name": OPERATOR_ACCOUNT, "namespace": home.namespace,
        }],
    });
    tenant.apply(&binding.to_string()).await?;
    widened(tenant, &home.namespace).await
}

/// The operator of `home` for its own namespace and the others'.
fn builder<'a>(
    suite: &'a Suite,
    grade: Grade,
    home: &'a Tenant,
    others: &[&Tenant],
) -> OperatorBuilder<'a> {
    let namespaces: Vec<&str> = [home]
        .iter()
        .chain(others)
        .map(|tenant| tenant.namespace.as_str())
        .collect();
    home.operator(&suite.binary)
        .config(&config(home, grade.lines()))
        .watch_namespaces(&namespaces)
}

/// Two tenants with their connections and logins.
async fn tenants(suite: &Suite, grade: Grade, names: [&str; 2]) -> Result<[Tenant; 2]> {
    let home = grade.tenant(&suite.ground, names[0]).await?;
    let other = grade.tenant(&suite.ground, names[1]).await?;
    prepare(&home).await?;
    prepare(&other).await?;
    Ok([home, other])
}

/// What all name in most trials.
fn of_all<const N: usize>(tenants: [&Tenant; N]) -> Vec<Value> {
    tenants
        .iter()
        .flat_map(|tenant| Names::APP.resources(tenant))
        .collect()
}

/// Each of the tenants as a team of one operator.
async fn teams(suite: &Suite, grade: Grade, [home, other]: [Tenant; 2]) -> Result<[Team; 2]> {
    let operator = builder(suite, grade, &home, &[&other]).start().await?;
    let team = |tenant: Tenant| Team {
        tenant,
        operator: operator.clone(),
    };
    Ok([team(home), team(other)])
}

async fn secret(team: &Team, name: &str, password: &str) -> Result<()> {
    team.put(name, json!({ "password": password })).await?;
    team.static_secret(name, json!({})).await
}

async fn one_without_its_role_reports_and_the_others_go_on(
    suite: &Suite,
    grade: Grade,
) -> Result<()> {
    let [home, other] = tenants(suite, grade, ["forbidden-home", "unbound"]).await?;
    let mine = Names::APP.resources(&home);
    grade
        .allow(&home, &config(&home, grade.lines()), &mine)
        .await?;
    let [home, other] = teams(suite, grade, [home, other]).await?;
    secret(&home, "app", "first").await?;
    secret(&other, "app", "other").await?;
    home.wait_ready("app").await?;
    let namespace = other.tenant.namespace.as_str();
    // By names it knows of no Secret there yet that it could not see.
    let watched = match grade {
        Grade::Namespace => "secrets",
        Grade::Named => "vaultauths",
    };
    wait_for("the namespace to be reported", LONG, || async {
        let said = home.operator.readyz().await;
        let said = said.err().context("it is ready")?.to_string();
        for what in ["vault-tenant-operator-claim", "vaultstaticsecrets", watched] {
            let named = said
                .lines()
                .any(|line| line.contains(namespace) && line.contains(what));
            ensure!(named, "no {what} of {namespace} in {said}");
        }
        let metrics = home.operator.metrics().await?;
        let labels = [&format!("\"{watched}\"") as &str, namespace];
        ensure!(
            sample(&metrics, "vto_watch_failing", &labels) == Some(1.0),
            "{metrics}"
        );
        let labels = ["KubernetesForbidden", namespace];
        ensure!(
            sample(&metrics, "vto_namespace_withheld", &labels) == Some(1.0),
            "{metrics}"
        );
        Ok(())
    })
    .await?;
    home.put("app", json!({ "password": "second" })).await?;
    home.wait_value("app", "password", "second").await?;
    ensure!(other.tenant.secret("app").await?.is_none());
    // With its Role it is served like the other.
    let resources = of_all([&home.tenant, &other.tenant]);
    serve(grade, &other.tenant, &home.tenant, &resources).await?;
    other.wait_ready("app").await?;
    other.wait_value("app", "password", "other").await?;
    home.operator.wait_ready(LONG).await?;
    ensure!(home.operator.readyz().await? == "ok");
    // By namespaced requests alone.
    let eye = Eye::on(suite, &home);
    for request in eye.api.requests(&eye.at_api())? {
        let review = request.resource.starts_with("selfsubject");
        ensure!(review || !request.namespace.is_empty(), "{request:?}");
    }
    Ok(())
}

async fn three_are_served_and_each_is_reviewed_once(suite: &Suite, grade: Grade) -> Result<()> {
    let [home, second] = tenants(suite, grade, ["three", "three-b"]).await?;
    let third = grade.tenant(&suite.ground, "three-c").await?;
    prepare(&third).await?;
    let resources = of_all([&home, &second, &third]);
    match grade {
        Grade::Namespace => {
            for tenant in [&second, &third] {
                serve(grade, tenant, &home, &resources).await?;
            }
        }
        Grade::Named => {
            let config = config(&home, grade.lines());
            grant(
                &[&home, &second, &third],
                &home.namespace,
                &config,
                &resources,
            )
            .await?;
        }
    }
    let eye = Eye::of(&suite.ground, &home);
    let operator = builder(suite, grade, &home, &[&second, &third]);
    let operator = operator.start().await?;
    operator.wait_ready(LONG).await?;
    for tenant in [home, second, third] {
        let operator = operator.clone();
        let team = Team { tenant, operator };
        secret(&team, "app", &team.tenant.namespace).await?;
        team.wait_value("app", "password", &team.tenant.namespace)
            .await?;
        team.wait_ready("app").await?;
        // The review of this namespace has answered.
        team.wait_missing(0.0).await?;
    }
    let reviews = eye.at_api().resource("selfsubjectrulesreviews");
    let asked = eye.api.settle(&reviews, QUIET, LONG).await?;
    ensure!(asked.len() == 3, "{asked:?}");
    let single = eye.at_api().resource("selfsubjectaccessreviews");
    let single = eye.api.requests(&single)?;
    ensure!(single.is_empty(), "{single:?}");
    Ok(())
}

async fn references_cross_only_where_they_are_allowed(suite: &Suite, grade: Grade) -> Result<()> {
    let [home, other] = tenants(suite, grade, ["crossing", "shared"]).await?;
    let role = home.vault_role().to_owned();
    let auth = |allowed: Value| {
        json!({
            "apiVersion": "secrets.hashicorp.com/v1beta1", "kind": "VaultAuth",
            "metadata": { "name": "shared" },
            "spec": {
                "method": "kubernetes", "mount": "kubernetes", "allowedNamespaces": allowed,
                "kubernetes": {
                    "role": role, "serviceAccount": APP_ACCOUNT, "audiences": [AUDIENCE],
                },
            },
        })
    };
    let reference = format!("{}/shared", other.namespace);
    let named = json!([home.namespace]);
    let by_reference = json!({ "vaultAuthRef": reference });
    let of_other = Names::secrets(&[]).resources(&other);
    let resources = [
        Names::secrets(&[]).resources(&home),
        vec![
            placed(&home, static_secret(&home, "app", by_reference.clone())),
            placed(&other, auth(named.clone())),
        ],
        of_other,
    ];
    serve(grade, &other, &home, &resources.concat()).await?;
    let [home, other] = teams(suite, grade, [home, other]).await?;
    home.operator.wait_ready(LONG).await?;
    other.tenant.apply(&auth(json!([])).to_string()).await?;
    home.put("app", json!({ "password": "vault" })).await?;
    let eye = Eye::on(suite, &home);
    let mark = eye.mark()?;
    home.static_secret("app", by_reference).await?;
    let said = home.wait_problem("app", "ReferenceDenied").await?;
    ensure!(said.contains("spec.allowedNamespaces"), "{said}");
    nobody_was_asked(&eye, mark).await?;
    other.tenant.apply(&auth(named).to_string()).await?;
    home.wait_ready("app").await?;
    // A restart finds the other namespace's VaultAuth before it judges.
    ensure!(home.operator.terminate(LONG).await.success());
    home.operator.restart().await?;
    home.operator.wait_ready(LONG).await?;
    home.put("app", json!({ "password": "second" })).await?;
    home.wait_value("app", "password", "second").await?;
    let told = home.events("app").await?;
    let missing = told
        .iter()
        .any(|(reason, _)| reason == "InvalidResourceRef");
    ensure!(!missing, "{told:?}");
    // What nobody watches is not seen, whatever it allows.
    home.static_secret("far", json!({ "vaultAuthRef": "default/shared" }))
        .await?;
    let said = home.wait_problem("far", "InvalidResourceRef").await?;
    ensure!(
        said.contains("only namespaces that this operator watches"),
        "{said}"
    );
    // The platform can narrow what a VaultAuth allows.
    ensure!(home.operator.terminate(LONG).await.success());
    let mark = eye.mark()?;
    let _narrowed = builder(suite, grade, &home.tenant, &[&other.tenant])
        .env("VTO_POLICY__REFERENCED_NAMESPACES", "elsewhere")
        .start()
        .await?;
    let said = home.wait_problem("app", "PolicyDenied").await?;
    ensure!(
        said.contains("policy.referencedNamespaces") && said.contains(&reference),
        "{said}"
    );
    nobody_was_asked(&eye, mark).await
}

/// Nothing was asked of Vault since then, and no token for it.
async fn nobody_was_asked(eye: &Eye, (vault, api): (Mark, Mark)) -> Result<()> {
    let mut asked = eye.settled(&eye.at_vault().since(vault)).await?;
    // Whether it is well has nothing to do with the reference.
    asked.retain(|request| request.path != "sys/health");
    ensure!(asked.is_empty(), "{asked:?}");
    let tokens = eye.at_api().since(api).resource("serviceaccounts/token");
    let tokens = eye.api.requests(&tokens)?;
    ensure!(tokens.is_empty(), "{tokens:?}");
    Ok(())
}

/// Makes a tenant's namespace with what the ground gave it at first.
async fn make_again(tenant: &Tenant) -> Result<()> {
    let namespaces: Api<Namespace> = Api::all(tenant.client.clone());
    let body = serde_json::from_value(json!({ "metadata": { "name": tenant.namespace } }))?;
    namespaces.create(&PostParams::default(), &body).await?;
    let account = json!({
        "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": APP_ACCOUNT },
    });
    tenant.apply(&account.to_string()).await?;
    for object in tenant.operator_manifests().await? {
        if object
            .types
            .as_ref()
            .is_none_or(|types| types.kind != "Deployment")
        {
            manifests::apply_object(&tenant.client, &tenant.namespace, &object).await?;
        }
    }
    prepare(tenant).await
}

async fn a_namespace_made_again_is_served_again(suite: &Suite, grade: Grade) -> Result<()> {
    let [home, other] = tenants(suite, grade, ["forbidden-again", "again"]).await?;
    let resources = of_all([&home, &other]);
    serve(grade, &other, &home, &resources).await?;
    let [home, other] = teams(suite, grade, [home, other]).await?;
    for team in [&home, &other] {
        secret(team, "app", "first").await?;
        team.wait_ready("app").await?;
    }
    let namespaces: Api<Namespace> = Api::all(home.tenant.client.clone());
    let name = &other.tenant.namespace;
    namespaces.delete(name, &DeleteParams::default()).await?;
    wait_for("the namespace to be gone", LONG, || async {
        let found = namespaces.get_opt(name).await?;
        ensure!(
            found.is_none(),
            "{:?}",
            found.and_then(|found| found.status)
        );
        Ok(())
    })
    .await?;
    home.put("app", json!({ "password": "second" })).await?;
    home.wait_value("app", "password", "second").await?;
    make_again(&other.tenant).await?;
    serve(grade, &other.tenant, &home.tenant, &resources).await?;
    secret(&other, "app", "again").await?;
    other.wait_ready("app").await?;
    other.wait_value("app", "password", "again").await?;
    home.operator.wait_ready(LONG).await
}

async fn a_claimed_namespace_is_left_alone(suite: &Suite, grade: Grade) -> Result<()> {
    let (tenant, more) = tenant_of(suite, grade, "claimed", Names::APP, "").await?;
    prepare(&tenant).await?;
    // Another operator's claim, made a moment ago and renewed while we look on.
    let claim = async |seconds: u32| -> Result<()> {
        let now = jiff::Timestamp::now();
        let body = json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": { "name": CLAIM },
            "spec": {
                "holderIdentity": "elsewhere/vault-tenant-operator", "leaseDurationSeconds": seconds,
                "renewTime": format!("{now:.6}"),
            },
        });
        let leases: Api<Lease> = tenant.api();
        let params = PatchParams::apply("elsewhere").force();
        leases.patch(CLAIM, &params, &Patch::Apply(body)).await?;
        Ok(())
    };
    claim(40).await?;
    let manifest = static_secret(&tenant, "app", json!({}));
    tenant
        .vault
        .kv2_put(&tenant.kv2, "app", &json!({ "password": "vault" }))
        .await?;
    tenant.apply(&manifest.to_string()).await?;
    let operator = instance(&tenant, &suite.binary, &more).await?;
    for _ in 0..3 {
        claim(40).await?;
        wait_for("the claim to be reported", LONG, || async {
            let said = operator
                .readyz()
                .await
                .context("a claimed instance is ready")?;
            ensure!(
                said.contains("served by the operator elsewhere/vault-tenant-operator"),
                "{said}"
            );
            let metrics = operator.metrics().await?;
            let labels = ["NamespaceClaimed", tenant.namespace.as_str()];
            let withheld = sample(&metrics, "vto_namespace_withheld", &labels);
            ensure!(withheld == Some(1.0), "{metrics}");
            Ok(())
        })
        .await?;
    }
    let eye = Eye::of(&suite.ground, &tenant);
    let quiet = |filter: ApiFilter| eye.api.requests(&filter.namespace(&tenant.namespace));
    let written = quiet(eye.at_api().writes())?;
    let own: Vec<_> = written
        .iter()
        .filter(|one| one.name != "vault-tenant-operator-key")
        .collect();
    ensure!(own.is_empty(), "{own:?}");
    ensure!(eye.vault.count(&eye.at_vault())? == 0, "Vault was asked");
    ensure!(operator.log()?.contains("not served"));
    // The other one goes: its claim ends, and the namespace is served.
    claim(2).await?;
    let team = Team { tenant, operator };
    team.wait_ready("app").await?;
    ensure!(team.operator.readyz().await? == "ok");
    let metrics = team.operator.metrics().await?;
    let withheld = sample(&metrics, "vto_namespace_withheld", &["NamespaceClaimed"]);
    ensure!(withheld == Some(0.0), "{metrics}");
    Ok(())
}
