//! Finds the VMs that need a pass, by one list of all domains against the store. One call to libvirt for all of them,
//! and no write, in place of a pass each.
//!
//! Also where libvirt's events become wakes. Events may be missed (libvirtd restarted, a receiver that lagged): then all
//! are compared.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use agentd_api::vm::{NicAddress, RestartPolicy, Vm, VmDesired};
use agentd_api::{Kind, Object, State, Timestamp};
use agentd_drivers::vm::disks::volume_serial;
use agentd_drivers::vm::{DomainEvent, DomainSeen, LiveSeen, Power};
use agentd_store::{Query, Store};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::Vms;
use super::apply::PENDING_RESTART;
use super::disks::DISKS_PLUGGED;
use super::hotplug::PENDING_GUEST;
use super::live::same;
use super::observe::{self, STOPPING};
use super::plan::Seen;
use crate::reconcile::backend::BACKEND_AVAILABLE;
use crate::reconcile::guest::boot;
use crate::reconcile::runtime::Trigger;

const EVERY: Duration = Duration::from_secs(60);
/// After how many VMs the look makes room for others: to answer a request is more pressing.
const YIELD: usize = 64;

/// How pressing what was found is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Haste {
    /// libvirt is here (again): whoever waits for it goes on.
    Now,
    /// A look round: tries that are held back stay so.
    Routine,
}

/// Follows the driver until cancelled. The first look is after `head_start`.
pub async fn run(
    (vms, store, trigger): (Arc<Vms>, Store, Trigger),
    head_start: Duration,
    cancel: CancellationToken,
) {
    let mut events = vms.drivers.vm.events();
    let mut availability = vms.backend.changes();
    if cancel.run_until_cancelled(tokio::time::sleep(head_start)).await.is_none() {
        return;
    }
    look(&vms, &store, &trigger, Haste::Now).await;
    let mut deaf = false;
    // Not a sleep within the loop: events that come more often than that would put it off for ever.
    let mut rounds = tokio::time::interval_at(Instant::now() + EVERY, EVERY);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        // Cancel safety: no arm takes what it does not act on.
        tokio::select! {
            () = cancel.cancelled() => return,
            event = events.recv(), if !deaf => match event {
                Ok(DomainEvent { id: Some(id), alarm }) => {
                    if let Some(stored) = store.by_id(id) {
                        if let Some(alarm) = alarm {
                            vms.alarms.tell(id, alarm);
                        }
                        trigger.seen(stored.key());
                    }
                }
                Ok(DomainEvent { id: None, .. }) | Err(RecvError::Lagged(_)) => {
                    look(&vms, &store, &trigger, Haste::Now).await;
                }
                Err(RecvError::Closed) => deaf = true,
            },
            changed = availability.changed() => {
                if changed.is_err() {
                    return;
                }
                look(&vms, &store, &trigger, Haste::Now).await;
            }
            _ = rounds.tick() => look(&vms, &store, &trigger, Haste::Routine).await,
        }
    }
}

async fn look(vms: &Vms, store: &Store, trigger: &Trigger, haste: Haste) {
    // The host first: what is made in between is then compared too early, which costs a pass, and not too late.
    let listed = match vms.backend.down() {
        Some(_) => None,
        None => match vms.drivers.vm.list().await {
            Ok(listed) => Some(listed),
            Err(error) => {
                vms.backend.told(&error);
                None
            }
        },
    };
    let domains: Option<HashMap<_, DomainSeen>> = listed.map(|l| l.into_iter().map(|d| (d.id, d)).collect());
    for (n, stored) in store.list(&Query::kind(Vm::DEF.kind)).items.into_iter().enumerate() {
        if n % YIELD == YIELD - 1 {
            tokio::task::yield_now().await;
        }
        let settled = match (&domains, stored.object::<Vm>()) {
            (_, Err(_)) => true,
            (_, Ok(vm)) if expires(&vm) => false,
            (None, Ok(vm)) => known_away(&vm),
            (Some(domains), Ok(vm)) => settled(&vm, domains.get(&vm.meta.id), &vms.boot_id),
        };
        match (settled, haste) {
            (true, _) => {}
            (false, Haste::Now) => trigger.wake(stored.key().clone()),
            (false, Haste::Routine) => trigger.seen(stored.key()),
        }
    }
}

/// Whether it is to go before there is a look round again but one.
fn expires(vm: &Object<Vm>) -> bool {
    let soon = Timestamp::now().plus(2 * EVERY);
    !vm.meta.deleting() && vm.spec.expiry().is_some_and(|at| at <= soon)
}

/// Whether the guest has the volumes that it was last seen to have, and none is on its way.
fn disks_settled(vm: &Object<Vm>, domain: Option<&DomainSeen>) -> bool {
    let running = domain.filter(|domain| domain.power != Power::Off);
    vm.status.volumes.iter().all(|volume| {
        let device = running.and_then(|d| d.disk(&volume_serial(volume.id))).map(|disk| &disk.target);
        !volume.detaching && volume.device.as_ref() == device && (device.is_some() || running.is_none())
    })
}

fn known_away(vm: &Object<Vm>) -> bool {
    let current = vm.status.common.observed_generation == vm.meta.generation;
    !vm.meta.deleting() && current && vm.status.common.condition(BACKEND_AVAILABLE).is_some_and(|c| !c.status)
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
    let quiet = !vm.meta.deleting()
        && common.observed_generation == vm.meta.generation
        && common.attempts.is_none()
        && !status.restart_requested
        && status.restore.is_none()
        && common.condition(STOPPING).is_none()
        && common.condition(DISKS_PLUGGED).is_none()
        && disks_settled(vm, domain)
        && common.condition(PENDING_GUEST).is_none()
        && status.leaving.is_empty()
        && common.condition(BACKEND_AVAILABLE).is_some_and(|c| c.status);
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
        (State::Failed, _) => {
            !vm.meta.deleting()
                && common.observed_generation == vm.meta.generation
                && common.attempts.as_ref().is_some_and(|a| a.next_at.is_none())
        }
        (State::Running, Seen::Running) | (State::Paused, Seen::Paused) => quiet && up(),
        (State::Suspended, Seen::Off(_) | Seen::Absent) => quiet && vm.spec.desired == VmDesired::Suspended,
        (State::Stopped, Seen::Off(_)) => quiet && stays_off,
        (State::Stopped, Seen::Absent) => quiet && stays_off && status.image_digest.is_none(),
        _ => false,
    }
}
