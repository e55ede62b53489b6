//! Looks for what bears this daemon's mark and belongs to no object.
//!
//! An object is written down before anything is made for it, and removed only once the host is clean, so that no crash
//! leaves a domain, a disk or a network without an object. Where there is one all the same, the store is older than the
//! host (a copy was put back): it may be all that is left of somebody's VM, and so it is told and left as it is. What was
//! only being put together (`incoming`, and what builds made in the engine on their way) and contents that no image and no VM
//! needs are removed.

use std::collections::BTreeSet;
use std::time::Duration;

use agentd_api::container::Container;
use agentd_api::event::Outcome;
use agentd_api::image::Image;
use agentd_api::network::Network;
use agentd_api::snapshot::{Snapshot, TakenFor};
use agentd_api::vm::Vm;
use agentd_api::volume::{Volume, VolumeMode};
use agentd_api::{Kind, State};
use agentd_drivers::{Classed, Drivers};
use agentd_store::{Expect, NewEvent, Query, Store, TxError, Update};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::held::Held;
use super::image::Contents;
use super::runtime::{ACTOR, Fault};

const EVERY: Duration = Duration::from_secs(300);

pub struct Sweep {
    pub store: Store,
    pub drivers: Drivers,
    pub contents: Contents,
    /// What is not swept although no object has it.
    pub held: Held,
    /// What has been told of, so that it is told once.
    pub told: parking_lot::Mutex<BTreeSet<(Uuid, String)>>,
}

/// What it means that a list cannot be had.
#[derive(Clone, Copy)]
enum Away {
    /// Its backend is not there, which is told elsewhere.
    Often,
    /// It is of this host's own files: something is amiss.
    Amiss,
}

