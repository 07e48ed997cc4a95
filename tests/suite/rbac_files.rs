//! `kubectl vto rbac` without a cluster: what it prints, what it tells of Roles in
//! files, and what of mistakes. No ground is needed.

use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use libtest_mimic::{Failed, Trial};
use serde_json::{Value, json};

use crate::support::merge;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_kubectl-vto");
const OVERLAY: &str = "kustomize/overlays/named";
pub const SAME: &str = "all that is needed, and nothing else\n";

pub fn trials() -> Vec<Trial> {
    let trial = |name: &'static str, run: fn() -> Result<()>| {
        Trial::test(format!("rbac_files::{name}"), move || {
            run().map_err(|error| Failed::from(format!("{error:#}")))
        })
    };
    vec![
        trial(
            "the_overlay_holds_what_is_printed",
            the_overlay_holds_what_is_printed,
        ),
        trial(
            "the_shipped_roles_are_the_least",
            the_shipped_roles_are_the_least,
        ),
        trial("roles_in_files_are_compared", roles_in_files_are_compared),
        trial(
            "a_list_on_standard_input_is_as_good",
            a_list_on_standard_input_is_as_good,
        ),
        trial(
            "mistakes_name_their_place_and_the_mend",
            mistakes_name_their_place_and_the_mend,
        ),
    ]
}

/// How a run ended: code, standard output, standard error.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

/// Runs the command in a folder of the repository.
fn rbac(folder: &str, arguments: &[&str], input: &str) -> Result<Ran> {
    let mut command = Command::new(PROGRAM);
    command
        .arg("rbac")
        .args(arguments)
        .current_dir(ground::paths::repository().join(folder))
        .env_clear();
    run(command, input)
}

pub fn run(mut command: Command, input: &str) -> Result<Ran> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().context("no standard input")?;
    // One that refuses its arguments reads nothing.
    drop(stdin.write_all(input.as_bytes()));
    drop(stdin);
    let output = child.wait_with_output()?;
    Ok(Ran {
        code: output.status.code().context("killed")?,
        out: String::from_utf8(output.stdout)?,
        err: String::from_utf8(output.stderr)?,
    })
}

/// Ended with this code and these words on either stream.
pub fn expect(ran: &Ran, code: i32, words: &[&str]) -> Result<()> {
    ensure!(ran.code == code, "{ran:?}");
    for word in words {
        ensure!(
            ran.out.contains(word) || ran.err.contains(word),
            "no {word:?} in {ran:?}"
        );
    }
    Ok(())
}

/// The command that the overlay's own comment gives.
fn overlays_command() -> Result<Vec<String>> {
    let path = ground::paths::repository()
        .join(OVERLAY)
        .join("kustomization.yaml");
    let text = std::fs::read_to_string(path)?;
    let (_, command) = text
        .split_once("kubectl vto rbac ")
        .context("no command in the overlay")?;
    let (command, _) = command
        .split_once(" > rbac.yaml")
        .context("it is not written to rbac.yaml")?;
    let words = command.split_whitespace();
    Ok(words
        .filter(|word| !["\\", "#"].contains(word))
        .map(str::to_owned)
        .collect())
}

fn the_overlay_holds_what_is_printed() -> Result<()> {
    let command = overlays_command()?;
    let arguments: Vec<&str> = command.iter().map(String::as_str).collect();
    let ran = rbac(OVERLAY, &arguments, "")?;
    ensure!(ran.code == 0 && ran.err.is_empty(), "{ran:?}");
    let path = ground::paths::repository().join(OVERLAY).join("rbac.yaml");
    let held = std::fs::read_to_string(path)?;
    ensure!(held == ran.out, "rbac.yaml is not what {command:?} prints");
    let check = [arguments.as_slice(), &["--check", "rbac.yaml"]].concat();
    let ran = rbac(OVERLAY, &check, "")?;
    ensure!(ran.code == 0 && ran.out == SAME, "{ran:?}");
    Ok(())
}

