//! What `kustomize/` renders is what a platform can install: no warning where
//! pods must be restricted, no right beyond a namespace, and an operator out of
//! its tenant's reach that works.

use anyhow::{Context, Result, ensure};
use ground::judges::{ApiAudit, ApiFilter, RoleUse};
use ground::manifests::parse;
use ground::tenant::OPERATOR_ACCOUNT;
use ground::{Tenant, wait_for};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::Role;
use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use vault_tenant_operator::operator::secret_names;

use crate::applied::{apply_without_warning, render, render_own};
use crate::grades::{Grade, Names, grant, tenant_of, widened};
use crate::lessee::{KIND, dynamic_secret, leased_certificate};
use crate::support::{LONG, Suite, Team, config, prepare};

crate::trials![
    "install": overlays_run_where_pods_are_restricted, components_run_where_pods_are_restricted,
    the_operator_gets_no_right_of_the_cluster, a_tenant_is_under_thirty_lines,
    who_edits_the_tenants_namespace_reaches_nothing_beside, people_read_and_write_by_the_roles_that_they_have;
    in each grade: the_operator_works_beside_its_tenant,
];

/// Everything that an installation renders, with what is shipped beside it.
const RENDERED: [&str; 10] = [
    "kustomize/base",
    "kustomize/overlays/example-tenant",
    "kustomize/overlays/named",
    "kustomize/overlays/beside",
    "kustomize/overlays/cluster",
    "kustomize/crds",
    "rbac",
    "rbac/leadership",
    "rbac/migration",
    "rbac/own-namespace",
];

/// Makes the namespace, or makes it so: no pod but restricted ones.
async fn restricted(suite: &Suite, namespace: &str) -> Result<()> {
    let labels = json!({
        "pod-security.kubernetes.io/enforce": "restricted",
        "pod-security.kubernetes.io/warn": "restricted",
    });
    let body = json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": { "name": namespace, "labels": labels },
    });
    let namespaces: Api<Namespace> = Api::all(suite.ground.client.clone());
    let params = PatchParams::apply("platform").force();
    namespaces
        .patch(namespace, &params, &Patch::Apply(body))
        .await?;
    Ok(())
}

/// The Deployment's pods run: admission let them in.
async fn runs(suite: &Suite, namespace: &str, replicas: i32) -> Result<()> {
    let deployments: Api<Deployment> = Api::namespaced(suite.ground.client.clone(), namespace);
    wait_for(
        &format!("the operator's pod in {namespace}"),
        LONG,
        || async {
            let status = deployments
                .get(OPERATOR_ACCOUNT)
                .await?
                .status
                .unwrap_or_default();
            ensure!(status.available_replicas == Some(replicas), "{status:?}");
            Ok(())
        },
    )
    .await
}

async fn overlays_run_where_pods_are_restricted(suite: &Suite) -> Result<()> {
    let client = &suite.ground.client;
    restricted(suite, "example").await?;
    for path in ["cluster", "example-tenant", "beside", "named"] {
        let rendered = render(suite, &format!("kustomize/overlays/{path}")).await?;
        apply_without_warning(client, "default", &rendered)
            .await
            .with_context(|| format!("overlay {path}"))?;
    }
    runs(suite, "example", 1).await?;
    runs(suite, "vto-example", 1).await?;
    // A namespace that restricts pods does say so.
    let loose = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "loose" },
        "spec": { "containers": [{ "name": "app", "image": "app:1" }] },
    });
    let refused = apply_without_warning(client, "vto-example", &loose.to_string()).await;
    ensure!(refused.is_err(), "a pod that is not restricted was taken");
    Ok(())
}

