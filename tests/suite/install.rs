//! What `kustomize/` renders is what a platform can install: no warning where
//! pods must be restricted, no right beyond a namespace, and an operator out of
//! its tenant's reach that works.

use std::path::Path;

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
use tokio::process::Command;

use crate::applied::{apply_without_warning, render, render_own};
use crate::support::{LONG, Suite, Team, config, prepare};

crate::trials![
    "install": overlays_run_where_pods_are_restricted, components_run_where_pods_are_restricted,
    the_operator_gets_no_right_of_the_cluster, a_tenant_is_under_thirty_lines,
    the_operator_works_beside_its_tenant, its_pod_is_small_and_locked_down, people_read_and_write_by_the_roles_that_they_have
];

/// Everything that an installation renders, with what is shipped beside it.
const RENDERED: [&str; 8] = [
    "kustomize/base",
    "kustomize/overlays/example-tenant",
    "kustomize/overlays/beside",
    "kustomize/overlays/cluster",
    "kustomize/crds",
    "rbac",
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

/// The Deployment's pod runs: admission let it in.
async fn runs(suite: &Suite, namespace: &str) -> Result<()> {
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
            ensure!(status.available_replicas == Some(1), "{status:?}");
            Ok(())
        },
    )
    .await
}

async fn overlays_run_where_pods_are_restricted(suite: &Suite) -> Result<()> {
    let client = &suite.ground.client;
    restricted(suite, "example").await?;
    for path in ["cluster", "example-tenant", "beside"] {
        let rendered = render(suite, &format!("kustomize/overlays/{path}")).await?;
        apply_without_warning(client, "default", &rendered)
            .await
            .with_context(|| format!("overlay {path}"))?;
    }
    runs(suite, "example").await?;
    runs(suite, "vto-example").await?;
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
        "components": ["kustomize/components/network-policy", "kustomize/components/vault-ca"],
        "configMapGenerator": [{ "name": "vault-ca", "files": ["ca.crt"] }],
    });
    let rendered = render_own(suite, &dir, overlay, &["resources", "components"]).await?;
    let objects = apply_without_warning(&tenant.client, &tenant.namespace, &rendered).await?;
    runs(suite, &tenant.namespace).await?;
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
    ensure!(of("NetworkPolicy").count() == 1);
    Ok(())
}

