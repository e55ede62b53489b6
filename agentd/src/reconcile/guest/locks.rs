//! One at a time to a VM or a container, and to a set of disks that VMs stand on: its own pass, and the passes of its
//! snapshots. What they do to its disks and its guest is never interleaved.
//!
//! Held in memory only: a daemon that ends holds none, and what it left half done its next passes find.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;
use uuid::Uuid;

/// When locks that nobody holds are forgotten.
const MANY: usize = 1024;

type Lock = Arc<tokio::sync::Mutex<()>>;

#[derive(Debug, Clone, Default)]
pub struct GuestLocks(Arc<Mutex<HashMap<Of, Lock>>>);

/// A VM that takes its disks over has a set of its own id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Of {
    Vm(Uuid),
    Set(Uuid),
}

impl GuestLocks {
    /// Waits for the VM's turn; held until the answer is dropped.
    pub async fn turn(&self, vm: Uuid) -> OwnedMutexGuard<()> {
        self.take(Of::Vm(vm)).await
    }

    /// As [`turn`](Self::turn), of a set of disks. Whoever has a VM's turn may wait for it; the other way round nobody does.
    pub async fn turn_of_set(&self, set: Uuid) -> OwnedMutexGuard<()> {
        self.take(Of::Set(set)).await
    }

    async fn take(&self, of: Of) -> OwnedMutexGuard<()> {
        let lock = {
            let mut all = self.0.lock();
            if all.len() >= MANY {
                all.retain(|_, lock| Arc::strong_count(lock) > 1);
            }
            all.entry(of).or_default().clone()
        };
        lock.lock_owned().await
    }
}
