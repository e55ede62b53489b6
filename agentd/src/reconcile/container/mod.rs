//! Makes containers so, through the host's engine.
//!
//! ```text
//!   observe (the container, the status) --> plan (pure) --> apply (one step) --+
//!      ^                                                                       |
//!      +-----------------------------------------------------------------------+
//! ```
//!
//! `running` is written after the engine said so. The engine restarts nothing by itself: that is the restart policy's, here.
//! What a step needs of other objects it waits for; what fails is tried again by the runtime; what somebody does behind
//! our back is an event that wakes a pass, which repairs or reports it as the restart policy says: a container that was
//! removed is made anew, of its image, where its policy starts it again. While the engine is away the last known state stays,
//! with a condition that says so.

mod adopted;
mod apply;
mod define;
mod live;
mod make;
mod needs;
mod observe;
mod plan;
mod survey;
#[cfg(test)]
mod tests;

pub use adopted::attend_all;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use agentd_api::Object;
use agentd_api::container::{Container, ContainerStatus};
use agentd_drivers::container::{ContainerDriver, ContainerError};
use agentd_drivers::{Class, Drivers};
use async_trait::async_trait;
use parking_lot::Mutex;
use uuid::Uuid;

use super::backend::Backend;
use super::guest::{BootQueue, GuestLocks};
use super::network::NetworkSync;
use super::runtime::{Fault, Outcome, Pass, Reconciler, Trigger};

/// What a container has on the host, in the order in which it is undone.
pub const CONTAINER: &str = "container";
pub const NETWORK: &str = "network";

pub struct Containers {
    pub drivers: Drivers,
    pub boot_id: String,
    /// Folders of the host that containers may have mounted, and what is below them.
    pub bind_mounts: Vec<PathBuf>,
    pub sync: NetworkSync,
    pub backend: Backend,
    /// Who is started when after a boot of the host; VMs and containers are in one line.
    pub queue: Arc<BootQueue>,
    /// How one is woken whose turn it is.
    pub trigger: Trigger,
    /// By id: a renamed container may have two passes for a moment.
    pub locks: GuestLocks,
    /// Those that this daemon has sent their stop signal. After a start of the daemon they get it again.
    pub asked: Mutex<HashSet<Uuid>>,
}

#[async_trait]
impl Reconciler for Containers {
    type Kind = Container;

    async fn reconcile(&self, pass: &Pass, object: &Object<Container>) -> Outcome<ContainerStatus> {
        let _turn = self.locks.turn(object.meta.id).await;
        let (status, notes) = (object.status.clone(), Vec::new());
        apply::Work { containers: self, pass, object, status, notes }.run().await
    }

    async fn finalize(&self, pass: &Pass, object: &Object<Container>, finalizer: &str) -> Result<(), Fault> {
        let _turn = self.locks.turn(object.meta.id).await;
        match finalizer {
            CONTAINER => self.undo_container(object).await,
            NETWORK => self.undo_network(pass, object).await,
            other => {
                Err(Fault::internal(format!("a container has nothing to undo by the name of '{other}'")))
            }
        }
    }

    /// What a pass waits for is the engine, not a processor, and many at once share the store's commits.
    fn concurrency(&self) -> usize {
        16
    }
    /// The survey compares all of them at once.
    fn resync(&self) -> Option<Duration> {
        None
    }
    fn all_at_start(&self) -> bool {
        false
    }
}

impl Containers {
    pub fn driver(&self) -> &dyn ContainerDriver {
        self.drivers.container.as_ref()
    }

    async fn undo_container(&self, object: &Object<Container>) -> Result<(), Fault> {
        self.turn_is_over(&object.meta.key(), None);
        self.asked.lock().remove(&object.meta.id);
        // The digest is written down before anything is made: without one there is no container, and the engine, which may
        // not even be installed, need not be asked.
        if object.status.image_digest.is_none() {
            return Ok(());
        }
        if let Some(adopted) = &object.status.adopted {
            self.driver().attend(object.meta.id, &adopted.engine_id);
        }
        match self.driver().remove(object.meta.id).await {
            Ok(_) | Err(ContainerError::Missing(_)) => {
                self.driver().leave(object.meta.id);
                Ok(())
            }
            Err(error) => {
                self.backend.told(&error);
                Err(error.into())
            }
        }
    }

    async fn undo_network(&self, pass: &Pass, object: &Object<Container>) -> Result<(), Fault> {
        for name in &object.status.renamed_from {
            let mut old = pass.key().clone();
            old.name = name.clone();
            self.sync.guest(&old).await?;
        }
        if object.status.addresses.is_empty() && object.status.leaving.is_empty() {
            return Ok(());
        }
        match self.sync.guest(pass.key()).await {
            // Where the host cannot have such a network at all there is nothing of the container on it.
            Err(fault) if fault.class == Class::Unsupported => Ok(()),
            end => end,
        }
    }

    /// It was started, with that delay for those behind it; or it did not come up, and nobody waits for it any more.
    fn turn_is_over(&self, container: &agentd_api::ObjectKey, delay: Option<Duration>) {
        self.queue.over(container, delay, &self.trigger);
    }
}
