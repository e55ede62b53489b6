//! Makes flavors ready, for which there is nothing to do on the host; and sees to those that are shipped.

use std::path::Path;
use std::time::Duration;

use agentd_api::event::Outcome as EventOutcome;
use agentd_api::flavor::{Flavor, FlavorStatus, shipped};
use agentd_api::name::DEFAULT_PROJECT;
use agentd_api::{Object, ObjectKey, ObjectName, State};
use agentd_store::{NewEvent, NewObject, Store, Transact, Tx, TxError};
use async_trait::async_trait;

use super::runtime::{ACTOR, Fault, Outcome, Pass, Reconciler};

/// Beside the store: the shipped flavors have been made once, and are not made again where somebody deleted them.
const MADE: &str = "flavors-made";

pub struct Flavors;

#[async_trait]
impl Reconciler for Flavors {
    type Kind = Flavor;

    async fn reconcile(&self, _: &Pass, object: &Object<Flavor>) -> Outcome<FlavorStatus> {
        let mut status = object.status.clone();
        (status.common.state, status.common.reason) = (State::Ready, None);
        Outcome::settled(status)
    }

    async fn finalize(&self, _: &Pass, _: &Object<Flavor>, finalizer: &str) -> Result<(), Fault> {
        Err(Fault::internal(format!("a flavor has nothing to undo by the name of '{finalizer}'")))
    }

    fn resync(&self) -> Option<Duration> {
        None
    }
}

#[derive(Debug, thiserror::Error)]
pub enum ShippedFlavorsError {
    #[error("the flavors that are shipped cannot be written down")]
    Store(#[source] Transact<TxError>),
    #[error("that the flavors have been made cannot be noted in the state directory")]
    Note(#[source] std::io::Error),
}

/// Creates small, medium and large in the project `default` where they are not there, once in the life of a state
/// directory.
pub async fn ensure_shipped_flavors(store: &Store, state_dir: &Path) -> Result<(), ShippedFlavorsError> {
    let note = state_dir.join(MADE);
    if note.exists() {
        return Ok(());
    }
    store.transact(create).await.map_err(ShippedFlavorsError::Store)?;
    note_shipped_flavors(state_dir)
}

/// Notes that they have been made, as in a store that comes from elsewhere.
pub fn note_shipped_flavors(state_dir: &Path) -> Result<(), ShippedFlavorsError> {
    std::fs::write(state_dir.join(MADE), "").map_err(ShippedFlavorsError::Note)
}

fn create(tx: &mut dyn Tx) -> Result<(), TxError> {
    let named = |text: &str| ObjectName::parse(text).expect("a valid name");
    for (name, spec) in shipped() {
        let key = ObjectKey::of::<Flavor>(named(DEFAULT_PROJECT), named(name));
        if tx.get(&key).is_some() {
            continue;
        }
        let spec = serde_json::to_value(spec).expect("a spec is JSON");
        let made = tx.create(NewObject::new(key.clone(), spec))?;
        tx.record(NewEvent {
            kind: key.kind.clone(),
            project: key.project.to_string(),
            name: key.name.to_string(),
            id: made.id(),
            actor: ACTOR.to_owned(),
            verb: "created".to_owned(),
            message: "a flavor that is shipped".to_owned(),
            outcome: EventOutcome::Accepted,
            request_id: None,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::testing::{Host, key};

    #[tokio::test(flavor = "multi_thread")]
    async fn they_are_made_once_and_stay_deleted() {
        let host = Host::new();
        let dir = tempfile::tempdir().expect("a folder");
        ensure_shipped_flavors(&host.store, dir.path()).await.expect("made");
        let _daemon = host.start();
        for name in ["small", "medium", "large"] {
            host.until_state(&key("flavor", name), State::Ready).await;
        }
        host.delete(&key("flavor", "small")).await;
        host.until_gone(&key("flavor", "small")).await;
        ensure_shipped_flavors(&host.store, dir.path()).await.expect("nothing to do");
        assert!(host.store.get(&key("flavor", "small")).is_none());
        assert!(host.store.get(&key("flavor", "large")).is_some());
    }
}
