//! Guests beside a Docker that comes after agentd, is killed, comes again and ends: their way out stays, and by it nobody
//! has another way in or out. Docker's own containers get in by published ports, as everybody does.

use std::time::Duration;

use agent_tests::host::engine::{IMAGE, STAY, docker};
use agent_tests::host::{Agentd, Answer, guest, namespace, outside, wait_until};
use agent_tests::host_test;
use serde_json::{Value, json};

use crate::container::{self, SERVE, address};
use crate::container_behind::unseen;

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

/// What a container of Docker's own gets from there.
fn container_fetches(container: &str, from: &str) -> Result<String, String> {
    docker(&["exec", container, "sh", "-c", &format!("busybox timeout 1 wget -q -O - http://{from}/")])
}

fn run_of_docker(name: &str, more: &[&str], script: &str) {
    docker(&[&["run", "-d", "--name", name][..], more, &[IMAGE, "sh", "-c", script]].concat())
        .expect("docker run");
}

/// What it gets from a published port, by the host's address.
fn is_served(container: &str, port: u16) -> String {
    let from = format!("{}:{port}", outside::HOST);
    wait_until("a published port is everybody's", MENDED, || container_fetches(container, &from))
}

fn is_closed(container: &str, guests: &[&str]) {
    for guest in guests {
        let reached = container_fetches(container, guest);
        assert!(reached.is_err(), "{container} reaches {guest}: {reached:?}");
    }
}

/// Neither into our guests from a container of Docker's own, nor out of a network that has none.
fn nobody_has_another_way(agentd: &Agentd) {
    container::run(agentd, "box", &["--network", "closed"]);
    let (web, shut, ours) = (agentd.address("web"), agentd.address("shut"), address(agentd, "box"));
    run_of_docker("stranger", &[], STAY);
    let asks = || container_fetches("stranger", outside::ADDRESS);
    let page = wait_until("Docker gives it a way out", MENDED, asks);
    assert_eq!(page, WORD);
    let page = is_served("stranger", 8080);
    assert!(page.contains(&web), "{page}");

    // From here on Docker knows the bridge that the VM is on as one of its own.
    container::run(agentd, "page", &["--publish", "8081:80"]);
    assert_eq!(is_served("stranger", 8081), "page\n");
    let page = is_served("stranger", 8080);
    assert!(page.contains(&web), "{page}");
    is_closed("stranger", &[&web, &shut, &ours, &address(agentd, "page")]);
    is_kept_inside(agentd);

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

/// A network that Docker keeps to itself is closed to our guests too.
fn is_kept_inside(agentd: &Agentd) {
    let bridge = "com.docker.network.bridge.name=inner0";
    docker(&["network", "create", "--internal", "--opt", bridge, "inner"]).expect("docker network create");
    run_of_docker("kept", &["--network", "inner", "--hostname", "kept"], SERVE);
    let served = || container_fetches("kept", "127.0.0.1");
    assert_eq!(wait_until("the container serves itself", MENDED, served), "kept\n");
    let format = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}";
    let kept = docker(&["inspect", "-f", format, "kept"]).expect("docker inspect");
    wait_until("agentd leaves that bridge to Docker", MENDED, || {
        let rules = forward(&["-S"]);
        if rules.contains("-o inner0 -j RETURN") { Ok(()) } else { Err(rules) }
    });
    let answer = fetches(agentd, "web", kept.trim());
    assert!(answer.status != 0 && answer.stdout.is_empty(), "{answer:?}");
    has_its_way_out(agentd, "beside a network that is closed to it");
}

host_test!(docker_that_was_there_first_has_its_containers_answered_by_published_ports_alone, |host| {
    host.start_outside(WORD);
    let mut dockerd = host.start_docker();
    let agentd = host.bare_agentd("state");
    agentd.wait_ready();
    run_of_docker("stranger", &[], STAY);
    container::run(&agentd, "page", &["--publish", "8081:80"]);
    let page = address(&agentd, "page");
    assert_eq!(is_served("stranger", 8081), "page\n");
    is_closed("stranger", &[&page]);

    // It makes its rules anew, now with our network among its own from the beginning.
    dockerd.kill();
    container::until(&agentd, "page", "unseen", Duration::from_secs(10), unseen);
    dockerd.start();
    let back = |c: &Value| c["status"]["state"] == "running" && !unseen(c);
    container::until(&agentd, "page", "up again", Duration::from_secs(30), back);
    docker(&["start", "stranger"]).expect("docker start");
    assert_eq!(is_served("stranger", 8081), "page\n");
    is_closed("stranger", &[&page]);
});
