//! `kubectl vto rbac` against the cluster, as a plugin of the real kubectl: what it
//! tells of what is there, and that what it prints gives that and nothing else.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use ground::tenant::{APP_ACCOUNT, OPERATOR_ACCOUNT};
use ground::wait_for;
use k8s_openapi::api::rbac::v1::Role;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use crate::install::is_allowed;
use crate::rbac_files::{PROGRAM, Ran, SAME, expect, run};
use crate::support::{LONG, Suite, prepare};

crate::trials![
    "rbac": roles_of_the_cluster_are_compared, the_printed_role_gives_that_and_nothing_else,
    who_may_not_impersonate_is_told_what_to_do,
];

/// `kubectl vto rbac` as a plugin of the real kubectl.
async fn kubectl(suite: &Suite, kubeconfig: &Path, arguments: &[&str]) -> Result<Ran> {
    let folder = PathBuf::from(PROGRAM);
    let mut command = Command::new(suite.ground.components().path("kubectl")?);
    command
        .args(["vto", "rbac"])
        .args(arguments)
        .env_clear()
        .env("PATH", folder.parent().context("no folder")?)
        .env("KUBECONFIG", kubeconfig)
        .env("HOME", suite.ground.dir());
    tokio::task::spawn_blocking(move || run(command, "")).await?
}

async fn roles_of_the_cluster_are_compared(suite: &Suite) -> Result<()> {
    let tenant = suite.ground.tenant("rbac-live").await?;
    let namespace = tenant.namespace.as_str();
    let check = async |what: &[&str]| {
        let arguments = [&["--namespace", namespace], what].concat();
        kubectl(suite, &suite.ground.plane.kubeconfig, &arguments).await
    };
    let roles = [
        "--check=role/vault-tenant-operator",
        "--check=role/vault-tenant-operator-leadership",
    ];
    let bindings = [
        "--check=rolebinding/vault-tenant-operator",
        "--check=rolebinding/vault-tenant-operator-leadership",
    ];
    for what in [roles.as_slice(), &bindings, &["--check"]] {
        let ran = check(what).await?;
        ensure!(ran.code == 0 && ran.out == SAME, "{what:?}: {ran:?}");
    }
    let ran = check(&roles[..1]).await?;
    let words =
        ["missing: get, create, patch leases.coordination.k8s.io \"vault-tenant-operator-leader\""];
    expect(&ran, 1, &words)?;
    let ran = check(&["--check=role/nobodys"]).await?;
    expect(&ran, 2, &["there is no Role nobodys in", namespace])?;
    // Whatever else binds the account counts, though no Role of ours says it.
    let more = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": { "name": "more" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:kube-dns" },
        "subjects": [{ "kind": "ServiceAccount", "name": OPERATOR_ACCOUNT, "namespace": namespace }],
    });
    tenant.apply(&more.to_string()).await?;
    let owned = tenant.api::<Role>();
    let rules = json!({ "rules": [{
        "apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list", "watch", "create", "patch"],
    }] });
    owned
        .patch(
            OPERATOR_ACCOUNT,
            &PatchParams::default(),
            &Patch::Merge(rules),
        )
        .await?;
    let user = format!("system:serviceaccount:{namespace}:{OPERATOR_ACCOUNT}");
    let asked = |verb: &str, group: &str, resource: &str| json!({ "namespace": namespace, "verb": verb, "group": group, "resource": resource });
    let (patch, list) = (
        asked("patch", "apps", "deployments"),
        asked("list", "", "services"),
    );
    wait_for("the API server to know", LONG, || async {
        ensure!(is_allowed(&tenant, &user, &list).await?, "nothing more yet");
        ensure!(
            !is_allowed(&tenant, &user, &patch).await?,
            "nothing less yet"
        );
        Ok(())
    })
    .await?;
    let ran = check(&roles).await?;
    expect(
        &ran,
        1,
        &[
            "missing: delete secrets (for ",
            "missing: create serviceaccounts/token (for ",
        ],
    )?;
    ensure!(!ran.out.contains("too much"), "{ran:?}");
    let ran = check(&["--check"]).await?;
    let services = format!("{namespace}: too much: list, watch services\n");
    expect(
        &ran,
        1,
        &[&services, "missing: list, watch, patch deployments.apps"],
    )?;
    Ok(())
}

async fn the_printed_role_gives_that_and_nothing_else(suite: &Suite) -> Result<()> {
    let tenant = suite.ground.tenant("rbac-printed").await?;
    prepare(&tenant).await?;
    let namespace = tenant.namespace.as_str();
    let manifests = ground::paths::repository().join("examples/manifests");
    let manifests = manifests.display().to_string();
    let named = ["--namespace", namespace, "--grade=named", "-f", &manifests];
    let admin = &suite.ground.plane.kubeconfig;
    let printed = kubectl(suite, admin, &named).await?;
    ensure!(printed.code == 0, "{printed:?}");
    // It takes the place of what the tenant has.
    for role in [OPERATOR_ACCOUNT, "vault-tenant-operator-leadership"] {
        tenant
            .api::<Role>()
            .delete(role, &DeleteParams::default())
            .await?;
    }
    tenant.apply(&printed.out).await?;
    let check = [named.as_slice(), &["--check"]].concat();
    wait_for("the printed rights, exactly", LONG, || async {
        let ran = kubectl(suite, admin, &check).await?;
        ensure!(ran.code == 0 && ran.out == SAME, "{ran:?}");
        Ok(())
    })
    .await?;
    let user = format!("system:serviceaccount:{namespace}:{OPERATOR_ACCOUNT}");
    for (verb, name, allowed) in [
        ("get", "web-settings", true),
        ("list", "web-settings", true),
        ("create", "web-settings", true),
        ("get", "vault-ca", true),
        ("patch", "vault-ca", false),
        ("get", "others", false),
        ("list", "", false),
        ("watch", "", false),
        ("create", "", false),
    ] {
        let asked =
            json!({ "namespace": namespace, "verb": verb, "resource": "secrets", "name": name });
        let may = is_allowed(&tenant, &user, &asked).await?;
        ensure!(may == allowed, "{verb} {name:?}: {may}");
    }
    Ok(())
}

async fn who_may_not_impersonate_is_told_what_to_do(suite: &Suite) -> Result<()> {
    let tenant = suite.ground.tenant("forbidden-rbac-app").await?;
    let kubeconfig = tenant.kubeconfig("rbac", APP_ACCOUNT, None).await?;
    let arguments = ["--namespace", &tenant.namespace, "--check"];
    let ran = kubectl(suite, &kubeconfig, &arguments).await?;
    expect(
        &ran,
        2,
        &["cannot be asked: ", "impersonate", "--check role/NAME"],
    )?;
    let arguments = ["--namespace", &tenant.namespace, "--check=role/x"];
    let ran = kubectl(suite, &kubeconfig, &arguments).await?;
    expect(
        &ran,
        2,
        &["Role x cannot be read: ", "cannot get resource \"roles\""],
    )
}
