//! Volumes with a file system on a real dockerd: what containers read and write on them, and what is left on the host.

use std::time::Duration;

use agent_tests::host::engine::{self, IMAGE, STAY, docker};
use agent_tests::host::{Agentd, wait_until};
use agent_tests::host_test;
use serde_json::Value;

use crate::container::{container, engine_name, until};

const SOON: Duration = Duration::from_secs(30);

fn make(agentd: &Agentd, name: &str, size: &str) {
    agentd.ok(&["volume", "create", name, "--mode", "filesystem", "--size", size]);
}

fn line<'a>(name: &'a str, mount: &'a str) -> Vec<&'a str> {
    vec!["container", "run", name, "--image", IMAGE, "--volume", mount, "--", "sh", "-c", STAY]
}

fn run(agentd: &Agentd, name: &str, mount: &str) {
    agentd.ok(&line(name, mount));
}

/// A program in the container: its status, and all that it said.
fn sh(agentd: &Agentd, name: &str, script: &str) -> (i32, String) {
    let answer = agentd.ctl(&["container", "exec", name, "--", "sh", "-c", script]);
    (answer.status, format!("{}{}", answer.stdout, answer.stderr))
}

fn says(agentd: &Agentd, name: &str, script: &str) -> String {
    let (status, said) = sh(agentd, name, script);
    assert_eq!(status, 0, "{script}: {said}");
    said.trim().to_owned()
}

/// How large the file system at /data is, in KiB, as the container sees it.
fn size(agentd: &Agentd, name: &str) -> u64 {
    let said = says(agentd, name, "df -kP /data");
    let size = said.lines().last().and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    size.unwrap_or_else(|| panic!("{said}"))
}

fn volume(agentd: &Agentd, name: &str) -> Value {
    agentd.get("volume", name).unwrap_or_else(|| panic!("no volume {name}"))
}

/// What this agentd's volumes have on the host beside their content: loop devices, links to them, volumes of the engine's,
/// mounts.
pub fn traces(agentd: &Agentd) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let state = agentd.state().display().to_string();
    for entry in std::fs::read_dir("/sys/block").expect("block devices").filter_map(Result::ok) {
        let file = std::fs::read_to_string(entry.path().join("loop/backing_file")).unwrap_or_default();
        if file.starts_with(&state) {
            found.push(format!("loop device of {}", file.trim()));
        }
    }
    for tag in std::fs::read_dir("/run/agentd/devices").into_iter().flatten().filter_map(Result::ok) {
        let links = std::fs::read_dir(tag.path()).into_iter().flatten().filter_map(Result::ok);
        found.extend(links.map(|link| format!("link {}", link.path().display())));
    }
    let volumes = docker(&["volume", "ls", "-q"]).expect("docker volume ls");
    found.extend(volumes.lines().map(|name| format!("engine's volume {name}")));
    let mounts = std::fs::read_to_string("/proc/mounts").expect("of the kernel");
    found.extend(mounts.lines().filter(|line| line.contains("/run/agentd/devices/")).map(str::to_owned));
    found
}

fn nothing_is_left(agentd: &Agentd) {
    wait_until("nothing of volumes is left", SOON, || match traces(agentd) {
        left if left.is_empty() => Ok(()),
        left => Err(format!("{left:?}\n{}", agentd.log_text())),
    });
}

