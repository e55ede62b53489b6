//! On which of the host's processors a VM runs, and what else of the host it asks for: pinning, huge pages, watchdog.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::VmSpec;
use crate::limits::{check_disk, check_nic, check_shares};

/// What happens when the guest has stopped feeding its watchdog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WatchdogAction {
    /// The guest begins anew, as by its reset button.
    Reset,
    /// Its power is cut, which counts as a failure for its restart policy.
    Poweroff,
    /// An event is recorded, and nothing else.
    Record,
}

/// What of a spec can only be had under KVM, and why: the field and a sentence.
pub fn needs_kvm(spec: &VmSpec) -> Option<(&'static str, &'static str)> {
    if spec.nested {
        return Some(("nested", "a guest can run guests of its own only under KVM, which this host has not"));
    }
    (spec.cpu_pinning.len() > 1).then_some((
        "cpu_pinning",
        "a set for each CPU can be had only under KVM, which this host has not; one set for all of them can",
    ))
}

pub(super) fn check(spec: &VmSpec, wrong: &mut impl FnMut(&str, String)) {
    check_disk("disk_limits", &spec.disk_limits, wrong);
    for (n, nic) in spec.networks.iter().enumerate() {
        check_nic(&format!("networks[{n}].limits"), &nic.limits, wrong);
    }
    check_shares(spec.cpu_shares, wrong);
    let pins = spec.cpu_pinning.len();
    if pins > 1 && pins != spec.cpus as usize {
        let message =
            format!("has {pins} entries for {} CPUs; give one for all of them, or one for each", spec.cpus);
        wrong("cpu_pinning", message);
    }
}
