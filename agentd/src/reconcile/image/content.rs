//! When the content of a digest may go: once no image and no VM's disk needs it, and no job may be about to.

use std::collections::HashSet;
use std::sync::Arc;

use agentd_api::Kind;
use agentd_api::image::Image;
use agentd_api::vm::Vm;
use agentd_drivers::image::ImageDriver;
use agentd_store::{Query, Store};
use tokio::sync::{Mutex, MutexGuard};
use uuid::Uuid;

use super::Jobs;
use crate::reconcile::runtime::Fault;

#[derive(Clone)]
pub struct Contents {
    driver: Arc<dyn ImageDriver>,
    jobs: Jobs,
    /// Held while content is looked at and removed, and while a job is entered: a job may find content that is there
    /// and take it for its own.
    gate: Arc<Mutex<()>>,
}

impl Contents {
    pub fn new(driver: Arc<dyn ImageDriver>, jobs: Jobs) -> Self {
        Self { driver, jobs, gate: Arc::default() }
    }

    /// While this is held no content is removed.
    pub async fn gate(&self) -> MutexGuard<'_, ()> {
        self.gate.lock().await
    }

    /// Removes the content of that digest unless somebody else than `whose`, an image or a VM, needs it, or may be about
    /// to.
    pub async fn release(&self, store: &Store, digest: &str, whose: Option<Uuid>) -> Result<(), Fault> {
        let _no_job_begins_now = self.gate.lock().await;
        if self.jobs.others(whose) || needed(store, whose).is_none_or(|n| n.contains(digest)) {
            return Ok(());
        }
        Ok(self.driver.remove(digest).await?)
    }

    /// Removes what nobody needs. What was removed.
    pub async fn sweep(&self, store: &Store) -> Result<Vec<String>, Fault> {
        let there = self.driver.list().await?;
        let _no_job_begins_now = self.gate.lock().await;
        if there.is_empty() || self.jobs.others(None) {
            return Ok(Vec::new());
        }
        let Some(needed) = needed(store, None) else { return Ok(Vec::new()) };
        let mut removed = Vec::new();
        for digest in there.into_iter().filter(|d| !needed.contains(d)) {
            self.driver.remove(&digest).await?;
            removed.push(digest);
        }
        Ok(removed)
    }
}

/// The digests that images and VMs' disks, of others than `except`, stand on. None where a VM cannot be read: it may need any.
fn needed(store: &Store, except: Option<Uuid>) -> Option<HashSet<String>> {
    let images = store.list(&Query::kind(Image::DEF.kind)).items;
    let of_images = images.iter().filter(|i| Some(i.id()) != except);
    let mut needed: HashSet<String> =
        of_images.flat_map(|i| i.field("digest").map(ToOwned::to_owned).collect::<Vec<_>>()).collect();
    for vm in store.list(&Query::kind(Vm::DEF.kind)).items.iter().filter(|vm| Some(vm.id()) != except) {
        match vm.object::<Vm>() {
            Ok(vm) => needed.extend(vm.status.image_digest),
            Err(error) => {
                tracing::error!("no image content is removed: {error}");
                return None;
            }
        }
    }
    Some(needed)
}
