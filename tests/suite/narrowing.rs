//! The platform's lists: what a tenant may name ends where they say, whatever
//! the spelling, and what was refused reached nobody.

use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::Result;
use ground::wait_for;
use serde_json::{Value, json};

use crate::attempts::{
    Attempt, VICTIM, make_and_judge, nothing_arrived, own_connection, server, team, tenant,
    token_at,
};
use crate::grades::Grade;
use crate::support::{LONG, Suite};

crate::trials!["narrowing": ; in each grade: lists_narrow_what_a_tenant_may_name];

/// Paths that would lead out of the list `team/app`.
fn paths() -> Vec<Attempt> {
    let at = |mount: &str, path: &str| json!({ "mount": mount, "type": "kv-v1", "path": path });
    let (list, plain) = ("policy.secretPaths", "plain paths");
    [
        ("path", "team", "other/app", [list, "team/other/app"]),
        (
            "path-not-at-a-segment",
            "team",
            "applications",
            [list, "team/applications"],
        ),
        ("path-in-capitals", "team", "APP", [list, "team/APP"]),
        // Cyrillic letters.
        ("path-alike", "team", "\u{430}pp", [list, "team/"]),
        (
            "path-of-version-two",
            "team",
            "data/app",
            [list, "team/data/app"],
        ),
        (
            "path-with-slashes-around",
            "/team/",
            "/other/",
            [list, "team/other"],
        ),
        (
            "path-that-climbs",
            "team",
            "app/../other",
            [plain, "team/app/../other"],
        ),
        ("path-encoded", "team", "app/%2e%2e/other", [plain, "'%'"]),
        (
            "path-with-a-slash-encoded",
            "team",
            "app%2f..%2fother",
            [plain, "'%'"],
        ),
        (
            "path-with-two-slashes",
            "team",
            "app//other",
            [plain, "empty segment"],
        ),
        ("path-with-a-query", "team", "app?list=true", [plain, "'?'"]),
        (
            "path-with-a-backslash",
            "team",
            "app\\..\\other",
            [plain, "character"],
        ),
        ("mount-alike", "te\u{430}m", "app", [list, "/app"]),
        ("mount-that-climbs", "team/app/..", "app", [plain, ".."]),
        (
            "mount-in-a-namespace",
            "elsewhere/team",
            "app",
            [list, "elsewhere/team/app"],
        ),
    ]
    .into_iter()
    .map(|(name, mount, path, says)| Attempt::secret(name, at(mount, path), says))
    .collect()
}

/// Links in a folder whose files may be named, with a file that may.
fn files(folder: &Path, ca_pem: &str, address: &str) -> Result<Vec<Attempt>> {
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join("ca.crt"), ca_pem)?;
    symlink("/proc/self/environ", folder.join("environ"))?;
    symlink("/etc/hostname", folder.join("outside"))?;
    symlink("..", folder.join("up"))?;
    let attempt = |name: &'static str, file: &str, says| {
        let spec =
            json!({ "address": address, "caCertPath": format!("{}{file}", folder.display()) });
        Attempt::connection(name, spec, says)
    };
    let list = "policy.filePaths";
    Ok(vec![
        attempt(
            "link-to-environ",
            "/environ",
            ["protected files", "/environ"],
        ),
        attempt("link-outside", "/outside", [list, "leads out of"]),
        attempt(
            "link-to-a-folder",
            "/up/operator-1.token",
            [list, "leads out of"],
        ),
        attempt("beside", "/../operator-1.token", ["plain paths", ".."]),
        attempt("folder-of-a-like-name", "2/ca.crt", [list, "files2/ca.crt"]),
    ])
}

async fn lists_narrow_what_a_tenant_may_name(suite: &Suite, grade: Grade) -> Result<()> {
    let vault = server(suite, "narrow", "narrow.example").await?;
    let kubernetes = |more: Value| json!({ "kubernetes": more });
    let tenant = tenant(suite, grade, "narrow").await?;
    let folder = tenant.dir.join("files");
    let mut attempts = files(&folder, &tenant.ca_pem, &vault.url())?;
    attempts.extend(paths());
    attempts.extend([
        Attempt::auth(
            "account",
            kubernetes(json!({ "serviceAccount": "other" })),
            ["policy.serviceAccounts", "other"],
        ),
        Attempt::auth(
            "role",
            kubernetes(json!({ "role": "admin" })),
            ["policy.vaultRoles", "admin"],
        ),
        Attempt::auth(
            "role-in-capitals",
            kubernetes(json!({ "role": tenant.vault_role().to_uppercase() })),
            ["policy.vaultRoles", "the Vault role"],
        ),
        Attempt::auth(
            "mount",
            json!({ "mount": "kubernetes-other" }),
            ["policy.authMounts", "kubernetes-other"],
        ),
        Attempt::auth(
            "namespace-of-a-login",
            json!({ "namespace": "elsewhere" }),
            ["policy.vaultNamespaces", "elsewhere"],
        ),
        Attempt::secret(
            "namespace-of-a-read",
            json!({ "namespace": "/elsewhere/" }),
            ["policy.vaultNamespaces", "elsewhere"],
        ),
        Attempt::secret(
            "app-name",
            json!({ "mount": "team", "type": "kv-v1", "path": "app", "destination": { "name": "other" } }),
            ["policy.destinationNames", "other"],
        ),
    ]);
    let config = format!(
        "{}policy:\n  serviceAccounts: [{VICTIM}]\n  vaultRoles: [\"{}\"]\n  authMounts: [kubernetes]\n  vaultNamespaces: [root]\n  secretPaths: [team/app]\n  filePaths: [\"{}\"]\n  destinationNames: [\"app-*\"]\n",
        own_connection(suite, &vault),
        tenant.vault_role(),
        folder.display()
    );
    // What is within the lists, a file with its CA too.
    let path = json!({ "mount": "team", "type": "kv-v1", "path": "app/" });
    let within = Attempt {
        connection: Some(json!({ "address": vault.url(), "caCertPath": folder.join("ca.crt") })),
        ..Attempt::secret("app-allowed", path, ["", ""])
    };
    let resources = within.resources(&tenant);
    let team = team(suite, grade, tenant, &config, &resources).await?;
    make_and_judge(&team, &attempts).await?;
    nothing_arrived(suite, &team, &[&vault]).await?;
    within.make(&team.tenant).await?;
    wait_for("the login that is allowed", LONG, || async {
        token_at(&vault)
    })
    .await?;
    Ok(())
}