async fn components_run_where_pods_are_restricted(suite: &Suite) -> Result<()> {
    let tenant = suite.ground.tenant("components").await?;
    restricted(suite, &tenant.namespace).await?;
    let dir = tenant.dir.join("components");
    std::fs::create_dir_all(&dir)?;
    std::fs::write(dir.join("ca.crt"), &tenant.ca_pem)?;
    let overlay = json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization",
        "namespace": tenant.namespace,
        "resources": ["kustomize/base"],
        "components": [
            "kustomize/components/argo-rollouts",
            "kustomize/components/network-policy",
            "kustomize/components/standby",
            "kustomize/components/vault-ca",
        ],
        "configMapGenerator": [{ "name": "vault-ca", "files": ["ca.crt"] }],
    });
    let rendered = render_own(suite, &dir, overlay, &["resources", "components"]).await?;
    let objects = apply_without_warning(&tenant.client, &tenant.namespace, &rendered).await?;
    runs(suite, &tenant.namespace, 2).await?;
    // The generated name of the CA's ConfigMap reached the Deployment.
    let of = |kind: &'static str| objects.iter().filter(move |object| kind_of(object) == kind);
    let names: Vec<_> = of("ConfigMap")
        .filter_map(|o| o.metadata.name.as_deref())
        .collect();
    let deployment = of("Deployment").next().context("no Deployment")?;
    let volumes = deployment.data["spec"]["template"]["spec"]["volumes"].to_string();
    let ca = names
        .iter()
        .find(|name| name.starts_with("vault-ca-"))
        .context("no vault-ca")?;
    ensure!(volumes.contains(ca), "{ca} is not in {volumes}");
    let policies: Vec<_> = of("NetworkPolicy").collect();
    let [policy] = policies[..] else {
        anyhow::bail!("{} NetworkPolicies", policies.len());
    };
    let both = json!(["Ingress", "Egress"]);
    ensure!(
        policy.data["spec"]["policyTypes"] == both,
        "{:?}",
        policy.data
    );
    Ok(())
}

pub fn kind_of(object: &DynamicObject) -> &str {
    object.types.as_ref().map_or("", |types| &types.kind)
}

async fn the_operator_gets_no_right_of_the_cluster(suite: &Suite) -> Result<()> {
    for path in RENDERED {
        for object in parse(&render(suite, path).await?)? {
            let kind = kind_of(&object);
            let name = object.metadata.name.as_deref().unwrap_or_default();
            ensure!(
                kind != "ClusterRoleBinding",
                "{path} binds {name} in the whole cluster"
            );
            if kind == "RoleBinding" {
                ensure!(
                    object.data["roleRef"]["kind"] == "Role",
                    "{path}: {name} binds a ClusterRole"
                );
            }
            if kind == "ClusterRole" {
                let labels = object.metadata.labels.clone().unwrap_or_default();
                let for_people = labels
                    .keys()
                    .any(|key| key.starts_with("rbac.authorization.k8s.io/aggregate-to-"));
                ensure!(
                    path == "kustomize/overlays/cluster" && for_people,
                    "{path} renders the ClusterRole {name}"
                );
            }
            if kind.ends_with("Role") {
                let rules = object.data["rules"].to_string();
                ensure!(
                    !rules.contains("\"*\""),
                    "{path}: {name} allows more than it names: {rules}"
                );
            }
        }
    }
    Ok(())
}

async fn a_tenant_is_under_thirty_lines(_: &Suite) -> Result<()> {
    let dir = ground::paths::repository().join("kustomize/overlays/example-tenant");
    let mut lines = 0;
    for entry in std::fs::read_dir(dir)? {
        lines += std::fs::read_to_string(entry?.path())?.lines().count();
    }
    ensure!(lines > 0 && lines < 30, "{lines} lines");
    Ok(())
}

/// Installs the overlay `beside` for a tenant, with the operator in `home`, and waits
/// until it has its rights in both; answers with what was applied.
pub async fn install_beside(
    suite: &Suite,
    tenant: &Tenant,
    home: &str,
) -> Result<Vec<DynamicObject>> {
    let rendered = render(suite, "kustomize/overlays/beside").await?;
    let rendered = rendered
        .replace("vto-example", home)
        .replace(
            "namespace: example",
            &format!("namespace: {}", tenant.namespace),
        )
        .replace(
            "--watch-namespaces=example",
            &format!("--watch-namespaces={}", tenant.namespace),
        );
    let applied = apply_without_warning(&tenant.client, "default", &rendered).await?;
    widened(tenant, home).await?;
    Ok(applied)
}

/// The operator's side of a tenant that it lives beside: its files and its
/// account are in `home`.
pub fn beside(tenant: &Tenant, home: &str) -> Result<Tenant> {
    let mut beside = tenant.clone();
    home.clone_into(&mut beside.namespace);
    beside.dir = tenant.dir.join("beside");
    std::fs::create_dir_all(&beside.dir)?;
    Ok(beside)
}

