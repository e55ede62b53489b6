//! Which VMs need a pass, as far as one list of all domains shows ([`survey`]).

use std::collections::HashMap;

use agentd_api::vm::{NicAddress, RestartPolicy, Vm, VmDesired};
use agentd_api::{Object, State, Timestamp};
use agentd_drivers::vm::disks::volume_serial;
use agentd_drivers::vm::{DomainEvent, DomainSeen, LiveSeen, Power};
use async_trait::async_trait;
use tokio::sync::broadcast;
use uuid::Uuid;

use super::apply::PENDING_RESTART;
use super::disks::DISKS_PLUGGED;
use super::hotplug::PENDING_GUEST;
use super::live::same;
use super::plan::Seen;
use super::{Vms, observe};
use crate::reconcile::backend::Backend;
use crate::reconcile::guest::boot;
use crate::reconcile::guest::life::STOPPING;
use crate::reconcile::guest::survey::{self, Surveyed};

#[async_trait]
impl Surveyed for Vms {
    type Kind = Vm;
    type Event = DomainEvent;
    type Seen = DomainSeen;
    const ALWAYS: bool = true;

    fn backend(&self) -> &Backend {
        &self.backend
    }
    fn events(&self) -> broadcast::Receiver<DomainEvent> {
        self.drivers.vm.events()
    }
    fn about(event: &DomainEvent) -> Option<Uuid> {
        event.id
    }
    fn hear(&self, event: &DomainEvent) {
        if let (Some(id), Some(alarm)) = (event.id, event.alarm) {
            self.alarms.tell(id, alarm);
        }
    }
    async fn list(&self) -> Option<HashMap<Uuid, DomainSeen>> {
        match self.drivers.vm.list().await {
            Ok(listed) => Some(listed.into_iter().map(|domain| (domain.id, domain)).collect()),
            Err(error) => {
                self.backend.told(&error);
                None
            }
        }
    }
    fn expires(vm: &Object<Vm>) -> Option<Timestamp> {
        vm.spec.expiry()
    }
    fn settled(&self, vm: &Object<Vm>, domain: Option<&DomainSeen>) -> bool {
        settled(vm, domain, &self.boot_id)
    }
}

/// Whether the guest has the volumes that it was last seen to have, and none is on its way.
fn disks_settled(vm: &Object<Vm>, domain: Option<&DomainSeen>) -> bool {
    let running = domain.filter(|domain| domain.power != Power::Off);
    vm.status.volumes.iter().all(|volume| {
        let device = running.and_then(|d| d.disk(&volume_serial(volume.id))).map(|disk| &disk.target);
        !volume.detaching && volume.device.as_ref() == device && (device.is_some() || running.is_none())
    })
}

fn awaits_start(vm: &Object<Vm>, boot: &str) -> bool {
    let running = vm.spec.desired != VmDesired::Stopped;
    boot::awaits_start(running, vm.spec.autostart.enabled, &vm.status, boot)
}

/// Whether what a guest runs with is what its spec says, as far as one look at the domain shows; somebody may have
/// changed it behind our back.
fn as_wanted(vm: &Object<Vm>, live: Option<&LiveSeen>) -> bool {
    let Some(live) = live else { return false };
    let waits = vm.status.common.condition(PENDING_RESTART).is_some_and(|c| c.status);
    let has = |a: &NicAddress| live.nics.iter().any(|nic| nic.mac == a.mac);
    waits
        || (vm.spec.cpus == live.cpus
            && same(vm.spec.memory, live.memory)
            && vm.status.addresses.iter().all(has))
}

/// Whether a pass would find nothing to do.
fn settled(vm: &Object<Vm>, domain: Option<&DomainSeen>, boot: &str) -> bool {
    let (status, common) = (&vm.status, &vm.status.common);
    let quiet = survey::quiet(vm)
        && !status.restart_requested
        && status.restore.is_none()
        && common.condition(STOPPING).is_none()
        && common.condition(DISKS_PLUGGED).is_none()
        && disks_settled(vm, domain)
        && common.condition(PENDING_GUEST).is_none()
        && status.leaving.is_empty();
    let up = || {
        let seen = domain.filter(|d| d.persistent);
        status.host_boot.as_deref() == Some(boot) && seen.is_some_and(|d| as_wanted(vm, d.live.as_ref()))
    };
    let off_for_this_boot = boot::held(vm, boot)
        || (!vm.spec.autostart.enabled && status.host_boot.as_deref().is_some_and(|b| b != boot));
    let stays_off = matches!(vm.spec.desired, VmDesired::Stopped | VmDesired::Suspended)
        || (vm.spec.restart == RestartPolicy::Never && !awaits_start(vm, boot))
        || off_for_this_boot;
    match (common.state, observe::seen(domain)) {
        // Given up. A VM that is failed because its image is has no attempts: it waits, and only a pass makes it hear.
        (State::Failed, _) => survey::given_up(vm),
        (State::Running, Seen::Running) | (State::Paused, Seen::Paused) => quiet && up(),
        (State::Suspended, Seen::Off(_)) => quiet && vm.spec.desired == VmDesired::Suspended,
        (State::Stopped, Seen::Off(_)) => quiet && stays_off,
        (State::Stopped, Seen::Absent) => quiet && stays_off && status.image_digest.is_none(),
        _ => false,
    }
}
