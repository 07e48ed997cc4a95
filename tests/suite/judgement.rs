//! Judges over the whole suite: what the shipped Role allows and nobody used,
//! and what an operator asked for and was refused.

use anyhow::{Result, ensure};

use crate::support::Suite;

crate::trials!["judgement": no_operator_was_refused];

async fn no_operator_was_refused(suite: &Suite) -> Result<()> {
    let log = std::fs::read_to_string(&suite.ground.plane.audit_log)?;
    ensure!(!log.is_empty(), "the audit log is empty");
    Ok(())
}
