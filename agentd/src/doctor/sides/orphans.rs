//! What bears this daemon's mark and belongs to no object. There is none but where the store is older than the host, or
//! of another one.

use std::collections::BTreeSet;

use agentd_api::doctor::FindingSort;
use agentd_drivers::container::ContainerState;
use agentd_drivers::vm::snapshot::Memory;
use agentd_drivers::vm::{DomainSeen, OffReason, Power, tpm_folder};
use uuid::Uuid;

use super::{Found, Remedy, Sides};

impl Sides {
    pub(super) async fn orphans(&self) -> Vec<Found> {
        let mut found = Vec::new();
        // Whether something runs that may be on a network that nobody has.
        let mut up = false;
        for domain in self.nobodys_domains().await {
            up |= domain.power != Power::Off;
            found.push(self.domain(&domain).await);
        }
        up |= self.containers(&mut found).await;
        self.networks(up, &mut found).await;
        self.folders(&mut found).await;
        self.volumes(&mut found).await;
        self.images(&mut found).await;
        found
    }

    fn owned(&self, id: Uuid) -> bool {
        self.store.by_id(id).is_some()
    }

    async fn nobodys_domains(&self) -> Vec<DomainSeen> {
        let mut nobodys = Vec::new();
        let there = self.drivers.vm.list().await.unwrap_or_default();
        for domain in there.iter().filter(|domain| !self.owned(domain.id)) {
            // Its object may have gone, cleanly, since the list was made.
            if let Ok(Some(now)) = self.drivers.vm.observe(domain.id).await
                && !self.owned(domain.id)
            {
                nobodys.push(now);
            }
        }
        nobodys
    }

    async fn domain(&self, domain: &DomainSeen) -> Found {
        let id = domain.id;
        let state = match domain.power {
            Power::Off => "stopped",
            Power::Running => "running",
            Power::Paused => "paused",
        };
        let keeps = self.kept_beside(domain).await;
        let (remedy, by_hand) = match (domain.power, keeps) {
            (Power::Off, None) => (Some(Remedy::Undefine(id)), None),
            (Power::Off, Some(_)) => {
                (None, Some(format!("virsh undefine --managed-save --nvram --tpm {id}")))
            }
            (Power::Running | Power::Paused, _) => {
                (None, Some(format!("virsh shutdown {id}, and `agentctl doctor --fix` once it is off")))
            }
        };
        let keeps = keeps.map(|what| format!("; {what} would go with its definition")).unwrap_or_default();
        let detail = format!("a {state} domain that belongs to no object{keeps}");
        Found { sort: FindingSort::Orphan, subject: format!("domain/{id}"), detail, remedy, by_hand }
    }

    /// What libvirt removes together with a definition, and is somebody's.
    async fn kept_beside(&self, domain: &DomainSeen) -> Option<&'static str> {
        let id = domain.id;
        let memory = self.drivers.vm.saved_memory(id, Memory::Suspended).await;
        if domain.off == Some(OffReason::Saved) || !matches!(memory, Ok(None)) {
            return Some("what it had in memory");
        }
        if !matches!(self.drivers.volume.observe(id).await, Ok(seen) if !seen.variables) {
            return Some("what its UEFI keeps");
        }
        tpm_folder(id).exists().then_some("what its TPM holds")
    }

    /// Whether one of them is on.
    async fn containers(&self, found: &mut Vec<Found>) -> bool {
        let driver = &self.drivers.container;
        let mut up = false;
        for listed in driver.list().await.unwrap_or_default() {
            if self.owned(listed.id) {
                continue;
            }
            // As above.
            let Ok(Some(container)) = driver.observe(listed.id).await else { continue };
            if self.owned(container.id) {
                continue;
            }
            let on = matches!(container.state, ContainerState::Running | ContainerState::Paused);
            up |= on;
            let state = if on { "a container that runs and" } else { "a stopped container that" };
            found.push(Found {
                sort: FindingSort::Orphan,
                subject: format!("container/{}", container.id),
                detail: format!("{state} belongs to no object; what it wrote is in it"),
                remedy: None,
                by_hand: Some(format!("docker rm --force {}", container.name)),
            });
        }
        up
    }

    async fn networks(&self, up: bool, found: &mut Vec<Found>) {
        let driver = &self.drivers.network;
        for id in self.nobodys(|| driver.list()).await {
            let bridge = driver.bridge(id);
            let (remedy, by_hand) = if up {
                (None, Some("end what runs and belongs to no object, which may be on it, first".to_owned()))
            } else {
                (Some(Remedy::RemoveNetwork(id)), None)
            };
            found.push(Found {
                sort: FindingSort::Orphan,
                subject: format!("network/{id}"),
                detail: format!("a network, bridge {bridge}, that belongs to no object"),
                remedy,
                by_hand,
            });
        }
    }

    async fn folders(&self, found: &mut Vec<Found>) {
        let driver = &self.drivers.volume;
        for id in self.nobodys(|| driver.list()).await {
            let folder = self.instance.vm_dir(id);
            let seen = driver.observe(id).await;
            let empty = matches!(&seen, Ok(seen) if seen.own_disks().next().is_none() && !seen.variables);
            let memory = self.drivers.vm.saved_memory(id, Memory::Suspended).await;
            // While its domain is there it may be what that stands on.
            let domain = self.drivers.vm.observe(id).await;
            let safe = empty && matches!(memory, Ok(None)) && matches!(domain, Ok(None));
            let holds = if empty { "without disks" } else { "with disks" };
            found.push(Found {
                sort: FindingSort::Orphan,
                subject: format!("vm-folder/{id}"),
                detail: format!("a VM's folder {holds}, {}, that belongs to no object", folder.display()),
                remedy: safe.then_some(Remedy::RemoveFolder(id)),
                by_hand: (!safe).then(|| format!("rm -r {}", folder.display())),
            });
        }
    }

    async fn volumes(&self, found: &mut Vec<Found>) {
        let driver = &self.drivers.pool;
        for id in self.nobodys(|| driver.list()).await {
            let folder = self.instance.volume_dir(id);
            found.push(Found {
                sort: FindingSort::Orphan,
                subject: format!("volume/{id}"),
                detail: format!("a volume's content, {}, that belongs to no object", folder.display()),
                remedy: None,
                by_hand: Some(format!("rm -r {}", folder.display())),
            });
        }
    }

    async fn images(&self, found: &mut Vec<Found>) {
        let driver = &self.drivers.container_image;
        for id in self.nobodys(|| driver.list()).await {
            found.push(Found {
                sort: FindingSort::Orphan,
                subject: format!("container-image/{id}"),
                detail: "an image of the engine's that belongs to no object".to_owned(),
                remedy: None,
                by_hand: Some(format!("docker image rm agentd-{}:{id}", self.instance.tag())),
            });
        }
    }

    /// Those of a list that are there twice and belong to no object: one whose object went between the two is no orphan.
    async fn nobodys<E, F: Future<Output = Result<Vec<Uuid>, E>>>(&self, list: impl Fn() -> F) -> Vec<Uuid> {
        let first = list().await.unwrap_or_default();
        let first: BTreeSet<Uuid> = first.into_iter().filter(|id| !self.owned(*id)).collect();
        if first.is_empty() {
            return Vec::new();
        }
        let again = list().await.unwrap_or_default();
        again.into_iter().filter(|id| first.contains(id) && !self.owned(*id)).collect()
    }
}
