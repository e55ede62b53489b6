//! The engine that runs containers: Docker Engine, or Podman by its socket that speaks Docker's API.
//!
//! It owns the connection: which socket, which version of the API, one stream of events, and whether the engine is
//! there. What is asked of it is the business of `../container` and of images.
//!
//! ```text
//!   Engine --documents--> bollard, pinned to the engine's own version of the API
//!          --streams----> wire.rs: bytes as they come, with what was read and not one byte more in memory
//!          --events-----> events.rs: one connection, made again where it ends; then "everything may have changed"
//!                         outage.rs: when it was away
//! ```
//! An engine that is not there is no failure of ours: each call answers Unavailable, and the next looks again.

mod connect;
mod error;
mod events;
mod outage;
#[cfg(test)]
mod tests;
pub mod wire;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bollard::Docker;
use parking_lot::Mutex;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

pub use connect::{API_LEAST, Flavor};
pub use error::EngineError;
pub use events::{EngineEvent, Subject};
pub use outage::Outage;
use wire::Wire;

/// For a question about something that the engine has in memory.
pub const ASK: Duration = Duration::from_secs(20);
/// For what makes, starts or ends a process, on a busy host.
pub const ACT: Duration = Duration::from_secs(120);

#[derive(Debug, Clone, Default)]
pub struct EngineOptions {
    /// Where the engine listens. Absent: the first of [`Engine::USUAL`] that answers.
    pub socket: Option<PathBuf>,
}

/// What the engine says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineProbe {
    pub flavor: Flavor,
    pub socket: PathBuf,
    pub version: String,
    /// Of the API, as "1.41".
    pub api: String,
    /// 1 or 2.
    pub cgroups: u8,
    /// As the engine names them: "seccomp", "apparmor", "userns", "rootless".
    pub security: Vec<String>,
    pub storage: String,
    /// The folder that it keeps all in.
    pub root: PathBuf,
}

/// Must be made within a tokio runtime. Whoever holds it shares one connection.
#[derive(Debug)]
pub struct Engine {
    sockets: Vec<PathBuf>,
    link: Mutex<Link>,
    events: broadcast::Sender<EngineEvent>,
    stop: CancellationToken,
}

#[derive(Debug, Default)]
struct Link {
    /// The connection that answered last.
    linked: Option<Arc<Linked>>,
    /// When the engine was last away.
    outage: Option<Outage>,
}

/// An engine that answered.
#[derive(Debug)]
pub(crate) struct Linked {
    pub(crate) docker: Docker,
    pub(crate) wire: Wire,
    pub(crate) flavor: Flavor,
    pub(crate) version: String,
    pub(crate) api: String,
}

impl Engine {
    /// Where engines listen if nobody says otherwise.
    pub const USUAL: [&str; 2] = ["/run/docker.sock", "/run/podman/podman.sock"];

    /// Never fails and does not wait.
    pub fn new(options: EngineOptions) -> Arc<Self> {
        let usual = || Self::USUAL.iter().map(PathBuf::from).collect();
        let engine = Arc::new(Self {
            sockets: options.socket.map_or_else(usual, |socket| vec![socket]),
            link: Mutex::default(),
            events: broadcast::Sender::new(4096),
            stop: CancellationToken::new(),
        });
        events::follow(&engine);
        engine
    }

    /// The first socket that it looks at.
    pub fn socket(&self) -> &Path {
        self.sockets.first().map_or(Path::new(""), PathBuf::as_path)
    }

    /// Asks the engine what it is. Unavailable where none answers.
    pub async fn probe(&self) -> Result<EngineProbe, EngineError> {
        let linked = self.linked().await?;
        let info = self.ask("tell about itself", ASK, linked.docker.info()).await?;
        let security = info.security_options.unwrap_or_default();
        Ok(EngineProbe {
            flavor: linked.flavor,
            socket: linked.wire.socket().to_owned(),
            version: linked.version.clone(),
            api: linked.api.clone(),
            cgroups: if info.cgroup_version.is_some_and(|v| v.to_string() == "2") { 2 } else { 1 },
            security: security.iter().filter_map(|option| name_of(option)).collect(),
            storage: info.driver.unwrap_or_default(),
            root: info.docker_root_dir.map(PathBuf::from).unwrap_or_default(),
        })
    }

    /// Changes as they happen. A receiver that lags must look at all.
    pub fn events(&self) -> broadcast::Receiver<EngineEvent> {
        self.events.subscribe()
    }

    /// When it was last away, or came. What of its containers ended then went with it.
    pub fn outage(&self) -> Option<Outage> {
        self.link.lock().outage
    }

    /// One call, with a deadline. Where nobody listens any more, the next call looks for an engine anew.
    pub(crate) async fn ask<T>(
        &self,
        call: &'static str,
        limit: Duration,
        work: impl Future<Output = Result<T, bollard::errors::Error>>,
    ) -> Result<T, EngineError> {
        let done = match tokio::time::timeout(limit, work).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => EngineError::of(call, limit, error),
            Err(_) => EngineError::Deadline { call, seconds: limit.as_secs() },
        };
        self.failed(&done);
        Err(done)
    }

    /// Ends its connection for events. Containers go on.
    pub fn close(&self) {
        self.stop.cancel();
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// "seccomp" of "name=seccomp,profile=default".
fn name_of(option: &str) -> Option<String> {
    option.split(',').find_map(|part| part.strip_prefix("name=")).map(ToOwned::to_owned)
}
