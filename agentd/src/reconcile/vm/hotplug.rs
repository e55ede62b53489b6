//! Brings a guest that runs to what its spec says, as far as that goes without a restart; and gives back the addresses of
//! interfaces once the guest has let go of them.
//!
//! ```text
//!   look --> differences (pure) --> change what can be changed --> look again --> what is left: conditions
//! ```
//! A new interface has its address before this begins, and its place in DHCP and DNS before it is plugged in. One that
//! goes keeps its address, in `status.leaving`, until the guest is seen without it. Each step looks first, and a daemon
//! that dies between two leaves nothing that the next look does not show. What the guest has to do it is asked for again,
//! first every second, later every minute.

use std::collections::BTreeMap;
use std::time::Duration;

use agentd_api::network::Network;
use agentd_api::vm::{NicAddress, VmDesired};
use agentd_api::{MacAddr, ObjectKey, State, Timestamp};
use agentd_drivers::vm::disks::ROOT;
use agentd_drivers::vm::{DomainNic, DomainSeen, LiveSeen, VmError};
use agentd_drivers::{Class, Classed};

use super::apply::{Halt, PENDING_RESTART, Work};
use super::define::{self, Files};
use super::live::{self, Change, Cure, Difference, Left, Wanted};
use crate::claims;
use crate::reconcile::guest::needs::{self, NETWORK_READY};
use crate::reconcile::runtime::{Fault, Note};

/// True while the guest has been asked for something and may still do it; false once it has had its time.
pub const PENDING_GUEST: &str = "pending_guest";
/// After this long a change that the guest does not comply with waits for a restart. It is asked on, more slowly.
const PATIENCE: Duration = Duration::from_secs(30);
const ASK_AGAIN: Duration = Duration::from_secs(1);
const ASK_LATER: Duration = Duration::from_secs(60);

/// What the running guest should be, beside its spec.
struct Target {
    fixed: String,
    disk: Option<agentd_api::ByteSize>,
    nics: Vec<(MacAddr, String)>,
}

