//! Figures of the guests that run.

use agentd_api::stats::{CpuFigures, DiskFigures, MemoryFigures, NetworkFigures};
use async_trait::async_trait;
use uuid::Uuid;

use super::VmError;

/// Of one domain of ours that is not off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainStats {
    pub id: Uuid,
    pub cpu: CpuFigures,
    pub memory: MemoryFigures,
    pub disks: Vec<DiskFigures>,
    /// Their `network` is not known here.
    pub networks: Vec<NetworkFigures>,
}

#[async_trait]
pub trait VmStats: Send + Sync {
    /// All guests of this daemon that run or are paused, by one call to the backend however many there are. A guest whose
    /// emulator does not answer is told of with what is known without it.
    async fn stats(&self) -> Result<Vec<DomainStats>, VmError>;
}
