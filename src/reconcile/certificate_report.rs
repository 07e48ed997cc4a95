//! What the status of a resource says of its certificate: the condition
//! `Certificate`, and a warning where its end comes otherwise than was asked for.

use std::time::Duration;

use jiff::SignedDuration;

use super::decide::Why;
use super::engine::Engine;
use super::grants::{Due, Terms, capped};
use super::minting::InHand;
use super::ports::{Clock, Cluster};
use super::report::{Finding, Truth};
use super::secret::Work;
use super::sources::{Held, SecretResource};
use super::time::later;
use crate::key::ResourceKey;
use crate::problem::Problem;
use crate::render::ContentHash;
use crate::vault::Vault;

/// Type of the condition.
const CERTIFICATE: &str = "Certificate";

/// Between two issues whose certificates cannot be used.
const SHORTEST_STEP: Duration = Duration::from_secs(4);

/// Between two issues that could gain nothing.
const SHORTEST_PAUSE: SignedDuration = SignedDuration::from_mins(1);
const LONGEST_PAUSE: SignedDuration = SignedDuration::from_hours(1);

impl<C: Cluster, V: Vault, K: Clock> Engine<C, V, K> {
    /// How the certificate stands, where there is one.
    pub(super) fn certificate_finding(
        &self,
        key: &ResourceKey,
        resource: &dyn SecretResource,
        problem: Option<&Problem>,
    ) -> Option<Finding> {
        let terms = self.terms_of(resource)?;
        let grant = self.grant_of(key, resource)?;
        let lead = terms.lead.filter(|_| !grant.serial.is_empty())?;
        let started = self.term.borrow().started;
        let now = self.clock.now();
        let due = terms.due(&grant, None, started, now);
        let (serial, since) = (&grant.serial, grant.since);
        let end = later(since, grant.duration());
        let lead_used = capped(lead, grant.duration());
        let (truth, reason, message) = match problem {
            Some(problem) if due == Due::Replacement => {
                let ends = match end <= now {
                    true => format!("ended at {end:.0}, and is to be replaced"),
                    false => format!("ends at {end:.0} unless it is replaced before"),
                };
                let reason = problem.reason();
                (
                    Truth::False,
                    "CertificateAtRisk",
                    format!("the certificate {serial} {ends}, which is tried on: {reason}"),
                )
            }
            _ if grant.issuer_first => (
                Truth::False,
                "IssuerExpiresFirst",
                format!(
                    "the certificate {serial} works until {end:.0}, when its issuer ends: renew the issuer in Vault"
                ),
            ),
            _ if lead_used != lead => (
                Truth::False,
                "CertificateTooShort",
                format!(
                    "spec.expiryOffset ({lead:?}) leaves nothing of the life of the certificate {serial}, which was issued at {since:.0} and ends at {end:.0}: it is replaced after two thirds of that at the latest; shorten spec.expiryOffset, or lengthen spec.ttl or the role's max_ttl"
                ),
            ),
            _ => (
                Truth::True,
                "CertificateValid",
                format!("the certificate {serial}, issued at {since:.0}, ends at {end:.0}"),
            ),
        };
        Some(Finding::new(CERTIFICATE, truth, reason, message))
    }

    /// Why this request is not made again yet: its last answer was of no use.
    pub(super) fn why_futile(&self, work: &Work, request: &ContentHash) -> Option<Problem> {
        let (until, asked, problem) = self.remembered(&work.key).futile?;
        let left = until.duration_since(self.clock.now());
        if asked != *request || left <= SignedDuration::ZERO {
            return None;
        }
        let mut problem = *problem;
        if let Problem::IssuerExpiresFirst {
            pause: Some(pause), ..
        } = &mut problem
        {
            // It would be of no use beside the one in the Secret: where that is gone, it is.
            if work.why != Some(Why::Due) {
                return None;
            }
            *pause = left.unsigned_abs();
        }
        Some(problem)
    }

    /// Remembers a request whose answer was of no use: whatever wakes the resource,
    /// it is made once in a pause.
    pub(super) fn note_futile(
        &self,
        work: &Work,
        request: &ContentHash,
        problem: Problem,
    ) -> Problem {
        let pause = match &problem {
            Problem::IssuerExpiresFirst { pause, .. } => pause.unwrap_or(SHORTEST_STEP),
            Problem::CertificateTooShort { .. } => SHORTEST_STEP,
            _ => return problem,
        };
        let until = later(self.clock.now(), pause);
        let futile = (until, request.clone(), Box::new(problem.clone()));
        self.keep_in_memory(&work.key, |memory| memory.futile = Some(futile));
        problem
    }

    /// A certificate that ends with its issuer, as the one does that it would
    /// replace, is of no use to anybody.
    pub(super) fn gains_nothing(
        &self,
        work: &Work,
        terms: Terms,
        fresh: &InHand,
    ) -> Option<Problem> {
        terms.lead?;
        let Held { grant: held, .. } = self.held(work)?;
        let fresh = fresh.grant().filter(|fresh| fresh.issuer_first)?;
        let [until, offered] = [&held, fresh].map(|one| later(one.since, one.duration()));
        if offered.duration_since(until) > SignedDuration::from_secs(1) {
            return None;
        }
        let left = until.duration_since(self.clock.now());
        let pause = (left / 3).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
        Some(Problem::IssuerExpiresFirst {
            path: work.permitted.read().path.clone(),
            why: format!(
                "the issuer ends at {offered:.0}, and the certificate in the Secret {} lives as long: another one would change nothing; renew the issuer in Vault",
                work.me.secret
            ),
            pause: Some(pause.unsigned_abs()),
        })
    }
}
