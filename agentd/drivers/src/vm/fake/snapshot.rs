//! Snapshots of the fake: what is on a VM's disks and in its guest's memory is a text each, so that a test can tell which
//! of them it has before it.

use std::collections::BTreeMap;

use agentd_api::ByteSize;
use async_trait::async_trait;
use parking_lot::Mutex;
use uuid::Uuid;

use super::{FakeVm, Inner};
use crate::vm::snapshot::{Memory, OwnDisks, SnapshotSeen, TakeSnapshot, VmSnapshots};
use crate::vm::{Change, DomainSpec, OffReason, Power, VmError};

/// What a memory takes here.
const MEMORY: ByteSize = ByteSize::mib(1);

#[derive(Debug, Clone, Default)]
struct Contents {
    disk: String,
    /// Lost when the guest ends.
    memory: String,
    snapshots: BTreeMap<Uuid, String>,
    /// With the digest of the machine whose memory it is.
    memories: BTreeMap<Memory, (String, String)>,
}

#[derive(Debug, Default)]
pub(super) struct Kept(Mutex<BTreeMap<Uuid, Contents>>);

impl Kept {
    fn of<T>(&self, vm: Uuid, with: impl FnOnce(&mut Contents) -> T) -> T {
        with(self.0.lock().entry(vm).or_default())
    }
}

fn failed<T>(call: &'static str, detail: &str) -> Result<T, VmError> {
    Err(VmError::Failed { call, detail: detail.to_owned() })
}

impl Inner {
    fn power(&self, vm: Uuid) -> Power {
        self.domains.observe(vm).map_or(Power::Off, |seen| seen.power)
    }

    fn take(&self, want: &TakeSnapshot) -> Result<Power, VmError> {
        let guest = self.power(want.of.vm);
        if want.memory && guest == Power::Off {
            return Err(VmError::Refused("a guest that is off has no memory".to_owned()));
        }
        let digest = self.domains.observe(want.of.vm).and_then(|seen| seen.digest).unwrap_or_default();
        self.kept.of(want.of.vm, |kept| {
            kept.snapshots.insert(want.id, kept.disk.clone());
            kept.memories.remove(&Memory::Snapshot(want.id));
            if want.memory {
                kept.memories.insert(Memory::Snapshot(want.id), (kept.memory.clone(), digest));
            }
        });
        Ok(guest)
    }

    fn save(&self, vm: Uuid, which: Memory) -> Result<ByteSize, VmError> {
        let seen = self.domains.observe(vm).ok_or(VmError::Missing(vm))?;
        if seen.power == Power::Off {
            return failed("save a guest's memory", "the guest is off");
        }
        self.kept.of(vm, |kept| {
            let text = std::mem::take(&mut kept.memory);
            kept.memories.insert(which, (text, seen.digest.unwrap_or_default()));
        });
        self.domains.power_off(vm, OffReason::Saved);
        Ok(MEMORY)
    }

    fn start_from(&self, spec: &DomainSpec, which: Memory, paused: bool) -> Result<Change, VmError> {
        if self.power(spec.id) != Power::Off {
            return Ok(Change::AlreadySo);
        }
        let kept = self.kept.of(spec.id, |kept| kept.memories.get(&which).cloned());
        let Some((text, digest)) = kept else {
            return failed("start a guest from its memory", "it is not there");
        };
        if digest != super::state::digest(spec) {
            return Err(VmError::Refused("the memory is of another machine than this VM is now".to_owned()));
        }
        let change = self.domains.start(spec.id)?;
        self.kept.of(spec.id, |kept| kept.memory = text);
        if paused {
            self.domains.set_paused(spec.id, true)?;
        }
        Ok(change)
    }
}

#[async_trait]
impl VmSnapshots for FakeVm {
    async fn take_snapshot(&self, want: &TakeSnapshot) -> Result<Power, VmError> {
        let want = want.clone();
        self.call("take_snapshot", move |inner| inner.take(&want)).await
    }