host_test!(docker_volumes_outlive_containers_and_hold_what_they_are_promised, |host| {
    let mut dockerd = host.start_docker();
    let mut agentd = host.bare_agentd("state");
    agentd.wait_ready();
    make(&agentd, "data", "32MiB");
    assert_eq!(traces(&agentd), Vec::<String>::new(), "one that nobody has takes nothing");
    run(&agentd, "one", "data:/data");
    says(&agentd, "one", "echo kept >/data/file");
    let before = size(&agentd, "one");
    assert!((24 << 10..=32 << 10).contains(&before), "{before} KiB");
    let (status, said) = sh(&agentd, "one", "yes 0123456789 | head -c 100000000 >/data/much");
    assert!(status != 0 || said.contains("No space left"), "{said}");
    let much: u64 = says(&agentd, "one", "ls -l /data/much")
        .split_whitespace()
        .nth(4)
        .expect("a size")
        .parse()
        .expect("a number");
    assert!((16 << 20..32 << 20).contains(&much), "{much} bytes went into 32 MiB");
    assert!(sh(&agentd, "one", "echo more >/data/more").1.contains("No space left"));
    says(&agentd, "one", "rm /data/much");

    // Shared, and read by one that may only read it.
    run(&agentd, "two", "data:/data:ro");
    assert_eq!(says(&agentd, "two", "cat /data/file"), "kept");
    let (status, said) = sh(&agentd, "two", "echo x >/data/other");
    assert!(status != 0 && said.contains("Read-only file system"), "{said}");
    let both = volume(&agentd, "data");
    let users: Vec<&str> = both["status"]["mounted_by"]
        .as_array()
        .expect("users")
        .iter()
        .filter_map(|user| user["container"].as_str())
        .collect();
    assert_eq!((users, &both["status"]["state"]), (vec!["one", "two"], &"attached".into()), "{both}");
    let table = agentd.ok(&["volume", "list"]);
    assert!(table.lines().any(|line| line.starts_with("data") && line.contains("one,two")), "{table}");

    // Refused by name and by field.
    let refused = agentd.ctl(&["volume", "rm", "data"]);
    assert!(refused.status == 4 && refused.stderr.contains("container/default/one"), "{refused:?}");
    let refused = agentd.ctl(&["volume", "resize", "data", "16MiB"]);
    assert!(refused.status == 2 && refused.stderr.contains("spec.size"), "{refused:?}");
    agentd.ok(&["volume", "create", "disk", "--size", "16MiB"]);
    let refused = agentd.ctl(&line("three", "disk:/data"));
    assert!(refused.status == 5 && refused.stderr.contains("spec.mounts[0].source.volume"), "{refused:?}");
    assert!(agentd.get("container", "three").is_none());
    agentd.ok(&["volume", "rm", "disk"]);

    // agentd ends and comes back, dockerd is killed and comes back: what runs runs, what was written is there.
    agentd.stop();
    let one = engine::containers().into_iter().find(|name| name.ends_with(".one")).expect("a container");
    assert_eq!(docker(&["exec", &one, "cat", "/data/file"]).as_deref().map(str::trim), Ok("kept"));
    agentd.start();
    agentd.wait_ready();
    says(&agentd, "one", "echo again >/data/file");
    dockerd.kill();
    dockerd.start();
    for name in ["one", "two"] {
        // It died with its engine, and is started again.
        let read = wait_until(&format!("{name} reads it again"), SOON, || {
            match sh(&agentd, name, "cat /data/file") {
                (0, said) => Ok(said),
                other => Err(format!("{other:?}")),
            }
        });
        assert_eq!(read.trim(), "again");
    }

    // One goes, the other keeps it; off, it is mounted nowhere; the last one leaves the data only.
    agentd.ok(&["container", "rm", "one"]);
    assert_eq!(says(&agentd, "two", "cat /data/file"), "again");
    agentd.ok(&["container", "stop", "two"]);
    let mounts = std::fs::read_to_string("/proc/mounts").expect("of the kernel");
    assert!(!mounts.contains("/run/agentd/devices/"), "{mounts}");
    let refused = agentd.ctl(&["volume", "rm", "data"]);
    assert!(refused.status == 4 && refused.stderr.contains("container/default/two"), "{refused:?}");
    agentd.ok(&["container", "rm", "two"]);
    nothing_is_left(&agentd);
    run(&agentd, "four", "data:/data");
    assert_eq!(says(&agentd, "four", "cat /data/file"), "again");
    assert_eq!(
        container(&agentd, "four")["status"]["conditions"].to_string().matches("volumes_ready").count(),
        0
    );
    agentd.ok(&["container", "rm", "four"]);
    agentd.ok(&["volume", "rm", "data"]);
    nothing_is_left(&agentd);
    assert_eq!(std::fs::read_dir(agentd.state().join("volumes")).map_or(0, Iterator::count), 0);
});

/// CAP_SYS_RESOURCE, without which the kernel grows no file system that is mounted.
fn may_grow_what_is_mounted() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").expect("of the kernel");
    let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:\t")).expect("a mask");
    u64::from_str_radix(mask.trim(), 16).expect("a mask") & 1 << 24 != 0
}

