//! The drivers of a real host, as the configuration wants them. None of them connects to anything yet.

use std::net::IpAddr;

use agentd_drivers::image::host::{HostImage, ImageOptions};
use agentd_drivers::network::host::{HostNetwork, NetworkOptions};
use agentd_drivers::vm::accel::AccelWish;
use agentd_drivers::vm::libvirt::{LibvirtOptions, LibvirtVm};
use agentd_drivers::volume::host::HostVolume;
use agentd_drivers::volume::pool::dir::DirPool;
use agentd_drivers::{Drivers, Instance};

use crate::config::{AccelChoice, Config};

pub fn real(config: &Config, instance: &Instance) -> anyhow::Result<Drivers> {
    let accel = match config.vm.accel {
        AccelChoice::Auto => AccelWish::Auto,
        AccelChoice::Kvm => AccelWish::Kvm,
        AccelChoice::Tcg => AccelWish::Tcg,
    };
    let libvirt = LibvirtOptions { uri: config.vm.libvirt_uri.clone(), instance: instance.clone(), accel };
    let upstream = config.network.dns_upstream.iter().copied().map(IpAddr::V4).collect();
    let images = ImageOptions { mirror: config.image.mirror.clone() };
    Ok(Drivers {
        vm: LibvirtVm::new(libvirt),
        image: HostImage::new(instance.clone(), images),
        volume: HostVolume::new(instance.clone()),
        pool: DirPool::new(instance.clone()),
        network: HostNetwork::new(instance.clone(), NetworkOptions { upstream }),
    })
}
