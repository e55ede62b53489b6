//! Snapshots and saved memory by libvirt and QEMU.
//!
//! The disks of a guest that runs are QEMU's alone ([`live`]); those of one that is off are changed by qemu-img. What is in
//! them is read from the files ([`qcow2`]). Files of memory are libvirt's: it begins them with another word until they are
//! whole. They lie in the VM's folder and go with it.
//!
//! A guest that is paused for its memory is paused by this process, and runs on when that is written, however it ended.
//! Where this process is killed meanwhile, the next one finds a paused guest that should run and resumes it; where it is
//! asked to stop ([`LibvirtVm::close`](super::LibvirtVm)), it has libvirt break off and resumes the guest before it ends.

mod live;
mod memory;
mod qcow2;
mod variables;

pub(super) use live::take_disks_back;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use agentd_api::ByteSize;
use async_trait::async_trait;
use tokio::sync::Semaphore;
use uuid::Uuid;
use virt::connect::Connect;

use super::LibvirtVm;
use super::fault::Fault;
use super::workers::{Lane, Workers};
use crate::Instance;
use crate::exec::{ExecError, Program};
use crate::vm::snapshot::{Memory, OwnDisks, SnapshotSeen, TakeSnapshot, VmSnapshots};
use crate::vm::{Change, DomainSpec, Power, VmError, xml};

/// For QEMU to note a snapshot of a disk, which takes longer the more the disk holds.
const DISKS: Duration = Duration::from_secs(300);
/// For a guest's memory to be written or read: 1 TiB at 300 MB/s.
const MEMORY: Duration = Duration::from_secs(3600);
/// How many memories are written or read at once. Each holds a worker's thread for as long.
const AT_ONCE: usize = 2;

/// What a call needs to go on when its caller has gone.
#[derive(Clone, Debug)]
pub(super) struct Hands {
    instance: Instance,
    workers: Arc<Workers>,
    long: Arc<Semaphore>,
    pub(super) writing: memory::Writing,
}

impl Hands {
    pub(super) fn new(instance: Instance, workers: Arc<Workers>) -> Self {
        Self { instance, workers, long: Arc::new(Semaphore::new(AT_ONCE)), writing: Default::default() }
    }

    async fn run<T: Send + 'static>(
        &self,
        call: &'static str,
        limit: Duration,
        work: impl FnOnce(&Connect, &str) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, VmError> {
        self.run_in(Lane::Act, (call, limit), work).await
    }

    async fn run_in<T: Send + 'static>(
        &self,
        lane: Lane,
        call: (&'static str, Duration),
        work: impl FnOnce(&Connect, &str) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, VmError> {
        let tag = self.instance.tag().to_owned();
        self.workers.run(lane, call, move |connect| work(connect, &tag)).await
    }

    /// Has the memories that are being written broken off, so that their guests, which are paused meanwhile, run on when
    /// this process has ended. Waits for that, not long.
    pub(super) async fn break_off(&self) {
        let guests = self.writing.guests();
        for &vm in &guests {
            // Not behind what it is to break off.
            let call = ("break off a snapshot", super::CLOSE);
            let told = self.run_in(Lane::Look, call, move |connect, tag| {
                Ok(super::ffi::abort_job(&live::domain(connect, tag, vm)?)?)
            });
            if let Err(error) = told.await {
                tracing::warn!(%vm, "a snapshot cannot be broken off: {error}");
            }
        }
        let until = tokio::time::Instant::now() + super::CLOSE;
        while !guests.is_empty() && !self.writing.guests().is_empty() && tokio::time::Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn file(&self, vm: Uuid, which: Memory) -> PathBuf {
        let name = match which {
            Memory::Suspended => "memory.save".to_owned(),
            Memory::Undo => "memory-undo.save".to_owned(),
            Memory::Snapshot(id) => format!("memory-{id}.save"),
        };
        self.instance.vm_dir(vm).join(name)
    }

    /// Of the VM's firmware.
    async fn variables<T: Send + 'static>(
        &self,
        vm: Uuid,
        work: impl FnOnce(&Path) -> Result<T, VmError> + Send + 'static,
    ) -> Result<T, VmError> {
        let folder = self.instance.vm_dir(vm);
        blocking(move || work(&folder)).await
    }

    async fn power(&self, vm: Uuid) -> Result<Power, VmError> {
        let call = ("look at a domain", super::ASK);
        let seen = self.run_in(Lane::Look, call, move |c, tag| super::domains::observe(c, tag, vm));
        Ok(seen.await?.map_or(Power::Off, |seen| seen.power))
    }
}

/// On a task of its own, so that a caller that stops waiting ends nothing half way.
async fn detached<T: Send + 'static>(
    call: &'static str,
    work: impl Future<Output = Result<T, VmError>> + Send + 'static,
) -> Result<T, VmError> {
    let gone = |error: tokio::task::JoinError| VmError::Failed { call, detail: error.to_string() };
    tokio::spawn(work).await.unwrap_or_else(|error| Err(gone(error)))
}

/// What a snapshot is called in a disk.
fn name(id: Uuid) -> String {
    id.to_string()
}

