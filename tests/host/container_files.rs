//! Files, figures and images of containers of a real dockerd: cp, diff, commit, stats, top, wait.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Stdio;
use std::time::Duration;

use agent_tests::host::engine::{self, IMAGE, STAY, docker};
use agent_tests::host::{Agentd, wait_until};
use agent_tests::host_test;
use serde_json::Value;

use crate::container::{container, engine_name, until};
use crate::exec::{GROWTH_KIB, listing, resident_kib};

const SOON: Duration = Duration::from_secs(20);

fn start(agentd: &Agentd, name: &str, image: &str, script: &str) {
    agentd.ok(&["container", "run", name, "--image", image, "--", "sh", "-c", script]);
}

fn said(agentd: &Agentd, name: &str, script: &str) -> String {
    agentd.ok(&["container", "exec", name, "--", "sh", "-c", script])
}

/// A line of [`listing`] without what is less than a second.
fn seconds(line: &str) -> String {
    let words = line.split(' ').map(|word| match word.split_once('.') {
        Some((seconds, rest)) if rest.chars().all(|c| c.is_ascii_digit()) => seconds,
        _ => word,
    });
    words.collect::<Vec<_>>().join(" ")
}

host_test!(docker_files_come_and_go_as_they_are, |host| {
    let _dockerd = host.start_docker();
    let agentd = host.bare_agentd("state");
    agentd.wait_ready();
    start(&agentd, "web", IMAGE, STAY);
    let tree = host.scratch().join("tree");
    for n in 0..200 {
        let folder = tree.join(format!("{}", n % 20));
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join(format!("file {n}")), format!("{n}").repeat(n % 50)).expect("a file");
    }
    fs::write(tree.join("big"), vec![7; 200_000_000]).expect("a file");
    fs::set_permissions(tree.join("big"), fs::Permissions::from_mode(0o640)).expect("a mode");
    symlink("../outside", tree.join("link")).expect("a link");
    let before = resident_kib(agentd.pid());
    agentd.ok(&["container", "cp", &tree.to_string_lossy(), "web:/tmp"]);
    let there = said(&agentd, "web", "busybox find /tmp/tree -type f | busybox wc -l");
    assert_eq!(there.trim(), "201");
    assert_eq!(
        said(&agentd, "web", "busybox readlink /tmp/tree/link; busybox stat -c '%a %s' /tmp/tree/big"),
        "../outside\n640 200000000\n"
    );
    let back = host.scratch().join("back");
    agentd.ok(&["container", "cp", "web:/tmp/tree", &back.to_string_lossy()]);
    // The engine tells times by the second.
    let whole = |tree| -> Vec<String> { listing(tree).iter().map(|line| seconds(line)).collect() };
    assert_eq!(whole(&back), whole(&tree));
    let after = resident_kib(agentd.pid());
    assert!(after < before + GROWTH_KIB, "agentd grew from {before} to {after} KiB");

    // One that never ran has what it was given when it does.
    agentd.ok(&["container", "create", "later", "--image", IMAGE, "--", "cat", "/etc/given"]);
    agentd.ok(&["container", "cp", "/etc/passwd", "later:/etc/given"]);
    agentd.ok(&["container", "start", "later", "--no-wait"]);
    assert_eq!(agentd.ok(&["container", "wait", "later"]), "0\n");
    let said = agentd.ok(&["container", "logs", "later"]);
    assert_eq!(said, fs::read_to_string("/etc/passwd").expect("a file"));

    // Under another name; from and to one that is off.
    agentd.ok(&["container", "cp", "/etc/hosts", "web:/tmp/other"]);
    let other = agentd.ok(&["container", "exec", "web", "--", "cat", "/tmp/other"]);
    assert_eq!(other, fs::read_to_string("/etc/hosts").expect("a file"));
    agentd.ok(&["container", "stop", "web"]);
    agentd.ok(&["container", "cp", "/etc/passwd", "web:/tmp/off"]);
    let here = host.scratch().join("off").to_string_lossy().into_owned();
    agentd.ok(&["container", "cp", "web:/tmp/off", &here]);
    assert_eq!(fs::read(&here).expect("a file"), fs::read("/etc/passwd").expect("a file"));
    for (from, to, status) in [
        ("web:/no/such", "/tmp/x", 3),
        ("/etc/hosts", "web:/no/such/file", 3),
        ("/etc/hosts", "web:x", 2),
        ("web:/tmp/../etc/passwd", "/tmp/x", 2),
        ("none:/etc/passwd", "/tmp/x", 3),
    ] {
        let answer = agentd.ctl(&["container", "cp", from, to]);
        assert_eq!(answer.status, status, "{from} {to}: {answer:?}");
    }
});

