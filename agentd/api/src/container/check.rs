//! What is wrong with a spec by itself, without a look at the store or the host.

use std::collections::BTreeSet;

use super::limits::ULIMITS;
use super::{ContainerSpec, Cpus, MountSource};
use crate::error::FieldError;
use crate::exec::{EXEC_ARGUMENTS_MAX, GUEST_PATH_MAX};
use crate::life::{check_autostart, check_grace};
use crate::limits::{check_disk, check_shares};
use crate::nic::{check_nics, check_ports};
use crate::quantity::{ByteSize, Span};

/// What engines ask for.
const MEMORY_MIN: ByteSize = ByteSize::mib(6);
const SHM_MIN: ByteSize = ByteSize::kib(64);
const PIDS_MAX: u32 = 4_194_304;
const LIST_MAX: usize = 64;
const RETRIES_MAX: u32 = 100;
const SPAN_MAX: Span = Span::seconds(86_400);
/// Docker takes nothing shorter.
const SPAN_MIN: Span = Span(std::time::Duration::from_millis(1));

/// Every error names its field, as `spec.cpus`.
pub(super) fn check(spec: &ContainerSpec) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut wrong =
        |field: &str, message: String| errors.push(FieldError::new(format!("spec.{field}"), message));
    check_program(spec, &mut wrong);
    check_limits(spec, &mut wrong);
    for (field, length) in [
        ("networks", spec.networks.len()),
        ("publish", spec.publish.len()),
        ("mounts", spec.mounts.len()),
        ("after", spec.after.len()),
        ("cap_add", spec.cap_add.len()),
        ("cap_drop", spec.cap_drop.len()),
    ] {
        if length > LIST_MAX {
            wrong(field, format!("has {length} entries; at most {LIST_MAX} are allowed"));
        }
    }
    check_nics(&spec.networks, &mut wrong);
    for (n, nic) in spec.networks.iter().enumerate() {
        if !nic.limits.is_default() {
            let message = "cannot be had by a container: what an interface carries is limited for VMs only";
            wrong(&format!("networks[{n}].limits"), message.to_owned());
        }
    }
    check_ports(&spec.networks, &spec.publish, &mut wrong);
    check_mounts(spec, &mut wrong);
    check_policies(spec, &mut wrong);
    check_safety(spec, &mut wrong);
    errors
}

fn check_program(spec: &ContainerSpec, wrong: &mut impl FnMut(&str, String)) {
    let entrypoint = spec.entrypoint.as_deref().unwrap_or_default();
    let arguments = |words: &[String]| words.iter().map(|word| word.len() + 1).sum::<usize>();
    let env: usize = spec.env.iter().map(|(key, value)| key.len() + value.len() + 2).sum();
    let all = arguments(&spec.command) + arguments(entrypoint) + env;
    if all > EXEC_ARGUMENTS_MAX {
        let most = EXEC_ARGUMENTS_MAX;
        wrong("command", format!("has {all} bytes with entrypoint and env; at most {most} are allowed"));
    }
    for (field, words) in [("command", spec.command.as_slice()), ("entrypoint", entrypoint)] {
        if words.iter().any(|word| word.contains('\0')) {
            wrong(field, "holds a NUL".to_owned());
        }
    }
    for (key, value) in &spec.env {
        if key.is_empty() || key.contains(['=', '\0']) || value.contains('\0') {
            wrong("env", format!("'{}' cannot be set", key.escape_debug()));
        }
    }
    if let Some(cwd) = &spec.cwd
        && let Some(message) = path_error(cwd)
    {
        wrong("cwd", message.to_owned());
    }
    let name = |user: &String| !user.is_empty() && user.len() <= 256 && !user.chars().any(char::is_control);
    if spec.user.as_ref().is_some_and(|user| !name(user)) {
        wrong("user", "must be a user's name or number".to_owned());
    }
    if let Some(signal) = &spec.stop_signal
        && !is_signal(signal)
    {
        wrong("stop_signal", format!("'{}' is no signal; write a name, as in SIGINT", signal.escape_debug()));
    }
}

fn path_error(path: &str) -> Option<&'static str> {
    if !path.starts_with('/') {
        return Some("must be an absolute path");
    }
    if path.len() > GUEST_PATH_MAX || path.chars().any(char::is_control) {
        return Some("is longer than a path may be, or holds control characters");
    }
    path.split('/').any(|part| part == "..").then_some("must not climb: it has '..' in it")
}

/// With or without its prefix, or by its number.
fn is_signal(text: &str) -> bool {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
        "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
        "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    let name = text.strip_prefix("SIG").unwrap_or(text);
    let real_time = |rest: &str| rest.parse::<u32>().is_ok_and(|n| n <= 30);
    NAMES.contains(&name)
        || matches!(name, "RTMIN" | "RTMAX")
        || name.strip_prefix("RTMIN+").is_some_and(real_time)
        || name.strip_prefix("RTMAX-").is_some_and(real_time)
        || text.parse::<u32>().is_ok_and(|n| (1..=64).contains(&n))
}