/// Sweeps at once and then now and then, until cancelled. A backend that is away is swept another time.
pub async fn run(sweep: Sweep, cancel: CancellationToken) {
    loop {
        // Cancel safety: a sweep that is dropped half way is made whole by the next.
        tokio::select! {
            () = cancel.cancelled() => return,
            () = sweep.once() => {}
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

impl Sweep {
    pub async fn once(&self) {
        self.domains().await;
        self.containers().await;
        self.networks().await;
        self.volumes().await;
        self.container_images().await;
        self.builds().await;
        self.devices().await;
        self.incoming().await;
        self.exports().await;
        if self.folders().await > 0 {
            // Their disks may stand on contents that no object names.
            return;
        }
        self.sets().await;
        match self.contents.sweep(&self.store).await {
            Ok(digests) => {
                for digest in digests {
                    tracing::info!("the content {digest}, which no image and no VM needs, is removed");
                }
            }
            Err(fault) => tracing::warn!("image contents are not swept: {fault}"),
        }
    }

    /// Domains that bear our mark and have no object.
    async fn domains(&self) {
        let there = match self.drivers.vm.list().await {
            Ok(there) => there,
            Err(error) => return tracing::debug!("domains are not looked through: {error}"),
        };
        for domain in there.iter().filter(|domain| !self.owned(domain.id)) {
            // Its object may have gone, cleanly, since the list was made.
            if matches!(self.drivers.vm.observe(domain.id).await, Ok(Some(_))) {
                self.leave(Vm::DEF.kind, domain.id, "domain").await;
            }
        }
    }

    /// Containers that bear our mark and have no object, and what the engine knows of networks that have gone.
    async fn containers(&self) {
        let driver = &self.drivers.container;
        let there = match driver.list().await {
            Ok(there) => there,
            Err(error) => return tracing::debug!("containers are not looked through: {error}"),
        };
        for container in there.iter().filter(|container| !self.owned(container.id)) {
            // As above.
            if matches!(driver.observe(container.id).await, Ok(Some(_))) && !self.owned(container.id) {
                self.leave(Container::DEF.kind, container.id, "container").await;
            }
        }
        for network in driver.networks().await.unwrap_or_default().into_iter().filter(|id| !self.owned(*id)) {
            // One that nothing is on holds nothing of anybody's: the bridge has gone already.
            if let Err(error) = driver.remove_network(network).await {
                tracing::debug!(%network, "the engine's network of one that has gone stays: {error}");
            }
        }
    }

    /// Folders of VMs that have no object. Gives how many there are.
    async fn folders(&self) -> usize {
        let list = || self.drivers.volume.list();
        let told = self.tell(Vm::DEF.kind, ("folder of a VM", "folders of VMs"), Away::Amiss, list).await;
        // What cannot be looked through may hold any.
        told.unwrap_or(1)
    }

    async fn networks(&self) {
        let list = || self.drivers.network.list();
        self.tell(Network::DEF.kind, ("network", "networks"), Away::Often, list).await;
    }

    /// Content of volumes that have no object.
    async fn volumes(&self) {
        let list = || self.drivers.pool.list();
        self.tell(Volume::DEF.kind, ("volume", "volumes"), Away::Amiss, list).await;
    }

    /// Images of the engine's that bear our mark and have no object.
    async fn container_images(&self) {
        let list = || self.drivers.container_image.list();
        let what = ("container image", "the engine's images");
        self.tell(Image::DEF.kind, what, Away::Often, list).await;
    }

    /// What builds left in the engine that were cut off, but for those that are to be built again: they go on with it.
    async fn builds(&self) {
        let waits = |state: &str| {
            let fields = vec![("state".to_owned(), true, state.to_owned())];
            self.store.list(&Query { fields, ..Query::kind(Image::DEF.kind) }).items
        };
        let again = [State::Pending, State::Provisioning].into_iter().flat_map(|state| waits(state.as_str()));
        let keep: BTreeSet<Uuid> = again.filter(|image| !image.deleting()).map(|image| image.id()).collect();
        match self.drivers.container_image.clear(&keep).await {
            Ok(cleared) => {
                for id in cleared {
                    tracing::info!(image = %id, "what a build that was cut off left in the engine is removed");
                }
            }
            Err(error) => tracing::debug!("what builds left is not looked for: {error}"),
        }
    }

    /// Volumes of the engine's, and block devices, of volumes that have no object: they hold nothing of anybody's.
    async fn devices(&self) {
        let (engine, pool) = (&self.drivers.container, &self.drivers.pool);
        let devices = match pool.attached().await {
            Ok(devices) => devices,
            Err(error) => return tracing::warn!("devices of volumes are not looked through: {error}"),
        };
        // A host without an engine is not asked for one.
        let mode = ("mode".to_owned(), true, VolumeMode::Filesystem.as_str().to_owned());
        let volumes = Query { limit: Some(1), fields: vec![mode], ..Query::kind(Volume::DEF.kind) };
        let containers = Query { limit: Some(1), ..Query::kind(Container::DEF.kind) };
        let some = |query: &Query| !self.store.list(query).items.is_empty();
        let needed = !devices.is_empty() || some(&volumes) || some(&containers);
        let known = if needed { engine.volumes().await.unwrap_or_default() } else { Vec::new() };
        let all: BTreeSet<Uuid> = devices.iter().chain(&known).copied().collect();
        for id in all.into_iter().filter(|id| !self.owned(*id)) {
            if let Err(error) = engine.remove_volume(id).await {
                tracing::debug!(volume = %id, "the engine's volume of one that has gone stays: {error}");
            } else if let Err(error) = pool.detach(id).await {
                tracing::warn!(volume = %id, "the device of a volume that has gone stays: {error}");
            }
        }
    }

    async fn incoming(&self) {
        let there = match self.drivers.image.list_incoming().await {
            Ok(there) => there,
            Err(error) => return tracing::warn!("incoming images are not swept: {error}"),
        };
        for id in there {
            if !self.owned(id) && !self.held.holds(id) {
                let end = self.drivers.image.discard(id).await;
                self.report(Image::DEF.kind, id, "half-made image or archive", end).await;
            }
        }
    }

    /// Snapshots that were taken for exports which nobody makes any more.
    async fn exports(&self) {
        for stored in self.store.list(&Query::kind(Snapshot::DEF.kind)).items {
            let of = stored.object::<Snapshot>().ok().and_then(|snapshot| snapshot.status.taken_for);
            let Some(TakenFor::Export(export)) = of else { continue };
            if stored.deleting() || self.held.holds(export) {
                continue;
            }
            let (key, id) = (stored.key().clone(), stored.id());
            let marked = self.store.transact(move |tx| {
                if tx.get(&key).is_some_and(|now| now.id() == id) {
                    tx.update(&key, Expect::Id(id), Update { deleting: Some(true), ..Update::default() })?;
                }
                Ok::<(), TxError>(())
            });
            if let Err(error) = marked.await {
                tracing::warn!(object = %stored.key(), "a snapshot of an export that has ended stays: {error}");
            }
        }
    }

    /// Sets of disks that no VM stands on and none is about to take over: what an import left that was cut off.
    async fn sets(&self) {
        let there = match self.drivers.volume.list_sets().await {
            Ok(there) => there,
            Err(error) => return tracing::warn!("sets of disks are not looked through: {error}"),
        };
        for id in there.into_iter().filter(|id| !self.held.holds(*id)) {
            let needed = self.store.list(&Query::kind(Vm::DEF.kind)).items.iter().any(|vm| {
                let Ok(vm) = vm.object::<Vm>() else { return true };
                let of = vm.status.origin;
                vm.meta.id == id || of.is_some_and(|of| of.set == Some(id) || of.bases.contains(&id))
            });
            if !needed {
                let end = self.drivers.volume.remove_set(id).await;
                self.report(Vm::DEF.kind, id, "set of disks", end).await;
            }
        }
    }

    /// Tells of each thing on the host, by that list, that belongs to no object, and leaves it. `what` is one of them, and all
    /// of them. Gives how many there are; None where the host cannot be looked through.
    async fn tell<E: std::fmt::Display, F: Future<Output = Result<Vec<Uuid>, E>>>(
        &self,
        kind: &str,
        (what, all): (&str, &str),
        away: Away,
        list: impl Fn() -> F,
    ) -> Option<usize> {
        let orphans = async {
            let orphans: Vec<Uuid> = list().await?.into_iter().filter(|id| !self.owned(*id)).collect();
            // An object may have gone, cleanly, since the list was made: only what is still there is nobody's.
            let still = if orphans.is_empty() { Vec::new() } else { list().await? };
            Ok::<Vec<Uuid>, E>(still.into_iter().filter(|id| orphans.contains(id)).collect())
        };
        match orphans.await {
            Ok(orphans) => {
                for id in &orphans {
                    self.leave(kind, *id, what).await;
                }
                Some(orphans.len())
            }
            Err(error) => {
                match away {
                    Away::Often => tracing::debug!("{all} are not looked through: {error}"),
                    Away::Amiss => tracing::warn!("{all} are not looked through: {error}"),
                }
                None
            }
        }
    }

    fn owned(&self, id: Uuid) -> bool {
        self.store.by_id(id).is_some()
    }

    /// Says once, in the log and as an event, what is nobody's and stays.
    async fn leave(&self, kind: &str, id: Uuid, what: &str) {
        if !self.told.lock().insert((id, what.to_owned())) {
            return;
        }
        let message =
            format!("a {what} bears this daemon's mark and belongs to no object; it is left as it is");
        tracing::warn!(kind, %id, "{message}");
        self.record((kind, id), "orphaned", message, Outcome::Seen).await;
    }

    async fn report<E: Classed>(&self, kind: &str, id: Uuid, what: &str, end: Result<(), E>) {
        match end {
            Ok(()) => {
                let message = format!("a {what} that belonged to no object was removed");
                tracing::info!(kind, %id, "{message}");
                self.record((kind, id), "swept", message, Outcome::Done).await;
            }
            Err(error) => {
                let fault = Fault::from(error);
                tracing::warn!(kind, %id, "a {what} that belongs to no object cannot be removed: {fault}");
            }
        }
    }

    async fn record(&self, (kind, id): (&str, Uuid), verb: &str, message: String, outcome: Outcome) {
        let event = NewEvent {
            kind: kind.to_owned(),
            project: String::new(),
            name: String::new(),
            id,
            actor: ACTOR.to_owned(),
            verb: verb.to_owned(),
            message,
            outcome,
            request_id: None,
        };
        let recorded = self.store.transact(move |tx| {
            tx.record(event.clone());
            Ok::<(), TxError>(())
        });
        if let Err(error) = recorded.await {
            tracing::error!("a sweep is not recorded: {error}");
        }
    }
}
