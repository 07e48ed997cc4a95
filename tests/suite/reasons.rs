//! docs/troubleshooting.md has an entry for each reason that a condition, an
//! event or a metric can carry, and none for another; what it says of trying
//! again is what the table of the code says. No ground is needed.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use libtest_mimic::{Failed, Trial};

use crate::documents::{quoted, rows};

const TROUBLESHOOTING: &str = include_str!("../../docs/troubleshooting.md");
const PROBLEM: &str = include_str!("../../src/problem/mod.rs");

/// The reasons that are no problem of a reconcile, each with the source that
/// writes it.
const OTHERS: [(&str, &str); 40] = [
    ("Synced", REPORT_SECRET),
    ("Current", TARGETS),
    ("Rolling", TARGETS),
    ("RolloutFailed", TARGETS),
    ("AnnotationStripped", TARGETS),
    ("RestartUndone", TARGETS),
    ("Pending", TARGETS),
    ("TargetMissing", TARGETS),
    ("NotWritten", TARGETS),
    ("RolloutDisabled", TARGETS),
    ("TargetsNotVisible", TARGETS),
    ("TargetsNotListed", TARGETS),
    (
        "OverlapCut",
        include_str!("../../src/reconcile/rotation.rs"),
    ),
    (
        "WindowAfterExpiry",
        include_str!("../../src/reconcile/pacing.rs"),
    ),
    ("Accepted", REFERENCES),
    ("LoggedIn", REFERENCES),
    ("NotUsedYet", REFERENCES),
    ("RolloutRestartTriggered", WORKLOAD),
    ("RolloutRestartFailed", WORKLOAD),
    ("SecretLeaseRenewal", LEASE_REPORT),
    ("NotRenewable", LEASE_REPORT),
    ("LeaseAtRisk", LEASE_REPORT),
    ("LeaseRenewalDenied", LEASE_REPORT),
    ("LeaseParentUnknown", LEASE_REPORT),
    ("TokenOutlivedByLease", LEASE_REPORT),
    ("SecretRotated", WRITE),
    ("SecretSynced", WRITE),
    ("SecretDataDrift", WRITE),
    (
        "SecretAdopted",
        include_str!("../../src/reconcile/adopt.rs"),
    ),
    (
        "DestinationMoved",
        include_str!("../../src/reconcile/parting.rs"),
    ),
    (
        "DestinationReplaced",
        include_str!("../../src/reconcile/replace.rs"),
    ),
    (
        "DestinationDeleted",
        include_str!("../../src/reconcile/gone_source.rs"),
    ),
    ("CertificateValid", CERTIFICATE_REPORT),
    ("CertificateAtRisk", CERTIFICATE_REPORT),
    (
        "CertificateRevoked",
        include_str!("../../src/reconcile/ledger/events.rs"),
    ),
    (
        "CertificateRevocationError",
        include_str!("../../src/reconcile/ledger/events.rs"),
    ),
    (
        "LeaseReleased",
        include_str!("../../src/reconcile/ledger/events.rs"),
    ),
    (
        "LeaseEnded",
        include_str!("../../src/reconcile/ledger/events.rs"),
    ),
    (
        "ResourceUnseen",
        include_str!("../../src/reconcile/ledger/unseen.rs"),
    ),
    (
        "FinalizerLeft",
        include_str!("../../src/reconcile/finalizers.rs"),
    ),
];
const TARGETS: &str = include_str!("../../src/reconcile/target_report.rs");
const REPORT_SECRET: &str = include_str!("../../src/reconcile/report_secret.rs");
const LEASE_REPORT: &str = include_str!("../../src/reconcile/lease_report.rs");
const CERTIFICATE_REPORT: &str = include_str!("../../src/reconcile/certificate_report.rs");
const REFERENCES: &str = include_str!("../../src/reconcile/references.rs");
const WORKLOAD: &str = include_str!("../../src/reconcile/workload.rs");
const WRITE: &str = include_str!("../../src/reconcile/write.rs");

pub fn trials() -> Vec<Trial> {
    vec![Trial::test("reasons::every_reason_has_an_entry", || {
        every_reason_has_an_entry().map_err(|error| Failed::from(format!("{error:#}")))
    })]
}

fn every_reason_has_an_entry() -> Result<()> {
    let problems = problems()?;
    let mut written: BTreeSet<&str> = problems.keys().copied().collect();
    for (reason, source) in OTHERS {
        let word = format!("\"{reason}\"");
        ensure!(source.contains(&word), "nothing writes {reason} any more");
        written.insert(reason);
    }
    let mut listed = BTreeSet::new();
    for row in rows(TROUBLESHOOTING).filter(|row| row[0].starts_with('`')) {
        let reason = quoted(row[0]).next().unwrap_or_default();
        ensure!(listed.insert(reason), "{reason} has two entries");
        if let Some(retry) = problems.get(reason) {
            let expected = match *retry {
                "WhenChanged" => "on change",
                _ => "yes",
            };
            let said = row[row.len() - 1];
            ensure!(
                said.starts_with(expected),
                "{reason} is tried again: {expected}, and not {said:?}"
            );
        }
    }
    let missing: Vec<_> = written.difference(&listed).collect();
    let unknown: Vec<_> = listed.difference(&written).collect();
    ensure!(
        missing.is_empty() && unknown.is_empty(),
        "docs/troubleshooting.md has no entry for {missing:?}, and one for {unknown:?}, which nothing writes"
    );
    Ok(())
}

/// The reasons of all problems with their retry rules, from the one table.
pub fn problems() -> Result<BTreeMap<&'static str, &'static str>> {
    let (_, table) = PROBLEM
        .split_once("const fn entry(&self)")
        .context("no table")?;
    let (table, _) = table.split_once("\n    }\n").context("no end")?;
    let mut problems = BTreeMap::new();
    for pair in table.split('"').skip(1).collect::<Vec<_>>().chunks(2) {
        let [reason, rest] = pair else { continue };
        let (_, retry) = rest.split_once("Retry::").context("no retry rule")?;
        let end = retry.find(|c: char| !c.is_alphanumeric());
        problems.insert(*reason, &retry[..end.unwrap_or(retry.len())]);
    }
    ensure!(!problems.is_empty(), "the table has no reasons");
    Ok(problems)
}
