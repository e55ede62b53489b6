//! What of a running guest is not as its spec says: what can be changed while it runs, and what waits for a restart.
//! Pure.

use agentd_api::ByteSize;
use agentd_api::vm::VmSpec;
use agentd_drivers::vm::LiveSeen;

/// What of the spec a guest that runs does not have, each as a sentence that begins with the field.
pub fn waits(spec: &VmSpec, fixed: &str, seen: &LiveSeen) -> Vec<String> {
    let mut waits = Vec::new();
    let mut wait = |field: &str, is: &str, wanted: &str, why: &str| {
        let why = if why.is_empty() { String::new() } else { format!(": {why}") };
        waits.push(format!("{field} {is} -> {wanted} waits for a restart{why}"));
    };
    if spec.cpus != seen.cpus {
        wait("cpus", &seen.cpus.to_string(), &spec.cpus.to_string(), "");
    }
    if let Some(max) = spec.cpus_max.filter(|max| *max != seen.cpus_max) {
        wait("cpus_max", &seen.cpus_max.to_string(), &max.to_string(), "");
    }
    if !same(spec.memory, seen.memory) {
        wait("memory", &seen.memory.to_string(), &spec.memory.to_string(), "");
    }
    if let Some(max) = spec.memory_max.filter(|max| !same(*max, seen.memory_max)) {
        wait("memory_max", &seen.memory_max.to_string(), &max.to_string(), "");
    }
    if waits.is_empty() && seen.fixed.as_deref() != Some(fixed) {
        waits.push("its definition has changed since it was started".to_owned());
    }
    waits
}

/// libvirt counts in KiB.
fn same(a: ByteSize, b: ByteSize) -> bool {
    a.bytes() >> 10 == b.bytes() >> 10
}