fn table(disk: &Path) -> Result<Vec<qcow2::Entry>, VmError> {
    let read = qcow2::Image::open(disk).and_then(|image| image.snapshots());
    read.map_err(|error| unreadable(disk, &error))
}

fn unreadable(disk: &Path, error: &std::io::Error) -> VmError {
    let detail = format!("{}: {error}", disk.display());
    VmError::Failed { call: "read which snapshots a disk has", detail }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, VmError> + Send + 'static,
) -> Result<T, VmError> {
    let gone =
        |error: tokio::task::JoinError| VmError::Failed { call: "read a disk", detail: error.to_string() };
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(gone(error)))
}

async fn img(call: &'static str, program: Program) -> Result<(), VmError> {
    program.deadline(DISKS).run().await.map(drop).map_err(|error| match error {
        ExecError::Missing(_) => VmError::Unsupported(error.to_string()),
        ExecError::Status { stderr, .. } if stderr.contains("No space left on device") => {
            VmError::Capacity(stderr)
        }
        error => VmError::Failed { call, detail: crate::fault::chain(&error) },
    })
}

fn snapshot_img(operation: &str, id: Uuid, disk: &Path) -> Program {
    Program::new("qemu-img").args(["snapshot", "-q", operation]).arg(name(id)).arg(disk)
}

/// The id of a snapshot that is ours.
fn id_of(entry: &qcow2::Entry) -> Option<Uuid> {
    entry.name.parse().ok().filter(|id: &Uuid| name(*id) == entry.name)
}

impl Hands {
    /// In the disks of a guest that is off: in all of them, or in none.
    async fn take_off(&self, want: &TakeSnapshot) -> Result<(), VmError> {
        for (n, disk) in want.of.disks.iter().enumerate() {
            let taken = img("take a snapshot", snapshot_img("-c", want.id, disk)).await;
            let synced = match taken {
                Ok(()) => blocking(sync_of(disk)).await,
                failed => failed,
            };
            if let Err(error) = synced {
                for disk in &want.of.disks[..=n] {
                    // What stays is removed by the next try, or with the snapshot.
                    let _ = self.delete_off(disk, want.id).await;
                }
                return Err(error);
            }
        }
        Ok(())
    }

    async fn delete_off(&self, disk: &Path, id: Uuid) -> Result<bool, VmError> {
        let mut had = false;
        loop {
            let file = disk.to_owned();
            let there = blocking(move || Ok(table(&file)?.iter().any(|s| s.name == name(id)))).await?;
            if !there {
                return Ok(had);
            }
            img("delete a snapshot", snapshot_img("-d", id, disk)).await?;
            had = true;
        }
    }

    async fn delete(&self, of: &OwnDisks, id: Uuid, power: Power) -> Result<Change, VmError> {
        let mut had = memory::forget(&self.file(of.vm, Memory::Snapshot(id)))?;
        had |= self.variables(of.vm, move |folder| variables::forget(folder, id)).await?;
        if power == Power::Off {
            for disk in &of.disks {
                had |= self.delete_off(disk, id).await?;
            }
        } else {
            let (vm, disks) = (of.vm, of.disks.clone());
            had |= self
                .run("delete a snapshot", DISKS, move |connect, tag| {
                    live::delete(&live::domain(connect, tag, vm)?, &disks, id)
                })
                .await?;
        }
        Ok(if had { Change::Made } else { Change::AlreadySo })
    }

    async fn take(self, want: TakeSnapshot) -> Result<Power, VmError> {
        let guest = self.power(want.of.vm).await?;
        if want.memory && guest == Power::Off {
            return Err(VmError::Refused("a guest that is off has no memory".to_owned()));
        }
        self.delete(&want.of, want.id, guest).await?;
        match guest {
            Power::Off => self.take_off(&want).await?,
            Power::Running | Power::Paused if want.memory => self.take_with_memory(&want).await?,
            Power::Running | Power::Paused => self.take_live(&want).await?,
        }
        let id = want.id;
        if let Err(error) = self.variables(want.of.vm, move |folder| variables::keep(folder, id)).await {
            // What stays is removed by the next try, or with the snapshot.
            let _ = self.delete(&want.of, id, guest).await;
            return Err(error);
        }
        Ok(guest)
    }

    async fn take_live(&self, want: &TakeSnapshot) -> Result<(), VmError> {
        let TakeSnapshot { id, of: OwnDisks { vm, disks }, .. } = want.clone();
        self.run("take a snapshot", DISKS, move |connect, tag| {
            live::take(&live::domain(connect, tag, vm)?, &disks, id)
        })
        .await
    }

    async fn take_with_memory(&self, want: &TakeSnapshot) -> Result<(), VmError> {
        let _turn = self.long.acquire().await;
        let job = memory::Job {
            id: want.id,
            of: want.of.clone(),
            file: self.file(want.of.vm, Memory::Snapshot(want.id)),
            writing: self.writing.clone(),
        };
        self.run("write a guest's memory", MEMORY, move |connect, tag| job.run(connect, tag)).await
    }

