//! What a foreign container has mounted.

use std::collections::HashMap;

use agentd_api::ByteSize;
use bollard::models::{HostConfig, MountPoint};

use super::odd::Odd;
use crate::container::{Mount, MountSource};

pub(super) fn mounts(beyond: &mut Odd, points: Vec<MountPoint>, host: &HostConfig) -> Vec<Mount> {
    let mut mounts = Vec::new();
    let sizes: HashMap<&str, i64> = host
        .mounts
        .iter()
        .flatten()
        .filter_map(|mount| Some((mount.target.as_deref()?, mount.tmpfs_options.as_ref()?.size_bytes?)))
        .collect();
    for mount in host.mounts.iter().flatten() {
        let target = mount.target.as_deref().unwrap_or_default();
        let tmpfs = mount.tmpfs_options.as_ref();
        if tmpfs.is_some_and(|tmpfs| tmpfs.mode.is_some_and(|mode| mode != 0)) {
            beyond.add("HostConfig.Mounts", format!("the memory at {target} has a mode of its own"));
        }
        if mount.bind_options.as_ref().is_some_and(|bind| bind.non_recursive == Some(true)) {
            beyond
                .add("HostConfig.Mounts", format!("what is at {target} is without what is mounted below it"));
        }
    }
    for point in points {
        let target = point.destination.unwrap_or_default();
        let read_only = point.rw == Some(false);
        let source = match point.typ.as_deref() {
            Some("tmpfs") => {
                let size = sizes.get(target.as_str()).and_then(|size| u64::try_from(*size).ok());
                MountSource::Tmpfs { size: size.filter(|size| *size > 0).map(ByteSize) }
            }
            Some("bind") => {
                if !matches!(point.propagation.as_deref(), None | Some("" | "rprivate")) {
                    let how = point.propagation.unwrap_or_default();
                    beyond.add(
                        "Mounts",
                        format!("what is mounted below {target} is shared with the host ('{how}')"),
                    );
                }
                MountSource::Bind(point.source.unwrap_or_default().into())
            }
            other => {
                let (other, name) = (other.unwrap_or_default(), point.name.unwrap_or_default());
                let what =
                    format!("{target} is a {other} of the engine's own ({name}), which would be nobody's");
                beyond.add("Mounts", what);
                continue;
            }
        };
        mounts.push(Mount { source, target, read_only });
    }
    memory(beyond, &mut mounts, host);
    mounts
}

/// What `--tmpfs` gave it, which is in no list of mounts.
fn memory(beyond: &mut Odd, mounts: &mut Vec<Mount>, host: &HostConfig) {
    for (target, options) in host.tmpfs.iter().flatten() {
        if mounts.iter().any(|mount| mount.target == *target) {
            continue;
        }
        let mut size = None;
        for option in options.split(',').filter(|option| !option.is_empty()) {
            match option.strip_prefix("size=").map(bytes) {
                Some(Some(bytes)) => size = Some(ByteSize(bytes)),
                None if matches!(option, "rw" | "noexec" | "nosuid" | "nodev") => {}
                _ => beyond.add("HostConfig.Tmpfs", format!("'{option}' of the memory at {target}")),
            }
        }
        mounts.push(Mount { source: MountSource::Tmpfs { size }, target: target.clone(), read_only: false });
    }
}

/// As the kernel takes the size of a tmpfs: 65536, 64k, 10m, 1g.
fn bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: u64 = match text.get(digits.len()..)?.to_ascii_lowercase().as_str() {
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}
