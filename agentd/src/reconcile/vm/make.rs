//! Makes what a VM stands on: its disk and seed, its place on the network, its definition; and starts it.

use agentd_api::vm::{Accel, Vm, VmDesired, needs_kvm};
use agentd_api::{ErrorCode, MacAddr, Progress, State, Timestamp};
use agentd_drivers::Class;
use agentd_drivers::image::ImageContent;
use agentd_drivers::vm::accel::nesting;
use agentd_drivers::vm::{Cdrom, DomainSeen, DomainSpec};
use agentd_drivers::volume::DiskSpec;
use uuid::Uuid;

use super::apply::{Halt, Turn, Work};
use super::define::{self, Binding, Files};
use super::disks::DISKS_PLUGGED;
use super::needs::{self, ISO_READY, KEYS_READY, Needs};
use super::observe;
use crate::reconcile::guest::life::STOPPING;
use crate::reconcile::guest::needs::{IMAGE_READY, NETWORK_READY, VOLUMES_READY, Waiting};
use crate::reconcile::runtime::{Fault, Note};

impl Work<'_> {
    pub(super) async fn start(&mut self, restarts: u32) -> Result<Turn, Halt> {
        // Written down with what is written before the seed is made.
        self.status.seeded = Some(define::seeded(&self.object.spec));
        let needs = match self.begin_start(restarts).await? {
            Ok(needs) => needs,
            Err(turn) => return Ok(turn),
        };
        self.check_kvm().await?;
        let queue = &self.vms.queue;
        let _place = if queue.holds(self.pass.key()) { queue.place().await } else { None };
        let spec = self.prepare(&needs).await?;
        self.status.common.progress = step(1, "starting");
        let (shown, started) = tokio::join!(
            self.pass.publish::<Vm>(&self.status),
            self.vms.drivers.vm.start(self.object.meta.id)
        );
        self.told(started)?;
        shown?;
        self.has_started(&spec);
        self.vms.turn_is_over(self.pass.key(), Some(self.object.spec.autostart.delay.duration()));
        let memory = self.object.spec.memory;
        self.notes
            .push(Note::done("started", format!("{} CPUs, {memory}, {}", spec.cpus, spec.accel.as_str())));
        if self.object.spec.desired == VmDesired::Paused {
            self.told(self.vms.drivers.vm.pause(self.object.meta.id).await)?;
        }
        Ok(Turn::Again)
    }

    /// All that it needs, with its start written down; or what it waits for.
    pub(super) async fn begin_start(&mut self, restarts: u32) -> Result<Result<Needs, Turn>, Halt> {
        let needs = match self.needs().await? {
            Ok(needs) => needs,
            Err(waiting) => return Ok(Err(self.wait_for(waiting))),
        };
        self.status.restarts = restarts;
        self.status.restart_requested = false;
        self.status.started_generation = None;
        self.status.guest = None;
        self.status.held_boot = None;
        self.status.tuned = None;
        self.status.awaits_restart.clear();
        self.status.common.clear_condition(STOPPING);
        self.status.common.state = State::Provisioning;
        self.status.common.reason = None;
        self.status.image_digest = Some(needs.content.digest.clone());
        self.status.common.set_condition(IMAGE_READY, true, "");
        self.status.common.clear_condition(KEYS_READY);
        self.status.common.clear_condition(VOLUMES_READY);
        self.status.common.clear_condition(ISO_READY);
        self.status.common.clear_condition(DISKS_PLUGGED);
        self.status.common.progress = step(0, "making its disk and its place on the network");
        self.publish().await?;
        Ok(Ok(needs))
    }

    /// What is known of it from now on.
    pub(super) fn has_started(&mut self, spec: &DomainSpec) {
        self.status.started_at = Some(observe::run(&self.status).start_at(Timestamp::now()));
        self.status.started_generation = Some(self.object.meta.generation);
        self.status.host_boot = Some(self.vms.boot_id.clone());
        self.status.accel = Some(spec.accel);
    }

    /// What this host cannot give it is said by its field, in place of what libvirt would say of it.
    async fn check_kvm(&self) -> Result<(), Fault> {
        let spec = &self.object.spec;
        let lacks = match self.vms.drivers.vm.accel().await.accel {
            Accel::Tcg => needs_kvm(spec),
            Accel::Kvm if spec.nested && nesting().is_none() => {
                Some(("nested", "this host's processors show neither vmx nor svm"))
            }
            Accel::Kvm => None,
        };
        let Some((field, why)) = lacks else { return Ok(()) };
        Err(Fault::new(Class::Unsupported, ErrorCode::Unsupported, format!("spec.{field}: {why}")))
    }

    pub(super) async fn needs(&self) -> Result<Result<Needs, Waiting>, Fault> {
        needs::gather(self.pass, &self.vms.drivers, self.object, &self.status).await
    }

    pub(super) fn wait_for(&mut self, waiting: Waiting) -> Turn {
        let pinned = self.status.image_digest.is_some();
        waiting.tell(&mut self.status.common, pinned, &mut self.notes);
        Turn::End(None)
    }

    /// Makes its files, its place on the network and its definition.
    pub(super) async fn prepare(&mut self, needs: &Needs) -> Result<DomainSpec, Halt> {
        let (files, network) = tokio::join!(self.files(needs), self.network());
        let files = files?;
        if let Err(fault) = &network {
            self.status.common.set_condition(NETWORK_READY, false, fault.message.clone());
        }
        network?;
        self.networked = true;
        self.status.common.set_condition(NETWORK_READY, true, "");
        self.status.console_log = Some(files.console_log.display().to_string());
        let nics = needs.nics.iter().map(|nic| (nic.address.mac, nic.network.meta.id));
        let spec = self.spec(&needs.content, files, nics).await;
        self.told(self.vms.drivers.vm.ensure_defined(&spec).await)?;
        Ok(spec)
    }

    async fn network(&self) -> Result<(), Fault> {
        if self.status.addresses.is_empty() && self.status.leaving.is_empty() {
            return Ok(());
        }
        self.vms.sync.guest(self.pass.key()).await
    }

    /// One whose disk and definition are gone, as after the store was restored on another host, has nothing that it could
    /// be shown as or started from.
    pub(super) async fn not_lost(&self, domain: Option<&DomainSeen>) -> Result<(), Fault> {
        if domain.is_some() { Ok(()) } else { self.disk_is_there().await }
    }

    /// A guest that has run, and one that was made of another's, has a disk; a new one by its name would be an empty one, and
    /// another guest.
    async fn disk_is_there(&self) -> Result<(), Fault> {
        let vm = self.object.meta.id;
        let had = self.status.origin.is_some() || self.status.started_at.is_some();
        if !had || self.vms.drivers.volume.observe(vm).await?.disk.is_some() {
            return Ok(());
        }
        let (folder, name) = (self.vms.instance.vm_dir(vm), &self.object.meta.name);
        let message = format!(
            "its disk is gone, and none is made anew in its place: put back {} and `agentctl retry vm/{name}`, or delete it",
            folder.display()
        );
        Err(Fault::permanent(ErrorCode::NotFound, message))
    }

    async fn files(&self, needs: &Needs) -> Result<Files, Fault> {
        let volumes = &self.vms.drivers.volume;
        let vm = self.object.meta.id;
        self.disk_is_there().await?;
        let uefi = self.firmware(&needs.content).await?;
        let backing = needs.content.disk.clone();
        let disk = volumes.ensure_disk(&DiskSpec { vm, backing, size: self.object.spec.disk }).await?;
        let seed = volumes.ensure_seed(&define::seed(self.object, needs)).await?;
        let mut disks = Vec::new();
        for (number, wanted) in (1..).zip(&self.object.spec.disks) {
            let path = volumes.ensure_further(vm, number, wanted.size).await?;
            disks.push(super::disks::own_disk(number, path));
        }
        disks.extend(needs.volumes.iter().cloned());
        let cdrom = self.object.spec.iso.as_ref().map(|_| Cdrom { medium: needs.medium.clone() });
        Ok(Files { disk, seed: Some(seed), console_log: volumes.console_log(vm).await?, disks, cdrom, uefi })
    }

    pub(super) async fn spec(
        &self,
        content: &ImageContent,
        files: Files,
        nics: impl Iterator<Item = (MacAddr, Uuid)>,
    ) -> DomainSpec {
        let bridge = |network| self.vms.drivers.network.bridge(network);
        let nics = nics.map(|(mac, network)| (mac, network, bridge(network))).collect();
        let accel = self.vms.drivers.vm.accel().await.accel;
        define::domain(
            self.object,
            content,
            files,
            Binding {
                instance: &self.vms.instance,
                accel,
                host_cpus: crate::host::cpus(),
                nesting: nesting(),
                nics,
            },
        )
    }

    /// Puts back a definition that somebody took away.
    pub(super) async fn define(&mut self, running: bool) -> Result<Turn, Halt> {
        let needs = match self.needs().await? {
            Ok(needs) => needs,
            Err(waiting) => {
                let reason = format!("its definition is gone and cannot be made again: {}", waiting.reason);
                self.status.common.reason = Some(reason);
                return Ok(Turn::End(None));
            }
        };
        self.prepare(&needs).await?;
        if self.status.started_at.is_none() && self.status.last_stop.is_none() {
            return Ok(Turn::Again);
        }
        let how = if running { "while it runs" } else { "while it is off" };
        self.notes.push(Note::seen("defined", format!("somebody undefined it {how}; it is defined again")));
        Ok(Turn::Again)
    }
}

fn step(done: u64, name: &str) -> Option<Progress> {
    Some(Progress::of_steps(name, done, Some(2)))
}
