//! Containers of a real dockerd that somebody else made: listed, left alone, taken over.

use std::time::Duration;

use agent_tests::host::engine::{self, IMAGE, docker};
use agent_tests::host::{Agentd, guest, wait_until};
use agent_tests::host_test;
use serde_json::Value;

use crate::container::{SERVE, container, engine_name, until};

const SOON: Duration = Duration::from_secs(20);

/// Somebody's container: the engine's id of it.
fn somebodys(name: &str, flags: &[&str]) -> String {
    let line = [&["run", "-d", "--name", name], flags, &[IMAGE, "sh", "-c", SERVE]].concat();
    docker(&line).expect("docker run").trim().to_owned()
}

/// What tells that a container is the same and goes on: its process, its start, its id.
fn life(id: &str) -> String {
    docker(&["inspect", "-f", "{{.Id}} {{.State.Pid}} {{.State.StartedAt}} {{.State.Status}}", id])
        .expect("it is there")
}

fn networks(id: &str) -> String {
    docker(&["inspect", "-f", "{{range $n, $_ := .NetworkSettings.Networks}}{{$n}} {{end}}", id])
        .expect("it is there")
}

fn address(agentd: &Agentd, name: &str) -> String {
    container(agentd, name)["status"]["addresses"][0]["ip"].as_str().expect("an address").to_owned()
}

fn answers(address: &str) -> String {
    wait_until("it answers", SOON, || guest::get(address, 80, "/"))
}

fn foreign(agentd: &Agentd) -> Vec<String> {
    let text = agentd.ok(&["container", "list", "--all", "-o", "json"]);
    let all: Value = serde_json::from_str(&text).expect("a list");
    let all = all["foreign"].as_array().expect("the others");
    all.iter().map(|one| one["name"].as_str().expect("a name").to_owned()).collect()
}

/// What the table of all shows of it below that heading.
fn cell(agentd: &Agentd, name: &str, heading: &str) -> String {
    let table = agentd.ok(&["container", "list", "--all"]);
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    let at = rows[0].iter().position(|cell| *cell == heading).expect("the heading");
    let row = rows.iter().find(|row| row.first() == Some(&name)).expect("it is listed");
    row[at].to_owned()
}

