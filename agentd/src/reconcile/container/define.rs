//! What the engine is to make of a container's spec. Pure, but for the folders that are mounted, which are looked up.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use agentd_api::container::{Container, ContainerSpec, MountSource};
use agentd_api::limits::DiskLimits;
use agentd_api::{ErrorCode, Object, ObjectName};
use agentd_drivers::container::{
    self as driver, ContainerDef, Endpoint, EngineVolume, HealthWish, IoLimit, Limits, LogKeep, Mount,
    Restraints, Seccomp, Security, Ulimit, Userns,
};

use super::needs::Needs;
use crate::bind::{self, Led};
use crate::reconcile::network::domain;
use crate::reconcile::runtime::Fault;
use crate::shares;

/// As many as a kernel counts of a resource: no limit.
const UNLIMITED: u64 = i64::MAX.cast_unsigned();

pub fn definition(object: &Object<Container>, needs: &Needs) -> ContainerDef {
    let spec = &object.spec;
    let (id, project, name) = (object.meta.id, object.meta.project.clone(), object.meta.name.clone());
    ContainerDef {
        id,
        hostname: spec.hostname.as_ref().map(ToString::to_string),
        project,
        name,
        image: needs.image.clone(),
        entrypoint: spec.entrypoint.clone(),
        command: Some(spec.command.clone()).filter(|command| !command.is_empty()),
        env: spec.env.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
        cwd: spec.cwd.clone(),
        user: spec.user.clone(),
        terminal: spec.tty,
        input: spec.stdin_open,
        stop_signal: spec.stop_signal.clone(),
        init: false,
        health: health(spec),
        limits: limits(spec),
        restraints: restraints(spec, needs),
        security: security(spec),
        mounts: needs.mounts.clone(),
        endpoints: endpoints(needs),
        dns: needs.nics.iter().map(|nic| nic.network.spec.cidr.gateway()).collect(),
        dns_search: needs
            .nics
            .iter()
            .map(|nic| domain(&nic.network.meta.project, &nic.network.meta.name))
            .collect(),
        log: LogKeep::default(),
    }
}

pub fn endpoints(needs: &Needs) -> Vec<Endpoint> {
    let endpoint = |nic: &super::needs::Nic| Endpoint {
        network: nic.network.meta.id,
        ip: nic.address.ip,
        mac: nic.address.mac,
    };
    needs.nics.iter().map(endpoint).collect()
}

/// What can be changed while it runs.
pub fn limits(spec: &ContainerSpec) -> Limits {
    Limits {
        nanocpus: spec.cpus.map(agentd_api::container::Cpus::nanos),
        cpu_shares: spec.cpu_shares.map(shares::engines),
        cpuset: spec.cpu_set.as_ref().map(ToString::to_string),
        memory: spec.memory,
        swap: spec.swap,
        memory_reserved: None,
        pids: spec.pids,
        io_weight: None,
    }
}

fn restraints(spec: &ContainerSpec, needs: &Needs) -> Restraints {
    let count = |n: i64| u64::try_from(n).unwrap_or(UNLIMITED);
    let ulimit = |(name, limit): (&String, &agentd_api::container::Ulimit)| Ulimit {
        name: name.clone(),
        soft: count(limit.soft),
        hard: count(limit.hard.unwrap_or(limit.soft)),
    };
    let DiskLimits { read, write, read_iops, write_iops } = spec.disk_limits;
    let io = needs.disk.iter().map(|device| IoLimit {
        device: device.clone(),
        read_bytes: read.map(agentd_api::ByteSize::bytes),
        write_bytes: write.map(agentd_api::ByteSize::bytes),
        read_requests: read_iops.map(u64::from),
        write_requests: write_iops.map(u64::from),
    });
    Restraints { ulimits: spec.ulimits.iter().map(ulimit).collect(), shm: spec.shm, io: io.collect() }
}

fn security(spec: &ContainerSpec) -> Security {
    Security {
        privileged: spec.privileged,
        new_privileges: spec.new_privileges,
        read_only: spec.read_only,
        cap_add: spec.cap_add.clone(),
        cap_drop: spec.cap_drop.clone(),
        seccomp: Seccomp::Usual,
        userns: if spec.userns { Userns::Own } else { Userns::Engine },
    }
}

fn health(spec: &ContainerSpec) -> HealthWish {
    match &spec.health {
        None => HealthWish::Image,
        Some(check) if check.command.is_empty() => HealthWish::Off,
        Some(check) => HealthWish::Program {
            argv: check.command.clone(),
            interval: check.interval.duration(),
            timeout: check.timeout.duration(),
            start_period: check.start_period.duration(),
            retries: check.retries,
        },
    }
}

/// What of outside is mounted, with links followed: a link below an allowed folder may lead out of it.
/// `volumes` are those that it names.
pub async fn mounts(
    spec: &ContainerSpec,
    allowed: &[PathBuf],
    volumes: &BTreeMap<ObjectName, EngineVolume>,
) -> Result<Vec<Mount>, Fault> {
    let mut mounts = Vec::with_capacity(spec.mounts.len());
    for (n, mount) in spec.mounts.iter().enumerate() {
        let source = match &mount.source {
            MountSource::Tmpfs(tmpfs) => driver::MountSource::Tmpfs { size: tmpfs.size },
            MountSource::Bind(path) => driver::MountSource::Bind(bound(n, path, allowed).await?),
            MountSource::Volume(name) => {
                let named = volumes.get(name).cloned();
                let missing =
                    || Fault::internal(format!("spec.mounts[{n}]: volume '{name}' is not looked up"));
                driver::MountSource::Volume(named.ok_or_else(missing)?)
            }
        };
        mounts.push(Mount { source, target: mount.path.clone(), read_only: mount.read_only });
    }
    Ok(mounts)
}

async fn bound(n: usize, path: &str, allowed: &[PathBuf]) -> Result<PathBuf, Fault> {
    let Led { to, allowed } = bind::led(path, allowed).await.map_err(|error| {
        Fault::permanent(ErrorCode::NotFound, format!("spec.mounts[{n}]: {path} cannot be had: {error}"))
    })?;
    if allowed {
        return Ok(to);
    }
    let leads =
        if to == Path::new(path) { String::new() } else { format!(", which leads to {}", to.display()) };
    let text = format!("spec.mounts[{n}]: {path}{leads} is not below a folder that the configuration allows");
    Err(Fault::permanent(ErrorCode::Forbidden, text))
}
