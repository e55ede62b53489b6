//! What the engine's answers are to us.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use agentd_api::{ByteSize, MacAddr, Timestamp};
use bollard::models::{
    ContainerInspectResponse, ContainerState as Said, ContainerStateStatusEnum as Status,
    ContainerSummaryStateEnum, EndpointSettings, HealthStatusEnum, HostConfig,
};
use uuid::Uuid;

use super::DIGEST;
use crate::Instance;
use crate::container::{
    ContainerSeen, ContainerState, EndpointSeen, ExitSeen, HealthSeen, HealthState, Limits, Wired,
};

/// Of what a check said.
const SAID_MAX: usize = 1024;

pub(super) fn seen(id: Uuid, found: ContainerInspectResponse, instance: &Instance) -> ContainerSeen {
    let said = found.state.unwrap_or_default();
    let state = state(&said);
    let config = found.config.unwrap_or_default();
    let host = found.host_config.unwrap_or_default();
    let networks = found.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
    ContainerSeen {
        id,
        engine_id: found.id.unwrap_or_default(),
        name: found.name.unwrap_or_default().trim_start_matches('/').to_owned(),
        state,
        exit: exit(&said, state),
        pid: said.pid.and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid > 0 && state.is_on()),
        created_at: found.created.as_deref().and_then(time),
        started_at: said.started_at.as_deref().and_then(time),
        finished_at: said.finished_at.as_deref().and_then(time),
        health: health(&said).filter(|_| state.is_on()),
        digest: config.labels.as_ref().and_then(|labels| labels.get(DIGEST)).cloned(),
        image: found.image.unwrap_or_default(),
        privileged: host.privileged.unwrap_or(false),
        terminal: config.tty.unwrap_or(false),
        restarts: restarts(&host),
        limits: limits(&host),
        endpoints: endpoints(networks, instance),
    }
}

fn restarts(host: &HostConfig) -> bool {
    let name = host.restart_policy.as_ref().and_then(|policy| policy.name);
    name.is_some_and(|name| !matches!(name.to_string().as_str(), "" | "no"))
}

/// RFC 3339; the year 1 is never.
pub(super) fn time(text: &str) -> Option<Timestamp> {
    if text.starts_with("0001-") {
        return None;
    }
    if let Ok(time) = text.parse() {
        return Some(time);
    }
    // With an offset, as Podman has it: whole seconds and the zone are what is left of it.
    let (head, zone) = text.split_at_checked(19)?;
    let time: Timestamp = format!("{head}Z").parse().ok()?;
    let zone = zone.trim_start_matches(|c: char| c == '.' || c.is_ascii_digit());
    let (sign, rest) = zone.split_at_checked(1)?;
    let (hours, minutes) = rest.split_once(':')?;
    let offset = (hours.parse::<u64>().ok()? * 60 + minutes.parse::<u64>().ok()?) * 60_000;
    Some(Timestamp(if sign == "-" { time.0 + offset } else { time.0.saturating_sub(offset) }))
}

pub(super) fn state(said: &Said) -> ContainerState {
    match said.status {
        Some(Status::RUNNING | Status::RESTARTING) => ContainerState::Running,
        Some(Status::PAUSED) => ContainerState::Paused,
        Some(Status::EXITED) => ContainerState::Exited,
        Some(Status::REMOVING | Status::DEAD) => ContainerState::Removing,
        _ if said.running == Some(true) => ContainerState::Running,
        _ => ContainerState::Created,
    }
}

pub(super) fn listed(state: Option<ContainerSummaryStateEnum>) -> ContainerState {
    use ContainerSummaryStateEnum as S;
    match state {
        Some(S::RUNNING | S::RESTARTING) => ContainerState::Running,
        Some(S::PAUSED) => ContainerState::Paused,
        Some(S::EXITED) => ContainerState::Exited,
        Some(S::REMOVING | S::DEAD) => ContainerState::Removing,
        _ => ContainerState::Created,
    }
}

fn exit(said: &Said, state: ContainerState) -> Option<ExitSeen> {
    let error = said.error.clone().filter(|error| !error.is_empty());
    let ended = state == ContainerState::Exited || (!state.is_on() && error.is_some());
    ended.then(|| ExitSeen {
        code: said.exit_code.and_then(|code| i32::try_from(code).ok()).unwrap_or(-1),
        oom: said.oom_killed.unwrap_or(false),
        error,
    })
}

fn health(said: &Said) -> Option<HealthSeen> {
    let health = said.health.as_ref()?;
    let state = match health.status? {
        HealthStatusEnum::STARTING => HealthState::Starting,
        HealthStatusEnum::HEALTHY => HealthState::Healthy,
        HealthStatusEnum::UNHEALTHY => HealthState::Unhealthy,
        _ => return None,
    };
    let last = health.log.as_ref().and_then(|log| log.last()).and_then(|check| check.output.clone());
    let said = last.unwrap_or_default().chars().take(SAID_MAX).collect();
    let failing = health.failing_streak.and_then(|streak| u32::try_from(streak).ok()).unwrap_or(0);
    Some(HealthSeen { state, failing, said })
}

pub(super) fn limits(host: &HostConfig) -> Limits {
    let positive = |value: Option<i64>| value.and_then(|v| u64::try_from(v).ok()).filter(|v| *v > 0);
    let small = |value: Option<i64>| positive(value).and_then(|v| u32::try_from(v).ok());
    let memory = positive(host.memory);
    // Podman tells the quota in place of it.
    let quota = positive(host.cpu_quota)
        .map(|quota| quota * 1_000_000_000 / positive(host.cpu_period).unwrap_or(100_000));
    Limits {
        nanocpus: positive(host.nano_cpus).or(quota),
        cpu_shares: small(host.cpu_shares),
        cpuset: host.cpuset_cpus.clone().filter(|set| !set.is_empty()),
        memory: memory.map(ByteSize),
        swap: memory.and_then(|memory| Some(ByteSize(positive(host.memory_swap)?.saturating_sub(memory)))),
        memory_reserved: positive(host.memory_reservation).map(ByteSize),
        pids: small(host.pids_limit),
        io_weight: host.blkio_weight.filter(|weight| *weight > 0),
    }
}

fn endpoints(networks: HashMap<String, EndpointSettings>, instance: &Instance) -> Vec<EndpointSeen> {
    let mut seen: Vec<EndpointSeen> = networks
        .into_iter()
        .filter(|(name, _)| name != "none")
        .map(|(name, endpoint)| {
            let wanted = endpoint.ipam_config.and_then(|ipam| ipam.ipv4_address);
            let ip = [wanted, endpoint.ip_address]
                .into_iter()
                .flatten()
                .find_map(|ip| ip.parse::<Ipv4Addr>().ok());
            let mac = endpoint.mac_address.and_then(|mac| mac.parse::<MacAddr>().ok());
            EndpointSeen { network: wired(&name, instance), ip, mac, linked: true }
        })
        .collect();
    seen.sort();
    seen
}

/// The engine's name of one of our networks.
pub(super) fn network_name(network: Uuid, instance: &Instance) -> String {
    format!("agentd-{}.{network}", instance.tag())
}

pub(super) fn wired(name: &str, instance: &Instance) -> Wired {
    let prefix = format!("agentd-{}.", instance.tag());
    let ours = name.strip_prefix(&prefix).and_then(|id| id.parse().ok());
    ours.map_or_else(|| Wired::Foreign(name.to_owned()), Wired::Ours)
}
