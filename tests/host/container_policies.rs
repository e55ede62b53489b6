//! Policies of containers on a real dockerd: what is run again and how often, and what goes at its time.

use std::time::Duration;

use agent_tests::host::engine::{self, IMAGE, STAY};
use agent_tests::host::{Agentd, wait_until};
use agent_tests::host_test;
use agentd_api::Timestamp;
use serde_json::Value;

use crate::container::{container, until};

/// How far the host's clock was at the beginning of each of its runs, in seconds: all that it says.
fn runs(agentd: &Agentd, name: &str) -> Vec<f64> {
    let said = agentd.ctl(&["container", "logs", name]).stdout;
    said.lines().filter_map(|line| line.split(' ').next()?.parse().ok()).collect()
}

/// When that last happened to a VM or a container.
pub fn when(agentd: &Agentd, kind: &str, name: &str, verb: &str) -> Timestamp {
    let text = agentd.raw(&format!("/v1/events?kind={kind}&name={name}"));
    let all: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"));
    let found = all["items"].as_array().expect("events").iter().rfind(|event| event["verb"] == verb);
    let at = found.and_then(|event| event["at"].as_str()?.parse().ok());
    at.unwrap_or_else(|| panic!("{name} was not {verb}: {text}"))
}

host_test!(docker_what_failed_is_run_again_ever_more_slowly_and_what_expires_goes, |host| {
    let _dockerd = host.start_docker();
    let agentd = host.bare_agentd("state");
    agentd.wait_ready();
    let brief = ["container", "run", "brief", "--image", IMAGE, "--restart", "always", "--expire", "8s"];
    agentd.ok(&[&brief[..], &["--", "sh", "-c", STAY]].concat());
    let at = container(&agentd, "brief")["spec"]["expires_at"].as_str().expect("a time").to_owned();
    let at: Timestamp = at.parse().expect("a time");
    let start = |name: &str, script: &str| {
        let line = ["container", "run", name, "--image", IMAGE, "--restart", "on-failure", "--no-wait"];
        agentd.ok(&[&line[..], &["--", "sh", "-c", script]].concat());
    };

    // It fails once, and is content then.
    start("second", "cat /proc/uptime; [ -e /tmp/second ] && exit 0; touch /tmp/second; exit 1");
    let content = |c: &Value| c["status"]["state"] == "stopped" && c["status"]["exit_code"] == 0;
    let ended = until(&agentd, "second", "content", Duration::from_secs(20), content);
    assert_eq!(ended["status"]["last_stop"]["how"], "exited", "{ended}");

    start("never", "cat /proc/uptime; exit 1");
    let failing = wait_until("it has failed four times", Duration::from_secs(30), || {
        let runs = runs(&agentd, "never");
        if runs.len() >= 4 { Ok(runs) } else { Err(format!("{runs:?}\n{}", agentd.log_text())) }
    });
    // At once at first, then after half a second, and then after twice as long.
    assert!(failing[3] - failing[0] >= 1.5 - 0.02, "sooner than after 0.5 s and 1 s: {failing:?}");
    assert_eq!(runs(&agentd, "second").len(), 2, "it was not run again meanwhile");
    assert_eq!(container(&agentd, "second")["status"]["restarts"], 1);

    wait_until("it is gone", Duration::from_secs(15), || match agentd.get("container", "brief") {
        None => Ok(()),
        Some(still) => Err(still["status"].to_string()),
    });
    let happened = |verb: &str| when(&agentd, "container", "brief", verb);
    let (over, gone) = (happened("expired"), happened("deleted"));
    assert!(at <= over && over <= at.plus(Duration::from_secs(2)), "expired at {over}, not at {at}");
    assert!(gone <= at.plus(Duration::from_secs(5)), "gone at {gone}, and its time was {at}");
    assert!(engine::containers().iter().all(|name| !name.ends_with(".brief")));
    agentd.ok(&["container", "rm", "second", "never"]);
    assert_eq!(engine::containers(), Vec::<String>::new());
});
