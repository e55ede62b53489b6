//! Objects that were on the host, as their status says, and are not there. What a pass can make again is made by the
//! passes themselves, so that it is seldom found here; content that is gone stays gone.

use std::collections::HashSet;
use std::path::PathBuf;

use agentd_api::container::Container;
use agentd_api::doctor::FindingSort;
use agentd_api::image::{Image, ImageFormat, ImageSource};
use agentd_api::kind::Kind;
use agentd_api::network::Network;
use agentd_api::vm::Vm;
use agentd_api::volume::Volume;
use agentd_api::{Object, ObjectKey, State};
use agentd_store::Query;
use uuid::Uuid;

use super::{Found, Remedy, Sides};

impl Sides {
    /// The objects first, then the host: one that was made in between is then no finding.
    pub(super) async fn missing(&self) -> Vec<Found> {
        let mut found = Vec::new();
        self.vms(&mut found).await;
        let containers = self
            .all::<Container>(|c| c.status.engine_id.is_some() && c.status.common.state != State::Pending);
        if !containers.is_empty()
            && let Ok(there) = self.drivers.container.list().await
        {
            let there: HashSet<Uuid> = there.into_iter().map(|seen| seen.id).collect();
            for container in containers.iter().filter(|container| !there.contains(&container.meta.id)) {
                found.push(again(container, "the engine has no container of it"));
            }
        }
        let networks = self.all::<Network>(|network| network.status.common.state == State::Ready);
        if let Ok(there) = self.drivers.network.list().await {
            for network in networks.iter().filter(|network| !there.contains(&network.meta.id)) {
                found.push(again(network, "it has no bridge"));
            }
        }
        let volumes = self.all::<Volume>(|volume| volume.status.size.is_some());
        if let Ok(there) = self.drivers.pool.list().await {
            for volume in volumes.iter().filter(|volume| !there.contains(&volume.meta.id)) {
                found.push(gone(volume, "its content is gone", self.instance.volume_dir(volume.meta.id)));
            }
        }
        self.contents(&mut found).await;
        found
    }

    async fn vms(&self, found: &mut Vec<Found>) {
        let vms = self.all::<Vm>(|vm| vm.status.started_at.is_some());
        let (domains, folders) = (self.drivers.vm.list().await, self.drivers.volume.list().await);
        let domains = domains.map(|there| there.into_iter().map(|seen| seen.id).collect::<HashSet<_>>());
        for vm in vms {
            let id = vm.meta.id;
            if folders.as_ref().is_ok_and(|there| !there.contains(&id)) {
                found.push(gone(&vm, "its disks are gone", self.instance.vm_dir(id)));
            } else if domains.as_ref().is_ok_and(|there| !there.contains(&id)) {
                found.push(again(&vm, "libvirt has no domain of it"));
            }
        }
    }

    async fn contents(&self, found: &mut Vec<Found>) {
        let disks = |image: &Object<Image>| {
            let made = matches!(image.status.common.state, State::Ready | State::Failed);
            made && image.spec.format() == ImageFormat::Disk && image.status.virtual_size.is_some()
        };
        for image in self.all::<Image>(disks) {
            let there = match &image.status.digest {
                Some(digest) => self.drivers.image.observe(digest).await.map(|content| content.is_some()),
                // A pass has found it gone.
                None => Ok(false),
            };
            if !matches!(there, Ok(false)) {
                continue;
            }
            let by_hand = match &image.spec.source {
                ImageSource::Upload(_) => "import it again, by another name".to_owned(),
                _ => format!("agentctl retry image/{}", image.meta.name),
            };
            found.push(Found {
                by_hand: Some(by_hand),
                ..bare(&image.meta.key(), "its content is gone from the disk".to_owned())
            });
        }
    }

    fn all<K: Kind>(&self, wanted: impl Fn(&Object<K>) -> bool) -> Vec<Object<K>> {
        let items = self.store.list(&Query::kind(K::DEF.kind)).items;
        let read = items.iter().filter_map(|stored| stored.object::<K>().ok());
        read.filter(|object| !object.meta.deleting() && wanted(object)).collect()
    }
}

fn bare(key: &ObjectKey, detail: String) -> Found {
    Found { sort: FindingSort::Missing, subject: key.to_string(), detail, remedy: None, by_hand: None }
}

/// A pass makes it again.
fn again<K: Kind>(object: &Object<K>, what: &str) -> Found {
    let key = object.meta.key();
    let reason = K::common(&object.status).reason.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    Found { remedy: Some(Remedy::Retry(key.clone())), ..bare(&key, format!("{what}{reason}")) }
}

/// Nothing makes it again.
fn gone<K: Kind>(object: &Object<K>, what: &str, folder: PathBuf) -> Found {
    let key = object.meta.key();
    let by_hand = format!(
        "put back {} and `agentctl retry {}/{}`, or delete the object",
        folder.display(),
        key.kind,
        key.name
    );
    Found { by_hand: Some(by_hand), ..bare(&key, what.to_owned()) }
}
