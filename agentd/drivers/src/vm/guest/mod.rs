//! What the guest itself can be asked to do, by a program of ours that runs in it, or by QEMU's where ours is not there.
//!
//! A guest is somebody else's computer: it may not answer, answer late, or lie. So every call has a deadline, what comes
//! from it is bounded, and a guest without an agent is told of at once and is no failure of the host.
//!
//! ```text
//!   Links --one task a guest--> link --handshake--> channel --many--> session (exec, copy, facts, ...)
//!             (its Unix socket)           (frames of agentd-guest-wire, a window of data a session)
//! ```

pub mod channel;
pub mod link;
#[cfg(test)]
mod tests;

use std::time::Duration;

use agentd_api::ErrorCode;
use async_trait::async_trait;
use tokio::sync::broadcast;
use uuid::Uuid;

use super::VmError;
use crate::container::ContainerError;

pub use agentd_guest_wire::{ARGUMENTS_MAX, ExecWish, Facts, Filesystem, Interface, Os};

/// Who froze the file systems.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Freezer {
    /// agentd's own program in the guest. It thaws by itself when agentd goes away, and after [`FREEZE_MOST`].
    Agent,
    /// QEMU's guest agent.
    Qemu,
}

/// How long file systems stay frozen at most, where our own agent froze them.
pub const FREEZE_MOST: Duration = Duration::from_secs(120);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frozen {
    pub by: Freezer,
    pub filesystems: u32,
}

#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    #[error("the guest does not run: it is {0}")]
    NotRunning(&'static str),
    #[error("no agent answers in the guest: {0}")]
    NoAgent(String),
    #[error("the guest gave no answer within {seconds} s to '{call}'")]
    Deadline { call: &'static str, seconds: u64 },
    /// The agent was there, and then not any more.
    #[error("the guest's agent went away")]
    Gone,
    /// What was asked for is wrong in itself.
    #[error("the guest refuses: {0}")]
    Refused(String),
    /// No such file, folder or user in the guest.
    #[error("in the guest {0}")]
    Missing(String),
    #[error("the guest cannot do this: {0}")]
    Unsupported(String),
    /// A file system of the guest's has no room.
    #[error("in the guest {0}")]
    Full(String),
    /// The agent said no, and why.
    #[error("the guest cannot {call}: {detail}")]
    Failed { call: &'static str, detail: String },
    #[error(transparent)]
    Vm(#[from] VmError),
    /// The session is in a container.
    #[error(transparent)]
    Container(#[from] ContainerError),
}

impl crate::Classed for GuestError {
    fn class(&self) -> crate::Class {
        use crate::Class;
        match self {
            Self::NotRunning(_) => Class::Conflict,
            Self::NoAgent(_) | Self::Unsupported(_) => Class::Unsupported,
            Self::Refused(_) | Self::Missing(_) => Class::Permanent,
            Self::Full(_) => Class::Capacity,
            Self::Deadline { .. } | Self::Gone | Self::Failed { .. } => Class::Transient,
            Self::Vm(error) => error.class(),
            Self::Container(error) => error.class(),
        }
    }

    fn code(&self) -> ErrorCode {
        match self {
            Self::Missing(_) => ErrorCode::NotFound,
            Self::Vm(error) => error.code(),
            Self::Container(error) => error.code(),
            other => crate::fault::code_of(other.class()),
        }
    }
}

/// What is known of the agent in a guest, without asking it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GuestSeen {
    /// It was not found out yet.
    Unknown,
    /// None answers.
    Silent,
    Facts(Facts),
}

/// What a session in the guest says, in the order in which it says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    Out(Vec<u8>),
    Err(Vec<u8>),
    /// The last of a program: its status, or 128 and a signal's number.
    Exit(i32),
    /// The last of a copy: how many entries, and how many bytes of files.
    Done {
        count: u64,
        bytes: u64,
    },
}

/// The side of a session that speaks to the guest.
#[async_trait]
pub trait SessionIn: Send {
    /// Waits while the guest takes no more. Gone where the session is over; its other side says how.
    async fn data(&mut self, bytes: &[u8]) -> Result<(), GuestError>;
    async fn end(&mut self) -> Result<(), GuestError>;
    async fn resize(&mut self, columns: u16, rows: u16) -> Result<(), GuestError>;
    async fn signal(&mut self, number: u32) -> Result<(), GuestError>;
}

/// The side that hears it. Dropped before the last is said, it ends what the session is at.
#[async_trait]
pub trait SessionOut: Send {
    /// Cancel-safe. The guest is granted more data only as this is called.
    async fn next(&mut self) -> Result<Said, GuestError>;
}

pub type GuestIn = Box<dyn SessionIn>;
pub type GuestOut = Box<dyn SessionOut>;

#[async_trait]
pub trait GuestDriver: Send + Sync {
    /// Whether the guest's agent is to be followed from now on, for its facts. To be called for guests that run.
    fn attend(&self, vm: Uuid, wanted: bool);
    fn guest_seen(&self, vm: Uuid) -> GuestSeen;
    /// The VMs of which `guest_seen` has changed. A receiver that lags must look at all.
    fn guest_events(&self) -> broadcast::Receiver<Uuid>;
    /// Whether the guest's own agent answers, or soon does.
    async fn agent_answers(&self, vm: Uuid) -> Result<(), GuestError>;
    /// Runs a program. Answers once it runs; a program that is not there runs too, and exits with 127.
    async fn exec(&self, vm: Uuid, wish: ExecWish) -> Result<(GuestIn, GuestOut), GuestError>;
    /// What is at that path as a tar archive; Missing where nothing is.
    async fn pack(&self, vm: Uuid, path: String) -> Result<GuestOut, GuestError>;
    /// Unpacks a tar archive to that path: what it is given, and how it went.
    async fn unpack(&self, vm: Uuid, path: String) -> Result<(GuestIn, GuestOut), GuestError>;
    /// Sets the guest's clock to this host's.
    async fn set_time(&self, vm: Uuid) -> Result<(), GuestError>;
    /// Writes out and freezes the guest's file systems: whatever writes to them waits until [`thaw`](Self::thaw). Frozen
    /// ones stay so and are counted. NoAgent where neither our agent nor QEMU's answers.
    async fn freeze(&self, vm: Uuid) -> Result<Frozen, GuestError>;
    /// Thaws them, whoever froze them; gives how many were thawed, 0 where none was frozen.
    async fn thaw(&self, vm: Uuid) -> Result<u32, GuestError>;
    /// Tells the guest the size of the terminal at its serial console, which the line itself cannot carry. NoAgent where
    /// ours does not answer: QEMU's cannot.
    async fn set_console_size(&self, vm: Uuid, columns: u16, rows: u16) -> Result<(), GuestError>;
}
