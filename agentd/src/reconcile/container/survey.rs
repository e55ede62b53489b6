//! Finds the containers that need a pass, by one list of all of the engine's against the store. One call to the engine for
//! all of them, and no write, in place of a pass each.
//!
//! Also where the engine's events become wakes. Events may be missed (it was restarted, a receiver that lagged): then all
//! are compared.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use agentd_api::container::{Container, ContainerDesired};
use agentd_api::life::RestartPolicy;
use agentd_api::{Kind, Object, State, Timestamp};
use agentd_drivers::container::{ContainerEvent, ContainerListed, ContainerState};
use agentd_store::{Query, Store};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::Containers;
use super::observe::STOPPING;
use crate::reconcile::backend::BACKEND_AVAILABLE;
use crate::reconcile::guest::boot;
use crate::reconcile::runtime::Trigger;

const EVERY: Duration = Duration::from_secs(60);
/// After how many the look makes room for others: to answer a request is more pressing.
const YIELD: usize = 64;

/// How pressing what was found is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Haste {
    /// The engine is here (again): whoever waits for it goes on.
    Now,
    /// A look round: tries that are held back stay so.
    Routine,
}

/// Follows the driver until cancelled. The first look is after `head_start`.
pub async fn run(
    (containers, store, trigger): (Arc<Containers>, Store, Trigger),
    head_start: Duration,
    cancel: CancellationToken,
) {
    let mut events = containers.driver().events();
    let mut availability = containers.backend.changes();
    if cancel.run_until_cancelled(tokio::time::sleep(head_start)).await.is_none() {
        return;
    }
    look(&containers, &store, &trigger, Haste::Now).await;
    let mut deaf = false;
    // Not a sleep within the loop: events that come more often than that would put it off for ever.
    let mut rounds = tokio::time::interval_at(Instant::now() + EVERY, EVERY);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        // Cancel safety: no arm takes what it does not act on.
        tokio::select! {
            () = cancel.cancelled() => return,
            event = events.recv(), if !deaf => match event {
                Ok(ContainerEvent { id: Some(id) }) => {
                    if let Some(stored) = store.by_id(id) {
                        trigger.seen(stored.key());
                    }
                }
                Ok(ContainerEvent { id: None }) | Err(RecvError::Lagged(_)) => {
                    look(&containers, &store, &trigger, Haste::Now).await;
                }
                Err(RecvError::Closed) => deaf = true,
            },
            changed = availability.changed() => {
                if changed.is_err() {
                    return;
                }
                look(&containers, &store, &trigger, Haste::Now).await;
            }
            _ = rounds.tick() => look(&containers, &store, &trigger, Haste::Routine).await,
        }
    }
}

async fn look(containers: &Containers, store: &Store, trigger: &Trigger, haste: Haste) {
    let objects = store.list(&Query::kind(Container::DEF.kind)).items;
    if objects.is_empty() {
        // Nobody needs the engine.
        return;
    }
    // The host first: what is made in between is then compared too early, which costs a pass, and not too late.
    let listed = match containers.backend.down() {
        Some(_) => None,
        None => match containers.driver().list().await {
            Ok(listed) => Some(listed),
            Err(error) => {
                containers.backend.told(&error);
                None
            }
        },
    };
    let there: Option<HashMap<_, ContainerListed>> =
        listed.map(|l| l.into_iter().map(|c| (c.id, c)).collect());
    for (n, stored) in store.list(&Query::kind(Container::DEF.kind)).items.into_iter().enumerate() {
        if n % YIELD == YIELD - 1 {
            tokio::task::yield_now().await;
        }
        let settled = match (&there, stored.object::<Container>()) {
            (_, Err(_)) => true,
            (_, Ok(object)) if expires(&object) => false,
            (None, Ok(object)) => known_away(&object),
            (Some(there), Ok(object)) => settled(&object, there.get(&object.meta.id), &containers.boot_id),
        };
        match (settled, haste) {
            (true, _) => {}
            (false, Haste::Now) => trigger.wake(stored.key().clone()),
            (false, Haste::Routine) => trigger.seen(stored.key()),
        }
    }
}

/// Whether it is to go before there is a look round again but one.
fn expires(object: &Object<Container>) -> bool {
    let soon = Timestamp::now().plus(2 * EVERY);
    !object.meta.deleting() && object.spec.expiry().is_some_and(|at| at <= soon)
}

fn known_away(object: &Object<Container>) -> bool {
    let common = &object.status.common;
    let current = common.observed_generation == object.meta.generation;
    !object.meta.deleting() && current && common.condition(BACKEND_AVAILABLE).is_some_and(|c| !c.status)
}

/// Whether a pass would find nothing to do, as far as one line of a list shows. What the line does not show (limits,
/// interfaces, health) the engine tells of by events.
fn settled(object: &Object<Container>, there: Option<&ContainerListed>, boot: &str) -> bool {
    let (status, common) = (&object.status, &object.status.common);
    let quiet = !object.meta.deleting()
        && common.observed_generation == object.meta.generation
        && common.attempts.is_none()
        && !status.restart_requested
        && !status.renamed
        && status.renamed_from.is_empty()
        && status.starting.is_none()
        && status.leaving.is_empty()
        && common.condition(STOPPING).is_none()
        && common.condition(BACKEND_AVAILABLE).is_some_and(|c| c.status);
    let same = there.is_some_and(|there| status.engine_id.as_ref() == Some(&there.engine_id));
    let up = same && status.host_boot.as_deref() == Some(boot);
    let other_boot = status.host_boot.as_deref().is_some_and(|b| b != boot);
    let off_for_this_boot =
        status.held_boot.as_deref() == Some(boot) || (!object.spec.autostart.enabled && other_boot);
    let stays_off = object.spec.desired == ContainerDesired::Stopped
        || (object.spec.restart == RestartPolicy::Never && !boot::container_awaits_start(object, boot))
        || off_for_this_boot;
    match (common.state, there.map(|there| there.state)) {
        // Given up.
        (State::Failed, _) => {
            !object.meta.deleting()
                && common.observed_generation == object.meta.generation
                && common.attempts.as_ref().is_some_and(|a| a.next_at.is_none())
        }
        (State::Running, Some(ContainerState::Running)) | (State::Paused, Some(ContainerState::Paused)) => {
            quiet && up
        }
        (State::Stopped, Some(ContainerState::Exited | ContainerState::Created) | None) => quiet && stays_off,
        _ => false,
    }
}
