//! Containers of a real engine, by Docker's API.
//!
//! ```text
//! find.rs    whose is which             render.rs   what a definition is to the engine (pure)
//! look.rs    lists, events, strangers   read.rs     what the engine's answers are to us (pure)
//! life.rs    made, started, stopped     limits.rs   changed while it runs
//! networks.rs, volumes.rs               session.rs  exec and attach: frames.rs takes their output apart
//! plugs.rs   the marks of their links   ends.rs     Docker's own links, held against what it says
//! macs.rs    their MACs, as wanted          watch.rs   links that go
//! files.rs   archives in and out        facts.rs    figures, processes, changes
//! strange.rs what others made (pure)    users.rs    whose root its root is
//! podman/    what is wired by us, where the engine cannot
//! ```
//! Nothing is remembered but which engine's id an object's container has, and that is looked up again where it is wrong;
//! and of each stranger whether it is privileged, which is so for its life.

mod ends;
mod facts;
mod files;
mod find;
mod frames;
mod life;
mod limits;
mod look;
mod macs;
mod networks;
mod plugs;
mod podman;
mod read;
mod render;
mod session;
mod strange;
mod streams;
mod tar;
mod users;
mod volumes;
mod watch;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
pub use macs::set_mac;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::broadcast;
use uuid::Uuid;

use super::{ContainerDriver, ContainerError, ContainerEvent, EngineNetwork};
use crate::Instance;
use crate::engine::{Engine, EngineError, EngineProbe};

/// The marks of what this program makes in an engine.
pub(super) const INSTANCE: &str = "agentd.instance";
pub(super) const ID: &str = "agentd.id";
pub(super) const DIGEST: &str = "agentd.digest";
pub(super) const PROJECT: &str = "agentd.project";
pub(super) const NAME: &str = "agentd.name";
pub(super) const NETWORK: &str = "agentd.network";
pub(super) const VOLUME: &str = "agentd.volume";

#[derive(Debug, Clone)]
pub struct EngineContainers {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    engine: Arc<Engine>,
    instance: Instance,
    attended: Mutex<BTreeMap<Uuid, String>>,
    /// The engine's ids that were seen last.
    known: Mutex<HashMap<Uuid, String>>,
    /// Of strangers, by the engine's id: those that were listed last and of which it told.
    privileged: Mutex<HashMap<String, bool>>,
    /// Our networks as they were told last.
    bridges: Mutex<BTreeMap<Uuid, EngineNetwork>>,
    /// Tells what becomes of links that are ours, from the first look at any container on.
    watching: OnceLock<watch::Watching>,
    events: broadcast::Sender<ContainerEvent>,
}

impl EngineContainers {
    /// Never fails and does not wait. Must be called within a tokio runtime.
    pub fn new(engine: Arc<Engine>, instance: Instance) -> Self {
        let inner = Arc::new(Inner {
            engine,
            instance,
            attended: Mutex::default(),
            known: Mutex::default(),
            privileged: Mutex::default(),
            bridges: Mutex::default(),
            watching: OnceLock::new(),
            events: broadcast::Sender::new(4096),
        });
        look::follow(&inner);
        Self { inner }
    }

    /// Runs `work` detached from whoever waits for it.
    async fn detached<T: Send + 'static, F: Future<Output = Result<T, ContainerError>> + Send + 'static>(
        &self,
        call: &'static str,
        work: impl FnOnce(Arc<Inner>) -> F,
    ) -> Result<T, ContainerError> {
        let gone = |error: tokio::task::JoinError| {
            ContainerError::Engine(EngineError::Failed { call, detail: error.to_string() })
        };
        tokio::spawn(work(self.inner.clone())).await.map_err(gone)?
    }
}

impl Inner {
    /// One call by our own wire, with a deadline.
    async fn within<T, F: Future<Output = Result<T, EngineError>>>(
        &self,
        call: &'static str,
        limit: Duration,
        work: F,
    ) -> Result<T, EngineError> {
        let late = |_| EngineError::Deadline { call, seconds: limit.as_secs() };
        let done = tokio::time::timeout(limit, work).await.map_err(late).flatten();
        done.inspect_err(|error| self.engine.failed(error))
    }

    /// Sends a document, and gives the one that is answered.
    async fn post(
        &self,
        call: &'static str,
        limit: Duration,
        path: &str,
        document: &Value,
    ) -> Result<Value, EngineError> {
        let linked = self.engine.linked().await?;
        self.within(call, limit, linked.wire.post(call, path, document)).await
    }
}

#[async_trait]
impl ContainerDriver for EngineContainers {
    async fn probe(&self) -> Result<EngineProbe, ContainerError> {
        Ok(self.inner.engine.probe().await?)
    }

    async fn close(&self) {
        self.inner.engine.close();
    }
}
