//! `spec.onSourceDelete: delete`: what a resource wrote goes when Vault says that
//! its source was deleted. Not when it can only not be found (a mount that
//! vanished, a policy that lost its right, a spec that names another path), and
//! not when it is there and empty.

use super::decide::fence;
use super::engine::Engine;
use super::ownership::state_of;
use super::parting::is_ours_alone;
use super::ports::{Clock, Cluster};
use super::secret::Work;
use super::sources::SecretResource;
use crate::policy::Permitted;
use crate::problem::Problem;
use crate::render::fingerprint;
use crate::vault::Vault;

impl<C: Cluster, V: Vault, K: Clock> Engine<C, V, K> {
    /// Deletes the destination, or takes this resource's keys out of one that is
    /// not its alone, if the spec asks for that and `problem` is a deletion.
    ///
    /// Only what this very generation wrote goes, from this very place: another
    /// spec, or another Vault behind the same connection, may never have had it.
    pub(super) async fn follow_source(
        &self,
        work: &Work,
        problem: &Problem,
    ) -> Result<(), Problem> {
        let me = &work.me;
        let secret = &work.permitted.destination().secret;
        let seen = self.view.borrow().secrets.contains_key(secret);
        if me.source.is_none() || !seen || !problem.is_deletion_at_vault() || self.is_own(secret) {
            return Ok(());
        }
        self.still_asked(work).await?;
        let Some(live) = self.look_at(secret).await? else {
            return Ok(());
        };
        let wrote = live.managers.iter().any(|one| one.name == me.manager);
        let state = state_of(me, &live).filter(|state| {
            wrote && state.generation == me.generation && state.source == me.source
        });
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

/// Where the source is, if its deletion is one of the Secret too: the Vault, the
/// namespace in it, and what is read there.
pub(super) fn source_followed(
    resource: &dyn SecretResource,
    permitted: &Permitted,
) -> Option<String> {
    let follows = resource.follows_source();
    let read = permitted.read();
    let address = &permitted.login().connection().get().address;
    let namespace = read.vault_namespace.as_deref().unwrap_or_default();
    let query = read.query.iter();
    let query = query.flat_map(|(name, value)| [name.as_str(), value.as_str()]);
    let place = [address.as_str(), namespace, read.path.as_str()];
    follows.then(|| fingerprint(place.into_iter().chain(query)))
}
