//! The daemon on fake drivers, for tests of the API and the CLI and for the benches. Not part of the shipped daemon.
//!
//! It owns the fakes and the orders that make them fail, hang and be slow: from the command line at the start, or as
//! lines of JSON on a socket of its own while it runs. An order that names nothing there is refused, so that a test
//! with a typing error does not pass.

mod listen;
mod order;
mod preload;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use agentd_drivers::archive::fake::FakeArchive;
use agentd_drivers::container::fake::FakeContainers;
use agentd_drivers::container::{Beyond, ContainerError, ForeignDef, HealthState};
use agentd_drivers::engine::EngineError;
use agentd_drivers::faults::Faults;
use agentd_drivers::image::ImageError;
use agentd_drivers::image::container::fake::FakeContainerImages;
use agentd_drivers::image::fake::FakeImage;
use agentd_drivers::network::fake::FakeNetwork;
use agentd_drivers::network::{Holder, Listener, NetworkError};
use agentd_drivers::vm::VmError;
use agentd_drivers::vm::fake::FakeVm;
use agentd_drivers::volume::VolumeError;
use agentd_drivers::volume::fake::FakeVolume;
use agentd_drivers::volume::pool::fake::FakePool;
use agentd_drivers::{Drivers, Instance};

pub use listen::listen;
pub use order::{ContainerDoes, GuestDoes, How, Listens, Order, OrderError, Target};
pub use preload::preload;

/// One fake of each sort.
#[derive(Clone)]
pub struct Fakes {
    pub vm: FakeVm,
    pub container: FakeContainers,
    pub image: Arc<FakeImage>,
    pub container_image: Arc<FakeContainerImages>,
    pub volume: Arc<FakeVolume>,
    pub pool: Arc<FakePool>,
    pub archive: Arc<FakeArchive>,
    pub network: Arc<FakeNetwork>,
}

impl Fakes {
    pub fn new(instance: &Instance) -> Self {
        let image = FakeImage::new(instance.clone());
        let volume = FakeVolume::new(instance.clone(), image.clone());
        let archive = FakeArchive::new(image.clone(), volume.clone());
        Self {
            vm: FakeVm::new(),
            container: FakeContainers::new(),
            volume,
            pool: FakePool::new(instance.clone(), image.clone()),
            container_image: FakeContainerImages::new(image.clone()),
            image,
            network: FakeNetwork::new(instance.clone()),
            archive,
        }
    }

    pub fn drivers(&self) -> Drivers {
        Drivers {
            vm: Arc::new(self.vm.clone()),
            container: Arc::new(self.container.clone()),
            image: self.image.clone(),
            container_image: self.container_image.clone(),
            volume: self.volume.clone(),
            pool: self.pool.clone(),
            archive: self.archive.clone(),
            network: self.network.clone(),
            registries: agentd_drivers::image::container::credentials::Registries::default(),
        }
    }

    /// Does what the order says. Gives the number that `calls` asks for.
    pub fn obey(&self, order: &Order) -> Result<Option<u64>, OrderError> {
        match order {
            Order::Fail { target, times, how } => self.fail(target.parse()?, *times, *how),
            Order::Hang { target } => self.fault(target.parse()?, Fault::Hang),
            Order::Release { target } => self.fault(target.parse()?, Fault::Release),
            Order::Slow { target, by } => self.fault(target.parse()?, Fault::Slow(by.duration())),
            Order::Calls { target } => return Ok(Some(self.calls(target.parse()?))),
            Order::Available { available } => self.vm.set_available(*available),
            Order::Engine { available } => {
                self.container.set_available(*available);
                self.container_image.set_available(*available);
            }
            Order::EngineImage { image, there } => self.container.set_image(image, *there),
            Order::Container { container, does } => match does {
                ContainerDoes::Exit { code } => self.container.program_exits(*container, *code),
                ContainerDoes::OutOfMemory => self.container.program_runs_out_of_memory(*container),
                ContainerDoes::Say { text } => self.container.program_says(*container, false, text),
                ContainerDoes::Removed => self.container.behind_our_back_remove(*container),
                ContainerDoes::Stopped => self.container.behind_our_back_stop(*container),
                ContainerDoes::Healthy => {
                    self.container.set_health(*container, HealthState::Healthy, "");
                }
            },
            Order::Foreign { name, image, command, beyond, privileged } => {
                let words: Vec<&str> = command.iter().map(String::as_str).collect();
                let mut def = ForeignDef::plain(name, image, &words);
                let odd =
                    |field: &String| Beyond { field: field.clone(), what: "no spec can say it".to_owned() };
                def.beyond = beyond.iter().map(odd).collect();
                def.security.privileged = *privileged;
                self.container.add_foreign(def);
            }
            Order::Taken { cidrs } => self.network.set_taken(cidrs.clone()),
            Order::Listeners { listeners } => {
                self.network.set_listeners(listeners.iter().map(listener).collect());
            }
            Order::Guest { vm, does } => match does {
                GuestDoes::PowerOff => self.vm.guest_powers_off(*vm),
                GuestDoes::Crash => self.vm.guest_crashes(*vm),
                GuestDoes::Destroyed => self.vm.behind_our_back_destroy(*vm),
                GuestDoes::Undefined => self.vm.behind_our_back_undefine(*vm),
            },
            Order::BreakNetwork { network } => self.network.break_behind_our_back(*network),
        }
        Ok(None)
    }

