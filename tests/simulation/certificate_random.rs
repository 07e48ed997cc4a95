//! Certificates of the random runs: with and without a lease, one that Vault forgets,
//! one that nobody revokes, and what people do about them.

use serde_json::{Value, json};

use crate::certificate_people::{Spoiled, certificate, living};
use crate::tenant::Tenant;

/// The resources, each with a role of its name.
const NAMES: [&str; 4] = ["cert", "leased", "forgot", "left"];

/// The workload of the first two.
const WORKLOAD: &str = "tls";

/// A resource as it is at first.
fn manifest(name: &str) -> Value {
    let offset = match name {
        "cert" => "5m",
        "leased" => "200s",
        "forgot" => "100s",
        _ => "2m",
    };
    let mut manifest = certificate(name, offset);
    let spec = &mut manifest["spec"];
    match name {
        "cert" | "leased" => {
            spec["rolloutRestartTargets"] = json!([{ "kind": "Deployment", "name": WORKLOAD }]);
        }
        "left" => spec["revoke"] = json!(false),
        _ => {}
    }
    manifest
}

/// What there is at first.
pub fn begin(tenant: &Tenant) {
    for (name, max, leases, forgets) in [
        ("cert", 1200, false, false),
        ("leased", 900, true, false),
        ("forgot", 700, false, true),
        ("left", 600, false, false),
    ] {
        tenant.issuing_role(name, max, leases, forgets);
    }
    tenant.create_workload(WORKLOAD, &["cert", "leased"]);
    for name in NAMES {
        tenant.apply_certificate(&manifest(name));
    }
}

/// One thing that somebody does.
pub fn edit(tenant: &Tenant) {
    let (what, name, value) = {
        let mut rng = tenant.0.rng.borrow_mut();
        (rng.below(14), rng.pick(&NAMES), rng.below(3))
    };
    let number = usize::try_from(value).unwrap();
    let change = |field: &str, value: Value| {
        let mut manifest = manifest(name);
        if let Some(found) = living(&tenant.0, name) {
            manifest["spec"] = serde_json::to_value(&found.spec).unwrap();
        }
        manifest["spec"][field] = value;
        tenant.apply_certificate(&manifest);
    };
    match what {
        0 | 1 => change("commonName", json!(format!("{name}-{value}.example"))),
        2 => change("ttl", json!(["500s", "10m", "1h"][number])),
        // The last leaves nothing of any certificate's life.
        3 => change("expiryOffset", json!(["1m", "200s", "20m"][number])),
        4 => {
            let targets = match value {
                0 => json!([]),
                _ => manifest(name)["spec"]["rolloutRestartTargets"].clone(),
            };
            change("rolloutRestartTargets", targets);
        }
        5 => {
            let excludes = if value == 1 {
                vec!["issuing_ca"]
            } else {
                vec![]
            };
            let mut destination = manifest(name)["spec"]["destination"].clone();
            destination["labels"] = json!({ "app": value.to_string() });
            destination["transformation"] = json!({ "excludes": excludes });
            change("destination", destination);
        }
        6 => change("revoke", json!(value != 0)),
        7 | 8 => {
            let how = [Spoiled::Deleted, Spoiled::Raw, Spoiled::Made][number];
            tenant.spoil_certificate(name, how);
        }
        9 => tenant.delete_certificate(name),
        10 => {
            tenant.delete_certificate(name);
            tenant.apply_certificate(&manifest(name));
        }
        11 => {
            tenant.restart_operator(false);
            tenant.delete_certificate(name);
        }
        12 => tenant.create_workload(WORKLOAD, &["cert", "leased"]),
        _ => tenant.touch_template(WORKLOAD),
    }
}

/// Ends what would keep the specs from being reached.
pub fn put_right(tenant: &Tenant) {
    for name in NAMES {
        let gone = tenant.0.rng.borrow_mut().chance(1, 4);
        if !gone {
            tenant.apply_certificate(&manifest(name));
        }
    }
}