fn check_limits(spec: &ContainerSpec, wrong: &mut impl FnMut(&str, String)) {
    if let Some(cpus) = spec.cpus.filter(|cpus| !(Cpus::MIN..=Cpus::MAX).contains(cpus)) {
        wrong("cpus", format!("must be {} to {}, not {cpus}", Cpus::MIN, Cpus::MAX));
    }
    if let Some(memory) = spec.memory.filter(|memory| *memory < MEMORY_MIN) {
        wrong("memory", format!("must be at least {MEMORY_MIN}, not {memory}"));
    }
    if spec.swap.is_some() && spec.memory.is_none() {
        wrong("swap", "can be limited only beside memory".to_owned());
    }
    if let Some(pids) = spec.pids.filter(|pids| !(1..=PIDS_MAX).contains(pids)) {
        wrong("pids", format!("must be 1 to {PIDS_MAX}, not {pids}"));
    }
    if let Some(shm) = spec.shm.filter(|shm| *shm < SHM_MIN) {
        wrong("shm", format!("must be at least {SHM_MIN}, not {shm}"));
    }
    if spec.cpu_set.as_ref().is_some_and(crate::cpu::CpuSet::is_empty) {
        wrong("cpu_set", "names no processor".to_owned());
    }
    for (name, limit) in &spec.ulimits {
        let field = format!("ulimits.{name}");
        let hard = limit.hard.unwrap_or(limit.soft);
        if !ULIMITS.contains(&name.as_str()) {
            wrong(&field, format!("is none of {}", ULIMITS.join(", ")));
        } else if limit.soft < -1 || hard < -1 {
            wrong(&field, "must be -1 (no limit) or more".to_owned());
        } else if hard != -1 && (limit.soft == -1 || limit.soft > hard) {
            wrong(&field, format!("soft must be at most hard, which is {hard}, not {}", limit.soft));
        }
    }
    check_shares(spec.cpu_shares, wrong);
    check_disk("disk_limits", &spec.disk_limits, wrong);
}

fn check_mounts(spec: &ContainerSpec, wrong: &mut impl FnMut(&str, String)) {
    let mut paths = BTreeSet::new();
    for (n, mount) in spec.mounts.iter().enumerate() {
        let field = |name: &str| format!("mounts[{n}].{name}");
        let plain = mount.path.trim_end_matches('/');
        if let Some(message) = path_error(&mount.path) {
            wrong(&field("path"), message.to_owned());
        } else if plain.is_empty() {
            wrong(&field("path"), "is the container's root".to_owned());
        } else if !paths.insert(plain) {
            wrong(&field("path"), "is mounted twice".to_owned());
        }
        match &mount.source {
            MountSource::Bind(path) => {
                if let Some(message) = path_error(path) {
                    wrong(&field("source.bind"), message.to_owned());
                }
            }
            MountSource::Tmpfs(tmpfs) => {
                if mount.read_only {
                    wrong(&field("read_only"), "makes no sense of a tmpfs: it begins empty".to_owned());
                }
                if tmpfs.size.is_some_and(|size| size < SHM_MIN) {
                    wrong(&field("source.tmpfs.size"), format!("must be at least {SHM_MIN}"));
                }
            }
            MountSource::Volume(_) => {}
        }
    }
}

fn check_policies(spec: &ContainerSpec, wrong: &mut impl FnMut(&str, String)) {
    check_grace(spec.grace, wrong);
    check_autostart(spec.autostart, wrong);
    for (n, after) in spec.after.iter().enumerate() {
        if after.container.is_some() == after.vm.is_some() {
            wrong(&format!("after[{n}]"), "must name a container or a vm, one of the two".to_owned());
        }
    }
    let Some(health) = &spec.health else { return };
    if health.command.iter().any(|word| word.contains('\0')) {
        wrong("health.command", "holds a NUL".to_owned());
    }
    for (field, span, least) in [
        ("interval", health.interval, SPAN_MIN),
        ("timeout", health.timeout, SPAN_MIN),
        ("start_period", health.start_period, Span::default()),
    ] {
        if !(least..=SPAN_MAX).contains(&span) {
            wrong(&format!("health.{field}"), format!("must be {least} to {SPAN_MAX}, not {span}"));
        }
    }
    if !(1..=RETRIES_MAX).contains(&health.retries) {
        wrong("health.retries", format!("must be 1 to {RETRIES_MAX}, not {}", health.retries));
    }
}

fn check_safety(spec: &ContainerSpec, wrong: &mut impl FnMut(&str, String)) {
    for (field, list) in [("cap_add", &spec.cap_add), ("cap_drop", &spec.cap_drop)] {
        for (n, capability) in list.iter().enumerate() {
            let shaped = !capability.is_empty()
                && capability.len() <= 40
                && capability.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
            if !shaped {
                wrong(&format!("{field}[{n}]"), "is no capability; write it as in NET_ADMIN".to_owned());
            }
        }
    }
    if spec.cap_add.iter().any(|c| c == "ALL") && !spec.privileged {
        wrong("cap_add", "ALL is what `privileged` is for".to_owned());
    }
    if spec.userns && spec.privileged {
        wrong("userns", "cannot be had by a privileged container".to_owned());
    }
}