fn the_shipped_roles_are_the_least() -> Result<()> {
    for arguments in [
        "-n example --check rbac/role.yaml --check rbac/leadership",
        "-n vto-example --watch-namespaces example --check -",
    ] {
        // The second gets what a platform would apply, rendered.
        let home = |path: &str| -> Result<String> {
            let path = ground::paths::repository().join(path);
            let role = std::fs::read_to_string(path)?;
            Ok(role.replacen("metadata:", "metadata:\n  namespace: vto-example", 1))
        };
        let input = [
            std::fs::read_to_string(ground::paths::repository().join("rbac/role.yaml"))?,
            home("rbac/leadership/role.yaml")?,
            home("rbac/own-namespace/role.yaml")?,
        ];
        let words: Vec<&str> = arguments.split(' ').collect();
        let ran = rbac("", &words, &input.join("---\n"))?;
        ensure!(ran.code == 0 && ran.out == SAME, "{arguments}: {ran:?}");
    }
    Ok(())
}

fn roles_in_files_are_compared() -> Result<()> {
    let base = [
        "-n",
        "example",
        "--check",
        "rbac/leadership",
        "--check",
        "-",
    ];
    let role = std::fs::read_to_string(ground::paths::repository().join("rbac/role.yaml"))?;
    let less = role.replace("[list, watch, patch]", "[list, patch]");
    let words = [
        "example: missing: watch deployments.apps",
        "example: missing: watch daemonsets.apps",
        "(for rolloutRestartTargets: ",
    ];
    expect(&rbac("", &base, &less)?, 1, &words)?;
    let more = role.replace(
        "watch, create, patch, delete]",
        "watch, create, update, patch, delete]",
    );
    let ran = rbac("", &base, &more)?;
    expect(&ran, 1, &["example: too much: update secrets\n"])?;
    ensure!(ran.out.lines().count() == 1, "{ran:?}");
    let any = role.replace("resources: [events]", "resources: ['*']");
    let words = ["example: too much: create *.events.k8s.io\n"];
    expect(&rbac("", &base, &any)?, 1, &words)?;
    // What serves all names is more than what serves those that are needed.
    let named = [
        base.as_slice(),
        &["--grade=named", "-f", "examples/manifests"],
    ]
    .concat();
    let words = [
        "example: too much: get, list, watch, create, patch, delete secrets (needed for single names alone)",
        "example: too much: create serviceaccounts/token (needed for single names alone)",
        "example: too much: list, watch, patch statefulsets.apps\n",
    ];
    let ran = rbac("", &named, &role)?;
    expect(&ran, 1, &words)?;
    ensure!(!ran.out.contains("missing"), "{ran:?}");
    let ran = rbac("", &base, "kind: RoleBinding\n")?;
    expect(&ran, 2, &["- holds no Role"])
}

fn a_list_on_standard_input_is_as_good() -> Result<()> {
    let files = ["-n", "example", "--grade=named", "-f", "examples/manifests"];
    let expected = rbac("", &files, "")?;
    ensure!(expected.code == 0, "{expected:?}");
    let mut items = Vec::new();
    for file in ["1-connection", "2-auth", "3-secret", "4-deployment"] {
        let path = format!("examples/manifests/{file}.yaml");
        let text = std::fs::read_to_string(ground::paths::repository().join(path))?;
        for object in ground::manifests::parse(&text)? {
            items.push(serde_json::to_value(object)?);
        }
    }
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": items });
    let arguments = ["-n", "example", "--grade=named", "-f", "-"];
    let ran = rbac("", &arguments, &list.to_string())?;
    ensure!(ran.code == 0 && ran.out == expected.out, "{ran:?}");
    let twice = [arguments.as_slice(), &["--check", "-"]].concat();
    expect(&rbac("", &twice, "")?, 2, &["read once only"])
}

/// A manifest of ours on standard input.
fn manifest(kind: &str, metadata: Value, spec: Value) -> String {
    json!({
        "apiVersion": "secrets.hashicorp.com/v1beta1", "kind": kind,
        "metadata": metadata, "spec": spec,
    })
    .to_string()
}