host_test!(docker_a_foreign_container_is_taken_over_while_it_runs, |host| {
    let mut dockerd = host.start_docker();
    let mut agentd = host.bare_agentd("state");
    agentd.wait_ready();
    let flags = [
        "--restart",
        "unless-stopped",
        "--memory",
        "64m",
        "--cpus",
        "0.5",
        "--env",
        "OWN=1",
        "--pids-limit",
        "99",
    ];
    let db = somebodys("db", &flags);
    let other = somebodys("other", &["--publish", "9090:80"]);
    let (before, untouched) = (life(&db), life(&other));
    let table = agentd.ok(&["container", "list", "--all"]);
    println!("{table}");
    let line = table.lines().find(|line| line.starts_with("db ")).expect("it is listed");
    assert!(line.contains("running") && line.contains(IMAGE) && line.contains(&db[..12]), "{table}");
    assert_eq!(foreign(&agentd), ["db", "other"]);
    assert_eq!(agentd.ok(&["container", "list", "-o", "name"]), "", "they are none of the project's");
    assert_eq!(agentd.ok(&["container", "list", "--all", "-o", "name"]), "foreign/db\nforeign/other\n");

    agentd.ok(&["adopt", "container/db", "--name", "store"]);
    assert_eq!(life(&db), before, "its process goes on");
    let object = container(&agentd, "store");
    let spec = &object["spec"];
    assert_eq!(
        (&spec["image"], &spec["restart"], &spec["memory"]),
        (&IMAGE.into(), &"always".into(), &"64MiB".into())
    );
    assert_eq!((&spec["cpus"], &spec["pids"], &spec["env"]["OWN"]), (&0.5.into(), &99.into(), &"1".into()));
    assert_eq!(spec["command"], serde_json::json!(["sh", "-c", SERVE]));
    assert_eq!(object["status"]["engine_id"], db.as_str());
    // On our network, by address and by name; off the engine's; and restarted by nobody else.
    let at = address(&agentd, "store");
    assert!(!answers(&at).is_empty());
    assert!(!networks(&db).contains("bridge "), "{}", networks(&db));
    agentd.ok(&["container", "run", "peer", "--image", IMAGE, "--", "sh", "-c", SERVE]);
    let heard = agentd.ok(&["container", "exec", "peer", "--", "nslookup", "store"]);
    assert!(heard.contains(&at), "{heard}");
    let policy = docker(&["inspect", "-f", "{{.HostConfig.RestartPolicy.Name}}", &db]).expect("inspect");
    assert_eq!(policy.trim(), "no");
    assert_eq!(foreign(&agentd), ["other"]);

    // Known by the next daemon, with nothing done to it.
    agentd.kill();
    agentd.start();
    agentd.wait_ready();
    assert_eq!(foreign(&agentd), ["other"], "at once");
    until(&agentd, "store", "running", SOON, |c| c["status"]["state"] == "running");
    assert_eq!(life(&db), before);
    assert_eq!(agentd.ok(&["container", "exec", "store", "--", "sh", "-c", "echo $OWN"]), "1\n");
    assert!(agentd.ok(&["container", "stats", "store", "-o", "json"]).contains("\"store\""));
    agentd.ok(&["container", "logs", "store"]);
    agentd.ok(&["container", "resize", "store", "--memory", "96MiB"]);
    let limit = docker(&["inspect", "-f", "{{.HostConfig.Memory}}", &db]).expect("inspect");
    assert_eq!(limit.trim(), (96 << 20).to_string());

    // Stopped and started as any other; behind our back too.
    agentd.ok(&["container", "stop", "store"]);
    assert!(life(&db).contains("exited"));
    agentd.ok(&["container", "start", "store"]);
    assert_eq!(engine_name(&agentd, "store"), db, "it is the same container");
    answers(&at);
    assert!(!networks(&db).contains("bridge "), "{}", networks(&db));
    docker(&["stop", "-t", "1", &db]).expect("docker stop");
    until(&agentd, "store", "started again", SOON, |c| {
        c["status"]["state"] == "running" && !c["status"]["last_stop"].is_null()
    });
    agentd.ok(&["container", "restart", "store"]);
    answers(&at);
    dockerd.kill();
    let answer = agentd.ctl(&["container", "list", "--all"]);
    assert_eq!(answer.status, 1, "{answer:?}");
    assert!(answer.stderr.contains("agentctl container list"), "{answer:?}");
    assert!(agentd.ok(&["container", "list"]).contains("store"));
    dockerd.start();
    let adopted = |c: &Value| c["status"]["state"] == "running" && c["status"]["engine_id"] == db.as_str();
    until(&agentd, "store", "up again", Duration::from_secs(30), adopted);
    docker(&["rm", "-f", &db]).expect("docker rm");
    let again = |c: &Value| c["status"]["state"] == "running" && c["status"]["engine_id"] != db.as_str();
    let again = until(&agentd, "store", "made again", SOON, again);
    assert!(again["status"]["adopted"].is_null(), "{again}");
    assert!(!answers(&at).is_empty(), "at its address");
    assert_eq!(agentd.ok(&["container", "exec", "store", "--", "sh", "-c", "echo $OWN"]), "1\n");
    agentd.ok(&["container", "rm", "store", "peer"]);
    docker(&["start", &other]).expect("dockerd took it with it");
    assert_eq!(engine::containers(), ["other"]);
    assert!(untouched.starts_with(&other));
    assert!(networks(&other).contains("bridge "));
});

