//! Containers on a real dockerd, beside VMs.

use std::time::{Duration, Instant};

use agent_tests::host::engine::{self, IMAGE, docker};
use agent_tests::host::{Agentd, guest, namespace, traces, wait_until};
use agent_tests::host_test;
use agentd_api::Timestamp;
use serde_json::Value;

use crate::container_behind::unseen;
use crate::container_kill::changes_are_finished;
use crate::container_policies::when;

/// Serves its own name, and stays until it is asked to stop.
pub const SERVE: &str =
    "hostname > /www/index.html; httpd -h /www; trap 'exit 0' TERM; while :; do sleep 1000 & wait $!; done";

pub fn container(agentd: &Agentd, name: &str) -> Value {
    agentd.get("container", name).unwrap_or_else(|| panic!("no container {name}"))
}

pub fn address(agentd: &Agentd, name: &str) -> String {
    container(agentd, name)["status"]["addresses"][0]["ip"].as_str().expect("an address").to_owned()
}

pub fn run(agentd: &Agentd, name: &str, more: &[&str]) {
    let mut line = vec!["container", "run", name, "--image", IMAGE];
    line.extend(more);
    line.extend(["--", "sh", "-c", SERVE]);
    agentd.ok(&line);
}

pub fn until(agentd: &Agentd, name: &str, what: &str, limit: Duration, is: impl Fn(&Value) -> bool) -> Value {
    wait_until(&format!("{name} is {what}"), limit, || match agentd.get("container", name) {
        Some(now) if is(&now) => Ok(now),
        other => Err(format!("{other:?}\n{}", agentd.log_text())),
    })
}

/// What the engine calls the container of that object.
pub fn engine_name(agentd: &Agentd, name: &str) -> String {
    container(agentd, name)["status"]["engine_id"].as_str().expect("an engine's id").to_owned()
}

host_test!(docker_a_container_and_a_vm_see_each_other_by_name, |host| {
    let _dockerd = host.start_docker();
    let agentd = host.with_agentd();
    see_each_other(&agentd, || {
        // Only our network, and what the kernel holds it to.
        let networks =
            docker(&["inspect", "-f", "{{len .NetworkSettings.Networks}}", &engine_name(&agentd, "web")]);
        assert_eq!(networks.as_deref().map(str::trim), Ok("1"));
    });
});

/// A VM that is started once a container waits for it, which is started after.
fn one_waits_for_the_other(agentd: &Agentd, vm: &str, waits: &str) {
    agentd.ok(&["vm", "create", vm, "--image", "micro", "--memory", "192MiB"]);
    let before = engine::containers();
    run(agentd, waits, &["--after", &format!("vm/{vm}"), "--no-wait"]);
    let reason = format!("it comes after VM '{vm}', which is stopped");
    until(agentd, waits, "waiting", Duration::from_secs(20), |c| c["status"]["reason"] == reason.as_str());
    assert_eq!(engine::containers(), before, "it is not made before");
    agentd.ok(&["vm", "start", vm]);
    let up = |c: &Value| c["status"]["state"] == "running";
    let up = until(agentd, waits, "running", Duration::from_secs(20), up);
    let started: Timestamp =
        up["status"]["started_at"].as_str().and_then(|at| at.parse().ok()).expect("a time");
    let ran = when(agentd, "vm", vm, "started");
    assert!(ran <= started, "started at {started}, and the VM at {ran}");
    assert!(started <= when(agentd, "container", waits, "started"), "as its events have it");
}

/// A container `web` and a VM `peer`; `more` is looked at while both are there.
pub fn see_each_other(agentd: &Agentd, more: impl FnOnce()) {
    run(agentd, "web", &["--publish", "8081:80", "--memory", "64MiB"]);
    one_waits_for_the_other(agentd, "peer", "late");
    agentd.ok(&["container", "rm", "late"]);
    let web = address(agentd, "web");
    let page = wait_until("it answers", Duration::from_secs(20), || guest::get(&web, 80, "/"));
    assert_eq!(page.trim(), "web");
    let page = wait_until("its port answers", Duration::from_secs(10), || guest::get("127.0.0.1", 8081, "/"));
    assert_eq!(page.trim(), "web");
    guest::answers(agentd, "peer");
    let peer = agentd.address("peer");
    wait_until("the VM resolves it", Duration::from_secs(20), || {
        let heard = guest::get(&peer, 80, "/cgi-bin/resolve?web")?;
        if heard.contains(&web) { Ok(()) } else { Err(heard) }
    });
    let heard = agentd.ok(&["container", "exec", "web", "--", "nslookup", "peer"]);
    assert!(heard.contains(&peer), "{heard}");
    let heard = agentd.ok(&["container", "exec", "web", "--", "wget", "-qO-", "http://peer/"]);
    assert!(heard.contains(&peer), "{heard}");
    more();

    agentd.ok(&["container", "rename", "web", "front"]);
    wait_until("the new name resolves", Duration::from_secs(10), || {
        let heard = guest::get(&peer, 80, "/cgi-bin/resolve?front")?;
        if heard.contains(&web) { Ok(()) } else { Err(heard) }
    });
    agentd.ok(&["container", "stop", "front"]);
    let off = container(agentd, "front");
    assert_eq!(
        (&off["status"]["exit_code"], &off["status"]["last_stop"]["how"]),
        (&0.into(), &"stopped".into())
    );
    agentd.ok(&["container", "rm", "front"]);
    agentd.ok(&["vm", "rm", "peer"]);
    assert_eq!(engine::containers(), Vec::<String>::new());
    assert_eq!(traces::of_vms(agentd), Vec::<String>::new());
}

