//! What an answer of Vault's means, and leases that nobody asked for: a path that
//! makes something new for each request may be named where one is that is only read.

use jiff::Timestamp;

use super::engine::Engine;
use super::ports::{Clock, Cluster};
use super::secret::Work;
use crate::problem::Problem;
use crate::render::Material;
use crate::vault::{Reply, Task, Vault};

impl<C: Cluster, V: Vault, K: Clock> Engine<C, V, K> {
    /// What an answer is for a resource. The lease of one that it has no use for is
    /// given back at once: no Secret and no ledger will ever know it.
    ///
    /// # Errors
    /// Those of [`super::sources::SecretResource::material`].
    pub(super) async fn meaning(
        &self,
        work: &Work,
        reply: Reply,
        now: Timestamp,
    ) -> Result<Material, Problem> {
        let lease = reply.lease.id.clone();
        let material = work.resource.material(work.permitted.read(), reply, now);
        if material.is_err() && !lease.is_empty() {
            let given_back = match work.permitted.lease(&lease) {
                Ok(lease) => {
                    let asked = self.lease_request(&work.key, &lease, Task::RevokeLease, None);
                    asked.await.is_ok()
                }
                Err(_) => false,
            };
            if !given_back {
                self.metrics.left_to_expire();
            }
        }
        material
    }
}

/// Why an answer with a lease is refused where none is expected.
pub(super) fn unexpected_lease(field: &str, mend: &str) -> Problem {
    Problem::InvalidSpec {
        field: field.to_owned(),
        why: format!(
            "Vault makes new credentials for each request of this path, and leases them; {mend}"
        ),
    }
}