host_test!(docker_volumes_grow_and_containers_see_it, |host| {
    let _dockerd = host.start_docker();
    let agentd = host.bare_agentd("state");
    agentd.wait_ready();
    make(&agentd, "data", "32MiB");
    agentd.ok(&["volume", "resize", "data", "48MiB"]);
    run(&agentd, "one", "data:/data");
    says(&agentd, "one", "echo kept >/data/file");
    let before = size(&agentd, "one");
    assert!((36 << 10..=48 << 10).contains(&before), "{before} KiB");
    if may_grow_what_is_mounted() {
        agentd.ok(&["volume", "resize", "data", "96MiB"]);
    } else {
        // It says what is in the way, and goes on when that has gone.
        agentd.ok(&["volume", "resize", "data", "96MiB", "--no-wait"]);
        wait_until("it says why not yet", SOON, || {
            let said = volume(&agentd, "data")["status"].to_string();
            if said.contains("CAP_SYS_RESOURCE") { Ok(()) } else { Err(said) }
        });
        assert_eq!(volume(&agentd, "data")["status"]["size"], "48MiB", "what it has");
        agentd.ok(&["container", "stop", "one"]);
        agentd.ok(&["retry", "volume/data"]);
        wait_until("it has grown", SOON, || {
            let status = volume(&agentd, "data")["status"].clone();
            if status["size"] == "96MiB" { Ok(()) } else { Err(status.to_string()) }
        });
        agentd.ok(&["container", "start", "one"]);
    }
    let now = size(&agentd, "one");
    assert!((80 << 10..=96 << 10).contains(&now), "{now} KiB");
    assert_eq!(says(&agentd, "one", "cat /data/file"), "kept");
    agentd.ok(&["container", "rm", "one"]);
    agentd.ok(&["volume", "rm", "data"]);
    nothing_is_left(&agentd);
});

host_test!(docker_agentd_killed_on_a_volumes_way_leaves_no_half, |host| {
    let _dockerd = host.start_docker();
    let mut agentd = host.bare_agentd("state");
    agentd.wait_ready();
    for (n, wait) in [0, 15, 30, 60, 120, 250, 500].into_iter().enumerate() {
        let (name, data) = (format!("c{n}"), format!("v{n}"));
        agentd.ok(&["volume", "create", &data, "--mode", "filesystem", "--size", "32MiB", "--no-wait"]);
        let mount = format!("{data}:/data");
        let mut wish = line(&name, &mount);
        wish.insert(2, "--no-wait");
        agentd.ok(&wish);
        std::thread::sleep(Duration::from_millis(wait));
        agentd.kill();
        agentd.start();
        until(&agentd, &name, "running", SOON, |c| c["status"]["state"] == "running");
        says(&agentd, &name, "echo kept >/data/file");
        // Its only device, link, volume of the engine's, and mounts: the engine's and the container's.
        let out = traces(&agentd);
        let count = |what: &str| out.iter().filter(|line| line.starts_with(what)).count();
        assert_eq!((count("loop"), count("link"), count("engine")), (1, 1, 1), "{out:?}");
        assert_eq!(engine_name(&agentd, &name).len(), 64);
        agentd.ok(&["container", "rm", &name, "--no-wait"]);
        std::thread::sleep(Duration::from_millis(wait));
        agentd.kill();
        agentd.start();
        wait_until("it is gone", SOON, || match agentd.get("container", &name) {
            None => Ok(()),
            Some(still) => Err(still["status"].to_string()),
        });
        nothing_is_left(&agentd);
        // What was written is there for the next one.
        run(&agentd, "next", &mount);
        assert_eq!(says(&agentd, "next", "cat /data/file"), "kept");
        agentd.ok(&["container", "rm", "next"]);
        agentd.ok(&["volume", "rm", &data, "--no-wait"]);
        std::thread::sleep(Duration::from_millis(wait / 4));
        agentd.kill();
        agentd.start();
        wait_until("the volume is gone", SOON, || match agentd.get("volume", &data) {
            None => Ok(()),
            Some(still) => Err(still["status"].to_string()),
        });
        nothing_is_left(&agentd);
        assert_eq!(std::fs::read_dir(agentd.state().join("volumes")).map_or(0, Iterator::count), 0);
    }
});