    fn fail(&self, Target { driver, method }: Target, times: usize, how: How) {
        match driver {
            "vm" => self.vm.fail_next(method, times, move || vm_error(how)),
            "container" => self.container.fail_next(method, times, move || container_error(how)),
            "image" => self.image.faults().fail_next(method, times, || image_error(how)),
            "container_image" => self.container_image.faults().fail_next(method, times, || image_error(how)),
            "volume" => self.volume.faults().fail_next(method, times, || volume_error(how)),
            "pool" => self.pool.faults().fail_next(method, times, || volume_error(how)),
            "archive" => self.archive.faults().fail_next(method, times, || volume_error(how).into()),
            _ => self.network.faults().fail_next(method, times, || network_error(how)),
        }
    }

    fn fault(&self, Target { driver, method }: Target, fault: Fault) {
        match (driver, fault) {
            ("vm", Fault::Hang) => self.vm.hang(method),
            ("vm", Fault::Release) => self.vm.release(method),
            ("vm", Fault::Slow(by)) => self.vm.slow(method, by),
            ("container", Fault::Hang) => self.container.hang(method),
            ("container", Fault::Release) => self.container.release(method),
            ("container", Fault::Slow(by)) => self.container.slow(method, by),
            ("image", fault) => fault.lay_on(self.image.faults(), method),
            ("container_image", fault) => fault.lay_on(self.container_image.faults(), method),
            ("volume", fault) => fault.lay_on(self.volume.faults(), method),
            ("pool", fault) => fault.lay_on(self.pool.faults(), method),
            ("archive", fault) => fault.lay_on(self.archive.faults(), method),
            (_, fault) => fault.lay_on(self.network.faults(), method),
        }
    }

    fn calls(&self, Target { driver, method }: Target) -> u64 {
        match driver {
            "vm" => self.vm.calls(method),
            "container" => self.container.calls(method),
            "image" => self.image.faults().calls(method),
            "container_image" => self.container_image.faults().calls(method),
            "volume" => self.volume.faults().calls(method),
            "pool" => self.pool.faults().calls(method),
            "archive" => self.archive.faults().calls(method),
            _ => self.network.faults().calls(method),
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    Hang,
    Release,
    Slow(std::time::Duration),
}

impl Fault {
    fn lay_on<E>(self, faults: &Faults<E>, method: &str) {
        match self {
            Self::Hang => faults.hang(method),
            Self::Release => faults.release(method),
            Self::Slow(by) => faults.slow(method, by),
        }
    }
}

fn listener(listens: &Listens) -> Listener {
    let holder = Holder::Program { name: listens.program.clone(), pid: listens.pid };
    let Listens { protocol, address, port, .. } = *listens;
    Listener { protocol, address, port, holder }
}

const TOLD: &str = "the fake was told to fail";

fn vm_error(how: How) -> VmError {
    let told = TOLD.to_owned();
    match how {
        How::Transient => VmError::Failed { call: "do this", detail: told },
        How::Conflict | How::Permanent => VmError::Refused(told),
        How::Capacity => VmError::Capacity(told),
        How::Unsupported => VmError::Unsupported(told),
    }
}

fn container_error(how: How) -> ContainerError {
    let told = TOLD.to_owned();
    match how {
        How::Transient => EngineError::Failed { call: "do this", detail: told }.into(),
        How::Conflict => ContainerError::Conflict(told),
        How::Permanent => ContainerError::Refused(told),
        How::Capacity => ContainerError::Capacity(told),
        How::Unsupported => ContainerError::Unsupported(told),
    }
}

fn image_error(how: How) -> ImageError {
    let told = TOLD.to_owned();
    match how {
        How::Transient => ImageError::Failed { step: "this".to_owned(), detail: told },
        How::Conflict | How::Permanent => ImageError::Refused(told),
        How::Capacity => ImageError::Capacity(told),
        How::Unsupported => ImageError::ProgramMissing { program: "a program".to_owned() },
    }
}

fn volume_error(how: How) -> VolumeError {
    let told = TOLD.to_owned();
    match how {
        How::Transient => VolumeError::Failed { step: "this".to_owned(), detail: told },
        How::Conflict | How::Permanent => VolumeError::Refused(told),
        How::Capacity => VolumeError::Capacity(told),
        How::Unsupported => VolumeError::ProgramMissing { program: "a program".to_owned() },
    }
}

fn network_error(how: How) -> NetworkError {
    let told = TOLD.to_owned();
    match how {
        How::Conflict => NetworkError::Conflict { what: "something".to_owned(), detail: told },
        How::Unsupported => NetworkError::Unsupported(told),
        // No error of this driver is of the other classes.
        How::Transient | How::Permanent | How::Capacity => {
            NetworkError::Failed { step: "this".to_owned(), detail: told }
        }
    }
}
