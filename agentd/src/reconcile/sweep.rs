//! Takes away what bears this daemon's mark and belongs to no object: what a crash left behind, or an older store.
//!
//! The host is listed first and the store is looked at after: an object is written down before anything is made for it,
//! so that what has no object then has none because it is gone for good. Ids are never used twice.

use std::time::Duration;

use agentd_api::Kind;
use agentd_api::event::Outcome;
use agentd_api::image::Image;
use agentd_api::network::Network;
use agentd_api::vm::Vm;
use agentd_drivers::{Classed, Drivers};
use agentd_store::{NewEvent, Store, TxError};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::image::Contents;
use super::runtime::{ACTOR, Fault};

const EVERY: Duration = Duration::from_secs(300);

pub struct Sweep {
    pub store: Store,
    pub drivers: Drivers,
    pub contents: Contents,
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
        self.folders().await;
        self.networks().await;
        self.incoming().await;
        match self.contents.sweep(&self.store).await {
            Ok(digests) => {
                for digest in digests {
                    tracing::info!("the content {digest}, which no image and no VM needs, is removed");
                }
            }
            Err(fault) => tracing::warn!("image contents are not swept: {fault}"),
        }
    }

    async fn domains(&self) {
        let there = match self.drivers.vm.list().await {
            Ok(there) => there,
            Err(error) => return tracing::debug!("domains are not swept: {error}"),
        };
        for domain in there {
            if self.owned(domain.id) {
                continue;
            }
            let destroyed = self.drivers.vm.destroy(domain.id).await;
            let end = match destroyed {
                Ok(_) => self.drivers.vm.undefine(domain.id).await,
                Err(error) => Err(error),
            };
            self.report(Vm::DEF.kind, domain.id, "domain", end.map(|_| ())).await;
        }
    }

    async fn folders(&self) {
        let there = match self.drivers.volume.list().await {
            Ok(there) => there,
            Err(error) => return tracing::warn!("folders of VMs are not swept: {error}"),
        };
        for id in there {
            if !self.owned(id) {
                let end = self.drivers.volume.remove(id).await;
                self.report(Vm::DEF.kind, id, "folder of a VM", end).await;
            }
        }
    }

    async fn networks(&self) {
        let there = match self.drivers.network.list().await {
            Ok(there) => there,
            Err(error) => return tracing::debug!("networks are not swept: {error}"),
        };
        for id in there {
            if !self.owned(id) {
                let end = self.drivers.network.remove(id).await;
                self.report(Network::DEF.kind, id, "network", end).await;
            }
        }
    }

    async fn incoming(&self) {
        let there = match self.drivers.image.list_incoming().await {
            Ok(there) => there,
            Err(error) => return tracing::warn!("incoming images are not swept: {error}"),
        };
        for id in there {
            if !self.owned(id) {
                let end = self.drivers.image.discard(id).await;
                self.report(Image::DEF.kind, id, "half-made image", end).await;
            }
        }
    }

    fn owned(&self, id: Uuid) -> bool {
        self.store.by_id(id).is_some()
    }

    async fn report<E: Classed>(&self, kind: &str, id: Uuid, what: &str, end: Result<(), E>) {
        let (message, outcome) = match end {
            Ok(()) => (format!("a {what} that belonged to no object was removed"), Outcome::Done),
            Err(error) => {
                let fault = Fault::from(error);
                tracing::warn!(kind, %id, "a {what} that belongs to no object cannot be removed: {fault}");
                return;
            }
        };
        tracing::info!(kind, %id, "{message}");
        let event = NewEvent {
            kind: kind.to_owned(),
            project: String::new(),
            name: String::new(),
            id,
            actor: ACTOR.to_owned(),
            verb: "swept".to_owned(),
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