host_test!(docker_what_is_done_behind_our_back_is_seen_at_once, |host| {
    let mut dockerd = host.start_docker();
    let agentd = host.bare_agentd("state");
    agentd.wait_ready();
    run(&agentd, "kept", &["--restart", "always"]);
    run(&agentd, "left", &[]);
    let (kept, left) = (engine_name(&agentd, "kept"), engine_name(&agentd, "left"));
    let soon = Duration::from_secs(2);
    docker(&["rm", "-f", &left]).expect("docker rm");
    let from = Instant::now();
    let off = until(&agentd, "left", "stopped", soon, |c| c["status"]["state"] == "stopped");
    assert_eq!(off["status"]["last_stop"]["how"], "removed", "after {:?}", from.elapsed());
    docker(&["rm", "-f", &kept]).expect("docker rm");
    let again = |c: &Value| c["status"]["state"] == "running" && c["status"]["engine_id"] != kept.as_str();
    until(&agentd, "kept", "made again", Duration::from_secs(10), again);
    let (kept, web) = (engine_name(&agentd, "kept"), address(&agentd, "kept"));
    wait_until("it answers", Duration::from_secs(20), || guest::get(&web, 80, "/"));
    let network =
        docker(&["inspect", "-f", "{{range $n, $_ := .NetworkSettings.Networks}}{{$n}}{{end}}", &kept]);
    docker(&["network", "disconnect", network.expect("its network").trim(), &kept])
        .expect("docker disconnect");
    wait_until("it answers again", Duration::from_secs(10), || guest::get(&web, 80, "/"));

    dockerd.kill();
    until(&agentd, "kept", "unseen", Duration::from_secs(10), unseen);
    dockerd.start();
    let back = |c: &Value| c["status"]["state"] == "running" && !unseen(c);
    until(&agentd, "kept", "up again", Duration::from_secs(30), back);
    wait_until("it answers", Duration::from_secs(20), || guest::get(&web, 80, "/"));
});

// As at a boot of the host: nothing runs, no link is there, and Docker is the first to start.
host_test!(docker_that_makes_our_bridge_before_us_is_not_in_the_way, |host| {
    let mut dockerd = host.start_docker();
    let mut agentd = host.bare_agentd("state");
    agentd.wait_ready();
    run(&agentd, "web", &["--restart", "always"]);
    let (web, engines) = (address(&agentd, "web"), engine_name(&agentd, "web"));
    let network = agentd.get("network", "default").expect("the network");
    let bridge = network["status"]["bridge"].as_str().expect("a bridge").to_owned();
    agentd.stop();
    docker(&["kill", &engines]).expect("docker kill");
    dockerd.kill();
    namespace::run("/usr/bin/pkill", &["-x", "dnsmasq"]).expect("dnsmasq ends");
    namespace::run("/usr/sbin/ip", &["link", "delete", &bridge]).expect("the bridge goes");
    dockerd.start();
    let theirs = namespace::run("/usr/sbin/ip", &["link", "show", &bridge]).expect("Docker makes it");
    assert!(!theirs.contains("alias"), "{theirs}");

    agentd.start();
    agentd.wait_ready();
    let ours = namespace::run("/usr/sbin/ip", &["link", "show", &bridge]).expect("the bridge");
    assert!(ours.contains("alias agentd "), "{ours}");
    until(&agentd, "web", "up again", Duration::from_secs(30), |c| c["status"]["state"] == "running");
    wait_until("it answers", Duration::from_secs(20), || guest::get(&web, 80, "/"));
});

host_test!(docker_agentd_killed_on_a_containers_way_leaves_no_half, |host| {
    let _dockerd = host.start_docker();
    let mut agentd = host.bare_agentd("state");
    agentd.wait_ready();
    for (n, wait) in [0, 30, 60, 120, 250, 500].into_iter().enumerate() {
        let name = format!("c{n}");
        agentd.ok(&["container", "run", &name, "--no-wait", "--image", IMAGE, "--", "sh", "-c", SERVE]);
        std::thread::sleep(Duration::from_millis(wait));
        agentd.kill();
        agentd.start();
        let up = |c: &Value| c["status"]["state"] == "running";
        until(&agentd, &name, "running", Duration::from_secs(30), up);
        assert_eq!(engine::containers().len(), 1, "one, and once");
        agentd.ok(&["container", "rm", &name, "--no-wait"]);
        std::thread::sleep(Duration::from_millis(wait));
        agentd.kill();
        agentd.start();
        wait_until("it is gone", Duration::from_secs(30), || match agentd.get("container", &name) {
            None => Ok(()),
            Some(still) => Err(still["status"].to_string()),
        });
        assert_eq!(engine::containers(), Vec::<String>::new());
    }
    changes_are_finished(&mut agentd);
});

host_test!(docker_without_remap_a_user_namespace_is_refused_by_its_field, |host| {
    let _dockerd = host.start_docker();
    let agentd = host.bare_agentd("state");
    agentd.wait_ready();
    let answer =
        agentd.ctl(&["container", "run", "own", "--userns", "--image", IMAGE, "--", "sh", "-c", SERVE]);
    assert_ne!(answer.status, 0, "{answer:?}");
    let said = format!("{}{}", answer.stdout, answer.stderr);
    assert!(said.contains("spec.userns") && said.contains("userns-remap"), "{answer:?}");
    assert_eq!(engine::containers(), Vec::<String>::new(), "nothing is half made");
    if agentd.get("container", "own").is_some() {
        agentd.ok(&["container", "rm", "own"]);
    }
});
