//! Figures of guests that do not run: a quarter of a CPU's time since each one's start, and a balloon that leaves all.

use std::time::Duration;

use agentd_api::stats::{CpuFigures, DiskFigures, GuestMemory, MemoryFigures, NetworkFigures};
use async_trait::async_trait;

use super::FakeVm;
use crate::vm::stats::{DomainStats, VmStats};
use crate::vm::{DomainSpec, VmError};

#[async_trait]
impl VmStats for FakeVm {
    async fn stats(&self) -> Result<Vec<DomainStats>, VmError> {
        self.call("stats", |inner| {
            Ok(inner.domains.running().iter().map(|(spec, up)| of(spec, *up)).collect())
        })
        .await
    }
}

fn of(spec: &DomainSpec, up: Duration) -> DomainStats {
    let memory = spec.memory.bytes();
    let guest = GuestMemory { total_bytes: memory, free_bytes: memory / 2, ..GuestMemory::default() };
    let disk = DiskFigures { device: "vda".to_owned(), ..DiskFigures::default() };
    let network = |tap: &str| NetworkFigures { device: tap.to_owned(), ..NetworkFigures::default() };
    DomainStats {
        id: spec.id,
        cpu: CpuFigures {
            count: spec.cpus,
            nanoseconds: u64::try_from(up.as_nanos() / 4).unwrap_or(u64::MAX),
        },
        memory: MemoryFigures {
            limit_bytes: memory,
            given_bytes: memory,
            resident_bytes: Some(memory / 2),
            guest: Some(guest),
        },
        disks: vec![disk],
        networks: spec.nics.iter().map(|nic| network(&nic.tap)).collect(),
    }
}
