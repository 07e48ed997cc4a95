//! The node's network: two addresses on its loopback, and a bridge that pods hang on.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::json;

/// The node's own address: there Vault and PostgreSQL serve, for pods and for the ground alike.
pub const ADDRESS: &str = "10.199.0.1";

/// The first of the API server's `--service-cluster-ip-range`: what `KUBERNETES_SERVICE_HOST` says in a pod. It is an
/// address of the node, so that no kube-proxy is needed.
pub const SERVICE_ADDRESS: &str = "10.0.0.1";

/// Brings the interfaces of a new network namespace up.
///
/// # Errors
/// `ip` isn't there or refuses a step.
pub(super) fn bring_up() -> Result<()> {
    let [node, service] = [ADDRESS, SERVICE_ADDRESS].map(|address| format!("{address}/32"));
    for arguments in [
        ["link", "set", "lo", "up"].as_slice(),
        &["address", "add", &node, "dev", "lo"],
        &["address", "add", &service, "dev", "lo"],
    ] {
        let said = Command::new("ip")
            .args(arguments)
            .output()
            .context("can't run ip: install iproute2")?;
        let words = String::from_utf8_lossy(&said.stderr);
        ensure!(said.status.success(), "ip {arguments:?}: {words}");
    }
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").context("can't let the bridge forward")
}

/// Configuration of the network plugins.
pub(super) fn conflist(home: &Path) -> String {
    json!({
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [{
            "type": "bridge",
            "bridge": "pods0",
            "isGateway": true,
            "hairpinMode": true,
            "ipam": {
                "type": "host-local",
                "dataDir": home.join("addresses"),
                "ranges": [[{ "subnet": "10.201.0.0/24" }]],
                "routes": [{ "dst": "0.0.0.0/0" }],
            },
        }],
    })
    .to_string()
}