    async fn snapshots(&self, of: &OwnDisks) -> Result<Vec<SnapshotSeen>, VmError> {
        let vm = of.vm;
        self.call("snapshots", move |inner| {
            Ok(inner.kept.of(vm, |kept| {
                let memory = |id| kept.memories.contains_key(&Memory::Snapshot(id)).then_some(MEMORY);
                let seen = |id: &Uuid| SnapshotSeen { id: *id, in_first_disk: true, memory: memory(*id) };
                kept.snapshots.keys().map(seen).collect()
            }))
        })
        .await
    }

    async fn snapshot_size(&self, of: &OwnDisks, id: Uuid) -> Result<ByteSize, VmError> {
        let vm = of.vm;
        self.call("snapshot_size", move |inner| {
            Ok(inner.kept.of(vm, |kept| {
                let memory = kept.memories.contains_key(&Memory::Snapshot(id));
                if memory { MEMORY } else { ByteSize(0) }
            }))
        })
        .await
    }

    async fn delete_snapshot(&self, of: &OwnDisks, id: Uuid) -> Result<Change, VmError> {
        let vm = of.vm;
        self.call("delete_snapshot", move |inner| {
            Ok(inner.kept.of(vm, |kept| {
                let memory = kept.memories.remove(&Memory::Snapshot(id)).is_some();
                let disk = kept.snapshots.remove(&id).is_some();
                if memory || disk { Change::Made } else { Change::AlreadySo }
            }))
        })
        .await
    }

    async fn revert(&self, of: &OwnDisks, id: Uuid) -> Result<(), VmError> {
        let vm = of.vm;
        self.call("revert", move |inner| {
            let call = "take a disk back to a snapshot";
            if inner.power(vm) != Power::Off {
                return failed(call, "the guest runs");
            }
            inner.kept.of(vm, |kept| match kept.snapshots.get(&id).cloned() {
                Some(text) => {
                    kept.disk = text;
                    Ok(())
                }
                None => failed(call, "the disk has no such snapshot"),
            })
        })
        .await
    }

    async fn save_memory(&self, vm: Uuid, which: Memory) -> Result<ByteSize, VmError> {
        self.call("save_memory", move |inner| inner.save(vm, which)).await
    }

    async fn saved_memory(&self, vm: Uuid, which: Memory) -> Result<Option<ByteSize>, VmError> {
        self.call("saved_memory", move |inner| {
            Ok(inner.kept.of(vm, |kept| kept.memories.contains_key(&which).then_some(MEMORY)))
        })
        .await
    }

    async fn start_from_memory(
        &self,
        spec: &DomainSpec,
        which: Memory,
        paused: bool,
    ) -> Result<Change, VmError> {
        let spec = spec.clone();
        self.call("start_from_memory", move |inner| inner.start_from(&spec, which, paused)).await
    }

    async fn forget_memory(&self, vm: Uuid, which: Memory) -> Result<Change, VmError> {
        self.call("forget_memory", move |inner| {
            let had = inner.kept.of(vm, |kept| kept.memories.remove(&which).is_some());
            Ok(if had { Change::Made } else { Change::AlreadySo })
        })
        .await
    }
}

/// What a guest does, and what a test sees of it.
impl FakeVm {
    /// The guest writes to its disk.
    pub fn write_disk(&self, vm: Uuid, text: &str) {
        self.inner.kept.of(vm, |kept| kept.disk = text.to_owned());
    }
    pub fn read_disk(&self, vm: Uuid) -> String {
        self.inner.kept.of(vm, |kept| kept.disk.clone())
    }
    /// The guest keeps something in mind, until it ends.
    pub fn write_memory(&self, vm: Uuid, text: &str) {
        self.inner.kept.of(vm, |kept| kept.memory = text.to_owned());
    }
    /// Nothing where the guest is off.
    pub fn read_memory(&self, vm: Uuid) -> String {
        let off = self.inner.power(vm) == Power::Off;
        self.inner.kept.of(vm, |kept| if off { String::new() } else { kept.memory.clone() })
    }
    /// The memories that are kept of a VM.
    pub fn memories(&self, vm: Uuid) -> Vec<Memory> {
        self.inner.kept.of(vm, |kept| kept.memories.keys().copied().collect())
    }
    /// The snapshots that its disks hold.
    pub fn held_snapshots(&self, vm: Uuid) -> Vec<Uuid> {
        self.inner.kept.of(vm, |kept| kept.snapshots.keys().copied().collect())
    }
}
