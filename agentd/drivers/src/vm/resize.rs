//! CPUs and memory of a guest that runs.
//!
//! What is given is there when the call returns. What is taken the guest has to let go of, which it may do late or never:
//! a call only asks, and [`LiveSeen`](super::LiveSeen) shows what it has. Asking again is harmless. The definition is
//! left as it is; it is made anew before the next start.

use agentd_api::ByteSize;
use async_trait::async_trait;
use uuid::Uuid;

use super::{Change, VmError};

#[async_trait]
pub trait VmResize: Send + Sync {
    /// Plugs CPUs in, or asks the guest to let go of some, for which it waits some seconds. Refused for none and for more
    /// than `LiveSeen::cpus_max`. Failed where the guest is off.
    async fn set_cpus(&self, id: Uuid, cpus: u32) -> Result<Change, VmError>;
    /// Tells the guest's balloon how much memory to leave it, and does not wait. Refused for more than
    /// `LiveSeen::memory_max`. Failed where the guest is off.
    async fn set_memory(&self, id: Uuid, memory: ByteSize) -> Result<Change, VmError>;
}