    async fn revert(self, of: OwnDisks, id: Uuid) -> Result<(), VmError> {
        let call = "take a disk back to a snapshot";
        if self.power(of.vm).await? != Power::Off {
            return Err(VmError::Failed { call, detail: "the guest runs".to_owned() });
        }
        let disks = of.disks;
        let having = blocking(move || {
            let mut having = Vec::new();
            for (n, disk) in disks.into_iter().enumerate() {
                if table(&disk)?.iter().any(|s| s.name == name(id)) {
                    having.push(disk);
                } else if n == 0 {
                    let detail = format!("{} has no snapshot {id}", disk.display());
                    return Err(VmError::Failed { call, detail });
                }
            }
            Ok(having)
        });
        for disk in &having.await? {
            img(call, snapshot_img("-a", id, disk)).await?;
            blocking(sync_of(disk)).await?;
        }
        self.variables(of.vm, move |folder| variables::take_back(folder, id)).await
    }
}

fn sync_of(file: &Path) -> impl FnOnce() -> Result<(), VmError> + Send + use<> {
    let file = file.to_owned();
    move || {
        let synced = std::fs::File::open(&file).and_then(|file| file.sync_all());
        synced.map_err(|error| unreadable(&file, &error))
    }
}

#[async_trait]
impl VmSnapshots for LibvirtVm {
    async fn take_snapshot(&self, want: &TakeSnapshot) -> Result<Power, VmError> {
        detached("take a snapshot", self.hands.clone().take(want.clone())).await
    }

    async fn snapshots(&self, of: &OwnDisks) -> Result<Vec<SnapshotSeen>, VmError> {
        let (hands, of) = (self.hands.clone(), of.clone());
        blocking(move || {
            let mut seen: Vec<SnapshotSeen> = Vec::new();
            for (n, disk) in of.disks.iter().enumerate() {
                let ids: Vec<Uuid> = table(disk)?.iter().filter_map(id_of).collect();
                for id in ids.into_iter().filter(|id| seen.iter().all(|s| s.id != *id)).collect::<Vec<_>>() {
                    let memory = memory::whole(&hands.file(of.vm, Memory::Snapshot(id)))?;
                    seen.push(SnapshotSeen { id, in_first_disk: n == 0, memory });
                }
            }
            Ok(seen)
        })
        .await
    }

    async fn snapshot_size(&self, of: &OwnDisks, id: Uuid) -> Result<ByteSize, VmError> {
        let (hands, of) = (self.hands.clone(), of.clone());
        blocking(move || {
            let memory = memory::whole(&hands.file(of.vm, Memory::Snapshot(id)))?;
            let mut bytes = memory.map_or(0, |memory| memory.bytes());
            for disk in &of.disks {
                let held = qcow2::Image::open(disk).and_then(|image| {
                    let entry = image.snapshots()?.into_iter().find(|s| s.name == name(id));
                    entry.map_or(Ok(0), |entry| image.held_by(&entry))
                });
                bytes += held.map_err(|error| unreadable(disk, &error))?;
            }
            Ok(ByteSize(bytes))
        })
        .await
    }

    async fn delete_snapshot(&self, of: &OwnDisks, id: Uuid) -> Result<Change, VmError> {
        let (hands, of) = (self.hands.clone(), of.clone());
        detached("delete a snapshot", async move {
            let power = hands.power(of.vm).await?;
            hands.delete(&of, id, power).await
        })
        .await
    }

    async fn revert(&self, of: &OwnDisks, id: Uuid) -> Result<(), VmError> {
        detached("take a disk back to a snapshot", self.hands.clone().revert(of.clone(), id)).await
    }

    async fn save_memory(&self, vm: Uuid, which: Memory) -> Result<ByteSize, VmError> {
        let _turn = self.hands.long.acquire().await;
        let file = self.hands.file(vm, which);
        self.hands
            .run("save a guest's memory", MEMORY, move |connect, tag| {
                memory::save(&live::domain(connect, tag, vm)?, &file)
            })
            .await
    }

    async fn saved_memory(&self, vm: Uuid, which: Memory) -> Result<Option<ByteSize>, VmError> {
        let file = self.hands.file(vm, which);
        blocking(move || memory::whole(&file)).await
    }

    async fn start_from_memory(
        &self,
        spec: &DomainSpec,
        which: Memory,
        paused: bool,
    ) -> Result<Change, VmError> {
        xml::check_spec(spec)?;
        let _turn = self.hands.long.acquire().await;
        let start = memory::Start {
            vm: spec.id,
            file: self.hands.file(spec.id, which),
            digest: xml::digest(spec, &self.instance),
            xml: xml::render_domain(spec, &self.instance),
            paused,
        };
        self.hands.run("start a guest from its memory", MEMORY, move |c, tag| start.run(c, tag)).await
    }

    async fn forget_memory(&self, vm: Uuid, which: Memory) -> Result<Change, VmError> {
        let file = self.hands.file(vm, which);
        let had = blocking(move || memory::forget(&file)).await?;
        Ok(if had { Change::Made } else { Change::AlreadySo })
    }
}