impl Work<'_> {
    /// Changes what can be changed, and says what is left. When to look again.
    pub(super) async fn bring(&mut self, domain: DomainSeen) -> Result<Option<Duration>, Halt> {
        let new = self.object.meta.generation != self.object.status.common.observed_generation;
        if new {
            self.status.common.clear_condition(PENDING_GUEST);
        }
        if new && !self.networked {
            // Published ports, and the place of new interfaces in DHCP and DNS.
            self.network_beside().await?;
        }
        let driveless = self.object.spec.iso.is_some() && domain.cdrom().is_none();
        let Some(seen) = domain.live else { return Ok(None) };
        let Some(target) = self.target().await else {
            self.tune(&seen.nics).await?;
            return Ok(None);
        };
        let before = self.differences(&target, &seen);
        let (mut refused, mut grown) = (BTreeMap::new(), false);
        let mut failed = None;
        for Difference { what, cure } in &before {
            let (Cure::Change(change) | Cure::Guest(change)) = cure else { continue };
            if self.paused() && matches!(cure, Cure::Guest(_)) {
                continue;
            }
            match self.change(change, &seen).await {
                Ok(made) => {
                    grown |= matches!(change, Change::Disk(_));
                    if made && new {
                        self.notes.push(Note::done("changed", format!("{what}, while it runs")));
                    }
                }
                Err(error) => self.sort_out(error, change, (&mut refused, &mut failed))?,
            }
        }
        let (after, nics) = if before.iter().all(|d| matches!(d.cure, Cure::Restart(_))) {
            (before, seen.nics)
        } else {
            let domain = self.told(self.vms.drivers.vm.observe(self.object.meta.id).await)?;
            let Some(seen) = domain.as_ref().and_then(|d| d.live.as_ref()) else {
                return Ok(Some(ASK_AGAIN));
            };
            let after = self.target().await.map(|target| self.differences(&target, seen)).unwrap_or(before);
            self.give_back_addresses(domain.as_ref()).await?;
            // QEMU has answered for the disk.
            let grown = |d: &Difference| grown && matches!(d.cure, Cure::Change(Change::Disk(_)));
            (after.into_iter().filter(|d| !grown(d)).collect(), seen.nics.clone())
        };
        self.tune(&nics).await?;
        let mut after = after;
        if driveless {
            let cure = Cure::Restart("the guest has no CD-ROM drive".to_owned());
            after.push(Difference { what: "iso".to_owned(), cure });
        }
        let seeded = self.status.seeded.iter();
        after.extend(seeded.flat_map(|was| live::seed(&define::seeded(&self.object.spec), was)));
        let again = self.say(&after, &refused);
        failed.map_or(Ok(again), |error| Err(Halt::Fault(Fault::from(error))))
    }

    /// What was refused for good waits for a restart; the guest runs on, so that it is no failure of the VM.
    fn sort_out(
        &self,
        error: VmError,
        change: &Change,
        (refused, failed): (&mut BTreeMap<Change, String>, &mut Option<VmError>),
    ) -> Result<(), Halt> {
        if self.vms.backend.told(&error) {
            return Err(Halt::Away);
        }
        match error.class() {
            Class::Transient => *failed = failed.take().or(Some(error)),
            _ => drop(refused.insert(change.clone(), error.to_string())),
        }
        Ok(())
    }

    fn paused(&self) -> bool {
        self.object.spec.desired == VmDesired::Paused
    }

    fn differences(&self, target: &Target, seen: &LiveSeen) -> Vec<Difference> {
        let first = self.vms.instance.tap(self.object.meta.id, 0);
        let taps = first.trim_end_matches('0');
        let wanted = Wanted {
            spec: &self.object.spec,
            fixed: &target.fixed,
            disk: target.disk,
            nics: &target.nics,
            taps,
        };
        live::differences(&wanted, seen)
    }

    /// What the guest would be started as now; None where that cannot be told now. Reads without edges: a guest that runs
    /// does not depend on these objects any more.
    async fn target(&self) -> Option<Target> {
        let digest = self.status.image_digest.as_ref()?;
        let content = self.vms.drivers.image.observe(digest).await.ok().flatten()?;
        let seen = self.vms.drivers.volume.observe(self.object.meta.id).await.ok()?;
        let (disk, log) = (seen.disk?, self.status.console_log.as_ref()?);
        let uefi = self.uefi().ok()?;
        // Further disks are compared one by one, elsewhere.
        let (disks, console_log) = (Vec::new(), log.into());
        let files = Files { disk, seed: seen.seed, console_log, disks, cdrom: None, uefi };
        let spec = self.spec(&content, files, std::iter::empty()).await;
        let fixed = self.vms.drivers.vm.fixed_digest(&spec);
        let nics = self.status.addresses.iter().map(|a| (a.mac, a.network.to_string())).collect();
        Some(Target { fixed, disk: seen.disk_size, nics })
    }

    /// Whether something was changed or asked for.
    async fn change(&mut self, change: &Change, seen: &LiveSeen) -> Result<bool, VmError> {
        let (vm, id) = (self.vms.drivers.vm.clone(), self.object.meta.id);
        let made = match change {
            Change::Cpus(cpus) => vm.set_cpus(id, *cpus).await?,
            Change::Memory(memory) => vm.set_memory(id, *memory).await?,
            Change::Disk(size) => vm.resize_disk(id, ROOT, *size).await?,
            Change::Detach(mac) => vm.detach_nic(id, *mac).await?,
            Change::Attach(n) => match self.nic(*n, seen) {
                Some(nic) => vm.attach_nic(id, &nic).await?,
                None => return Ok(false),
            },
        };
        Ok(made == agentd_drivers::vm::Change::Made)
    }

    /// The n-th interface with a tap that is free. None while its network is not ready, which is waited for.
    fn nic(&mut self, n: usize, seen: &LiveSeen) -> Option<DomainNic> {
        let address = self.status.addresses.get(n)?.clone();
        let network = match needs::network(self.pass, &address.network) {
            Ok(Ok(network)) => network,
            Ok(Err(waiting)) => {
                self.status.common.set_condition(NETWORK_READY, false, waiting.reason);
                return None;
            }
            Err(_) => return None,
        };
        self.status.common.set_condition(NETWORK_READY, true, "");
        let bridge = self.vms.drivers.network.bridge(network.meta.id);
        let mut taps = (0..).map(|n| self.vms.instance.tap(self.object.meta.id, n));
        // Several may be plugged in in one go: the place in the list first, as at a start.
        let own = self.vms.instance.tap(self.object.meta.id, n);
        let taken = |tap: &String| seen.nics.iter().any(|nic| nic.tap == *tap);
        let tap = if taken(&own) { taps.find(|tap| !taken(tap))? } else { own };
        Some(DomainNic { mac: address.mac, bridge, tap })
    }

    /// Its place on the network as the store has it now. That it cannot be made so does not fail the VM: it is tried on.
    pub(super) async fn network_beside(&mut self) -> Result<(), Fault> {
        let made = self.vms.sync.guest(self.pass.key()).await;
        if self.status.addresses.is_empty() && self.status.leaving.is_empty() {
            // It is on none, and may have left one; a host that can have no networks is none of its concern.
            return Ok(());
        }
        match &made {
            Ok(()) => self.status.common.set_condition(NETWORK_READY, true, ""),
            Err(fault) => self.status.common.set_condition(NETWORK_READY, false, fault.message.clone()),
        }
        made.map_err(|fault| Fault { class: Class::Transient, ..fault })
    }

    /// The conditions, of what is left. When to look again.
    fn say(&mut self, after: &[Difference], refused: &BTreeMap<Change, String>) -> Option<Duration> {
        let known = self.status.common.condition(PENDING_GUEST);
        let patience =
            self.paused() || known.is_none_or(|c| c.status && c.since.plus(PATIENCE) > Timestamp::now());
        let asked = !live::left(after, refused, true).guest.is_empty();
        let Left { guest, restart } = live::left(after, refused, patience);
        let restart: Vec<String> =
            restart.into_iter().chain(self.status.awaits_restart.iter().cloned()).collect();
        let common = &mut self.status.common;
        if restart.is_empty() {
            common.clear_condition(PENDING_RESTART);
        } else {
            common.set_condition(PENDING_RESTART, true, restart.join("; "));
        }
        if !asked {
            common.clear_condition(PENDING_GUEST);
            return None;
        }
        let why = match (patience, self.object.spec.desired) {
            (false, _) => "not so after all this time; it is tried again now and then".to_owned(),
            (true, VmDesired::Paused) => format!("{}: waits for the guest to run on", guest.join("; ")),
            (true, _) => format!("{}: asked for, and not so yet", guest.join("; ")),
        };
        common.set_condition(PENDING_GUEST, patience, why);
        Some(if patience && !self.paused() { ASK_AGAIN } else { ASK_LATER })
    }

    /// Gives back the addresses of interfaces that the guest is seen without. False where the object changed meanwhile:
    /// another pass follows.
    pub(super) async fn give_back_addresses(&mut self, domain: Option<&DomainSeen>) -> Result<bool, Fault> {
        // Its memory on disk goes on with what it had.
        if self.status.common.state == State::Suspended {
            return Ok(true);
        }
        let live = domain.filter(|d| d.power != agentd_drivers::vm::Power::Off).map(|d| d.live.as_ref());
        let has = |address: &NicAddress| match live {
            None => false,
            // It runs, and what it has was not seen.
            Some(None) => true,
            Some(Some(live)) => live.nics.iter().any(|nic| nic.mac == address.mac),
        };
        let (stay, gone): (Vec<_>, Vec<_>) = self.status.leaving.clone().into_iter().partition(has);
        if gone.is_empty() {
            return Ok(true);
        }
        let all = std::mem::replace(&mut self.status.leaving, stay);
        let mut claims = Vec::new();
        for address in &gone {
            let key = ObjectKey::of::<Network>(self.object.meta.project.clone(), address.network.clone());
            let network = self.pass.store().get(&key).map_or_else(uuid::Uuid::nil, |network| network.id());
            claims.extend(claims::of_interface(network, address.ip, address.mac));
            let text =
                format!("{} on {}, whose address {} is free", address.mac, address.network, address.ip);
            self.notes.push(Note::done("detached", text));
        }
        let notes = std::mem::take(&mut self.notes);
        if !self.pass.release::<agentd_api::vm::Vm>(self.object, &self.status, claims, notes).await? {
            self.status.leaving = all;
            return Ok(false);
        }
        self.network_beside().await?;
        Ok(true)
    }
}
