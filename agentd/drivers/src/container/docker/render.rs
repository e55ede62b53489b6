//! What a definition is to the engine.

use std::collections::HashMap;
use std::time::Duration;

use bollard::models::{
    ContainerCreateBody, ContainerUpdateBody, EndpointIpamConfig, EndpointSettings, HealthConfig, HostConfig,
    HostConfigLogConfig, Mount as EngineMount, MountTmpfsOptions, MountType, MountVolumeOptions,
    MountVolumeOptionsDriverConfig, NetworkingConfig, ResourcesUlimits, ThrottleDevice,
};
use serde_json::Value;

use super::podman::network_mode;
use super::read::network_name;
use super::{DIGEST, ID, INSTANCE, NAME, PROJECT, volumes};
use crate::Instance;
use crate::container::{
    ContainerDef, Endpoint, HealthWish, IoLimit, Limits, Mount, MountSource, Seccomp, Security,
    USUAL_CAPABILITIES, Userns,
};
use crate::engine::Flavor;

/// In microseconds, as the engines have it too.
const PERIOD: i64 = 100_000;

/// The document that a container is made by, plugged in where `plugged` says.
pub(super) fn body(
    def: &ContainerDef,
    plugged: &[Endpoint],
    instance: &Instance,
    flavor: Flavor,
) -> Result<Value, serde_json::Error> {
    let named = |endpoint: &Endpoint| (network_name(endpoint.network, instance), settings(endpoint));
    let networking = (!plugged.is_empty())
        .then(|| NetworkingConfig { endpoints_config: Some(plugged.iter().map(named).collect()) });
    let body = ContainerCreateBody {
        hostname: Some(def.hostname.clone().unwrap_or_else(|| def.name.to_string())),
        user: def.user.clone(),
        tty: Some(def.terminal),
        open_stdin: Some(def.input),
        // At a terminal its end is a key; elsewhere it comes with the end of what is sent.
        stdin_once: Some(def.input && !def.terminal),
        env: Some(def.env.iter().map(|(key, value)| format!("{key}={value}")).collect()),
        cmd: def.command.clone(),
        entrypoint: def.entrypoint.clone(),
        healthcheck: health(&def.health),
        image: Some(def.image.clone()),
        working_dir: def.cwd.clone(),
        labels: Some(labels(def, instance)),
        stop_signal: def.stop_signal.clone(),
        host_config: Some(host(def, instance, flavor)),
        networking_config: networking,
        ..ContainerCreateBody::default()
    };
    let mut body = serde_json::to_value(body)?;
    // Before 1.44 of the API a container has one address of this sort, and it is its first endpoint's.
    if let (Some(endpoint), Some(fields)) = (plugged.first(), body.as_object_mut()) {
        fields.insert("MacAddress".to_owned(), endpoint.mac.to_string().into());
    }
    Ok(body)
}

