//! Guests beside a Docker that comes after agentd, is killed, comes again and ends: their way out stays, and by it nobody
//! has another way in or out.

use std::time::Duration;

use agent_tests::host::engine::{IMAGE, STAY, docker};
use agent_tests::host::{Agentd, Answer, guest, namespace, outside, wait_until};
use agent_tests::host_test;
use serde_json::json;

use crate::container::{self, address};

/// Within which agentd by itself has made good what Docker did.
const MENDED: Duration = Duration::from_secs(10);
const WORD: &str = "a word from outside\n";

/// What a VM gets from there. It soon gives up: packets that are dropped are waited for otherwise.
fn fetches(agentd: &Agentd, vm: &str, from: &str) -> Answer {
    let from = format!("http://{from}/");
    agentd.ctl(&["vm", "exec", vm, "--", "timeout", "2", "wget", "-q", "-O", "-", &from])
}

fn has_its_way_out(agentd: &Agentd, when: &str) {
    wait_until(&format!("the guest gets out {when}"), MENDED, || {
        let answer = fetches(agentd, "web", outside::ADDRESS);
        if answer.stdout == WORD { Ok(()) } else { Err(format!("{answer:?}")) }
    });
}

/// The rules of the host for what passes through it.
fn forward(arguments: &[&str]) -> String {
    namespace::run("/usr/sbin/iptables", arguments).expect("iptables")
}

host_test!(docker_that_comes_dies_and_ends_leaves_guests_their_way_out_and_opens_none, |host| {
    host.start_outside(WORD);
    // As Docker leaves it where it was the first to let packets through, and as firewalls have it.
    forward(&["-P", "FORWARD", "DROP"]);
    let agentd = host.with_agentd();
    agentd.post("/v1/networks", &json!({"name": "closed", "spec": {"cidr": "10.78.0.0/24", "nat": false}}));
    let small = ["--image", "micro", "--memory", "128MiB", "--no-wait"];
    agentd.ok(&[&["vm", "run", "web", "--publish", "8080:80"][..], &small].concat());
    agentd.ok(&[&["vm", "run", "shut", "--network", "closed"][..], &small].concat());
    guest::runs_programs(&agentd, "web");
    guest::runs_programs(&agentd, "shut");
    has_its_way_out(&agentd, "before Docker is there");

    let mut dockerd = host.start_docker();
    has_its_way_out(&agentd, "once Docker has come");
    let rules = forward(&["-S", "FORWARD"]);
    assert!(rules.contains("-P FORWARD DROP") && rules.contains("-j DOCKER-USER"), "{rules}");
    dockerd.kill();
    has_its_way_out(&agentd, "without Docker");
    dockerd.start();
    has_its_way_out(&agentd, "once Docker has come again");
    nobody_has_another_way(&agentd);
    dockerd.stop();
    has_its_way_out(&agentd, "after Docker's end");
});

/// Neither into our guests from a container of Docker's own, nor out of a network that has none.
fn nobody_has_another_way(agentd: &Agentd) {
    container::run(agentd, "box", &["--network", "closed"]);
    let (web, shut, ours) = (agentd.address("web"), agentd.address("shut"), address(agentd, "box"));
    docker(&["run", "-d", "--name", "stranger", IMAGE, "sh", "-c", STAY]).expect("docker run");
    let asks = |from: &str| {
        let line = format!("busybox timeout 1 wget -q -O - http://{from}/");
        docker(&["exec", "stranger", "sh", "-c", &line])
    };
    let page = wait_until("Docker gives it a way out", MENDED, || asks(outside::ADDRESS));
    assert_eq!(page, WORD);
    let published = format!("{}:8080", outside::HOST);
    let page = wait_until("a published port is everybody's", MENDED, || asks(&published));
    assert!(page.contains(&web), "{page}");
    for closed in [&web, &shut, &ours] {
        let reached = asks(closed);
        assert!(reached.is_err(), "{closed}: {reached:?}");
    }

    wait_until("the guest has its own network", MENDED, || {
        let answer = fetches(agentd, "shut", &ours);
        if answer.stdout == "box\n" { Ok(()) } else { Err(format!("{answer:?}")) }
    });
    let answer = fetches(agentd, "shut", outside::ADDRESS);
    assert!(answer.status != 0 && answer.stdout.is_empty(), "{answer:?}");
    let line = format!("busybox timeout 2 wget -q -O - http://{}/", outside::ADDRESS);
    let answer = agentd.ctl(&["container", "exec", "box", "--", "sh", "-c", &line]);
    assert!(answer.status != 0 && answer.stdout.is_empty(), "{answer:?}");
}
