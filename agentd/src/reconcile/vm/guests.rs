//! What guests say of themselves, into their VMs' status, where it changed.
//!
//! The driver follows the agents of the guests that run and tells when one says something else; the VM is then woken,
//! and its pass writes it down. Nothing is written while nothing changes, however often the guests are asked.

use std::sync::Arc;
use std::time::Duration;

use agentd_api::vm::guest::{GuestFilesystem, GuestInterface, GuestOs, VmGuest};
use agentd_api::vm::{Vm, VmStatus};
use agentd_api::{ByteSize, Kind, Object, State};
use agentd_drivers::vm::guest::{Facts, Filesystem, GuestSeen};
use agentd_store::{Query, Store, Stored};
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use super::Vms;
use crate::reconcile::runtime::Trigger;

/// An agent that went away may be back at once: whether it is not is looked at after this.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Follows them until cancelled. Those that run already are attended to after `head_start`; later ones by their passes.
pub async fn run(
    (vms, store, trigger): (Arc<Vms>, Store, Trigger),
    head_start: Duration,
    cancel: CancellationToken,
) {
    let mut events = vms.drivers.vm.guest_events();
    if cancel.run_until_cancelled(tokio::time::sleep(head_start)).await.is_none() {
        return;
    }
    for stored in store.list(&Query::kind(Vm::DEF.kind)).items {
        if let Ok(vm) = stored.object::<Vm>()
            && vm.status.common.state == State::Running
        {
            vms.drivers.vm.attend(vm.meta.id, true);
        }
    }
    loop {
        // Cancel safety: an event that was received is acted on before the next is waited for.
        let event = tokio::select! {
            () = cancel.cancelled() => return,
            event = events.recv() => event,
        };
        match event {
            Ok(id) => {
                if let Some(stored) = store.by_id(id) {
                    look(&vms, &stored, &trigger);
                }
            }
            Err(RecvError::Lagged(_)) => {
                for stored in store.list(&Query::kind(Vm::DEF.kind)).items {
                    look(&vms, &stored, &trigger);
                }
            }
            Err(RecvError::Closed) => return,
        }
    }
}

fn look(vms: &Vms, stored: &Stored, trigger: &Trigger) {
    let Ok(vm) = stored.object::<Vm>() else { return };
    match vms.drivers.vm.guest_seen(vm.meta.id) {
        GuestSeen::Unknown => trigger.wake_after(stored.key().clone(), LOOK_AGAIN),
        seen if differs(&vm, &seen) => trigger.seen(stored.key()),
        _ => {}
    }
}

fn differs(vm: &Object<Vm>, seen: &GuestSeen) -> bool {
    let mut status = vm.status.clone();
    write(&mut status, seen);
    status.guest != vm.status.guest
}

/// Writes into the status what was seen; what is not known stays as it was.
pub fn write(status: &mut VmStatus, seen: &GuestSeen) {
    match seen {
        GuestSeen::Unknown => {}
        GuestSeen::Silent => status.guest = None,
        GuestSeen::Facts(facts) => status.guest = Some(told(facts)),
    }
}

fn told(facts: &Facts) -> VmGuest {
    let os =
        GuestOs { id: facts.os.id.clone(), name: facts.os.name.clone(), version: facts.os.version.clone() };
    let interfaces = facts.interfaces.iter().map(|one| GuestInterface {
        name: one.name.clone(),
        mac: one.mac.clone(),
        addresses: one.addresses.clone(),
    });
    VmGuest {
        agent: facts.agent.clone(),
        hostname: facts.hostname.clone(),
        os,
        kernel: facts.kernel.clone(),
        interfaces: interfaces.collect(),
        filesystems: facts.filesystems.iter().map(filesystem).collect(),
    }
}

/// How full it is, to a hundredth: a guest that writes a little now and then is at rest.
fn filesystem(one: &Filesystem) -> GuestFilesystem {
    let step = (one.size / 100).max(1);
    GuestFilesystem {
        path: one.path.clone(),
        device: one.device.clone(),
        kind: one.kind.clone(),
        size: ByteSize(one.size),
        used: ByteSize(one.used.min(one.size) / step * step),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_little_more_on_a_disk_is_no_change() {
        let with = |used| {
            let one = Filesystem { size: 1_000_000, used, path: "/".to_owned(), ..Filesystem::default() };
            GuestSeen::Facts(Facts { filesystems: vec![one], ..Facts::default() })
        };
        let (mut status, mut later) = (VmStatus::default(), VmStatus::default());
        write(&mut status, &with(500_000));
        write(&mut later, &with(509_999));
        assert_eq!(status.guest, later.guest);
        write(&mut later, &with(510_000));
        assert_ne!(status.guest, later.guest);
        write(&mut later, &GuestSeen::Unknown);
        assert!(later.guest.is_some(), "what is not known is not forgotten");
        write(&mut later, &GuestSeen::Silent);
        assert_eq!(later.guest, None);
    }
}
