//! Makes the host as the store says, and says in the store what was seen.
//!
//! One folder a kind: `observe` reads the host, `plan` is pure, `apply` changes it. What all kinds share is in
//! [`runtime`]. Reconcilers know the store and the drivers, and no HTTP. Nothing here is needed for the API to answer: a
//! backend that is away, a driver that fails, a pass that panics are shown on the objects concerned.

mod backend;
pub mod container;
pub mod flavor;
mod guest;
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

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use agentd_api::Kind;
use agentd_api::container::Container;
use agentd_api::flavor::Flavor;
use agentd_api::image::Image;
use agentd_api::network::Network;
use agentd_api::snapshot::Snapshot;
use agentd_api::ssh_key::SshKey;
use agentd_api::vm::Vm;
use agentd_api::volume::Volume;
use agentd_drivers::container::ContainerDriver;
use agentd_drivers::{Drivers, Instance};
use agentd_store::{Query, Store};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use flavor::{ensure_shipped_flavors, note_shipped_flavors};
pub use held::{Held, Hold};
pub use image::Contents;
pub use network::ensure_default_network;
pub use runtime::Trigger;

use backend::Backend;
use runtime::Controllers;

/// Those that are reconciled.
const KINDS: [&str; 8] = [
    SshKey::DEF.kind,
    Network::DEF.kind,
    Image::DEF.kind,
    Volume::DEF.kind,
    Flavor::DEF.kind,
    Vm::DEF.kind,
    Container::DEF.kind,
    Snapshot::DEF.kind,
];

/// What reconciling needs.
#[derive(Clone)]
pub struct Runtime {
    pub store: Store,
    pub drivers: Drivers,
    pub instance: Instance,
    /// Differs after each boot of the host.
    pub boot_id: String,
    /// Folders of the host that containers may have mounted, and what is below them.
    pub bind_mounts: Vec<PathBuf>,
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
    let Runtime { store, drivers, instance, boot_id, bind_mounts, head_start, held, cancel, tracker } =
        runtime;
    let mut controllers = Controllers::of(&KINDS).with_head_start(head_start);
    let trigger = controllers.trigger();

    let (sync, task) = network::SyncTask::new(store.clone(), drivers.network.clone(), trigger.clone());
    tracker.spawn(task.run(cancel.clone()));
    let (backend, engine) = backends(&store, &drivers, (&cancel, &tracker));
    let jobs = image::Jobs::new(&cancel, tracker.clone());
    let contents = image::Contents::new(drivers.image.clone(), jobs.clone());
    let locks = guest::GuestLocks::default();
    let snapshots = snapshot::Snapshots {
        drivers: drivers.clone(),
        locks: locks.clone(),
        backend: backend.clone(),
        trigger: trigger.clone(),
    };
    let queue = Arc::new(guest::BootQueue::new(&store, &boot_id, crate::host::cpus() as usize));
    let containers = Arc::new(container::Containers {
        drivers: drivers.clone(),
        boot_id: boot_id.clone(),
        bind_mounts,
        sync: sync.clone(),
        backend: engine,
        queue: queue.clone(),
        trigger: trigger.clone(),
        locks: guest::GuestLocks::default(),
        asked: Default::default(),
    });
    let vms = Arc::new(vm::Vms {
        drivers: drivers.clone(),
        instance,
        boot_id,
        sync: sync.clone(),
        backend,
        contents: contents.clone(),
        locks,
        queue,
        alarms: vm::Alarms::default(),
        trigger: trigger.clone(),
    });

    controllers.add(ssh_key::SshKeys);
    controllers.add(flavor::Flavors);
    let (driver, engine) = (drivers.network.clone(), drivers.container.clone());
    controllers.add(network::Networks { driver, containers: engine, sync });
    controllers.add(image::Images {
        driver: drivers.image.clone(),
        containers: drivers.container_image.clone(),
        jobs,
        contents: contents.clone(),
        trigger: trigger.clone(),
    });
    controllers.add(volume::Volumes { drivers: drivers.clone() });
    controllers.add_shared(vms.clone());
    controllers.add_shared(containers.clone());
    controllers.add(snapshots);
    controllers.start(store.clone(), cancel.clone(), &tracker);

    follow((vms, containers), (&store, &trigger), head_start, (&cancel, &tracker));
    let sweep = sweep::Sweep { store, drivers, contents: contents.clone(), held, told: Default::default() };
    tracker.spawn(sweep::run(sweep, cancel));
    (trigger, contents)
}

/// libvirt and the container engine, asked now and then whether they are there. What was adopted is known from here on.
fn backends(
    store: &Store,
    drivers: &Drivers,
    (cancel, tracker): (&CancellationToken, &TaskTracker),
) -> (Backend, Backend) {
    container::attend_all(store, drivers.container.as_ref());
    let (backend, engine) = (Backend::new("libvirt"), Backend::new("the container engine"));
    let libvirt = drivers.vm.clone();
    let probe = move || {
        let libvirt = libvirt.clone();
        async move { libvirt.probe().await.map(drop).map_err(|error| error.to_string()) }
    };
    tracker.spawn(backend.clone().run(probe, cancel.clone()));
    let with = (store.clone(), drivers.container.clone());
    tracker.spawn(ask_engine(engine.clone(), with, cancel.clone()));
    (backend, engine)
}

/// What becomes a wake of a VM, a container or an image, beside changes of the store.
fn follow(
    (vms, containers): (Arc<vm::Vms>, Arc<container::Containers>),
    (store, trigger): (&Store, &Trigger),
    head_start: Duration,
    (cancel, tracker): (&CancellationToken, &TaskTracker),
) {
    let scheduled = snapshot::Scheduled {
        store: store.clone(),
        trigger: trigger.clone(),
        clock: Arc::new(agentd_api::Timestamp::now),
    };
    let shared = || (store.clone(), trigger.clone());
    tracker.spawn(snapshot::schedule(scheduled, cancel.clone()));
    let (store, trigger) = shared();
    let images = (store, vms.drivers.container_image.clone(), trigger);
    tracker.spawn(image::follow(images, cancel.clone()));
    let (store, trigger) = shared();
    tracker.spawn(vm::guests((vms.clone(), store, trigger), head_start, cancel.clone()));
    let (store, trigger) = shared();
    tracker.spawn(guest::survey::run((vms, store, trigger), head_start, cancel.clone()));
    let (store, trigger) = shared();
    tracker.spawn(guest::survey::run((containers, store, trigger), head_start, cancel.clone()));
}

/// Asks the engine whether it is there, once there is a container that needs it: a host without one is none the worse.
async fn ask_engine(
    backend: Backend,
    (store, engine): (Store, Arc<dyn ContainerDriver>),
    cancel: CancellationToken,
) {
    let probe = move || {
        let (store, engine) = (store.clone(), engine.clone());
        async move {
            let limit = Some(1);
            let needed = !store.list(&Query { limit, ..Query::kind(Container::DEF.kind) }).items.is_empty();
            if !needed {
                return Ok(());
            }
            engine.probe().await.map(drop).map_err(|error| error.to_string())
        }
    };
    backend.run(probe, cancel).await;
}
