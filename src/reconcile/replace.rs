//! A Secret that cannot become what it should by a write, since its type changed
//! or it is immutable: deleted and made anew, where it was made for this resource
//! and nobody else has a part in it. What is to be written is at hand before the
//! deletion, and the state goes on in the new Secret, so that nothing restarts.

use super::decide::Plan;
use super::engine::Engine;
use super::fits;
use super::parting::is_ours_alone;
use super::ports::{Clock, Cluster, Fence};
use super::secret::Work;
use crate::problem::Problem;
use crate::render::Rendered;
use crate::vault::Vault;

impl<C: Cluster, V: Vault, K: Clock> Engine<C, V, K> {
    /// Deletes the destination and makes it again, after the API server refused
    /// to do `what` for `why`.
    pub(super) async fn replace(
        &self,
        work: &Work,
        plan: &Plan,
        rendered: &Rendered,
        unrecorded: bool,
        (what, why): (String, String),
    ) -> Result<(), Problem> {
        let me = &work.me;
        let secret = &work.permitted.destination().secret;
        if matches!(plan.fence, Fence::Create) {
            return Err(Problem::DestinationImmutable { what, why });
        }
        let Some(live) = self.look_at(secret).await? else {
            return Ok(());
        };
        let ours = me.create && is_ours_alone(&live, &me.tag, &me.uid) && !self.is_own(secret);
        if !ours {
            return Err(Problem::DestinationImmutable {
                what,
                why: format!(
                    "{why}; nothing proves that it is this resource's alone (its sole owner, and no keys of others), so it is not made anew: delete it, choose another spec.destination.name, or leave its type as it is"
                ),
            });
        }
        let plan = Plan {
            fence: Fence::Create,
            ..plan.clone()
        };
        let (write, _) = self.secret_write(work, &plan, rendered, unrecorded);
        let type_ = write.type_.as_deref().unwrap_or_default();
        fits::check_type(&me.secret, type_, &rendered.data)?;
        self.still_asked(work).await?;
        self.keep_in_memory(&work.key, |memory| memory.creating = true);
        self.cluster.delete_secret(secret, &live).await?;
        self.view.borrow_mut().remove_secret(secret);
        let asked = self.view.borrow().moment();
        let made = match self.cluster.apply_secret(&write).await {
            // Somebody was faster, or a finalizer holds the old one: look again.
            Err(Problem::Conflict { .. }) => return self.look_at(secret).await.map(drop),
            answer => answer?,
        };
        self.written(work, made, asked);
        let message = format!("the Secret {} was deleted and made anew: {why}", me.secret);
        self.tell(work, "DestinationReplaced", message).await;
        Ok(())
    }
}
