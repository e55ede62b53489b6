//! A snapshot of the disks of a guest that runs, with its file systems brought to a stop meanwhile where it has an agent.
//!
//! On a task of its own: a pass that ends early leaves no guest frozen. Where this process ends in between, the snapshot's
//! status says so to the next one.

use std::sync::Arc;
use std::time::Duration;

use agentd_drivers::vm::guest::GuestError;
use agentd_drivers::vm::snapshot::TakeSnapshot;
use agentd_drivers::vm::{Power, VmDriver, VmError};
use uuid::Uuid;

use crate::reconcile::runtime::Fault;

/// How often a thaw is tried at once. After that the snapshot's passes go on with it.
const TRIES: u32 = 10;
const BETWEEN: Duration = Duration::from_millis(200);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Freeze {
    /// The guest was off or paused, or its memory is part of the snapshot.
    NotNeeded,
    Frozen,
    /// Why not.
    NotFrozen(String),
    /// It was, and cannot be told to go on.
    StillFrozen,
}

pub(super) async fn take(driver: &Arc<dyn VmDriver>, want: TakeSnapshot) -> (Result<Power, VmError>, Freeze) {
    let driver = driver.clone();
    let task = tokio::spawn(async move {
        if want.memory {
            return (driver.take_snapshot(&want).await, Freeze::NotNeeded);
        }
        let vm = want.of.vm;
        let (freeze, surely_not) = match driver.freeze(vm).await {
            Ok(_) => (Freeze::Frozen, false),
            Err(GuestError::NotRunning(_) | GuestError::Vm(VmError::Missing(_))) => (Freeze::NotNeeded, true),
            Err(GuestError::NoAgent(why)) => (Freeze::NotFrozen(why), true),
            // It may have come to a stop after all.
            Err(error) => (Freeze::NotFrozen(error.to_string()), false),
        };
        let taken = driver.take_snapshot(&want).await;
        if !surely_not && thaw_frozen(&driver, vm, freeze == Freeze::Frozen).await.is_err() {
            return (taken, Freeze::StillFrozen);
        }
        (taken, freeze)
    });
    task.await.unwrap_or_else(|error| {
        let failed = VmError::Failed { call: "take a snapshot", detail: error.to_string() };
        (Err(failed), Freeze::StillFrozen)
    })
}

/// Ok too where nobody in the guest could have frozen anything, or it does not run.
pub(super) async fn thaw(driver: &Arc<dyn VmDriver>, vm: Uuid) -> Result<(), Fault> {
    thaw_frozen(driver, vm, false).await
}

/// Where an agent has frozen them, one that does not answer is no end of it.
async fn thaw_frozen(driver: &Arc<dyn VmDriver>, vm: Uuid, surely: bool) -> Result<(), Fault> {
    let mut tries = 0;
    loop {
        match driver.thaw(vm).await {
            Ok(_) | Err(GuestError::NotRunning("off") | GuestError::Vm(VmError::Missing(_))) => return Ok(()),
            Err(GuestError::NoAgent(_)) if !surely => return Ok(()),
            Err(error) if tries >= TRIES => return Err(error.into()),
            Err(_) => tries += 1,
        }
        tokio::time::sleep(BETWEEN).await;
    }
}