fn kind_of(object: &DynamicObject) -> &str {
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

async fn the_operator_works_beside_its_tenant(suite: &Suite) -> Result<()> {
    let tenant = suite.ground.tenant("beside").await?;
    prepare(&tenant).await?;
    let home = format!("vto-{}", tenant.namespace);
    let rendered = render(suite, "kustomize/overlays/beside").await?;
    let rendered = rendered
        .replace("vto-example", &home)
        .replace(
            "namespace: example",
            &format!("namespace: {}", tenant.namespace),
        )
        .replace(
            "--watch-namespaces=example",
            &format!("--watch-namespaces={}", tenant.namespace),
        );
    apply_without_warning(&tenant.client, "default", &rendered).await?;
    // The operator's side of it: its files and its account are in the other namespace.
    let mut beside = tenant.clone();
    beside.namespace.clone_from(&home);
    beside.dir = tenant.dir.join("beside");
    std::fs::create_dir_all(&beside.dir)?;
    let operator = beside
        .operator(&suite.binary)
        .config(&config(&tenant, ""))
        .watch_namespaces(&[&tenant.namespace])
        .start()
        .await?;
    operator.wait_ready(LONG).await?;
    let team = Team { tenant, operator };
    team.put("app", json!({ "password": "first" })).await?;
    team.static_secret("app", json!({})).await?;
    team.wait_value("app", "password", "first").await?;
    ensure!(
        team.tenant
            .secret("vault-tenant-operator-key")
            .await?
            .is_none(),
        "the key is within the tenant's reach"
    );
    let roles: Api<Role> = Api::namespaced(team.tenant.client.clone(), &home);
    let role = roles.get("vault-tenant-operator-own-namespace").await?;
    let audit = ApiAudit::new(&suite.ground.plane.audit_log);
    let ours = ApiFilter::service_account(&home, OPERATOR_ACCOUNT);
    ensure!(
        audit.forbidden(&ours)?.is_empty(),
        "refused: {:?}",
        audit.forbidden(&ours)?
    );
    let at_home = audit.requests(&ours.namespace(&home))?;
    let used = RoleUse::of(&role.rules.unwrap_or_default(), &at_home);
    ensure!(used.unused.is_empty(), "never used: {:?}", used.unused);
    Ok(())
}

async fn its_pod_is_small_and_locked_down(suite: &Suite) -> Result<()> {
    for path in ["base", "overlays/example-tenant", "overlays/beside"] {
        let rendered = render(suite, &format!("kustomize/{path}")).await?;
        let objects = parse(&rendered)?;
        let deployment = objects.iter().find(|o| kind_of(o) == "Deployment");
        let deployment = deployment.context("no Deployment")?;
        let pod = &deployment.data["spec"]["template"]["spec"];
        limits(pod).with_context(|| path.to_owned())?;
        let dir = suite.ground.dir().join("pods").join(path);
        let shown = shown_by_its_arguments(suite, pod, &objects, &dir).await?;
        let ports = &pod["containers"][0]["ports"];
        for (at, name, key) in [
            (0, "metrics", "metricsBindAddress"),
            (1, "health", "healthProbeBindAddress"),
        ] {
            let port = &ports[at]["containerPort"];
            ensure!(
                ports[at]["name"] == name && shown["telemetry"][key] == format!(":{port}"),
                "{path}: {key} is not where {ports} leads"
            );
        }
    }
    Ok(())
}

/// What the operator's pod asks for and may do, part by part.
fn limits(pod: &Value) -> Result<()> {
    let probe = |path: &str| json!({ "httpGet": { "path": path, "port": "health" } });
    let container = &pod["containers"][0];
    let parts = [
        (&pod["automountServiceAccountToken"], json!(false)),
        (&pod["securityContext"]["runAsNonRoot"], json!(true)),
        (
            &pod["securityContext"]["seccompProfile"],
            json!({ "type": "RuntimeDefault" }),
        ),
        (
            &container["resources"],
            json!({ "requests": { "cpu": "10m", "memory": "16Mi" }, "limits": { "memory": "64Mi" } }),
        ),
        (
            &container["securityContext"],
            json!({
                "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
                "capabilities": { "drop": ["ALL"] },
            }),
        ),
        (&container["livenessProbe"], probe("/healthz")),
        (&container["readinessProbe"], probe("/readyz")),
        (&pod["containers"][1], Value::Null),
        (&pod["initContainers"], Value::Null),
        // A ConfigMap and the projected token, both read only, and nothing else.
        (&container["volumeMounts"][0]["readOnly"], json!(true)),
        (&container["volumeMounts"][1]["readOnly"], json!(true)),
        (
            &pod["volumes"][1]["projected"]["sources"][0],
            json!({ "serviceAccountToken": { "path": "token", "expirationSeconds": 3600 } }),
        ),
        (&pod["volumes"][2], Value::Null),
    ];
    for (found, wanted) in parts {
        ensure!(*found == wanted, "{found} instead of {wanted}");
    }
    Ok(())
}

/// What `config show` prints for the container's arguments, with the files of
/// its ConfigMap below `dir` instead of where they are mounted.
async fn shown_by_its_arguments(
    suite: &Suite,
    pod: &Value,
    objects: &[DynamicObject],
    dir: &Path,
) -> Result<Value> {
    std::fs::create_dir_all(dir)?;
    let (volume, mount) = (&pod["volumes"][0], &pod["containers"][0]["volumeMounts"][0]);
    ensure!(volume["name"] == mount["name"], "{volume} is not {mount}");
    let map = objects.iter().find(|object| {
        kind_of(object) == "ConfigMap"
            && object.metadata.name.as_deref() == volume["configMap"]["name"].as_str()
    });
    let files = map.context("no ConfigMap")?.data["data"].as_object();
    for (name, text) in files.context("it holds no files")? {
        std::fs::write(dir.join(name), text.as_str().unwrap_or_default())?;
    }
    let place = mount["mountPath"].as_str().context("no path")?;
    let arguments: Vec<String> = serde_json::from_value(pod["containers"][0]["args"].clone())?;
    let here = dir.to_str().context("the path is no text")?;
    let (command, flags) = arguments.split_first().context("no arguments")?;
    ensure!(command == "run", "it does not run: {command}");
    let output = Command::new(&suite.binary.path)
        .args(&suite.binary.args_prefix)
        .args(["config", "show"])
        .args(flags.iter().map(|flag| flag.replace(place, here)))
        .env_clear()
        .output()
        .await?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{arguments:?}: {said}");
    Ok(serde_yaml::from_slice(&output.stdout)?)
}

async fn people_read_and_write_by_the_roles_that_they_have(suite: &Suite) -> Result<()> {
    let tenant = suite.ground.tenant("people").await?;
    let cluster = render(suite, "kustomize/overlays/cluster").await?;
    apply_without_warning(&tenant.client, "default", &cluster).await?;
    for role in ["view", "edit", "admin"] {
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": { "name": role },
            "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role },
            "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": format!("has-{role}") }],
        });
        tenant.apply(&binding.to_string()).await?;
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
    let review: Value = json!({ "spec": {
        "user": user,
        "resourceAttributes": {
            "namespace": tenant.namespace, "verb": verb,
            "group": "secrets.hashicorp.com", "resource": resource,
        },
    }});
    let reviews: Api<SubjectAccessReview> = Api::all(tenant.client.clone());
    let answer = reviews
        .create(&PostParams::default(), &serde_json::from_value(review)?)
        .await?;
    Ok(answer.status.context("no answer")?.allowed)
}
