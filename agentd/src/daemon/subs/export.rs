//! `vms/{name}/export`: the VM as an archive. It is made of a snapshot of its own, which goes as soon as the disks are
//! copied; the copies go with the last piece, or with the caller. What this process leaves when it is killed the next one
//! sweeps: the snapshot says what it was for, and the copies are scratch space of nobody.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use agentd_api::snapshot::Snapshot;
use agentd_api::vm::{NicSpec, Vm, VmDesired, VmSpec};
use agentd_api::{ErrorCode, Object, ObjectKey, Problem, State, Timestamp};
use agentd_drivers::archive::{ArchiveDriver, FORMAT, Manifest, Pack, VERSION};
use agentd_drivers::image::{ImageContent, ImageDriver};
use agentd_drivers::volume::VolumeDriver;
use agentd_drivers::{Classed, Drivers, fault};
use agentd_store::Store;
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use uuid::Uuid;

use super::Opener;
use crate::http::{Pieces, SubCall, SubReply};
use crate::intent::{Caller, Intents};
use crate::reconcile::{Held, Hold};

/// For a snapshot to be taken of a VM that is busy with something else.
const PATIENCE: Duration = Duration::from_secs(120);

pub struct Export {
    export: Exporting,
}

#[derive(Clone)]
struct Exporting {
    store: Store,
    intents: Intents,
    archive: Arc<dyn ArchiveDriver>,
    volume: Arc<dyn VolumeDriver>,
    image: Arc<dyn ImageDriver>,
    held: Held,
}

impl Export {
    pub fn new(store: &Store, drivers: &Drivers, intents: &Intents, held: &Held) -> Self {
        let export = Exporting {
            store: store.clone(),
            intents: intents.clone(),
            archive: drivers.archive.clone(),
            volume: drivers.volume.clone(),
            image: drivers.image.clone(),
            held: held.clone(),
        };
        Self { export }
    }
}

#[async_trait]
impl Opener for Export {
    async fn open(&self, call: SubCall) -> Result<SubReply, Problem> {
        let (export, key) = (self.export.clone(), call.object.key().clone());
        let packed = export.begin(call.caller, key).await?;
        Ok(SubReply::Content(packed))
    }
}

/// The scratch space of one export. Removed when the last of it was read or nobody reads it any more.
struct Scratch {
    id: Uuid,
    archive: Arc<dyn ArchiveDriver>,
    hold: Option<Hold>,
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let (id, archive, hold) = (self.id, self.archive.clone(), self.hold.take());
        tokio::spawn(async move {
            if let Err(error) = archive.discard(id).await {
                tracing::warn!(%id, "what an export left is swept later: {error}");
            }
            drop(hold);
        });
    }
}

/// A snapshot that goes with the export that it was taken for.
struct Taken {
    key: ObjectKey,
    id: Uuid,
    caller: Caller,
    intents: Intents,
    /// Until the snapshot has gone as well nobody else sweeps it.
    _hold: Hold,
}

impl Drop for Taken {
    fn drop(&mut self) {
        let (key, caller, intents) = (self.key.clone(), self.caller.clone(), self.intents.clone());
        tokio::spawn(async move {
            if let Err(problem) = intents.let_go(&caller, &key).await {
                tracing::warn!(object = %key, "a snapshot of an export is swept later: {}", problem.detail);
            }
        });
    }
}

impl Exporting {
    async fn begin(self, caller: Caller, key: ObjectKey) -> Result<Pieces, Problem> {
        let id = Uuid::now_v7();
        let scratch = Scratch { id, archive: self.archive.clone(), hold: Some(self.held.hold(id)) };
        // On a task of its own: a caller who goes away while the snapshot is being written down would leave it behind.
        let taking = tokio::spawn(self.clone().take(caller, key.clone(), id));
        let taken = taking.await.unwrap_or_else(|e| Err(Problem::new(ErrorCode::Internal, e.to_string())))?;
        self.ready(&taken.key).await?;
        let pack = self.pack(id, &key, taken.id).await?;
        let packed = self.archive.pack(&pack).await.map_err(|e| refused(&e))?;
        drop(taken);
        Ok(pieces(packed, scratch))
    }

