//! What is told is what docs/metrics.md says, by name, type and labels; and it is
//! told in the format that is asked for.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::*;
use crate::key::{Kind, ObjectKey, ResourceKey};
use crate::telemetry::{Life, Series, Target};

/// What the names of families begin with.
const PREFIXES: [&str; 2] = ["vto_", "process_"];

const DOCUMENT: &str = include_str!("../../docs/metrics.md");

/// A family: its type, and the names of its labels.
type Families = BTreeMap<String, (String, BTreeSet<String>)>;

/// Each family with a sample.
fn provoked() -> Metrics {
    let metrics = Metrics::new();
    let took = Duration::from_millis(3);
    metrics.reconciled("VaultStaticSecret", &None, &Next::Settled(None), took);
    let denied = Problem::PolicyDenied {
        rule: "policy.vaultAddresses",
        why: "not listed".to_owned(),
        answered: false,
    };
    metrics.reconciled("VaultConnection", &None, &Next::Failed(denied), took);
    metrics.lanes().in_line(Some(BTreeMap::new()), |_| true);
    metrics.drift_repaired("team", "VaultStaticSecret");
    metrics.synced("team", "VaultStaticSecret", "ok");
    metrics.vault_request("read", "ok", took);
    metrics.vault_login("kubernetes", "ok");
    metrics.kubernetes_request("get", "ok", took);
    metrics.watches_failing("secrets", "team", 1);
    metrics.withheld("team", "NamespaceClaimed", true);
    metrics.pruned("VaultAuth", 1);
    metrics.rights_missing("team", 1);
    metrics.rights_surplus("team", 1);
    let resource = ResourceKey {
        kind: Kind::VaultDynamicSecret,
        object: ObjectKey::new("team", "app"),
    };
    let end = Some(Timestamp::from_second(1_800_000_000).unwrap());
    let life = Life {
        given: end,
        expiry: end,
        survives_until: end,
        token: None,
    };
    metrics.lives().holds(&resource, Some(life));
    let one = |label| BTreeMap::from([(("team".to_owned(), label), 1)]);
    let world = World {
        served: BTreeMap::from([("team".to_owned(), true)]),
        resources: one("VaultAuth"),
        orphaned: one("VaultAuth"),
        managed: BTreeMap::from([("team".to_owned(), 1)]),
        held: one("kv-v2"),
        auths: one("kubernetes"),
        contested: BTreeMap::from([("team".to_owned(), 0)]),
        not_ready: one("VaultAuth"),
        series: vec![series(&resource.object.name)],
        left_out: Some(0),
        targets: BTreeMap::from([(
            ("Deployment", "team".to_owned(), "web".to_owned()),
            target(),
        )]),
    };
    metrics.looks(move || world.clone());
    metrics
}

/// A workload of which everything is told.
fn target() -> Target {
    Target {
        restarts: 2,
        pending: [("Window", 1)].into_iter().collect(),
        failed: 0,
    }
}

/// A resource of which everything is told.
fn series(name: &str) -> Series {
    let at = Some(Timestamp::from_second(1_800_000_000).unwrap());
    Series {
        kind: "VaultDynamicSecret",
        namespace: "payments-production".into(),
        name: name.into(),
        ready: Some(true),
        last_success: at,
        next_due: at,
        expiry: at,
        token_expiry: at,
        breaker_open: Some(false),
    }
}

/// The families of a classic exposition.
fn told(text: &str) -> Families {
    let mut families = Families::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, type_) = rest.split_once(' ').unwrap();
            families.insert(name.to_owned(), (type_.to_owned(), BTreeSet::new()));
        } else if !line.starts_with('#') {
            let (name, rest) = line.split_at(line.find(['{', ' ']).unwrap());
            let family = families
                .iter_mut()
                .find(|(family, (type_, _))| match type_.as_str() {
                    "histogram" => ["_bucket", "_sum", "_count"]
                        .iter()
                        .any(|end| name.strip_suffix(end) == Some(family)),
                    _ => name == family.as_str(),
                });
            let (_, (_, labels)) = family.unwrap();
            let names = rest
                .split(['{', ',', '}'])
                .filter_map(|label| label.split_once('='))
                .map(|(label, _)| label.to_owned());
            labels.extend(names.filter(|label| label != "le"));
        }
    }
    families
}

