//! The operator's pod as it is rendered: what it asks for, what it may do, and
//! that its arguments are what the binary takes.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use ground::manifests::parse;
use kube::api::DynamicObject;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::applied::render;
use crate::install::kind_of;
use crate::support::Suite;

crate::trials!["pods": its_pod_is_small_and_locked_down];

async fn its_pod_is_small_and_locked_down(suite: &Suite) -> Result<()> {
    for path in [
        "base",
        "overlays/example-tenant",
        "overlays/named",
        "overlays/beside",
    ] {
        let rendered = render(suite, &format!("kustomize/{path}")).await?;
        let objects = parse(&rendered)?;
        let deployment = objects.iter().find(|o| kind_of(o) == "Deployment");
        let deployment = deployment.context("no Deployment")?;
        let pod = &deployment.data["spec"]["template"]["spec"];
        limits(pod).with_context(|| path.to_owned())?;
        let dir = suite.ground.dir().join("pods").join(path);
        let shown = shown_by_its_arguments(suite, pod, &objects, &dir).await?;
        let by_names = shown["secretAccess"] == "named";
        ensure!(by_names == path.ends_with("named"), "{path}: {shown}");
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
