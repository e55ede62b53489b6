//! Wishes: checks what a caller wants against everything else that is wanted, and writes it down in one transaction.
//!
//! ```text
//! http --> [draft: shape and limits] --> one transaction { idempotency, admission of the kind, allocations,
//!                                                          the object, the event } --> answer
//! ```
//!
//! It owns what may be asked, who is in whose way, and what is allocated (addresses, MACs, ports). It calls no driver and
//! waits for no host: what it must know of the host it asks of [`HostFacts`] before the transaction begins. That the
//! wish comes true is the reconcilers' work. On a failure nothing of the wish is written; a store that cannot write is
//! answered as `store_unavailable`.

mod act;
mod admission;
mod archive;
mod caller;
mod commit;
mod container;
mod draft;
mod flavor;
mod guest;
mod image;
mod network;
mod snapshot;
mod ssh_key;
mod vm;
mod volume;
mod write;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use agentd_api::container::ImageRef;
use agentd_api::vm::{Accel, CpuSet, FirmwareThere};
use agentd_api::{ByteSize, Cidr, ObjectKey, PortMap};
use agentd_drivers::container::ForeignDef;
use agentd_drivers::network::Listener;
use agentd_store::Store;
use async_trait::async_trait;

pub use archive::Imported;
pub use caller::{Caller, Peer, Principal, Reply};

/// What intents must know of the host. Asked before a transaction, never within.
#[async_trait]
pub trait HostFacts: Send + Sync {
    /// All of the host's RAM.
    fn memory(&self) -> ByteSize;
    /// Its processors. Empty where that is not known.
    fn processors(&self) -> CpuSet;
    /// What it has reserved in huge pages. None where its kernel has none at all.
    fn huge_pages(&self) -> Option<ByteSize>;
    /// How guests run on it, once that is known.
    fn accel(&self) -> Option<Accel>;
    /// What it can start guests with. Looks anew.
    fn firmware(&self) -> FirmwareThere {
        FirmwareThere::ALL
    }
    /// Differs after each boot.
    fn boot_id(&self) -> &str;
    /// How much more fits into the pool of volumes, as it was last seen.
    fn pool_free(&self) -> ByteSize {
        ByteSize(u64::MAX)
    }
    /// Folders of the host that containers may have mounted, and what is below them.
    fn bind_mounts(&self) -> Vec<PathBuf> {
        Vec::new()
    }
    /// Whether the host's engine has an image under that name. Asks it.
    async fn engine_image(&self, _: &ImageRef) -> EngineImage {
        EngineImage::Unknown("there is no engine".to_owned())
    }
    /// A container that the host's engine has and this daemon has not, by its name or id there. Asks it.
    async fn foreign(&self, _: &str) -> Foreign {
        Foreign::Unknown("there is no engine".to_owned())
    }
    /// IPv4 networks that the host has, ours excluded; or why that cannot be told.
    async fn taken(&self) -> Result<Vec<Cidr>, String>;
    /// Who listens on the host where one of these ports, published, would catch it; or why that cannot be told. Looks anew.
    async fn listeners(&self, _: &[PortMap]) -> Result<Vec<Listener>, String> {
        Ok(Vec::new())
    }
}

/// What the host's engine said of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EngineImage {
    There,
    NotThere,
    /// It did not say, and why.
    Unknown(String),
}

/// What the host's engine said of a container that is none of this daemon's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Foreign {
    There {
        def: Box<ForeignDef>,
        /// What of the host it has mounted that is not below a folder that containers may have.
        outside: Vec<PathBuf>,
    },
    /// Nothing of that name is there, or it is ours.
    NotThere,
    /// It did not say, and why.
    Unknown(String),
}

/// How a reconciler is told to look now, or later.
pub trait Wake: Send + Sync {
    fn wake(&self, key: ObjectKey);
    fn wake_after(&self, key: ObjectKey, delay: Duration);
}

/// Everything that callers can ask for. See [`write`] for objects and [`act`] for actions.
#[derive(Clone)]
pub struct Intents {
    store: Store,
    facts: Arc<dyn HostFacts>,
    wake: Arc<dyn Wake>,
    cursors: Arc<guest::addresses::Cursors>,
}

impl Intents {
    pub fn new(store: Store, facts: Arc<dyn HostFacts>, wake: Arc<dyn Wake>) -> Self {
        Self { store, facts, wake, cursors: Arc::default() }
    }
}
