//! Containers: what a driver of containers must do.
//!
//! A container is named by its object's id, in a label of ours and not by its name alone, so that a renamed or foreign one
//! is never taken for ours. One that was adopted has no label of ours, since an engine gives labels only to what it makes:
//! it is known by the engine's own id, of which the driver is told by [`ContainerLook::attend`].
//!
//! What can be changed while a container runs (its limits, its endpoints, its name) is no part of its digest, and is seen
//! and changed by itself. What is in the digest is changed by making the container anew, and that is not for a driver to
//! decide: [`ContainerLife::ensure_created`] leaves one that differs, and says so.

#[cfg(any(test, feature = "fake"))]
pub mod contract;
mod def;
pub mod docker;
mod error;
#[cfg(any(test, feature = "fake"))]
pub mod fake;
mod seen;
mod streams;

use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::broadcast;
use uuid::Uuid;

pub use crate::vm::Change;
pub use def::{
    ContainerDef, Endpoint, EngineNetwork, EngineVolume, HealthWish, IoLimit, Limits, LogKeep, Mount,
    MountSource, Restraints, Seccomp, Security, USUAL_CAPABILITIES, Ulimit, Userns, Wired,
};
pub use error::ContainerError;
pub use seen::{
    Beyond, ContainerEvent, ContainerListed, ContainerSeen, ContainerState, EndpointSeen, EngineRestart,
    ExitSeen, ForeignDef, ForeignSeen, HealthSeen, HealthState,
};
pub use streams::{Changed, ChangedHow, Commit, ContainerStats, ContainerStreams, Logs, Processes, Sitting};

use crate::engine::{EngineProbe, Outage};

/// What became of a wish to have a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Created {
    /// It was not there.
    Made,
    /// It is there, made by an equal definition. Its limits, endpoints and name are as they are: see what is observed.
    AlreadySo,
    /// One is there that was made by another definition. It was left as it is.
    Differs,
}

/// Every call is idempotent, has a deadline of its own, and goes on to its end when its caller stops waiting.
#[async_trait]
pub trait ContainerDriver:
    ContainerLook + ContainerLife + ContainerLimits + ContainerNetworks + ContainerVolumes + ContainerStreams
{
    /// Whether the engine answers, and what it is. Cheap; asked every few seconds.
    async fn probe(&self) -> Result<EngineProbe, ContainerError>;
    /// Ends what the driver itself runs; containers go on. Returns within a second.
    async fn close(&self);
}

/// What is there.
#[async_trait]
pub trait ContainerLook: Send + Sync {
    /// The container of that engine's id is the object's from now on, whatever its labels say: in lists, events and calls.
    /// Remembered until [`leave`](Self::leave), and not across a start of the daemon.
    fn attend(&self, id: Uuid, engine_id: &str);
    /// What `attend` was told of that object is over.
    fn leave(&self, id: Uuid);
    /// All containers of this daemon and those attended, by one call to the engine however many there are.
    async fn list(&self) -> Result<Vec<ContainerListed>, ContainerError>;
    /// One container with all that is known of it, or None where there is none.
    async fn observe(&self, id: Uuid) -> Result<Option<ContainerSeen>, ContainerError>;
    /// All containers that are none of this daemon's.
    async fn foreign(&self) -> Result<Vec<ForeignSeen>, ContainerError>;
    /// What a container that is none of this daemon's was made by, to adopt it. By the engine's id or by name. None where
    /// there is none.
    async fn foreign_def(&self, name: &str) -> Result<Option<ForeignDef>, ContainerError>;
    /// The engine's own id, `sha256:...`, of the image that it has under that name. None where it has none; nothing is pulled.
    async fn image_id(&self, name: &str) -> Result<Option<String>, ContainerError>;
    /// Changes as they happen. A receiver that lags must look at all.
    fn events(&self) -> broadcast::Receiver<ContainerEvent>;
    /// When the engine was last away, or came, whether a call failed for it or not. What of its containers ended then ended
    /// with it.
    fn outage(&self) -> Option<Outage>;
    /// The digest that [`ContainerListed::digest`] has when the container was made by `def`: of all that cannot be changed
    /// while it is there.
    fn digest(&self, def: &ContainerDef) -> String;
}