fn labels(def: &ContainerDef, instance: &Instance) -> HashMap<String, String> {
    let labels = [
        (INSTANCE, instance.tag().to_owned()),
        (ID, def.id.to_string()),
        (DIGEST, crate::container::def::digest(def)),
        (PROJECT, def.project.to_string()),
        (NAME, def.name.to_string()),
    ];
    labels.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

pub(super) fn settings(endpoint: &Endpoint) -> EndpointSettings {
    EndpointSettings {
        ipam_config: Some(EndpointIpamConfig {
            ipv4_address: Some(endpoint.ip.to_string()),
            ..EndpointIpamConfig::default()
        }),
        mac_address: Some(endpoint.mac.to_string()),
        ..EndpointSettings::default()
    }
}

fn health(wish: &HealthWish) -> Option<HealthConfig> {
    let nanos = |span: &Duration| Some(i64::try_from(span.as_nanos()).unwrap_or(i64::MAX));
    match wish {
        HealthWish::Image => None,
        HealthWish::Off => {
            Some(HealthConfig { test: Some(vec!["NONE".to_owned()]), ..HealthConfig::default() })
        }
        HealthWish::Program { argv, interval, timeout, start_period, retries } => Some(HealthConfig {
            test: Some([&["CMD".to_owned()][..], argv].concat()),
            interval: nanos(interval),
            timeout: nanos(timeout),
            start_period: nanos(start_period),
            retries: Some(i64::from(*retries)),
            ..HealthConfig::default()
        }),
    }
}

fn host(def: &ContainerDef, instance: &Instance, flavor: Flavor) -> HostConfig {
    let network = match flavor {
        Flavor::Docker => def.endpoints.first().map(|endpoint| network_name(endpoint.network, instance)),
        Flavor::Podman => Some(network_mode(def.id, instance)),
    };
    let ulimit = |u: &crate::container::Ulimit| ResourcesUlimits {
        name: Some(u.name.clone()),
        soft: Some(signed(u.soft)),
        hard: Some(signed(u.hard)),
    };
    let io = &def.restraints.io;
    let mut host = HostConfig {
        network_mode: Some(network.unwrap_or_else(|| "none".to_owned())),
        init: Some(def.init),
        mounts: Some(def.mounts.iter().map(|of| mount(of, instance)).collect()),
        dns: Some(def.dns.iter().map(ToString::to_string).collect()),
        dns_search: Some(def.dns_search.clone()),
        log_config: Some(log(def, flavor)),
        ulimits: Some(def.restraints.ulimits.iter().map(ulimit).collect()),
        shm_size: def.restraints.shm.map(|size| signed(size.bytes())),
        blkio_device_read_bps: throttles(io, |io| io.read_bytes),
        blkio_device_write_bps: throttles(io, |io| io.write_bytes),
        blkio_device_read_iops: throttles(io, |io| io.read_requests),
        blkio_device_write_iops: throttles(io, |io| io.write_requests),
        ..HostConfig::default()
    };
    limit(&mut host, &def.limits.settled());
    if flavor == Flavor::Podman {
        // It has a limit of its own where none is said.
        host.pids_limit.get_or_insert(-1);
    }
    secure(&mut host, &def.security, flavor);
    host
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn throttles(io: &[IoLimit], of: impl Fn(&IoLimit) -> Option<u64>) -> Option<Vec<ThrottleDevice>> {
    let device = |io: &IoLimit| {
        Some(ThrottleDevice { path: Some(io.device.to_str()?.to_owned()), rate: Some(signed(of(io)?)) })
    };
    let all: Vec<_> = io.iter().filter_map(device).collect();
    (!all.is_empty()).then_some(all)
}

/// Docker's `local` keeps as little as is asked, and a long line in pieces.
fn log(def: &ContainerDef, flavor: Flavor) -> HostConfigLogConfig {
    let size = ("max-size".to_owned(), def.log.size.bytes().to_string());
    let (driver, options) = match flavor {
        Flavor::Docker => ("local", vec![size, ("max-file".to_owned(), def.log.files.to_string())]),
        Flavor::Podman => ("k8s-file", vec![size]),
    };
    HostConfigLogConfig { typ: Some(driver.to_owned()), config: Some(options.into_iter().collect()) }
}

fn mount(mount: &Mount, instance: &Instance) -> EngineMount {
    let mut made = EngineMount {
        target: Some(mount.target.clone()),
        read_only: Some(mount.read_only),
        ..EngineMount::default()
    };
    match &mount.source {
        MountSource::Bind(path) => {
            (made.typ, made.source) = (Some(MountType::BIND), path.to_str().map(ToOwned::to_owned));
        }
        MountSource::Tmpfs { size } => {
            let size_bytes = size.map(|size| signed(size.bytes()));
            made.typ = Some(MountType::TMPFS);
            made.tmpfs_options = Some(MountTmpfsOptions { size_bytes, ..MountTmpfsOptions::default() });
        }
        MountSource::Volume(volume) => {
            (made.typ, made.source) = (Some(MountType::VOLUME), Some(volumes::name(volume.id, instance)));
            // Were it removed a moment before, the engine would make one in a folder of its own.
            let driver = MountVolumeOptionsDriverConfig {
                name: Some("local".to_owned()),
                options: Some(volumes::options(&volume.device)),
            };
            made.volume_options = Some(MountVolumeOptions {
                labels: Some(volumes::labels(volume.id, instance)),
                driver_config: Some(driver),
                ..MountVolumeOptions::default()
            });
        }
    }
    made
}

fn limit(host: &mut HostConfig, limits: &Limits) {
    host.nano_cpus = limits.nanocpus.map(signed);
    host.cpu_shares = limits.cpu_shares.map(i64::from);
    host.cpuset_cpus.clone_from(&limits.cpuset);
    host.memory = limits.memory.map(|memory| signed(memory.bytes()));
    host.memory_swap = with_swap(limits);
    host.memory_reservation = limits.memory_reserved.map(|memory| signed(memory.bytes()));
    host.pids_limit = limits.pids.map(i64::from);
    host.blkio_weight = limits.io_weight;
}

/// The engine counts memory and swap together.
fn with_swap(limits: &Limits) -> Option<i64> {
    let (memory, swap) = (limits.memory?, limits.swap?);
    Some(signed(memory.bytes().saturating_add(swap.bytes())))
}

/// Of limits that are to hold from now on.
pub(super) fn update(limits: &Limits, flavor: Flavor) -> ContainerUpdateBody {
    let nanocpus = limits.nanocpus.map(signed);
    // Podman takes the processors that are had at once as time of a period alone.
    let (nano_cpus, cpu_period, cpu_quota) = match flavor {
        Flavor::Docker => (nanocpus, None, None),
        Flavor::Podman => {
            (None, nanocpus.map(|_| PERIOD), nanocpus.map(|nano| nano / (1_000_000_000 / PERIOD)))
        }
    };
    ContainerUpdateBody {
        nano_cpus,
        cpu_period,
        cpu_quota,
        cpu_shares: limits.cpu_shares.map(i64::from),
        cpuset_cpus: limits.cpuset.clone(),
        memory: limits.memory.map(|memory| signed(memory.bytes())),
        memory_swap: with_swap(limits),
        memory_reservation: limits.memory_reserved.map(|memory| signed(memory.bytes())),
        pids_limit: Some(limits.pids.map_or(0, i64::from)),
        blkio_weight: limits.io_weight,
        ..ContainerUpdateBody::default()
    }
}

fn secure(host: &mut HostConfig, security: &Security, flavor: Flavor) {
    host.readonly_rootfs = Some(security.read_only);
    host.userns_mode = match (security.userns, flavor) {
        // Docker makes none that is privileged with ids of its own, as it may be set up to do for all.
        (Userns::Engine, Flavor::Docker) if security.privileged => Some("host".to_owned()),
        (Userns::Host, _) => Some("host".to_owned()),
        (Userns::Engine | Userns::Own, _) => None,
    };
    if security.privileged {
        host.privileged = Some(true);
        return;
    }
    let dropped = |name: &str| security.cap_drop.iter().any(|drop| drop == name || drop == "ALL");
    let usual = USUAL_CAPABILITIES.into_iter().filter(|name| !dropped(name)).map(ToOwned::to_owned);
    host.cap_drop = Some(vec!["ALL".to_owned()]);
    host.cap_add = Some(usual.chain(security.cap_add.iter().cloned()).collect());
    let mut options = Vec::new();
    if !security.new_privileges {
        options.push("no-new-privileges:true".to_owned());
    }
    match &security.seccomp {
        Seccomp::Usual => {}
        Seccomp::Unconfined => options.push("seccomp=unconfined".to_owned()),
        Seccomp::Profile(json) => options.push(format!("seccomp={json}")),
    }
    host.security_opt = Some(options);
}
