//! What the kernel holds containers to, as their own groups of processes say.

use std::path::Path;

use agent_tests::host::Agentd;
use agent_tests::host::engine::{self, IMAGE, STAY, docker};

use crate::container::engine_name;

/// Whether this kernel holds groups of processes to rates of a disk, by cgroups of either version.
fn holds_rates() -> bool {
    let second = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    second.split_whitespace().any(|name| name == "io")
        || Path::new("/sys/fs/cgroup/blkio/blkio.throttle.write_bps_device").exists()
}

/// Where the kernel can, and told where not.
pub fn rates_of_a_disk_are_held(agentd: &Agentd) {
    let line = ["container", "run", "slow", "--image", IMAGE, "--disk-limit", "write=1MiB,read-iops=50"];
    let answer = agentd.ctl(&[&line[..], &["--", "sh", "-c", STAY]].concat());
    if !holds_rates() {
        assert_eq!(answer.status, 5, "{answer:?}");
        assert!(engine::containers().iter().all(|name| !name.contains("slow")));
        return;
    }
    assert_eq!(answer.status, 0, "{answer:?}\n{}", agentd.log_text());
    let host = "{{json .HostConfig.BlkioDeviceWriteBps}} {{json .HostConfig.BlkioDeviceReadIOps}}";
    let said = docker(&["inspect", "-f", host, &engine_name(agentd, "slow")]).expect("docker inspect");
    assert!(said.contains("\"Rate\":1048576") && said.contains("\"Rate\":50"), "{said}");
    let rates = "cd /sys/fs/cgroup; \
                 cat blkio/blkio.throttle.write_bps_device blkio/blkio.throttle.read_iops_device || cat io.max";
    let held = agentd.ok(&["container", "exec", "slow", "--", "sh", "-c", rates]);
    // The second version says of each number what it is.
    let holds = |what: &str, rate: &str| {
        held.split_whitespace().any(|word| word.strip_prefix(what).unwrap_or(word) == rate)
    };
    assert!(holds("wbps=", "1048576") && holds("riops=", "50"), "{held}");
}
