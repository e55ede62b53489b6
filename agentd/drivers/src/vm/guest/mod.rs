//! What the guest itself can be asked to do, by a program of ours that runs in it, or by QEMU's where ours is not there.
//!
//! A guest is somebody else's computer: it may not answer, answer late, or lie. So every call has a deadline, what comes
//! from it is bounded, and a guest without an agent is told of at once and is no failure of the host.

use async_trait::async_trait;
use uuid::Uuid;

use super::VmError;

/// Who froze the file systems.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Freezer {
    /// agentd's own program in the guest. It thaws by itself when agentd goes away, and after [`FREEZE_MOST`].
    Agent,
    /// QEMU's guest agent.
    Qemu,
}

/// How long file systems stay frozen at most, where our own agent froze them.
pub const FREEZE_MOST: std::time::Duration = std::time::Duration::from_secs(120);

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
    /// The agent said no, and why.
    #[error("the guest cannot {call}: {detail}")]
    Failed { call: &'static str, detail: String },
    #[error(transparent)]
    Vm(#[from] VmError),
}

impl crate::Classed for GuestError {
    fn class(&self) -> crate::Class {
        use crate::Class;
        match self {
            Self::NotRunning(_) => Class::Conflict,
            Self::NoAgent(_) => Class::Unsupported,
            Self::Deadline { .. } | Self::Failed { .. } => Class::Transient,
            Self::Vm(error) => error.class(),
        }
    }
}

#[async_trait]
pub trait GuestDriver: Send + Sync {
    /// Writes out and freezes the guest's file systems: whatever writes to them waits until [`thaw`](Self::thaw). Frozen
    /// ones stay so and are counted. NoAgent where neither our agent nor QEMU's answers.
    async fn freeze(&self, vm: Uuid) -> Result<Frozen, GuestError>;
    /// Thaws them, whoever froze them; gives how many were thawed, 0 where none was frozen.
    async fn thaw(&self, vm: Uuid) -> Result<u32, GuestError>;
    /// Tells the guest the size of the terminal at its serial console, which the line itself cannot carry. NoAgent where
    /// ours does not answer: QEMU's cannot.
    async fn set_console_size(&self, vm: Uuid, columns: u16, rows: u16) -> Result<(), GuestError>;
}