/// What stands in backticks.
fn quoted(cell: &str) -> impl Iterator<Item = &str> {
    cell.split('`').skip(1).step_by(2)
}

/// The rows of the document's tables: metric, type, labels, query.
fn rows() -> Vec<[&'static str; 4]> {
    let cells = |line: &'static str| -> Vec<&str> {
        line.trim_matches('|').split('|').map(str::trim).collect()
    };
    DOCUMENT
        .lines()
        .filter(|line| {
            line.starts_with('|') && PREFIXES.iter().any(|of| line.contains(&format!("`{of}")))
        })
        .map(|line| match cells(line)[..] {
            [_, metric, type_, labels, _, query] | [metric, type_, labels, _, query] => {
                [metric, type_, labels, query]
            }
            _ => panic!("{line}"),
        })
        .collect()
}

#[test]
fn the_document_has_what_is_told_and_nothing_else() {
    let metrics = provoked();
    // One that comes new is to be provoked above.
    let Metrics {
        registry: _,
        reconciles: _,
        lanes: _,
        syncs: _,
        drift_repairs: _,
        policy_denials: _,
        vault_requests: _,
        vault_seconds: _,
        vault_logins: _,
        kubernetes_requests: _,
        kubernetes_seconds: _,
        secret_writes: _,
        minted: _,
        left_to_expire: _,
        watch_failing: _,
        leader: _,
        withheld: _,
        pruned: _,
        rights_missing: _,
        rights_surplus: _,
        lives: _,
        told: _,
        look: _,
        names: _,
        length: _,
    } = &metrics;
    let mut documented = Families::new();
    for [metric, type_, labels, _] in rows() {
        let labels = quoted(labels).map(str::to_owned).collect();
        let family = (type_.to_owned(), labels);
        let name = quoted(metric).next().unwrap().to_owned();
        let other = documented.insert(name.clone(), family.clone());
        assert!(other.is_none_or(|other| other == family), "{name}");
    }
    assert_eq!(told(&metrics.exposition("").1), documented);
}

#[test]
fn each_example_asks_for_the_metric_of_its_row_by_its_labels() {
    for [metric, type_, labels, query] in rows() {
        let (metric, query) = (
            quoted(metric).next().unwrap(),
            quoted(query).next().unwrap(),
        );
        let mut words = query.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        let is_family = |word: &&str| PREFIXES.iter().any(|of| word.starts_with(of));
        let asked = words.find(is_family).unwrap();
        let bucket = format!("{metric}_bucket");
        let series = match type_ {
            "histogram" => bucket.as_str(),
            _ => metric,
        };
        assert_eq!(asked, series, "{query}");
        // A scrape adds the namespace of the pod where there is none.
        let known: Vec<&str> = quoted(labels).chain(["le", "namespace"]).collect();
        let listed = |open: &str, close: char| -> Vec<&str> {
            let inside = query.split(open).skip(1);
            let inside = inside.filter_map(|rest| rest.split(close).next());
            inside.flat_map(|list| list.split(", ")).collect()
        };
        let filters = listed("{", '}').into_iter();
        let filters = filters.filter_map(|filter| filter.split(['=', '!']).next());
        for label in listed("by (", ')').into_iter().chain(filters) {
            assert!(known.contains(&label), "{label} in {query}");
        }
    }
}

#[test]
fn the_format_is_the_one_that_is_asked_for() {
    let metrics = provoked();
    let is_open = |accept: &str| {
        let (type_, text) = metrics.exposition(accept);
        let open = type_.starts_with("application/openmetrics-text; version=1.0.0");
        assert_eq!(open, text.ends_with("# EOF\n"), "{type_}");
        assert!(open || type_.starts_with("text/plain; version=0.0.4"));
        open
    };
    for accept in [
        "application/openmetrics-text",
        // Prometheus 2 and 3.
        "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5, text/plain;version=1.0.0;q=0.4, */*; q=0.1",
    ] {
        assert!(is_open(accept), "{accept}");
    }
    for accept in [
        "",
        "*/*",
        "text/plain",
        "text/html,application/xhtml+xml,*/*;q=0.8",
        "text/plain, application/openmetrics-text;q=0.5",
        "application/openmetrics-text;q=0, */*",
        "application/openmetrics-text-like",
    ] {
        assert!(!is_open(accept), "{accept}");
    }
}