async fn the_operator_works_beside_its_tenant(suite: &Suite, grade: Grade) -> Result<()> {
    // So many leases that some are remembered in each Secret of the ledger: one in a
    // million that by chance none is.
    let leased: Vec<String> = (0..20).map(|n| format!("leased-{n}")).collect();
    let secrets: Vec<&str> = std::iter::once("app")
        .chain(leased.iter().map(String::as_str))
        .collect();
    let names = Names::secrets(&secrets);
    let (tenant, more) = tenant_of(suite, grade, "beside", names, "").await?;
    prepare(&tenant).await?;
    let home = format!("vto-{}", tenant.namespace);
    install_beside(suite, &tenant, &home).await?;
    if grade == Grade::Named {
        let (config, resources) = (config(&tenant, &more), names.resources(&tenant));
        grant(&[&tenant], &home, &config, &resources).await?;
    }
    let operator = beside(&tenant, &home)?
        .operator(&suite.binary)
        .config(&config(&tenant, &more))
        .watch_namespaces(&[&tenant.namespace])
        .start()
        .await?;
    operator.wait_ready(LONG).await?;
    let team = Team { tenant, operator };
    team.put("app", json!({ "password": "first" })).await?;
    team.static_secret("app", json!({})).await?;
    team.wait_value("app", "password", "first").await?;
    let spec = leased_certificate(&team.tenant).await?;
    for name in &leased {
        let manifest = dynamic_secret(&team.tenant, name, spec.clone());
        team.tenant.apply(&manifest.to_string()).await?;
    }
    for name in &leased {
        team.wait_condition(KIND, name, "Ready", "True").await?;
    }
    for own in secret_names() {
        let within = team.tenant.secret(&own).await?;
        ensure!(within.is_none(), "{own} is within the tenant's reach");
    }
    let roles: Api<Role> = Api::namespaced(team.tenant.client.clone(), &home);
    let mut rules = Vec::new();
    for name in ["own-namespace", "leadership"] {
        let role = roles.get(&format!("vault-tenant-operator-{name}")).await?;
        rules.extend(role.rules.unwrap_or_default());
    }
    let audit = ApiAudit::new(&suite.ground.plane.audit_log);
    let ours = ApiFilter::service_account(&home, OPERATOR_ACCOUNT);
    ensure!(
        audit.forbidden(&ours)?.is_empty(),
        "refused: {:?}",
        audit.forbidden(&ours)?
    );
    let at_home = audit.requests(&ours.namespace(&home))?;
    let used = RoleUse::of(&rules, &at_home);
    ensure!(used.unused.is_empty(), "never used: {:?}", used.unused);
    Ok(())
}

