//! `spec.onSourceDelete: delete`: what a resource wrote goes when Vault says that
//! its source was deleted. Not when it can only not be found (a mount that
//! vanished, a policy that lost its right, a spec that names another path), and
//! not when it is there and empty.

use super::decide::fence;
use super::engine::Engine;
use super::ownership::state_of;
use super::parting::is_ours_alone;
use super::ports::{Clock, Cluster};
use super::static_secret::Work;
use crate::api::OnSourceDelete;
use crate::problem::Problem;
use crate::vault::Vault;

impl<C: Cluster, V: Vault, K: Clock> Engine<C, V, K> {
    /// Deletes the destination, or takes this resource's keys out of one that is
    /// not its alone, if the spec asks for that and `problem` is a deletion.
    ///
    /// Only what this very generation wrote goes: another spec may name a source
    /// that never was.
    pub(super) async fn follow_source(
        &self,
        work: &Work,
        problem: &Problem,
    ) -> Result<(), Problem> {
        let me = &work.me;
        let asked = work.resource.spec.on_source_delete == Some(OnSourceDelete::Delete);
        let secret = &work.permitted.destination().secret;
        let seen = self.view.borrow().secrets.contains_key(secret);
        if !(asked && seen && problem.is_deletion_at_vault()) || self.is_own(secret) {
            return Ok(());
        }
        self.still_asked(work).await?;
        let Some(live) = self.look_at(secret).await? else {
            return Ok(());
        };
        let wrote = live.managers.iter().any(|one| one.name == me.manager);
        let state = state_of(me, &live).filter(|state| wrote && state.generation == me.generation);
        if state.is_none() || live.deleting {
            return Ok(());
        }
        let told = if is_ours_alone(&live, &me.tag, &me.uid) {
            self.cluster.delete_secret(secret, &live).await?;
            self.view.borrow_mut().remove_secret(secret);
            "deleted"
        } else {
            self.take_out_of(secret, &me.manager, fence(&live)).await?;
            "left without the keys of this resource, since it is not its alone"
        };
        let message = format!(
            "the Secret {} is {told}, as spec.onSourceDelete says",
            secret.name
        );
        self.tell(work, "DestinationDeleted", message).await;
        Ok(())
    }
}
