//! Brings a container that is there to what its spec says, whether it runs or not: its limits, its interfaces, its name; and
//! gives back the addresses of interfaces that it has no more.
//!
//! What somebody plugged in or out, whose link somebody removed, or limited otherwise, behind our back is put right by the
//! same.

use std::time::Duration;

use agentd_api::ObjectKey;
use agentd_api::container::Container;
use agentd_api::network::Network;
use agentd_api::nic::NicAddress;
use agentd_drivers::Class;
use agentd_drivers::container::{Change, ContainerDef, ContainerError, ContainerSeen, Endpoint, Wired};

use super::apply::{Halt, Work};
use super::define;
use super::make::is_on;
use super::needs::{self, Needs, Nic};
use crate::claims;
use crate::reconcile::guest::needs::NETWORK_READY;
use crate::reconcile::runtime::{Fault, Note};

/// The condition that is false while a container lacks limits that its spec asks for, for this host cannot give them.
pub const LIMITS_APPLIED: &str = "limits_applied";
const LOOK_AGAIN: Duration = Duration::from_secs(1);

impl Work<'_> {
    /// As wanted, of what runs. When to look again.
    pub(super) async fn bring(&mut self, seen: &ContainerSeen) -> Result<Option<Duration>, Halt> {
        let new = self.object.meta.generation != self.object.status.common.observed_generation;
        let nics = match needs::nics(self.pass, self.object, &self.status)? {
            Ok(nics) => nics,
            Err(waiting) => {
                // It runs on with what it has.
                self.status.common.set_condition(NETWORK_READY, false, waiting.reason);
                return Ok(None);
            }
        };
        let endpoints = endpoints(&nics);
        if new || !self.status.leaving.is_empty() || !wired(seen, &endpoints) {
            self.networks(&nics).await?;
        }
        let changed = self.wire(seen, &endpoints).await?;
        self.limit(seen).await?;
        self.name(seen).await?;
        if !self.give_back(changed, Some(seen)).await? {
            return Ok(Some(LOOK_AGAIN));
        }
        Ok(None)
    }

    /// As wanted, of one that is to be started.
    pub(super) async fn bring_to(&mut self, seen: &ContainerSeen, wanted: &ContainerDef) -> Result<(), Halt> {
        let changed = self.wire(seen, &wanted.endpoints).await?;
        self.limit(seen).await?;
        self.name(seen).await?;
        self.give_back(changed, Some(seen)).await?;
        Ok(())
    }

    /// What a container that stays off is to have all the same: its name, and no interface that is another's by now.
    pub(super) async fn keep_beside(&mut self, seen: Option<&ContainerSeen>) -> Result<(), Halt> {
        let new = self.object.meta.generation != self.object.status.common.observed_generation;
        let mut changed = false;
        if let Some(seen) = seen {
            self.name(seen).await?;
            if !self.status.leaving.is_empty() {
                changed = self.unplug(seen, &self.endpoints_by_id(), |_| true).await?;
            }
        }
        self.give_back(changed, seen).await?;
        if new && self.status.image_digest.is_some() && !self.status.addresses.is_empty() {
            // Published ports.
            let made = self.containers.sync.guest(self.pass.key()).await;
            made.map_err(|fault| Fault { class: Class::Transient, ..fault })?;
        }
        Ok(())
    }

    /// Plugs in and out. Whether something was.
    async fn wire(&mut self, seen: &ContainerSeen, wanted: &[Endpoint]) -> Result<bool, Halt> {
        // What of the engine's own it is on goes last: one that was adopted is not without a network meanwhile.
        let mut changed = self.unplug(seen, wanted, |on| matches!(on, Wired::Ours(_))).await?;
        let (driver, id) = (self.containers.driver(), self.object.meta.id);
        for endpoint in wanted.iter().filter(|endpoint| !has(seen, endpoint)) {
            if self.told(driver.connect(id, endpoint).await)? == Change::Made {
                changed = true;
                self.notes.push(Note::done("attached", format!("{} with {}", endpoint.mac, endpoint.ip)));
            }
        }
        changed |= self.unplug(seen, wanted, |on| matches!(on, Wired::Foreign(_))).await?;
        Ok(changed)
    }

    async fn unplug(
        &mut self,
        seen: &ContainerSeen,
        wanted: &[Endpoint],
        of: impl Fn(&Wired) -> bool,
    ) -> Result<bool, Halt> {
        let (driver, id) = (self.containers.driver(), self.object.meta.id);
        let mut changed = false;
        for endpoint in seen.endpoints.iter().filter(|endpoint| of(&endpoint.network)) {
            let ours = match &endpoint.network {
                Wired::Ours(network) => wanted.iter().any(|wanted| wanted.network == *network),
                Wired::Foreign(_) => false,
            };
            if !ours && self.told(driver.disconnect(id, &endpoint.network).await)? == Change::Made {
                changed = true;
                let note = match &endpoint.network {
                    Wired::Ours(_) => Note::done("detached", "an interface that is not in its spec any more"),
                    Wired::Foreign(name) if self.status.adopted.is_some() => {
                        Note::done("detached", format!("taken off '{name}', a network of the engine's own"))
                    }
                    Wired::Foreign(name) => Note::seen(
                        "detached",
                        format!(
                            "somebody put it on '{name}', a network of the engine's own; it is taken off"
                        ),
                    ),
                };
                self.notes.push(note);
            }
        }
        Ok(changed)
    }

    /// What of its addresses is in use by id of network, for one that is off.
    fn endpoints_by_id(&self) -> Vec<Endpoint> {
        let endpoint = |address: &NicAddress| {
            let network = self.network_id(address)?;
            Some(Endpoint { network, ip: address.ip, mac: address.mac })
        };
        self.status.addresses.iter().filter_map(endpoint).collect()
    }

    fn network_id(&self, address: &NicAddress) -> Option<uuid::Uuid> {
        let key = ObjectKey::of::<Network>(self.object.meta.project.clone(), address.network.clone());
        self.pass.store().get(&key).map(|network| network.id())
    }

    /// What the kernel cannot hold is said, and what runs runs on with what it had.
    async fn limit(&mut self, seen: &ContainerSeen) -> Result<(), Halt> {
        let wanted = define::limits(&self.object.spec);
        if seen.limits.settled() == wanted.settled() {
            self.status.common.clear_condition(LIMITS_APPLIED);
            return Ok(());
        }
        match self.containers.driver().update(self.object.meta.id, &wanted).await {
            Ok(change) => {
                if change == Change::Made {
                    self.notes.push(Note::done("limited", "its limits are as its spec says"));
                }
                self.status.common.clear_condition(LIMITS_APPLIED);
                Ok(())
            }
            Err(
                error @ (ContainerError::Refused(_)
                | ContainerError::Unsupported(_)
                | ContainerError::Capacity(_)),
            ) if is_on(seen) => {
                self.status.common.set_condition(LIMITS_APPLIED, false, error.to_string());
                Ok(())
            }
            Err(error) => self.told(Err(error)),
        }
    }

    /// Under the name that the object has now.
    async fn name(&mut self, seen: &ContainerSeen) -> Result<(), Halt> {
        if !self.status.renamed {
            return Ok(());
        }
        let bare = Needs { image: seen.image.clone(), nics: Vec::new(), mounts: Vec::new(), disk: None };
        let named = define::definition(self.object, &bare);
        if self.told(self.containers.driver().rename(&named).await)? == Change::Made {
            self.notes.push(Note::done("renamed", format!("it is '{}' to the engine too", named.name)));
        }
        self.status.renamed = false;
        Ok(())
    }

    /// Gives back the addresses of interfaces that it is seen without. False where the object changed meanwhile: another
    /// pass follows.
    async fn give_back(&mut self, changed: bool, seen: Option<&ContainerSeen>) -> Result<bool, Halt> {
        if self.status.leaving.is_empty() {
            return Ok(true);
        }
        let now = if changed {
            self.told(self.containers.driver().observe(self.object.meta.id).await)?
        } else {
            seen.cloned()
        };
        let still = |address: &NicAddress| {
            now.as_ref().is_some_and(|now| now.endpoints.iter().any(|e| e.mac == Some(address.mac)))
        };
        let (stay, gone): (Vec<_>, Vec<_>) = self.status.leaving.clone().into_iter().partition(still);
        if gone.is_empty() {
            return Ok(true);
        }
        let all = std::mem::replace(&mut self.status.leaving, stay);
        let mut given = Vec::new();
        for address in &gone {
            let network = self.network_id(address).unwrap_or_default();
            given.extend(claims::of_interface(network, address.ip, address.mac));
            let text =
                format!("{} on {}, whose address {} is free", address.mac, address.network, address.ip);
            self.notes.push(Note::done("detached", text));
        }
        let notes = std::mem::take(&mut self.notes);
        if !self.pass.release::<Container>(self.object, &self.status, given, notes).await? {
            self.status.leaving = all;
            return Ok(false);
        }
        self.containers.sync.guest(self.pass.key()).await?;
        Ok(true)
    }
}

fn endpoints(nics: &[Nic]) -> Vec<Endpoint> {
    let endpoint =
        |nic: &Nic| Endpoint { network: nic.network.meta.id, ip: nic.address.ip, mac: nic.address.mac };
    nics.iter().map(endpoint).collect()
}

fn has(seen: &ContainerSeen, wanted: &Endpoint) -> bool {
    // One that is off may have no address at the moment; that it is plugged is what counts then.
    seen.endpoint(wanted.network).is_some_and(|endpoint| {
        endpoint.linked
            && endpoint.ip.is_none_or(|ip| ip == wanted.ip)
            && endpoint.mac.is_none_or(|mac| mac == wanted.mac)
    })
}

fn wired(seen: &ContainerSeen, wanted: &[Endpoint]) -> bool {
    seen.endpoints.len() == wanted.len() && wanted.iter().all(|endpoint| has(seen, endpoint))
}
