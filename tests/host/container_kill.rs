//! agentd killed on the way of a change of a container: the next one brings it to its end, and no further.

use std::time::Duration;

use agent_tests::host::engine::{self, IMAGE, STAY, docker};
use agent_tests::host::{Agentd, wait_until};
use agentd_api::ByteSize;
use serde_json::Value;

use crate::container::{address, until};

const SOON: Duration = Duration::from_secs(30);

/// What is asked for, and so many milliseconds after that was taken on agentd is killed.
const CHANGES: [(&[&str], u64); 11] = [
    (&["rename", "web", "front"], 0),
    (&["rename", "front", "web"], 25),
    (&["resize", "web", "--memory", "80MiB", "--no-wait"], 0),
    (&["resize", "web", "--memory", "96MiB", "--no-wait"], 40),
    (&["pause", "web", "--no-wait"], 0),
    (&["resume", "web", "--no-wait"], 0),
    (&["pause", "web", "--no-wait"], 25),
    (&["resume", "web", "--no-wait"], 25),
    (&["restart", "web", "--no-wait"], 0),
    (&["restart", "web", "--no-wait"], 60),
    (&["restart", "web", "--no-wait"], 250),
];

pub fn changes_are_finished(agentd: &mut Agentd) {
    let script = format!("echo begun >> /starts; {STAY}");
    let line = ["container", "run", "web", "--image", IMAGE, "--memory", "64MiB"];
    agentd.ok(&[&line[..], &["--", "sh", "-c", &script]].concat());
    let mut starts = 1;
    for (change, moment) in CHANGES {
        agentd.ok(&[&["container"][..], change].concat());
        std::thread::sleep(Duration::from_millis(moment));
        agentd.kill();
        agentd.start();
        let what = format!("as wanted, agentd killed {moment} ms after {change:?}");
        let name = if change[0] == "rename" { change[2] } else { change[1] };
        let now = until(agentd, name, &what, SOON, done);
        host_is_as_it_says(name, &now, &what);
        starts += usize::from(change[0] == "restart");
        if now["status"]["state"] == "running" {
            let begun = agentd.ok(&["container", "exec", name, "--", "cat", "/starts"]);
            assert_eq!(begun.lines().count(), starts, "{what}");
        }
        if change[0] == "rename" {
            resolves(agentd, name, change[1]);
        }
    }
    agentd.ok(&["container", "rm", "web"]);
    assert_eq!(engine::containers(), Vec::<String>::new());
}

/// Whether nothing is left to be done for it.
fn done(container: &Value) -> bool {
    let status = &container["status"];
    status["observed_generation"] == container["generation"]
        && status["state"] == container["spec"]["desired"]
        && status["restart_requested"] != true
        && status["renamed"] != true
        && status["renamed_from"].is_null()
}

/// One container, of that name, in that state, with that memory.
fn host_is_as_it_says(name: &str, now: &Value, what: &str) {
    let all = engine::containers();
    assert_eq!(all.len(), 1, "{what}: one, and once: {all:?}");
    let memory: ByteSize =
        now["spec"]["memory"].as_str().and_then(|memory| memory.parse().ok()).expect("a size");
    let (state, engines) = (now["status"]["state"].as_str(), now["status"]["engine_id"].as_str());
    let seen = "{{.Name}} {{.State.Status}} {{.HostConfig.Memory}}";
    let seen = docker(&["inspect", "-f", seen, engines.expect("an id")]).expect("it is there");
    let said = format!(".{name} {} {}", state.expect("a state"), memory.bytes());
    assert!(seen.trim().ends_with(&said), "{what}: it is {seen}, and not {said}");
}

/// Its new name leads to it, and its old one does not.
fn resolves(agentd: &Agentd, name: &str, old: &str) {
    let at = address(agentd, name);
    let ask = |asked: &str| agentd.ctl(&["container", "exec", name, "--", "nslookup", asked]).stdout;
    wait_until(&format!("{name} resolves, and {old} does not"), Duration::from_secs(10), || {
        let (new, old) = (ask(name), ask(old));
        if new.contains(&at) && !old.contains(&at) { Ok(()) } else { Err(format!("{new}\n{old}")) }
    });
}
