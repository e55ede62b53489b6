//! A container that somebody else made, as a definition of ours; and what of it no definition can say. Pure.
//!
//! Whatever the engine tells of how it was made is either taken over, known to be of no matter, or named: a field that
//! `odd.rs` has never heard of is named where it holds anything.

mod mounts;
mod odd;

use std::time::Duration;

use agentd_api::ByteSize;
use bollard::models::{ContainerInspectResponse, HealthConfig, HostConfig};
use serde_json::Value;
use uuid::Uuid;

use odd::Odd;

use super::{INSTANCE, read};
use crate::Instance;
use crate::container::{
    ContainerSeen, EngineRestart, ForeignDef, ForeignSeen, HealthWish, Restraints, Seccomp, Security,
    USUAL_CAPABILITIES, Ulimit, Userns, Wired,
};
use crate::engine::Flavor;

/// What Docker gives beyond [`USUAL_CAPABILITIES`], unless it is told otherwise.
const DOCKERS_OWN: [&str; 3] = ["AUDIT_WRITE", "MKNOD", "NET_RAW"];
/// What each is given.
const SHM: u64 = 64 << 20;

/// The engine's answer, read whole and by its known fields.
pub(super) struct Told<'a> {
    pub raw: &'a Value,
    pub found: ContainerInspectResponse,
    pub flavor: Flavor,
    pub instance: &'a Instance,
}

pub(super) fn foreign(told: Told<'_>) -> ForeignDef {
    let Told { raw, found, flavor, instance } = told;
    let seen = read::seen(Uuid::nil(), found.clone(), instance);
    let config = found.config.unwrap_or_default();
    let host = found.host_config.unwrap_or_default();
    let text = |text: Option<String>| text.filter(|text| !text.is_empty());
    let split = |line: &String| line.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
    let mut beyond = Odd::default();
    beyond.of_host(&raw["HostConfig"], &host, flavor);
    beyond.of_config(&raw["Config"]);
    beyond.of_networks(&raw["NetworkSettings"]["Networks"], &seen);
    let mounts = mounts::mounts(&mut beyond, found.mounts.unwrap_or_default(), &host);
    let argv = [found.path.into_iter().collect(), found.args.unwrap_or_default()].concat();
    let networks = seen.endpoints.iter().filter_map(|endpoint| match &endpoint.network {
        Wired::Foreign(name) => Some(name.clone()),
        Wired::Ours(_) => None,
    });
    let restart = host.restart_policy.as_ref().and_then(|policy| policy.name).map(|name| name.to_string());
    ForeignDef {
        entrypoint: config.entrypoint.unwrap_or_default(),
        command: config.cmd.unwrap_or_default(),
        env: config.env.unwrap_or_default().iter().filter_map(split).collect(),
        cwd: text(config.working_dir),
        user: text(config.user),
        hostname: text(config.hostname),
        terminal: seen.terminal,
        input: config.open_stdin.unwrap_or(false),
        stop_signal: text(config.stop_signal),
        grace: config.stop_timeout.and_then(|seconds| u64::try_from(seconds).ok()),
        health: health(config.healthcheck, config.shell),
        limits: seen.limits.clone(),
        restraints: restraints(&host),
        security: security(&mut beyond, &host, &seen, flavor),
        mounts,
        networks: networks.collect(),
        restart: match restart.as_deref() {
            Some("always" | "unless-stopped") => EngineRestart::Always,
            Some("on-failure") => EngineRestart::OnFailure,
            _ => EngineRestart::Never,
        },
        remove_when_stopped: host.auto_remove.unwrap_or(false),
        beyond: beyond.0,
        image_id: match seen.image {
            image if image.starts_with("sha256:") || image.is_empty() => image,
            image => format!("sha256:{image}"),
        },
        seen: ForeignSeen {
            engine_id: seen.engine_id,
            name: seen.name,
            image: config.image.unwrap_or_default(),
            command: argv.join(" "),
            state: seen.state,
            privileged: host.privileged,
            created_at: seen.created_at,
            daemon: config.labels.and_then(|labels| labels.get(INSTANCE).cloned()),
        },
    }
}