    async fn take(self, caller: Caller, key: ObjectKey, id: Uuid) -> Result<Taken, Problem> {
        let hold = self.held.hold(id);
        let made = self.intents.hold(&caller, &key, id).await?;
        let made: Object<Snapshot> = serde_json::from_slice(&made.json)
            .map_err(|error| Problem::new(ErrorCode::Internal, error.to_string()))?;
        let (key, id) = (made.meta.key(), made.meta.id);
        Ok(Taken { key, id, caller, intents: self.intents, _hold: hold })
    }

    /// Waits until the snapshot is taken.
    async fn ready(&self, key: &ObjectKey) -> Result<(), Problem> {
        let limit = tokio::time::Instant::now() + PATIENCE;
        loop {
            let compacted = |_| Problem::new(ErrorCode::Internal, "the store's changes cannot be followed");
            let mut changes = self.store.watch(None).map_err(compacted)?;
            loop {
                let gone = || Problem::new(ErrorCode::Conflict, format!("{key} was deleted"));
                let now = self.store.get(key).ok_or_else(gone)?;
                let now: Object<Snapshot> =
                    now.object().map_err(|e| Problem::new(ErrorCode::Internal, e.to_string()))?;
                let common = now.status.common;
                let why = common.reason.map(|why| format!(": {why}")).unwrap_or_default();
                match common.state {
                    State::Ready => return Ok(()),
                    State::Failed => {
                        let code = common.attempts.map_or(ErrorCode::BackendUnavailable, |a| a.code);
                        return Err(Problem::new(
                            code,
                            format!("no snapshot can be taken for the export{why}"),
                        ));
                    }
                    State::Deleting => return Err(gone()),
                    _ => {}
                }
                // Cancel safety: `next` loses no change when dropped.
                tokio::select! {
                    next = changes.next() => if next.is_err() { break },
                    () = tokio::time::sleep_until(limit) => {
                        let detail = format!("no snapshot was taken for the export within {PATIENCE:?}{why}");
                        return Err(Problem::new(ErrorCode::BackendUnavailable, detail));
                    }
                }
            }
        }
    }

    async fn pack(&self, export: Uuid, key: &ObjectKey, snapshot: Uuid) -> Result<Pack, Problem> {
        let gone = |what: &str| Problem::new(ErrorCode::NotFound, format!("{what} of {key} is gone"));
        let stored = self.store.get(key).ok_or_else(|| gone("the object"))?;
        let vm: Object<Vm> = stored.object().map_err(|e| Problem::new(ErrorCode::Internal, e.to_string()))?;
        let digest = vm.status.image_digest.clone().unwrap_or_default();
        let content: Option<ImageContent> = self.image.observe(&digest).await.map_err(|e| refused(&e))?;
        let content = content.ok_or_else(|| gone("the image's content"))?;
        let seen = self.volume.observe(vm.meta.id).await.map_err(|e| refused(&e))?;
        let disks = seen.numbered_disks().map(|(number, path)| (number, path.to_owned())).collect();
        let manifest = Manifest {
            format: FORMAT.to_owned(),
            version: VERSION,
            exported_at: Timestamp::now(),
            agentd: env!("CARGO_PKG_VERSION").to_owned(),
            name: vm.meta.name.clone(),
            id: vm.meta.id,
            spec: portable(vm.spec),
            labels: vm.meta.labels,
            source_format: content.source_format,
            cmdline: None,
            files: Vec::new(),
        };
        Ok(Pack { export, vm: vm.meta.id, disks, snapshot, boot: content.boot, manifest })
    }
}

/// Without what can be of one host only.
fn portable(spec: VmSpec) -> VmSpec {
    let stopped = spec.desired == VmDesired::Stopped;
    VmSpec {
        source: None,
        volumes: Vec::new(),
        iso: None,
        expires_at: None,
        remove_when_stopped: false,
        desired: if stopped { VmDesired::Stopped } else { VmDesired::Running },
        networks: spec.networks.iter().map(|nic| NicSpec { mac: None, ..nic.clone() }).collect(),
        ..spec
    }
}

fn refused<E: Classed>(error: &E) -> Problem {
    Problem::new(error.code(), fault::chain(error))
}

/// The archive, with its scratch space for as long as it is read.
fn pieces(packed: agentd_drivers::archive::Pieces, scratch: Scratch) -> Pieces {
    futures_util::stream::unfold((packed, scratch), |(mut packed, scratch)| async move {
        let piece: io::Result<Vec<u8>> = packed.next().await?;
        Some((piece.map(Bytes::from), (packed, scratch)))
    })
    .boxed()
}
