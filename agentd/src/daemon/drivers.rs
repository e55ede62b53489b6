//! The drivers of a real host, as the configuration wants them. None of them connects to anything yet.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use agentd_drivers::archive::host::HostArchive;
use agentd_drivers::container::docker::EngineContainers;
use agentd_drivers::engine::{Engine, EngineOptions};
use agentd_drivers::image::container::credentials::Registries;
use agentd_drivers::image::container::docker::DockerImages;
use agentd_drivers::image::host::{HostImage, ImageOptions};
use agentd_drivers::network::host::{HostNetwork, NetworkOptions};
use agentd_drivers::vm::accel::AccelWish;
use agentd_drivers::vm::libvirt::{LibvirtOptions, LibvirtVm};
use agentd_drivers::volume::host::HostVolume;
use agentd_drivers::volume::pool::dir::DirPool;
use agentd_drivers::{Drivers, Instance};

use crate::config::{AccelChoice, Config};

const GUEST_PROGRAM: &str = "agentd-guest";

pub fn real(config: &Config, instance: &Instance) -> anyhow::Result<Drivers> {
    let accel = match config.vm.accel {
        AccelChoice::Auto => AccelWish::Auto,
        AccelChoice::Kvm => AccelWish::Kvm,
        AccelChoice::Tcg => AccelWish::Tcg,
    };
    let libvirt = LibvirtOptions { uri: config.vm.libvirt_uri.clone(), instance: instance.clone(), accel };
    let upstream = config.network.dns_upstream.iter().copied().map(IpAddr::V4).collect();
    let guest_program = guest_program(config);
    let images = ImageOptions { mirror: config.image.mirror.clone(), guest_program: guest_program.clone() };
    let image = HostImage::new(instance.clone(), images);
    let volume = HostVolume::new(instance.clone(), guest_program);
    let engine = Engine::new(EngineOptions { socket: config.containers.socket.clone() });
    let registries = Registries::new(registries(config));
    Ok(Drivers {
        container_image: DockerImages::new(
            engine.clone(),
            instance.clone(),
            image.clone(),
            registries.clone(),
        ),
        registries,
        container: Arc::new(EngineContainers::new(engine, instance.clone())),
        vm: LibvirtVm::new(libvirt),
        archive: HostArchive::new(instance.clone(), image.clone(), volume.clone()),
        image,
        volume,
        pool: DirPool::new(instance.clone()),
        network: HostNetwork::new(instance.clone(), NetworkOptions { upstream }),
    })
}

/// The files that say who agentd is to a registry.
pub fn registries(config: &Config) -> BTreeMap<String, PathBuf> {
    let files = config.containers.registries.iter();
    files.map(|(host, registry)| (host.clone(), registry.auth_file.clone())).collect()
}

/// Where agentd's program for guests is: as configured, else beside this program, else where packages put it.
pub fn guest_program(config: &Config) -> Option<PathBuf> {
    if let Some(path) = &config.vm.guest_program {
        return Some(path.clone()).filter(|path| path.is_file());
    }
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join(GUEST_PROGRAM)));
    let packaged = Path::new("/usr/lib/agentd").join(GUEST_PROGRAM);
    beside.into_iter().chain([packaged]).find(|path| path.is_file())
}
