//! Watches on the model's log: they lag, and in bad times they repeat, drop and
//! begin again from a list that is older than what was seen before.

use std::rc::Rc;
use std::time::Duration;

use vault_tenant_operator::key::ObjectKey;
use vault_tenant_operator::reconcile::observe::Observer;
use vault_tenant_operator::reconcile::stores::Place;
use vault_tenant_operator::reconcile::view::Store;

use crate::objects::Object;
use crate::world::{Server, World};

/// The longest pause of a watch between two tries.
const LAST_PAUSE: Duration = Duration::from_secs(30);

/// Runs one watch for ever.
pub async fn run<T>(
    world: Rc<World>,
    place: Place,
    cut: impl Fn(&Object) -> Option<T>,
    observer: impl Observer<T>,
) {
    let store = place.store;
    let term = world.term.get();
    loop {
        let mut at = list(&world, (&place, term), &cut, &observer).await;
        loop {
            let grown = world.grown.notified();
            if world.api.borrow().log.len() <= at {
                grown.await;
            }
            world.pause(world.lag.get()).await;
            while world.stale.get() && matches!(store, Store::Resource(_)) {
                world.pause(Duration::from_secs(1)).await;
            }
            if world.is_away(Server::Kubernetes) {
                world.note(format!("     watch of {place} is cut off"));
                reconnect(&world).await;
                // It goes on where it was, unless that is too long ago.
                if world.rng.borrow_mut().chance(1, 2) {
                    break;
                }
            }
            let until = world.api.borrow().log.len();
            let repeats = world.flaky_watches.get() && world.rng.borrow_mut().chance(1, 10);
            let from = if repeats { at.saturating_sub(3) } else { at };
            for index in from..until {
                deliver(&world, (&place, term), index, &cut, &observer);
            }
            at = until;
            if world.flaky_watches.get() && world.rng.borrow_mut().chance(1, 15) {
                world.note(format!("     watch of {place} drops"));
                world.pause(Duration::from_secs(2)).await;
                break;
            }
        }
    }
}

/// Waits until the API server answers again and, as the real one does after
/// failures, up to half a minute more.
async fn reconnect(world: &World) {
    while world.is_away(Server::Kubernetes) {
        world.pause(LAST_PAUSE).await;
    }
}

/// Lists, in bad times from a server that is behind; answers with how far.
async fn list<T>(
    world: &World,
    (place, term): (&Place, u64),
    cut: &impl Fn(&Object) -> Option<T>,
    observer: &impl Observer<T>,
) -> usize {
    world.pause(world.lag.get()).await;
    reconnect(world).await;
    let mut at = world.api.borrow().log.len();
    if world.flaky_watches.get() && world.rng.borrow_mut().chance(1, 3) {
        at = at.saturating_sub(usize::try_from(world.rng.borrow_mut().below(6)).unwrap());
    }
    observer.listing();
    let found = world.api.borrow().listed(place.store, at);
    for (key, object) in found.into_iter().filter(|(key, _)| place.covers(key)) {
        shown(world, &key, &object, term);
        observer.seen(key, cut(&object));
    }
    world.pause(Duration::from_millis(5)).await;
    observer.listed();
    at
}

fn deliver<T>(
    world: &World,
    (place, term): (&Place, u64),
    index: usize,
    cut: &impl Fn(&Object) -> Option<T>,
    observer: &impl Observer<T>,
) {
    let change = world.api.borrow().log[index].clone();
    if change.store != place.store || !place.covers(&change.key) {
        return;
    }
    match &change.now {
        Ok(object) => {
            shown(world, &change.key, object, term);
            observer.seen(change.key, cut(object));
        }
        Err(uid) => {
            world.judge.borrow_mut().knows(uid.clone());
            observer.gone(&change.key, Some(uid));
        }
    }
}

/// An operator is shown an object; what one sees that leads no longer is nothing to the next.
fn shown(world: &World, key: &ObjectKey, object: &Object, term: u64) {
    if term == world.term.get() {
        let mut judge = world.judge.borrow_mut();
        judge.paces.shown(&key.name, object, world.now());
    }
    if let Object::Static(found) = object {
        let status = found.status.as_ref();
        if status.is_some_and(|status| status.secret_mac.is_some()) {
            world.judge.borrow_mut().knows(object.uid());
        }
    }
}
