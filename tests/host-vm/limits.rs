//! What containers are held to where cgroups are of version 2, as each sees it of itself.

use std::time::Duration;

use agent_tests::host::engine::{IMAGE, STAY, docker};
use agent_tests::host::{Agentd, wait_until};

const EATS: &str = "busybox dd if=/dev/zero of=/dev/null bs=200M count=1";

/// A file of its own cgroup.
fn cgroup(agentd: &Agentd, file: &str) -> String {
    let file = format!("/sys/fs/cgroup/{file}");
    agentd.ok(&["container", "exec", "one", "--", "cat", &file]).trim().to_owned()
}

pub fn limits_hold_by_cgroups_of_version_2(agentd: &Agentd) {
    let version = docker(&["info", "--format", "{{.CgroupVersion}}"]).expect("docker info");
    assert_eq!(version.trim(), "2", "this host is for that");
    let limits = ["--cpus", "0.5", "--memory", "64MiB", "--swap", "24MiB", "--pids", "40", "--shm", "16MiB"];
    let more = ["--ulimit", "nofile=100:200", "--disk-limit", "write=1MiB,read-iops=50", "--timeout", "5m"];
    let line = [&["container", "run", "one", "--image", IMAGE], &limits[..], &more[..]].concat();
    agentd.ok(&[&line[..], &["--", "sh", "-c", STAY]].concat());
    assert_eq!(cgroup(agentd, "memory.max"), (64 << 20).to_string());
    assert_eq!(cgroup(agentd, "memory.swap.max"), (24 << 20).to_string());
    assert_eq!(cgroup(agentd, "cpu.max"), "50000 100000");
    assert_eq!(cgroup(agentd, "pids.max"), "40");
    let io = cgroup(agentd, "io.max");
    assert!(io.contains("wbps=1048576") && io.contains("riops=50"), "{io}");
    let says = |script: &str| agentd.ok(&["container", "exec", "one", "--", "sh", "-c", script]);
    // Of its own program: what is run beside it is let have as much as the hard limit by the runtimes of some years.
    let limits = says("cat /proc/1/limits");
    let files = limits.lines().find_map(|line| line.strip_prefix("Max open files")).expect("a line");
    assert_eq!(files.split_whitespace().take(2).collect::<Vec<_>>(), ["100", "200"], "{limits}");
    let shm = says("df -kP /dev/shm");
    assert!(shm.lines().any(|line| line.split_whitespace().nth(1) == Some("16384")), "{shm}");
    // Half a processor is half a processor.
    let spin = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; cat /sys/fs/cgroup/cpu.stat";
    let stat = says(spin);
    let throttled = stat.lines().find_map(|line| line.strip_prefix("nr_throttled ")).expect("a count");
    assert_ne!(throttled, "0", "{stat}");

    // Changed while it runs.
    let more = ["--memory", "96MiB", "--swap", "16MiB", "--pids", "50", "--cpus", "1", "--timeout", "5m"];
    agentd.ok(&[&["container", "resize", "one"], &more[..]].concat());
    assert_eq!(cgroup(agentd, "memory.max"), (96 << 20).to_string());
    assert_eq!(cgroup(agentd, "memory.swap.max"), (16 << 20).to_string());
    assert_eq!(cgroup(agentd, "cpu.max"), "100000 100000");
    assert_eq!(cgroup(agentd, "pids.max"), "50");

    only_who_is_privileged_mounts(agentd);

    // And who takes more is ended, which its status says.
    let eats = [
        "container",
        "run",
        "eats",
        "--image",
        IMAGE,
        "--memory",
        "32MiB",
        "--restart",
        "never",
        "--no-wait",
    ];
    // Its own program outlives the one that eats: an engine is told of either in no order.
    let program = format!("{EATS}; code=$?; sleep 2; exit $code");
    agentd.ok(&[&eats[..], &["--", "sh", "-c", &program]].concat());
    let status = wait_until("it has ended", Duration::from_secs(120), || {
        let status = agentd.get("container", "eats").expect("a container")["status"].clone();
        if status["state"] == "stopped" { Ok(status) } else { Err(status.to_string()) }
    });
    assert_eq!((&status["oom_killed"], &status["exit_code"]), (&true.into(), &137.into()), "{status:#}");
    assert_eq!(status["last_stop"]["how"], "oom_killed", "{status:#}");
    agentd.ok(&["container", "rm", "one", "eats", "--timeout", "5m"]);
}

/// One that is privileged has all capabilities of this host, and `one`, which is not, has not.
fn only_who_is_privileged_mounts(agentd: &Agentd) {
    let line = ["container", "run", "free", "--image", IMAGE, "--privileged", "--timeout", "5m"];
    agentd.ok(&[&line[..], &["--", "sh", "-c", STAY]].concat());
    let mounts = "busybox mount -t tmpfs mine /tmp; busybox grep -c '^mine /tmp tmpfs ' /proc/mounts";
    let mounted = |name: &str| agentd.ctl(&["container", "exec", name, "--", "sh", "-c", mounts]);
    let (free, one) = (mounted("free"), mounted("one"));
    assert_eq!((free.status, free.stdout.as_str()), (0, "1\n"), "{free:?}");
    assert_eq!((one.status, one.stdout.as_str()), (1, "0\n"), "{one:?}");
    assert_eq!(agentd.get("container", "free").expect("there")["spec"]["privileged"], true);
    agentd.ok(&["container", "rm", "free", "--timeout", "5m"]);
}
