//! Many containers of a real dockerd at once, and what of limits and health only a real one shows.

use std::time::{Duration, Instant};

use agent_tests::host::engine::{self, IMAGE, STAY, docker};
use agent_tests::host::wait_until;
use agent_tests::host_test;

use crate::container::{container, until};
use crate::container_limits;

const MANY: usize = 100;
/// On two busy cores, on which the engine alone takes half a second for each.
const BOUND: Duration = Duration::from_secs(150);

host_test!(docker_a_hundred_containers_at_once, |host| {
    let _dockerd = host.start_docker();
    let agentd = host.bare_agentd("state");
    agentd.wait_ready();
    let from = Instant::now();
    for n in 0..MANY {
        let name = format!("c{n}");
        agentd.ok(&["container", "run", &name, "--no-wait", "--image", IMAGE, "--", "sh", "-c", STAY]);
    }
    let count = |agentd: &agent_tests::host::Agentd, state: &str| {
        let text = agentd.ok(&["container", "list", "-o", "json"]);
        let all: serde_json::Value = serde_json::from_str(&text).expect("a list");
        let all = all["items"].as_array().or_else(|| all.as_array()).expect("items").clone();
        (all.iter().filter(|c| c["status"]["state"] == state).count(), all)
    };
    let all = wait_until("all run", BOUND, || {
        let (up, all) = count(&agentd, "running");
        if up == MANY { Ok(all) } else { Err(format!("{up} run\n{}", agentd.log_text())) }
    });
    println!("{MANY} containers run after {:?}", from.elapsed());
    assert_eq!(docker(&["ps", "-q"]).expect("docker ps").lines().count(), MANY);
    let mut addresses: Vec<_> = all.iter().map(|c| c["status"]["addresses"][0]["ip"].to_string()).collect();
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), MANY, "an address each");
    let last = format!("c{}", MANY - 1);
    let heard = agentd.ok(&["container", "exec", "c0", "--", "nslookup", &last]);
    let address = container(&agentd, &last)["status"]["addresses"][0]["ip"].as_str().expect("one").to_owned();
    assert!(heard.contains(&address), "{heard}");

    let from = Instant::now();
    for n in 0..MANY {
        agentd.ok(&["container", "rm", "--no-wait", &format!("c{n}")]);
    }
    wait_until("all are gone", BOUND, || match count(&agentd, "running").1.len() {
        0 => Ok(()),
        left => Err(format!("{left} are left")),
    });
    println!("and were gone after {:?}", from.elapsed());
    assert_eq!(engine::containers(), Vec::<String>::new());
    let links = agent_tests::host::namespace::run("/usr/sbin/ip", &["-o", "link", "show", "type", "veth"]);
    assert_eq!(links.expect("ip").trim(), "", "no interface is left");
});

host_test!(docker_health_and_limits_are_the_engines_own, |host| {
    let _dockerd = host.start_docker();
    let agentd = host.bare_agentd("state");
    agentd.wait_ready();
    let check = ["--health-cmd", "[ ! -e /ill ] || { echo it aches; exit 1; }", "--health-interval", "1s"];
    let line = [&["container", "run", "web", "--image", IMAGE, "--health-retries", "2"], &check[..]].concat();
    agentd.ok(&[&line[..], &["--", "sh", "-c", STAY]].concat());
    let soon = Duration::from_secs(20);
    let is = |state: &'static str| move |c: &serde_json::Value| c["status"]["health"]["state"] == state;
    until(&agentd, "web", "healthy", soon, is("healthy"));
    // One that comes after it waits for its health.
    agentd.ok(&["container", "exec", "web", "--", "touch", "/ill"]);
    let ill = until(&agentd, "web", "ill", soon, is("unhealthy"));
    assert_eq!(ill["status"]["state"], "running");
    assert!(ill["status"]["health"]["output"].to_string().contains("it aches"), "{ill}");
    let behind = ["container", "run", "behind", "--image", IMAGE, "--after", "web:healthy", "--no-wait"];
    agentd.ok(&[&behind[..], &["--", "sh", "-c", STAY]].concat());
    until(&agentd, "behind", "waiting", soon, |c| c["status"]["reason"].to_string().contains("healthy"));
    assert_eq!(engine::containers().len(), 1, "it is not made before");
    agentd.ok(&["container", "exec", "web", "--", "busybox", "rm", "/ill"]);
    until(&agentd, "web", "well again", soon, is("healthy"));
    until(&agentd, "behind", "running", soon, |c| c["status"]["state"] == "running");

    container_limits::rates_of_a_disk_are_held(&agentd);
    // This engine gives user ids of their own to all or none.
    let own = ["container", "run", "own", "--image", IMAGE, "--userns"];
    let answer = agentd.ctl(&[&own[..], &["--", "sh", "-c", STAY]].concat());
    assert_eq!(answer.status, 5, "{answer:?}");
    assert!(answer.stderr.contains("userns-remap"), "{answer:?}");
    container_limits::what_the_kernel_refuses_is_said_and_what_runs_runs_on(&agentd);
});