#[test]
fn what_there_is_of_resources_is_counted_when_somebody_asks() {
    let metrics = Metrics::new();
    assert!(!metrics.exposition("").1.contains("vto_namespace_served"));
    let served = Rc::new(std::cell::Cell::new(true));
    let now = Rc::clone(&served);
    metrics.looks(move || World {
        served: BTreeMap::from([("team".to_owned(), now.get())]),
        ..World::default()
    });
    let sample = |value| format!("vto_namespace_served{{namespace=\"team\"}} {value}\n");
    assert!(metrics.exposition("").1.contains(&sample(1)));
    served.set(false);
    let (_, text) = metrics.exposition("");
    assert!(text.contains(&sample(0)) && !text.contains("vto_resources{"));
}

#[test]
fn workloads_are_summed_up_by_what_they_wait_for() {
    let mut sum = target();
    sum.add(Target {
        restarts: 1,
        pending: [("Window", 1), ("Hold", 1)].into_iter().collect(),
        failed: 1,
    });
    let metrics = Metrics::new();
    let place = ("Deployment", "team".to_owned(), String::new());
    metrics.looks(move || World {
        targets: BTreeMap::from([(place.clone(), sum.clone())]),
        ..World::default()
    });
    let (_, text) = metrics.exposition("");
    let of_all = "kind=\"Deployment\",namespace=\"team\",name=\"\"";
    for sample in [
        format!("vto_rollouts_failed{{{of_all}}} 1\n"),
        format!("vto_rollout_restarts_pending{{{of_all},reason=\"Hold\"}} 1\n"),
        format!("vto_rollout_restarts_pending{{{of_all},reason=\"Window\"}} 2\n"),
    ] {
        assert!(text.contains(&sample), "{sample} is not in {text}");
    }
    // A sum over what is there could go down.
    assert!(!text.contains("vto_rollout_restarts_total{"));
}

#[test]
fn a_thousand_resources_are_told_in_less_than_a_megabyte() {
    let told = |count: usize| {
        let metrics = Metrics::new();
        let names = (0..count).map(|number| format!("orders-database-credentials-{number:05}"));
        let names: Vec<String> = names.collect();
        metrics.looks(move || World {
            series: names.iter().map(|name| series(name)).collect(),
            left_out: Some(0),
            ..World::default()
        });
        let first = metrics.exposition("").1;
        // The second time it is made as long at once as it becomes.
        let again = metrics.exposition("").1;
        assert!(again.capacity() <= first.len() + first.len() / 8, "{count}");
        first.len()
    };
    let (one, two) = (told(1000), told(2000));
    assert!((400_000..1_000_000).contains(&one), "{one}");
    assert!(two < 2 * one, "{two} and {one}");
}

#[test]
fn resources_without_a_value_have_no_series_of_its_family() {
    let metrics = Metrics::new();
    metrics.looks(|| World {
        series: vec![Series {
            next_due: None,
            token_expiry: None,
            ..series("app")
        }],
        left_out: Some(7),
        ..World::default()
    });
    let (_, text) = metrics.exposition("");
    assert!(text.contains(
        "vto_resource_ready{kind=\"VaultDynamicSecret\",namespace=\"payments-production\",name=\"app\"} 1\n"
    ));
    assert!(
        text.contains("vto_vault_breaker_open{namespace=\"payments-production\",name=\"app\"} 0\n")
    );
    assert!(text.contains("vto_resource_series_left_out 7\n"));
    assert!(!text.contains("next_due") && !text.contains("token_expiry"));
}

#[test]
fn a_sync_makes_no_text_anew() {
    let metrics = Metrics::new();
    let first = metrics.name("team");
    metrics.synced("team", "VaultStaticSecret", "ok");
    metrics.drift_repaired("team", "VaultStaticSecret");
    assert!(Arc::ptr_eq(&first, &metrics.name("team")));
    assert!(!Arc::ptr_eq(&first, &metrics.name("other")));
    // One here, one among the names, one in each of the two families.
    assert_eq!(Arc::strong_count(&first), 4);
}