async fn who_edits_the_tenants_namespace_reaches_nothing_beside(suite: &Suite) -> Result<()> {
    let tenant = suite.ground.tenant("out-of-reach").await?;
    let home = format!("vto-{}", tenant.namespace);
    let objects = install_beside(suite, &tenant, &home).await?;
    // What the tenant's namespace holds of it: that it may, and nothing that it is.
    let theirs = objects
        .iter()
        .filter(|object| object.metadata.namespace.as_ref() == Some(&tenant.namespace));
    for object in theirs {
        let kind = kind_of(object);
        ensure!(kind == "Role" || kind == "RoleBinding", "{kind} is theirs");
    }
    for role in ["edit", "admin"] {
        let user = format!("has-{role}");
        bind(&tenant, role, &user).await?;
        let asked = |namespace: &str, attributes: Value| {
            let mut attributes = attributes;
            attributes["namespace"] = json!(namespace);
            attributes
        };
        let control = asked(
            &tenant.namespace,
            json!({ "verb": "get", "resource": "secrets" }),
        );
        wait_for(&format!("{role} to be bound"), LONG, || async {
            ensure!(is_allowed(&tenant, &user, &control).await?, "not yet");
            Ok(())
        })
        .await?;
        for own in secret_names() {
            let read = json!({ "verb": "get", "resource": "secrets", "name": own });
            let may = is_allowed(&tenant, &user, &asked(&home, read)).await?;
            ensure!(!may, "{role} may read {own}");
        }
        let key = "vault-tenant-operator-key";
        let lease = "vault-tenant-operator-leader";
        let group = "coordination.k8s.io";
        for attributes in [
            json!({ "verb": "get", "resource": "secrets", "name": key }),
            json!({ "verb": "list", "resource": "secrets" }),
            json!({ "verb": "patch", "resource": "secrets", "name": key }),
            json!({ "verb": "delete", "resource": "secrets", "name": key }),
            json!({ "verb": "get", "resource": "configmaps" }),
            json!({ "verb": "patch", "resource": "configmaps" }),
            json!({ "verb": "get", "group": group, "resource": "leases", "name": lease }),
            json!({ "verb": "patch", "group": group, "resource": "leases", "name": lease }),
            json!({ "verb": "create", "group": group, "resource": "leases" }),
            json!({ "verb": "create", "resource": "serviceaccounts", "subresource": "token", "name": OPERATOR_ACCOUNT }),
            json!({ "verb": "impersonate", "resource": "serviceaccounts", "name": OPERATOR_ACCOUNT }),
            json!({ "verb": "patch", "resource": "serviceaccounts", "name": OPERATOR_ACCOUNT }),
            json!({ "verb": "create", "resource": "pods" }),
            json!({ "verb": "create", "resource": "pods", "subresource": "exec" }),
            json!({ "verb": "patch", "group": "apps", "resource": "deployments" }),
        ] {
            let attributes = asked(&home, attributes);
            let may = is_allowed(&tenant, &user, &attributes).await?;
            ensure!(!may, "{role} in the tenant's namespace may {attributes}");
        }
    }
    Ok(())
}
/// Binds one of the cluster's roles for people in the tenant's namespace.
async fn bind(tenant: &Tenant, role: &str, user: &str) -> Result<()> {
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": { "name": role },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user }],
    });
    tenant.apply(&binding.to_string()).await.map(drop)
}

async fn people_read_and_write_by_the_roles_that_they_have(suite: &Suite) -> Result<()> {
    let tenant = suite.ground.tenant("people").await?;
    let cluster = render(suite, "kustomize/overlays/cluster").await?;
    apply_without_warning(&tenant.client, "default", &cluster).await?;
    for role in ["view", "edit", "admin"] {
        bind(&tenant, role, &format!("has-{role}")).await?;
    }
    let kinds = [
        "secrettransformations",
        "vaultauthglobals",
        "vaultauths",
        "vaultconnections",
        "vaultdynamicsecrets",
        "vaultpkisecrets",
        "vaultstaticsecrets",
    ];
    for kind in kinds {
        for (role, verb, allowed) in [
            ("view", "list", true),
            ("view", "create", false),
            ("view", "delete", false),
            ("edit", "get", true),
            ("edit", "create", true),
            ("edit", "patch", true),
            ("admin", "watch", true),
            ("admin", "delete", true),
            ("nobody", "get", false),
        ] {
            // The controller manager puts the rules into view and edit a moment later.
            wait_for(
                &format!("{role} to {verb} {kind}: {allowed}"),
                LONG,
                || async {
                    let may = may(&tenant, &format!("has-{role}"), verb, kind).await?;
                    ensure!(may == allowed, "it is {may}");
                    Ok(())
                },
            )
            .await?;
        }
    }
    let own = "system:serviceaccount:example:vault-tenant-operator";
    ensure!(
        !may(&tenant, own, "list", "vaultauths").await?,
        "an operator of elsewhere may read here"
    );
    Ok(())
}

async fn may(tenant: &Tenant, user: &str, verb: &str, resource: &str) -> Result<bool> {
    let attributes = json!({
        "namespace": tenant.namespace, "verb": verb,
        "group": "secrets.hashicorp.com", "resource": resource,
    });
    is_allowed(tenant, user, &attributes).await
}

/// Whether the API server would let a user do this.
pub async fn is_allowed(tenant: &Tenant, user: &str, attributes: &Value) -> Result<bool> {
    let review = json!({ "spec": { "user": user, "resourceAttributes": attributes } });
    let reviews: Api<SubjectAccessReview> = Api::all(tenant.client.clone());
    let answer = reviews
        .create(&PostParams::default(), &serde_json::from_value(review)?)
        .await?;
    Ok(answer.status.context("no answer")?.allowed)
}