fn mistakes_name_their_place_and_the_mend() -> Result<()> {
    let secret = |name: &str, change: Value| {
        let mut spec = json!({
            "mount": "kv", "type": "kv-v2", "path": "app",
            "destination": { "name": "app", "create": true },
        });
        merge(&mut spec, change);
        manifest("VaultStaticSecret", json!({ "name": name }), spec)
    };
    let auth = manifest(
        "VaultAuth",
        json!({ "name": "default" }),
        json!({
            "method": "kubernetes", "mount": "kubernetes",
            "kubernetes": { "role": "app", "serviceAccount": "app", "audiences": ["vault"] },
        }),
    );
    let connection = manifest(
        "VaultConnection",
        json!({ "name": "default" }),
        json!({ "address": "https://vault.example" }),
    );
    let whole = |secret: &str| [auth.as_str(), &connection, secret].join("\n---\n");
    let stdin = "-n team --grade named -f -";
    let cases: [(&str, String, i32, &[&str]); 16] = [
        (
            stdin,
            whole(&secret("app", json!({}))),
            0,
            &["resourceNames: [app]"],
        ),
        (
            stdin,
            secret("app", json!({})),
            2,
            &[
                "standard input, document 1: VaultStaticSecret \"app\"",
                "VaultAuth team/default",
                "give the manifests that are lacking with -f",
            ],
        ),
        (
            stdin,
            format!("{auth}\n---\nkind: [\n"),
            2,
            &["standard input, document 2: is no YAML: "],
        ),
        (
            stdin,
            manifest(
                "VaultStaticSecret",
                json!({ "name": "app" }),
                json!({ "mount": "kv" }),
            ),
            2,
            &[
                "document 1: VaultStaticSecret \"app\": does not fit its kind: ",
                "missing field",
            ],
        ),
        (
            stdin,
            manifest("VaultSecret", json!({ "name": "app" }), json!({})),
            2,
            &[
                "VaultSecret \"app\": the kind is not known",
                "VaultStaticSecret",
            ],
        ),
        (
            stdin,
            auth.replace("v1beta1", "v2"),
            2,
            &["the version v2 is not known: use v1beta1 or v1alpha1"],
        ),
        (
            stdin,
            secret("a\nrules: []", json!({})),
            2,
            &["metadata.name is no name that an object can have"],
        ),
        (
            stdin,
            format!("{auth}\n---\n{auth}"),
            2,
            &["document 2: VaultAuth \"default\": stands already in standard input, document 1"],
        ),
        (
            stdin,
            whole(&secret(
                "app",
                json!({ "rolloutRestartTargets": [{ "kind": "Deployment", "name": "" }] }),
            )),
            2,
            &["document 3: VaultStaticSecret \"app\": spec.rolloutRestartTargets: \"\" is no name"],
        ),
        (
            stdin,
            whole(&secret(
                "app",
                json!({ "destination": { "name": "vault-tenant-operator-key" } }),
            )),
            0,
            &[
                "note: standard input, document 3: VaultStaticSecret \"app\": ",
                "it is given no rights",
            ],
        ),
        (
            stdin,
            whole(&secret("app", json!({ "rollout": { "auto": true } }))),
            0,
            &[
                "note: standard input, document 3: VaultStaticSecret \"app\": spec.rollout finds no workload",
                "spec.rolloutRestartTargets",
            ],
        ),
        (
            "-n home --watch-namespaces one,two --grade named -f -",
            auth.clone(),
            2,
            &["names no namespace, and the operator watches several: set metadata.namespace"],
        ),
        (
            stdin,
            manifest(
                "VaultAuth",
                json!({ "name": "a", "namespace": "other" }),
                json!({}),
            ),
            0,
            &[
                "note: standard input, document 1: VaultAuth \"a\": is in the namespace other, which the operator does not watch",
            ],
        ),
        ("-n team --grade named", String::new(), 2, &["with -f"]),
        (
            "-n team -f nowhere.yaml --config kustomize/base/operator/deployment.yaml",
            String::new(),
            2,
            &[
                "the configuration is refused",
                "deployment.yaml",
                "apiVersion",
            ],
        ),
        (
            "-n Team",
            String::new(),
            2,
            &["--namespace: \"Team\" is no name"],
        ),
    ];
    for (arguments, input, code, words) in cases {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        expect(&rbac("", &arguments, &input)?, code, words)?;
    }
    for (path, word) in [
        ("nowhere.yaml", "nowhere.yaml cannot be read"),
        ("kustomize", "kustomize holds no file that ends in"),
    ] {
        let ran = rbac("", &["-n", "team", "-f", path], "")?;
        expect(&ran, 2, &[word])?;
    }
    Ok(())
}
