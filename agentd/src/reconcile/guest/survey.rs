//! Finds the guests that need a pass, by one list of all of the backend's against the store. One call to the backend for
//! all of them, and no write, in place of a pass each.
//!
//! Also where the backend's events become wakes. Events may be missed (it was restarted, a receiver that lagged): then all
//! are compared.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use agentd_api::{Kind, Object, StatusCommon, Timestamp};
use agentd_store::{Query, Store};
use async_trait::async_trait;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::reconcile::backend::{BACKEND_AVAILABLE, Backend};
use crate::reconcile::runtime::Trigger;

const EVERY: Duration = Duration::from_secs(60);
/// After how many guests the look makes room for others: to answer a request is more pressing.
const YIELD: usize = 64;

/// How pressing what was found is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Haste {
    /// The backend is here (again): whoever waits for it goes on.
    Now,
    /// A look round: tries that are held back stay so.
    Routine,
}

/// A kind's reconciler, as far as its guests are surveyed.
#[async_trait]
pub trait Surveyed: Send + Sync {
    type Kind: Kind;
    type Event: Clone + Send;
    /// What one list shows of one guest.
    type Seen: Send + Sync;

    fn backend(&self) -> &Backend;
    fn events(&self) -> broadcast::Receiver<Self::Event>;
    /// Whom it is about; all where nobody is named.
    fn about(event: &Self::Event) -> Option<Uuid>;
    /// Takes what it tells of a guest that there is, beside that something has changed.
    fn hear(&self, _event: &Self::Event) {}
    /// All that are there. None where the backend is away, which was told of.
    async fn list(&self) -> Option<HashMap<Uuid, Self::Seen>>;
    fn expires(object: &Object<Self::Kind>) -> Option<Timestamp>;
    /// Whether a pass would find nothing to do, as far as one look shows.
    fn settled(&self, object: &Object<Self::Kind>, seen: Option<&Self::Seen>) -> bool;
    /// Whether the backend is asked also where there is none of the kind.
    const ALWAYS: bool;
}

/// Follows the driver until cancelled. The first look is after `head_start`.
pub async fn run<S: Surveyed>(
    (guests, store, trigger): (Arc<S>, Store, Trigger),
    head_start: Duration,
    cancel: CancellationToken,
) {
    let mut events = guests.events();
    let mut availability = guests.backend().changes();
    if cancel.run_until_cancelled(tokio::time::sleep(head_start)).await.is_none() {
        return;
    }
    look(&*guests, &store, &trigger, Haste::Now).await;
    let mut deaf = false;
    // Not a sleep within the loop: events that come more often than that would put it off for ever.
    let mut rounds = tokio::time::interval_at(Instant::now() + EVERY, EVERY);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        // Cancel safety: no arm takes what it does not act on.
        tokio::select! {
            () = cancel.cancelled() => return,
            event = events.recv(), if !deaf => match event {
                Ok(event) => match S::about(&event) {
                    Some(id) => {
                        if let Some(stored) = store.by_id(id) {
                            guests.hear(&event);
                            trigger.seen(stored.key());
                        }
                    }
                    None => look(&*guests, &store, &trigger, Haste::Now).await,
                },
                Err(RecvError::Lagged(_)) => look(&*guests, &store, &trigger, Haste::Now).await,
                Err(RecvError::Closed) => deaf = true,
            },
            changed = availability.changed() => {
                if changed.is_err() {
                    return;
                }
                look(&*guests, &store, &trigger, Haste::Now).await;
            }
            _ = rounds.tick() => look(&*guests, &store, &trigger, Haste::Routine).await,
        }
    }
}

async fn look<S: Surveyed>(guests: &S, store: &Store, trigger: &Trigger, haste: Haste) {
    let all = Query::kind(S::Kind::DEF.kind);
    if !S::ALWAYS && store.list(&all).items.is_empty() {
        return;
    }
    // The host first: what is made in between is then compared too early, which costs a pass, and not too late.
    let there = match guests.backend().down() {
        Some(_) => None,
        None => guests.list().await,
    };
    for (n, stored) in store.list(&all).items.into_iter().enumerate() {
        if n % YIELD == YIELD - 1 {
            tokio::task::yield_now().await;
        }
        let settled = match (&there, stored.object::<S::Kind>()) {
            (_, Err(_)) => true,
            (_, Ok(object)) if expires::<S>(&object) => false,
            (None, Ok(object)) => known_away(&object),
            (Some(there), Ok(object)) => guests.settled(&object, there.get(&object.meta.id)),
        };
        match (settled, haste) {
            (true, _) => {}
            (false, Haste::Now) => trigger.wake(stored.key().clone()),
            (false, Haste::Routine) => trigger.seen(stored.key()),
        }
    }
}

/// Whether it is to go before there is a look round again but one.
fn expires<S: Surveyed>(object: &Object<S::Kind>) -> bool {
    let soon = Timestamp::now().plus(2 * EVERY);
    !object.meta.deleting() && S::expires(object).is_some_and(|at| at <= soon)
}

/// Whether a pass has seen this generation of it.
fn current<K: Kind>(object: &Object<K>) -> bool {
    !object.meta.deleting() && K::common(&object.status).observed_generation == object.meta.generation
}

fn known_away<K: Kind>(object: &Object<K>) -> bool {
    current(object) && K::common(&object.status).condition(BACKEND_AVAILABLE).is_some_and(|c| !c.status)
}

/// Whether no pass is owed to its wish, to an attempt that failed or to a backend that was away.
pub fn quiet<K: Kind>(object: &Object<K>) -> bool {
    let common = K::common(&object.status);
    current(object)
        && common.attempts.is_none()
        && common.condition(BACKEND_AVAILABLE).is_some_and(|c| c.status)
}

/// Whether one that is failed is not tried again by itself.
pub fn given_up<K: Kind>(object: &Object<K>) -> bool {
    let common: &StatusCommon = K::common(&object.status);
    current(object) && common.attempts.as_ref().is_some_and(|a| a.next_at.is_none())
}
