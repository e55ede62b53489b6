//! Everything of agentd that touches the host: libvirt, images and disks, bridges, dnsmasq, nftables.
//!
//! A driver knows no store and no HTTP. It is told what should be, compares that with what is, and changes the
//! difference; calling it twice is calling it once. Each kind of driver is a trait with one or more real
//! implementations, a stateful fake behind the feature `fake`, and one contract suite that all of them pass.
//!
//! What a driver makes bears this daemon's mark (see [`instance::Instance`]); what lacks it is never touched.

pub mod archive;
pub mod console;
pub mod container;
pub mod engine;
pub mod exec;
pub mod fault;
#[cfg(any(test, feature = "fake"))]
pub mod faults;
pub mod image;
pub mod instance;
pub mod network;
mod process;
mod unit;
pub mod vm;
pub mod volume;

use std::sync::Arc;

pub use fault::{Class, Classed};
pub use instance::Instance;

/// One driver of each sort, as the daemon holds them.
#[derive(Clone)]
pub struct Drivers {
    pub vm: Arc<dyn vm::VmDriver>,
    pub container: Arc<dyn container::ContainerDriver>,
    pub image: Arc<dyn image::ImageDriver>,
    pub container_image: Arc<dyn image::container::ContainerImageDriver>,
    pub volume: Arc<dyn volume::VolumeDriver>,
    pub pool: Arc<dyn volume::pool::PoolDriver>,
    pub archive: Arc<dyn archive::ArchiveDriver>,
    pub network: Arc<dyn network::NetworkDriver>,
    /// Who agentd is to which registry, shared with what pulls.
    pub registries: image::container::credentials::Registries,
}