host_test!(docker_what_cannot_be_taken_over_is_left_as_it_is, |host| {
    let _dockerd = host.start_docker();
    let mut agentd = host.bare_agentd("state");
    agentd.wait_ready();
    let odd: [(&str, &[&str], &str); 8] = [
        ("hosts", &["--network", "host"], "HostConfig.NetworkMode"),
        ("ports", &["--publish", "9091:80"], "HostConfig.PortBindings"),
        ("binds", &["--volume", "/etc:/host"], "Mounts"),
        ("volume", &["--volume", "data:/data"], "Mounts"),
        ("device", &["--device", "/dev/null:/dev/some"], "HostConfig.Devices"),
        ("pids", &["--pid", "host"], "HostConfig.PidMode"),
        ("seccomp", &["--security-opt", "seccomp=unconfined"], "HostConfig.SecurityOpt"),
        ("dns", &["--dns", "9.9.9.9"], "HostConfig.Dns"),
    ];
    let ids: Vec<(String, String)> = odd
        .iter()
        .map(|(name, flags, _)| {
            let id = somebodys(name, flags);
            let was = docker(&["inspect", &id]).expect("inspect");
            (id, was)
        })
        .collect();
    for (name, _, says) in odd {
        let answer = agentd.ctl(&["adopt", name]);
        assert_eq!(answer.status, 5, "{name}: {answer:?}");
        assert!(answer.stderr.contains(says), "{name}: {answer:?}");
    }
    assert_eq!(agentd.ctl(&["adopt", "nobody"]).status, 3);
    assert_eq!(agentd.ok(&["container", "list", "-o", "name"]), "", "nothing is left of them");
    for (id, was) in &ids {
        assert_eq!(docker(&["inspect", id]).expect("it is there"), *was, "it was left as it is");
    }
    // As what it is, if that is said. It is never started, which not each host of tests can do.
    docker(&["create", "--name", "root", "--privileged", IMAGE, "true"]).expect("docker create");
    assert_eq!(cell(&agentd, "root", "PRIVILEGED"), "true");
    assert_eq!(cell(&agentd, "hosts", "PRIVILEGED"), "false");
    let answer = agentd.ctl(&["adopt", "root"]);
    assert_eq!(answer.status, 5, "{answer:?}");
    assert!(answer.stderr.contains("--privileged"), "{answer:?}");
    agentd.ok(&["adopt", "root", "--privileged"]);
    assert_eq!(container(&agentd, "root")["spec"]["privileged"], true);
    let answer = agentd.ctl(&["adopt", "root", "--privileged", "--name", "again"]);
    assert_eq!(answer.status, 4, "{answer:?}");
    agentd.ok(&["container", "rm", "root"]);

    // Killed as soon as it has answered: the next one goes on with it.
    let plain = somebodys("plain", &[]);
    let before = life(&plain);
    agentd.ok(&["adopt", &plain[..12], "--no-wait"]);
    agentd.kill();
    agentd.start();
    agentd.wait_ready();
    until(&agentd, "plain", "running", SOON, |c| c["status"]["state"] == "running");
    assert_eq!(life(&plain), before);
    answers(&address(&agentd, "plain"));
    agentd.kill();
    docker(&["rm", "-f", &plain]).expect("docker rm");
    agentd.start();
    agentd.wait_ready();
    let gone = until(&agentd, "plain", "gone", SOON, |c| c["status"]["state"] == "stopped");
    assert_eq!(gone["status"]["last_stop"]["how"], "removed");
    agentd.ok(&["container", "rm", "plain"]);
    // One that is off, and one without a network.
    let idle = docker(&["create", "--name", "idle", IMAGE, "sh", "-c", SERVE]).expect("docker create");
    let alone = somebodys("alone", &["--network", "none"]);
    agentd.ok(&["adopt", "idle", "alone"]);
    assert_eq!(container(&agentd, "idle")["status"]["state"], "stopped");
    assert_eq!(container(&agentd, "alone")["spec"]["networks"], serde_json::json!([]));
    agentd.ok(&["container", "start", "idle"]);
    assert_eq!(engine_name(&agentd, "idle"), idle.trim());
    answers(&address(&agentd, "idle"));
    assert!(!networks(idle.trim()).contains("bridge "), "{}", networks(idle.trim()));
    assert_eq!(networks(&alone).trim(), "none");
    agentd.ok(&["container", "rm", "idle", "alone"]);
    let mut left = engine::containers();
    left.sort();
    assert_eq!(left, ["binds", "device", "dns", "hosts", "pids", "ports", "seccomp", "volume"]);
});