/// From nothing to running and back. Each but `ensure_created` and `remove` answers Missing where there is none.
#[async_trait]
pub trait ContainerLife: Send + Sync {
    /// Makes the container, not started, with its endpoints, where there is none. NoImage where the engine does not have the
    /// image; NoNetwork and NoVolume where `ensure_network` or `ensure_volume` was not called; Conflict where a container that is not ours has its name; Unsupported, and nothing is made, where the engine
    /// or the kernel cannot hold what is asked (never less than was asked).
    async fn ensure_created(&self, def: &ContainerDef) -> Result<Created, ContainerError>;
    /// AlreadySo where it runs or is paused. Refused where its program cannot be run (there is none of that name).
    async fn start(&self, id: Uuid) -> Result<Change, ContainerError>;
    /// Sends it the signal that its image (or definition) stops by, and returns at once. AlreadySo where it does not run. One
    /// that is paused gets it when it goes on.
    async fn ask_to_stop(&self, id: Uuid) -> Result<Change, ContainerError>;
    /// As `ask_to_stop`, waits so long for its end, and then kills it. Off when this returns.
    async fn stop(&self, id: Uuid, grace: Duration) -> Result<Change, ContainerError>;
    /// SIGKILL; off when this returns. AlreadySo where it does not run.
    async fn kill(&self, id: Uuid) -> Result<Change, ContainerError>;
    /// Sends its first process that signal. Off where it does not run.
    async fn signal(&self, id: Uuid, number: u32) -> Result<(), ContainerError>;
    /// Pausing or resuming one that does not run answers Off.
    async fn pause(&self, id: Uuid) -> Result<Change, ContainerError>;
    async fn unpause(&self, id: Uuid) -> Result<Change, ContainerError>;
    /// Gives the container the engine's name that an object of this project and name has. Conflict where one that is not ours
    /// has it.
    async fn rename(&self, def: &ContainerDef) -> Result<Change, ContainerError>;
    /// The engine does not start it by itself any more, whatever it was made to do. AlreadySo where it does not.
    async fn take_restarts(&self, id: Uuid) -> Result<Change, ContainerError>;
    /// Removes it with what the engine keeps beside it (its log, its anonymous volumes), killing it where it runs. AlreadySo
    /// where gone.
    async fn remove(&self, id: Uuid) -> Result<Change, ContainerError>;
}

/// What is changed while it runs.
#[async_trait]
pub trait ContainerLimits: Send + Sync {
    /// Makes its limits so, whether it runs or not. Unsupported where the kernel cannot hold one of them; Refused where it will
    /// not, as less memory than it fills. AlreadySo where they are. Some engines cannot lift a limit from what runs:
    /// Unsupported, and making it anew does.
    async fn update(&self, id: Uuid, limits: &Limits) -> Result<Change, ContainerError>;
}

/// The engine's networks on our bridges. No network of the engine's own is ever joined.
#[async_trait]
pub trait ContainerNetworks: Send + Sync {
    /// A network of the engine's on that bridge, which must be there. Made anew where the bridge or its addresses differ and
    /// nothing is on it; Conflict where something is.
    async fn ensure_network(&self, network: &EngineNetwork) -> Result<Change, ContainerError>;
    /// The bridge stays. AlreadySo where gone. InUse where a container has an endpoint on it.
    async fn remove_network(&self, network: Uuid) -> Result<Change, ContainerError>;
    /// Those of this daemon.
    async fn networks(&self) -> Result<Vec<Uuid>, ContainerError>;
    /// Plugs an endpoint, also while it runs. Made anew where it is there with another address or has lost its link.
    /// NoNetwork where `ensure_network` was not called.
    async fn connect(&self, id: Uuid, endpoint: &Endpoint) -> Result<Change, ContainerError>;
    /// Unplugs one, of ours or one that somebody else plugged. AlreadySo where it is not there.
    async fn disconnect(&self, id: Uuid, network: &Wired) -> Result<Change, ContainerError>;
}

/// The engine's volumes, each of which mounts a block device of ours. No volume of the engine's own holds anybody's data: what
/// it has is on the device.
#[async_trait]
pub trait ContainerVolumes: Send + Sync {
    /// A volume of the engine's on that device. Made anew where it is on another and no container has it; Conflict where one
    /// has, or where one of its name is not ours.
    async fn ensure_volume(&self, volume: &EngineVolume) -> Result<Change, ContainerError>;
    /// What is on the device stays. AlreadySo where gone. VolumeInUse where a container has it, also one that does not run.
    async fn remove_volume(&self, volume: Uuid) -> Result<Change, ContainerError>;
    /// Those of this daemon.
    async fn volumes(&self) -> Result<Vec<Uuid>, ContainerError>;
}
