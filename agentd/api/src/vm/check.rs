//! What is wrong with a spec by itself, without a look at the store or the host.

use std::collections::BTreeSet;

use super::{KEEP_MAX, VmSpec, tuning};
use crate::error::FieldError;
use crate::life::{check_autostart, check_grace};
use crate::nic::{check_nics, check_ports};
use crate::quantity::ByteSize;
use crate::volume::size_error;

pub const CPUS_MAX: u32 = 256;
pub const MEMORY_MIN: ByteSize = ByteSize::mib(64);
pub const DISK_MIN: ByteSize = ByteSize::mib(16);
pub const DISK_MAX: ByteSize = ByteSize::gib(64 << 10);
pub const USER_DATA_MAX: usize = 256 << 10;
pub const NETWORK_CONFIG_MAX: usize = 64 << 10;
const SCHEDULE_MAX: usize = 256;
pub const DISKS_MAX: usize = 16;
const LIST_MAX: usize = 64;

/// Every error names its field, as `spec.cpus`.
pub(super) fn check(spec: &VmSpec) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut wrong =
        |field: &str, message: String| errors.push(FieldError::new(format!("spec.{field}"), message));
    if !(1..=CPUS_MAX).contains(&spec.cpus) {
        wrong("cpus", format!("must be 1 to {CPUS_MAX}, not {}", spec.cpus));
    }
    if let Some(max) = spec.cpus_max
        && !(spec.cpus..=CPUS_MAX).contains(&max)
    {
        wrong("cpus_max", format!("must be {} (as many as cpus) to {CPUS_MAX}, not {max}", spec.cpus));
    }
    if let Some(max) = spec.memory_max {
        if max < spec.memory {
            wrong("memory_max", format!("must be at least memory, which is {}, not {max}", spec.memory));
        } else if !max.bytes().is_multiple_of(ByteSize::mib(1).bytes()) {
            wrong("memory_max", format!("must be a whole number of MiB, not {max}"));
        }
    }
    if spec.memory < MEMORY_MIN {
        wrong("memory", format!("must be at least {MEMORY_MIN}, not {}", spec.memory));
    } else if !spec.memory.bytes().is_multiple_of(ByteSize::mib(1).bytes()) {
        wrong("memory", format!("must be a whole number of MiB, not {}", spec.memory));
    }
    if let Some(disk) = spec.disk {
        if !(DISK_MIN..=DISK_MAX).contains(&disk) {
            wrong("disk", format!("must be {DISK_MIN} to {DISK_MAX}, not {disk}"));
        } else if !disk.bytes().is_multiple_of(512) {
            wrong("disk", format!("must be a multiple of 512 bytes, not {disk}"));
        }
    }
    check_grace(spec.grace, &mut wrong);
    if let Some(policy) = &spec.snapshot_policy {
        if !(1..=KEEP_MAX).contains(&policy.keep) {
            wrong("snapshot_policy.keep", format!("must be 1 to {KEEP_MAX}, not {}", policy.keep));
        }
        if policy.schedule.len() > SCHEDULE_MAX {
            wrong("snapshot_policy.schedule", format!("is longer than {SCHEDULE_MAX} characters"));
        }
    }
    for (field, length) in [
        ("networks", spec.networks.len()),
        ("publish", spec.publish.len()),
        ("ssh_keys", spec.ssh_keys.len()),
        ("volumes", spec.volumes.len()),
    ] {
        if length > LIST_MAX {
            wrong(field, format!("has {length} entries; at most {LIST_MAX} are allowed"));
        }
    }
    check_disks(spec, &mut wrong);
    check_text("user_data", spec.user_data.as_deref(), USER_DATA_MAX, &mut wrong);
    check_text("network_config", spec.network_config.as_deref(), NETWORK_CONFIG_MAX, &mut wrong);
    check_nics(&spec.networks, &mut wrong);
    check_ports(&spec.networks, &spec.publish, &mut wrong);
    check_autostart(spec.autostart, &mut wrong);
    tuning::check(spec, &mut wrong);
    errors
}

fn check_disks(spec: &VmSpec, wrong: &mut impl FnMut(&str, String)) {
    if spec.disks.len() > DISKS_MAX {
        wrong("disks", format!("has {} entries; at most {DISKS_MAX} are allowed", spec.disks.len()));
    }
    for (n, disk) in spec.disks.iter().enumerate() {
        if let Some(message) = size_error(disk.size) {
            wrong(&format!("disks[{n}].size"), message);
        }
    }
    let mut names = BTreeSet::new();
    for (n, wanted) in spec.volumes.iter().enumerate() {
        if !names.insert(&wanted.volume) {
            wrong(&format!("volumes[{n}].volume"), format!("'{}' is named twice", wanted.volume));
        }
    }
}

/// What the guest is given as it is.
fn check_text(field: &str, text: Option<&str>, most: usize, wrong: &mut impl FnMut(&str, String)) {
    let Some(text) = text else { return };
    if text.len() > most {
        wrong(field, format!("is {} bytes long; at most {most} are allowed", text.len()));
    }
    if text.contains('\0') {
        wrong(field, "contains a NUL character".to_owned());
    }
}
