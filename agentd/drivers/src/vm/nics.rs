//! Interfaces of a guest that runs, plugged in and out. An interface is known by its MAC address. The definition is left
//! as it is; it is made anew before the next start.

use agentd_api::MacAddr;
use async_trait::async_trait;
use uuid::Uuid;

use super::{Change, DomainNic, VmError};

#[async_trait]
pub trait VmNics: Send + Sync {
    /// Makes its tap on its bridge and plugs it in. AlreadySo where the guest has an interface of that MAC address on that
    /// bridge, Conflict where on another. Capacity where no port is free until it is started anew. Failed where the guest
    /// is off or the bridge is not there.
    async fn attach_nic(&self, id: Uuid, nic: &DomainNic) -> Result<Change, VmError>;
    /// Asks the guest to let go of it, for which it waits some seconds. AlreadySo where it is gone. Whether it is shows in
    /// [`LiveSeen`](super::LiveSeen); asking again is harmless. Failed where the guest is off.
    async fn detach_nic(&self, id: Uuid, mac: MacAddr) -> Result<Change, VmError>;
}
