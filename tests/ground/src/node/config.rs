//! What containerd and the kubelet are told.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::json;

use super::PAUSE_IMAGE;
use super::network::ADDRESS;
use crate::components::Components;
use crate::pki::Identity;

/// Where containerd listens.
pub(super) const SOCKET: &str = "/run/containerd.sock";

/// What containerd keeps until the next start of the machine.
pub(super) const STATE: &str = "/run/containerd";

/// The program that holds the containers of one pod.
pub(super) const SHIM: &str = "containerd-shim-runc-v2";

/// Where the kubelet tells whether it works; on the namespace's own loopback.
pub(super) const KUBELET_HEALTH: &str = "http://127.0.0.1:10248/healthz";

/// containerd's configuration, version 3.
pub(super) fn containerd(components: &Components, home: &Path) -> Result<String> {
    let folder = |name: &str| -> Result<String> {
        let folder = components.path(name)?.parent();
        let folder = folder.with_context(|| format!("{name} lies in no folder"))?;
        Ok(format!("{folder:?}"))
    };
    let plugins = [
        folder("bridge")?,
        folder("host-local")?,
        folder("loopback")?,
    ]
    .join(", ");
    let runc = format!("{:?}", components.path("runc")?);
    let [root, cni] = ["containerd", "cni.d"].map(|name| format!("{:?}", home.join(name)));
    Ok(format!(
        r#"version = 3
root = {root}
state = "{STATE}"
disabled_plugins = [
  "io.containerd.internal.v1.opt",
  "io.containerd.internal.v1.tracing",
  "io.containerd.nri.v1.nri",
  "io.containerd.tracing.processor.v1.otlp",
]

[grpc]
  address = "{SOCKET}"

[plugins."io.containerd.cri.v1.images"]
  snapshotter = "overlayfs"
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = "{PAUSE_IMAGE}"

[plugins."io.containerd.cri.v1.runtime"]
  # Root in a container may lack the right to lower it.
  restrict_oom_score_adj = true
  disable_apparmor = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = [{plugins}]
    conf_dir = {cni}
  [plugins."io.containerd.cri.v1.runtime".containerd]
    default_runtime_name = "runc"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
        BinaryName = {runc}
        SystemdCgroup = false
"#
    ))
}

/// The file of the kubelet's configuration.
pub(super) const KUBELET: &str = "kubelet.json";

/// More process ids than any kernel has (`PID_MAX_LIMIT`, 2^22).
const MORE_THAN_ALL: &str = "10M";

/// The kubelet's configuration with a threshold that no node can keep, or without.
pub(super) fn with_pressure(config: &str, pressure: bool) -> Result<String> {
    let mut config: serde_json::Value = serde_json::from_str(config)?;
    let thresholds = config["evictionHard"].as_object_mut();
    let thresholds = thresholds.context("no thresholds")?;
    match pressure {
        true => thresholds.insert("pid.available".to_owned(), json!(MORE_THAN_ALL)),
        false => thresholds.remove("pid.available"),
    };
    Ok(config.to_string())
}

/// The kubelet's configuration, kubelet.config.k8s.io/v1beta1.
pub(super) fn kubelet(home: &Path, ca: &Path, serving: &Identity, cgroup: &str) -> Result<String> {
    let resolver = home.join("resolv.conf");
    std::fs::write(&resolver, format!("nameserver {ADDRESS}\n"))?;
    let config = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": ADDRESS,
        "authentication": { "anonymous": { "enabled": false }, "x509": { "clientCAFile": ca } },
        "authorization": { "mode": "Webhook" },
        "tlsCertFile": serving.cert_file,
        "tlsPrivateKeyFile": serving.key_file,
        "containerRuntimeEndpoint": format!("unix://{SOCKET}"),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{cgroup}"),
        "failCgroupV1": false,
        "failSwapOn": false,
        "clusterDNS": [ADDRESS],
        "clusterDomain": "cluster.local",
        "resolvConf": resolver,
        "volumePluginDir": home.join("volume-plugins"),
        // The machine's disk may be nearly full, which is none of the tests' business.
        "evictionHard": { "memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%", "nodefs.inodesFree": "1%" },
        "imageGCHighThresholdPercent": 100,
        // How long a pressure lasts at least once it was seen; five minutes by default.
        "evictionPressureTransitionPeriod": "1s",
        "maxPods": 100,
        // How soon a changed Secret is in a volume: as soon as the kubelet's watch tells of it.
        "syncFrequency": "5s",
        "nodeStatusUpdateFrequency": "5s",
    });
    Ok(config.to_string())
}
