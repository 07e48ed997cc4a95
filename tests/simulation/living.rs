//! What the judge of leases and certificates asks of a resource that lives.

use std::time::Duration;

use vault_tenant_operator::api::{RolloutRestartTarget, RotationStrategy};
use vault_tenant_operator::config::duration;
use vault_tenant_operator::key::Kind;

use crate::api_server::resource;
use crate::objects::Object;
use crate::world::World;

/// The most before its end that a certificate's rollout is taken into account: twice the
/// deadline of the model's workloads, or twice what one takes that others drew out, and
/// the drain.
pub fn margin(rollout: Duration) -> Duration {
    2 * (3 * rollout).max(Duration::from_secs(180)) + Duration::from_secs(30)
}

/// What is decided may arrive so much later, and seconds are cut.
const LATE: Duration = Duration::from_secs(10);

/// What matters of a resource, of either kind.
pub struct Living {
    pub uid: String,
    pub targets: Vec<RolloutRestartTarget>,
    /// Whether it asked for an end without overlap.
    pub replaces: bool,
    /// How long before its end at the most it is replaced for a rollout's sake.
    margin: Duration,
    /// How long before its end a certificate is replaced.
    offset: Duration,
}

/// The living resource of a name.
pub fn living(world: &World, name: &str) -> Option<Living> {
    let api = world.api.borrow();
    let found = |kind| api.resources.get(&resource(kind, name));
    match found(Kind::VaultDynamicSecret).or(found(Kind::VaultPkiSecret))? {
        Object::Dynamic(found) => {
            let rotation = found.spec.rotation.as_ref();
            let strategy = rotation.and_then(|rotation| rotation.strategy.as_ref());
            Some(Living {
                uid: found.metadata.uid.clone()?,
                targets: found
                    .spec
                    .rollout_restart_targets
                    .clone()
                    .unwrap_or_default(),
                replaces: strategy == Some(&RotationStrategy::Replace),
                margin: Duration::ZERO,
                offset: Duration::ZERO,
            })
        }
        Object::Pki(found) => Some(Living {
            uid: found.metadata.uid.clone()?,
            targets: found
                .spec
                .rollout_restart_targets
                .clone()
                .unwrap_or_default(),
            replaces: false,
            margin: margin(world.rollout.get()),
            offset: duration::parse(found.spec.expiry_offset.as_deref()?).ok()?,
        }),
        _ => None,
    }
}

impl Living {
    /// How old a certificate is at the least that is replaced because of its end; with
    /// the offset of before, where an edit may not have been seen yet.
    pub fn replaced_from(
        &self,
        lasts: Duration,
        before: Option<Duration>,
        had_targets: bool,
    ) -> Duration {
        let offset = capped(self.offset, lasts).max(capped(before.unwrap_or_default(), lasts));
        let by_offset = (lasts - offset).mul_f64(0.95);
        let by_rollout = lasts.saturating_sub(self.margin).max(lasts / 3);
        let from = match self.targets.is_empty() && !had_targets {
            true => by_offset,
            false => by_offset.min(by_rollout),
        };
        from.saturating_sub(LATE)
    }
}

/// An offset that leaves less than a tenth of a life is a third of that (docs/pki.md).
fn capped(offset: Duration, lasts: Duration) -> Duration {
    match offset > lasts.mul_f64(0.9) {
        true => lasts / 3,
        false => offset,
    }
}
