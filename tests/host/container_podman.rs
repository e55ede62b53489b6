//! Containers on Podman's service, which is found by itself where dockerd is not: what the user sees is what Docker shows.

use std::time::Duration;

use agent_tests::host::engine::{self, docker};
use agent_tests::host::namespace::run as host_run;
use agent_tests::host::{Agentd, guest, traces, wait_until};
use agent_tests::host_test;
use serde_json::Value;

use crate::container::{self, container, engine_name, see_each_other, until};
use crate::container_behind::unseen;

const SOON: Duration = Duration::from_secs(30);

/// What wires Podman's containers to our bridges.
fn wires() -> Vec<String> {
    let names = host_run(
        "/bin/sh",
        &["-c", "find /run/agentd/netns -type f 2>/dev/null; grep agentd/netns /proc/mounts; true"],
    );
    let mut found: Vec<String> = names.expect("a shell").lines().map(ToOwned::to_owned).collect();
    found.extend(traces::links().into_iter().filter(|link| link.starts_with("agc")));
    found
}

fn says(agentd: &Agentd, name: &str, script: &str) -> (i32, String) {
    let answer = agentd.ctl(&["container", "exec", name, "--", "sh", "-c", script]);
    (answer.status, answer.stdout.trim().to_owned())
}

host_test!(podman_a_container_and_a_vm_see_each_other_by_name, |host| {
    let _podman = host.start_podman();
    let agentd = host.with_agentd();
    // On a busy machine its first answer takes longer than a request waits for it.
    wait_until("agentd has found the engine", Duration::from_secs(30), || {
        let answer = agentd.ctl(&["container", "list", "--all"]);
        if answer.status == 0 { Ok(()) } else { Err(format!("{answer:?}")) }
    });
    see_each_other(&agentd, || {
        let networks =
            docker(&["inspect", "-f", "{{len .NetworkSettings.Networks}}", &engine_name(&agentd, "web")]);
        assert_eq!(networks.as_deref().map(str::trim), Ok("0"), "none of Podman's own");
    });
    assert_eq!(wires(), Vec::<String>::new());
});

host_test!(podman_serves_an_agentd_that_is_confined_as_by_its_unit, |host| {
    let mut podman = host.start_podman();
    let mut agentd = host.confined_agentd("state");
    agentd.wait_ready();
    agentd.ok(&["volume", "create", "data", "--mode", "filesystem", "--size", "32MiB"]);
    container::run(
        &agentd,
        "web",
        &["--publish", "8081:80", "--volume", "data:/data", "--restart", "always"],
    );
    let web =
        container(&agentd, "web")["status"]["addresses"][0]["ip"].as_str().expect("an address").to_owned();
    let answers = |when: &str| {
        let page = wait_until(when, SOON, || guest::get(&web, 80, "/"));
        assert_eq!(page.trim(), "web", "{when}");
        let page = wait_until(when, SOON, || guest::get("127.0.0.1", 8081, "/"));
        assert_eq!(page.trim(), "web", "{when}, at its published port");
    };
    answers("at first");
    assert_eq!(says(&agentd, "web", "echo kept > /data/file; hostname; exit 7"), (7, "web".to_owned()));
    assert!(says(&agentd, "web", "ip addr show eth0").1.contains(&format!("{web}/")));

    // Without its service what runs goes on, and agentd says what it cannot see.
    podman.kill();
    until(&agentd, "web", "unseen", Duration::from_secs(10), unseen);
    answers("without podman's service");
    podman.start();
    until(&agentd, "web", "seen", SOON, |c| c["status"]["state"] == "running" && !unseen(c));
    answers("with it again");
    // And so it does without agentd.
    let before = engine_name(&agentd, "web");
    agentd.kill();
    let page = guest::get(&web, 80, "/").expect("it serves");
    assert_eq!(page.trim(), "web");
    agentd.start();
    until(&agentd, "web", "running", SOON, |c| c["status"]["state"] == "running");
    assert_eq!(engine_name(&agentd, "web"), before, "the same");
    answers("with agentd again");

    agentd.ok(&["container", "stop", "web"]);
    let off = container(&agentd, "web");
    assert_eq!((&off["status"]["exit_code"], &off["status"]["state"]), (&0.into(), &"stopped".into()));
    agentd.ok(&["container", "start", "web"]);
    answers("started again");
    // Somebody else takes it away: policy has it made anew, at its address, with its volume.
    docker(&["rm", "-f", &before]).expect("docker rm");
    let again = |c: &Value| c["status"]["state"] == "running" && c["status"]["engine_id"] != before.as_str();
    until(&agentd, "web", "made again", SOON, again);
    answers("made again");
    assert_eq!(says(&agentd, "web", "cat /data/file"), (0, "kept".to_owned()));

    container::run(&agentd, "talks", &[]);
    agentd.ok(&["container", "exec", "talks", "--", "sh", "-c", "echo heard > /proc/1/fd/1"]);
    wait_until("its word is in its log", SOON, || {
        let log = agentd.ok(&["container", "logs", "talks"]);
        if log.contains("heard") { Ok(()) } else { Err(log) }
    });
    for name in ["web", "talks"] {
        agentd.ok(&["container", "rm", name]);
    }
    agentd.ok(&["volume", "rm", "data"]);
    assert_eq!(engine::containers(), Vec::<String>::new());
    assert_eq!(docker(&["volume", "ls", "-q"]).expect("docker volume ls").trim(), "");
    assert_eq!(wires(), Vec::<String>::new());
});
