//! Makes the host as the store says, and says in the store what was seen.
//!
//! One folder a kind: `observe` reads the host, `plan` is pure, `apply` changes it. What all kinds share is in
//! [`runtime`]. Reconcilers know the store and the drivers, and no HTTP. Nothing here is needed for the API to answer: a
//! backend that is away, a driver that fails, a pass that panics are shown on the objects concerned.

pub mod flavor;
mod held;
pub mod image;
pub mod network;
pub mod runtime;
pub mod snapshot;
pub mod ssh_key;
mod sweep;
#[cfg(test)]
mod testing;
pub mod vm;
pub mod volume;

use std::sync::Arc;
use std::time::Duration;

use agentd_api::Kind;
use agentd_api::flavor::Flavor;
use agentd_api::image::Image;
use agentd_api::network::Network;
use agentd_api::snapshot::Snapshot;
use agentd_api::ssh_key::SshKey;
use agentd_api::vm::Vm;
use agentd_api::volume::Volume;
use agentd_drivers::{Drivers, Instance};
use agentd_store::Store;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use flavor::ensure_shipped_flavors;
pub use held::{Held, Hold};
pub use image::Contents;
pub use network::ensure_default_network;
pub use runtime::Trigger;

use runtime::Controllers;

/// What reconciling needs.
#[derive(Clone)]
pub struct Runtime {
    pub store: Store,
    pub drivers: Drivers,
    pub instance: Instance,
    /// Differs after each boot of the host.
    pub boot_id: String,
    /// How long those who waited for the daemon have it for themselves, before the host is looked at for what changed
    /// while it was away. What is asked for in this time is done at once.
    pub head_start: Duration,
    /// What exports and imports that are under way have on the host.
    pub held: Held,
    /// Ends it: passes in flight are given a short while.
    pub cancel: CancellationToken,
    /// Holds all of its tasks.
    pub tracker: TaskTracker,
}

/// Starts all reconcilers. What runs on the host already is adopted; what nobody owns is told of and left.
pub fn start(runtime: Runtime) -> (Trigger, Contents) {
    let Runtime { store, drivers, instance, boot_id, head_start, held, cancel, tracker } = runtime;
    let mut controllers = Controllers::of(&[
        SshKey::DEF.kind,
        Network::DEF.kind,
        Image::DEF.kind,
        Volume::DEF.kind,
        Flavor::DEF.kind,
        Vm::DEF.kind,
        Snapshot::DEF.kind,
    ]);
    let trigger = controllers.trigger();

    let (sync, task) = network::SyncTask::new(store.clone(), drivers.network.clone(), trigger.clone());
    tracker.spawn(task.run(cancel.clone()));
    let backend = vm::Backend::default();
    tracker.spawn(backend.clone().run(drivers.vm.clone(), cancel.clone()));
    let jobs = image::Jobs::new(&cancel, tracker.clone());
    let contents = image::Contents::new(drivers.image.clone(), jobs.clone());
    let locks = vm::VmLocks::default();
    let snapshots = snapshot::Snapshots {
        drivers: drivers.clone(),
        locks: locks.clone(),
        backend: backend.clone(),
        trigger: trigger.clone(),
    };
    let queue = vm::BootQueue::new(&store, &boot_id, crate::host::cpus() as usize);
    let vms = Arc::new(vm::Vms {
        drivers: drivers.clone(),
        instance,
        boot_id,
        sync: sync.clone(),
        backend,
        locks,
        queue,
        alarms: vm::Alarms::default(),
        trigger: trigger.clone(),
    });

    controllers.add(ssh_key::SshKeys);
    controllers.add(flavor::Flavors);
    controllers.add(network::Networks { driver: drivers.network.clone(), sync });
    controllers.add(image::Images {
        driver: drivers.image.clone(),
        jobs,
        contents: contents.clone(),
        trigger: trigger.clone(),
    });
    controllers.add(volume::Volumes { drivers: drivers.clone() });
    controllers.add_shared(vms.clone());
    controllers.add(snapshots);
    controllers.start(store.clone(), cancel.clone(), &tracker);

    let scheduled = snapshot::Scheduled {
        store: store.clone(),
        trigger: trigger.clone(),
        clock: Arc::new(agentd_api::Timestamp::now),
    };
    tracker.spawn(snapshot::schedule(scheduled, cancel.clone()));
    tracker.spawn(vm::guests((vms.clone(), store.clone(), trigger.clone()), head_start, cancel.clone()));
    tracker.spawn(vm::survey((vms, store.clone(), trigger.clone()), head_start, cancel.clone()));
    let sweep = sweep::Sweep { store, drivers, contents: contents.clone(), held, told: Default::default() };
    tracker.spawn(sweep::run(sweep, cancel));
    (trigger, contents)
}