host_test!(docker_what_it_changed_becomes_an_image, |host| {
    let _dockerd = host.start_docker();
    let agentd = host.bare_agentd("state");
    agentd.wait_ready();
    start(&agentd, "first", IMAGE, STAY);
    said(&agentd, "first", "echo new >/new; echo more >>/etc/group; busybox rm /bin/yes");
    let changed = agentd.ok(&["container", "diff", "first"]);
    for line in ["A /new", "C /etc/group", "D /bin/yes"] {
        assert!(changed.lines().any(|changed| changed == line), "no {line}: {changed}");
    }
    agentd.ok(&["container", "commit", "first", "saved:1"]);
    assert!(docker(&["image", "inspect", "saved:1"]).is_ok());
    start(&agentd, "second", "saved:1", STAY);
    assert_eq!(said(&agentd, "second", "cat /new; ls /bin/yes 2>/dev/null || echo gone"), "new\ngone\n");
    assert_eq!(agentd.ok(&["container", "diff", "second"]), "");

    let answer = agentd.ctl(&["container", "commit", "first", "Not An Image"]);
    assert_eq!(answer.status, 2, "{answer:?}");
    agentd.ok(&["container", "rm", "first", "second"]);
    assert_eq!(engine::containers(), Vec::<String>::new());
    assert!(docker(&["image", "inspect", "saved:1"]).is_ok(), "the image stays");
});

host_test!(docker_figures_and_ends_are_its_own, |host| {
    let _dockerd = host.start_docker();
    let agentd = host.bare_agentd("state");
    agentd.wait_ready();
    start(&agentd, "busy", IMAGE, "while :; do :; done");
    let top = agentd.ok(&["container", "top", "busy"]);
    assert!(top.lines().next().is_some_and(|head| head.contains("PID")), "{top}");
    assert!(top.contains("while :; do :; done"), "{top}");
    let figures = || -> Value {
        let text = agentd.ok(&["container", "stats", "busy", "-o", "json"]);
        serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
    };
    let first = figures();
    println!("{first}");
    std::thread::sleep(Duration::from_secs(2));
    let second = figures();
    let used = |figures: &Value| {
        let one = &figures["items"][0];
        one["cpu"]["nanoseconds"].as_u64().unwrap_or_else(|| panic!("no time of processors: {figures}"))
    };
    // A shell that does nothing else has had much of one processor meanwhile.
    assert!(used(&second) > used(&first) + 300_000_000, "{first} {second}");
    let all = agentd.ok(&["top"]);
    assert!(all.contains("busy"), "{all}");

    let mut waiting = agentd.command(&["container", "wait", "busy"]);
    let waiting = waiting.stdout(Stdio::piped()).spawn().expect("agentctl starts");
    let answer = agentd.ctl(&["container", "wait", "busy", "--timeout", "1s"]);
    assert_eq!(answer.status, 8, "{answer:?}");
    docker(&["kill", &engine_name(&agentd, "busy")]).expect("docker kill");
    let waited = waiting.wait_with_output().expect("its end");
    assert_eq!((waited.status.code(), &waited.stdout[..]), (Some(0), &b"137\n"[..]), "SIGKILL");
    until(&agentd, "busy", "off", SOON, |c| c["status"]["state"] == "stopped");
    assert_eq!(container(&agentd, "busy")["status"]["exit_code"], 137);
    start(&agentd, "short", IMAGE, "sleep 1; exit 9");
    assert_eq!(agentd.ok(&["container", "wait", "short"]), "9\n");
    for asked in ["top", "stats"] {
        let answer = agentd.ctl(&["container", asked, "short"]);
        assert_eq!(answer.status, 4, "{asked}: {answer:?}");
    }
    wait_until("nothing of it runs", SOON, || match docker(&["ps", "-q"]) {
        Ok(text) if text.is_empty() => Ok(()),
        other => Err(format!("{other:?}")),
    });
});