fn health(check: Option<HealthConfig>, shell: Option<Vec<String>>) -> HealthWish {
    let Some(check) = check else { return HealthWish::Image };
    let test = check.test.unwrap_or_default();
    let shell = shell.filter(|shell| !shell.is_empty());
    let argv = match test.split_first() {
        None => return HealthWish::Image,
        Some((how, rest)) if how == "CMD" => rest.to_vec(),
        Some((how, rest)) if how == "CMD-SHELL" => {
            [shell.unwrap_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned()]), rest.to_vec()].concat()
        }
        Some(_) => return HealthWish::Off,
    };
    let span = |nanos: Option<i64>, usual: u64| {
        let nanos = nanos.and_then(|nanos| u64::try_from(nanos).ok()).filter(|nanos| *nanos > 0);
        nanos.map_or(Duration::from_secs(usual), Duration::from_nanos)
    };
    HealthWish::Program {
        argv,
        interval: span(check.interval, 30),
        timeout: span(check.timeout, 30),
        start_period: span(check.start_period, 0),
        retries: check.retries.and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0).unwrap_or(3),
    }
}

fn restraints(host: &HostConfig) -> Restraints {
    let count = |n: Option<i64>| n.map_or(u64::MAX, |n| u64::try_from(n).unwrap_or(u64::MAX));
    let ulimit = |limit: &bollard::models::ResourcesUlimits| Ulimit {
        name: limit.name.clone().unwrap_or_default(),
        soft: count(limit.soft),
        hard: count(limit.hard),
    };
    let shm = host.shm_size.and_then(|size| u64::try_from(size).ok()).filter(|size| ![0, SHM].contains(size));
    Restraints {
        ulimits: host.ulimits.iter().flatten().map(ulimit).collect(),
        shm: shm.map(ByteSize),
        io: Vec::new(),
    }
}

fn security(beyond: &mut Odd, host: &HostConfig, seen: &ContainerSeen, flavor: Flavor) -> Security {
    let mut new_privileges = true;
    for option in host.security_opt.iter().flatten() {
        match option.as_str() {
            "no-new-privileges" | "no-new-privileges:true" | "no-new-privileges=true" => {
                new_privileges = false
            }
            "no-new-privileges:false" | "no-new-privileges=false" => {}
            // What an engine writes beside `privileged`.
            other if seen.privileged && other.starts_with("label") => {}
            other => {
                beyond.add("HostConfig.SecurityOpt", format!("'{other}' is nothing that a spec can say"))
            }
        }
    }
    let (cap_add, cap_drop) =
        if seen.privileged { Default::default() } else { capabilities(beyond, host, flavor) };
    Security {
        privileged: seen.privileged,
        new_privileges: new_privileges && !seen.privileged,
        read_only: host.readonly_rootfs.unwrap_or(false),
        cap_add,
        cap_drop,
        seccomp: Seccomp::Usual,
        userns: Userns::Engine,
    }
}

/// Which it has beyond the usual ones, and which of those it has not.
fn capabilities(beyond: &mut Odd, host: &HostConfig, flavor: Flavor) -> (Vec<String>, Vec<String>) {
    let plain = |list: &Option<Vec<String>>| -> Vec<String> {
        let name = |name: &String| name.trim_start_matches("CAP_").to_ascii_uppercase();
        list.iter().flatten().map(name).collect()
    };
    let (added, dropped) = (plain(&host.cap_add), plain(&host.cap_drop));
    if added.iter().any(|name| name == "ALL") {
        beyond.add("HostConfig.CapAdd", "ALL: it has all capabilities and is not privileged all the same");
    }
    let own = match flavor {
        Flavor::Docker => &DOCKERS_OWN[..],
        Flavor::Podman => &[],
    };
    let none = dropped.iter().any(|name| name == "ALL");
    let given = USUAL_CAPABILITIES.iter().chain(own).map(|name| (*name).to_owned());
    let mut has: Vec<String> = given
        .filter(|name| !none && !dropped.contains(name))
        .chain(added.into_iter().filter(|n| n != "ALL"))
        .collect();
    has.sort();
    has.dedup();
    let usual = |name: &str| USUAL_CAPABILITIES.contains(&name);
    let lacks = USUAL_CAPABILITIES.iter().filter(|name| !has.iter().any(|has| has == *name));
    let lacks = lacks.map(|name| (*name).to_owned()).collect();
    (has.into_iter().filter(|name| !usual(name)).collect(), lacks)
}

#[cfg(test)]
mod tests;
