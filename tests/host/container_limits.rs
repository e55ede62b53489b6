//! What the kernel holds containers to, as their own groups of processes say; and what it refuses.

use std::path::Path;
use std::time::Duration;

use agent_tests::host::engine::{self, IMAGE, STAY, docker};
use agent_tests::host::{Agentd, lacks};
use serde_json::Value;

use crate::container::{engine_name, until};

const SOON: Duration = Duration::from_secs(20);

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

/// Whether it says that it lacks limits that its spec asks for.
fn lacks_limits(container: &Value) -> bool {
    lacks(container, "limits_applied")
}

/// By cgroups of version 1: the second takes less than is in use, and ends who has it.
pub fn what_the_kernel_refuses_is_said_and_what_runs_runs_on(agentd: &Agentd) {
    let line = ["container", "run", "full", "--image", IMAGE, "--memory", "96MiB", "--swap", "0B"];
    agentd.ok(&[&line[..], &["--", "sh", "-c", STAY]].concat());
    let says = |script: &str| agentd.ok(&["container", "exec", "full", "--", "sh", "-c", script]);
    // Memory that can be given back to nobody.
    says("head -c 50000000 /dev/zero > /dev/shm/held");
    let engines = engine_name(agentd, "full");
    let life = || docker(&["inspect", "-f", "{{.State.Pid}} {{.State.StartedAt}}", &engines]);
    let before = life().expect("it is there");

    let answer = agentd.ctl(&["container", "resize", "full", "--memory", "32MiB"]);
    let now = until(agentd, "full", "without its limits", SOON, lacks_limits);
    assert_eq!(now["status"]["state"], "running", "{now}");
    assert_eq!(life().as_ref(), Ok(&before), "it is the same, and runs on");
    let limit = says("cat /sys/fs/cgroup/memory/memory.memsw.limit_in_bytes");
    assert_eq!(limit.trim(), (96 << 20).to_string(), "with what it had");
    let back = agentd.ctl(&["container", "resize", "full", "--memory", "96MiB"]);
    until(agentd, "full", "with its limits", SOON, |c| !lacks_limits(c));
    assert_eq!(back.status, 0, "{back:?}");
    assert!(answer.status == 1 && answer.stderr.contains("memory"), "the command tells of it: {answer:?}");
}
