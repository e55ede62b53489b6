//! `watch` and `events --follow`: changes as they come, over a restart of the daemon too.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};

use agent_tests::sim::Sim;
use serde_json::Value;

/// agentctl that goes on until it is ended, read line by line.
pub(crate) struct Following {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Following {
    fn start(sim: &Sim, arguments: &[&str]) -> Self {
        Self::of(&mut sim.command(arguments))
    }

    pub(crate) fn of(command: &mut Command) -> Self {
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("agentctl starts");
        let lines = BufReader::new(child.stdout.take().expect("its output"));
        Self { child, lines }
    }

    /// The next line for which `wanted` holds. A line that never comes is ended by the test run's own limit.
    pub(crate) fn until(&mut self, wanted: impl Fn(&str) -> bool) -> String {
        let mut seen = String::new();
        loop {
            let mut line = String::new();
            assert_ne!(self.lines.read_line(&mut line).expect("a line"), 0, "it ended after\n{seen}");
            if wanted(line.trim_end()) {
                return line.trim_end().to_owned();
            }
            seen.push_str(&line);
        }
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_watch_brings_each_change_once_over_a_restart() {
    let mut sim = Sim::start(&[]);
    let mut watch = Following::start(&sim, &["watch", "vm", "-o", "json"]);
    watch.until(|line| line.contains("bookmark"));
    sim.ok(&["vm", "run", "web", "--image", "micro"]);
    let added: Value = serde_json::from_str(&watch.until(|l| l.contains("\"added\""))).expect("JSON");
    assert_eq!(added["object"]["name"], "web");
    watch.until(|line| line.contains("\"state\":\"running\""));
    sim.stop();
    sim.again();
    sim.ok(&["vm", "rm", "web"]);
    let mut last = added["revision"].as_u64().expect("a revision");
    loop {
        let line: Value = serde_json::from_str(&watch.until(|l| !l.contains("bookmark"))).expect("JSON");
        let revision = line["revision"].as_u64().expect("a revision");
        assert!(revision > last, "{revision} after {last}: {line}");
        last = revision;
        if line["event"] == "deleted" {
            break;
        }
    }
}

#[test]
fn a_watch_of_one_is_a_table_of_its_changes() {
    let sim = Sim::start(&[]);
    sim.ok(&["vm", "run", "other", "--image", "micro"]);
    let mut watch = Following::start(&sim, &["watch", "vm/web"]);
    let heading = watch.until(|_| true);
    assert!(heading.starts_with("EVENT     NAME"), "{heading}");
    sim.ok(&["vm", "run", "web", "--image", "micro"]);
    sim.ok(&["vm", "stop", "other"]);
    let first = watch.until(|_| true);
    assert!(first.starts_with("added     web "), "the other's changes are not shown: {first}");
    watch.until(|line| line.starts_with("modified  web ") && line.contains(" running "));
    sim.ok(&["vm", "rm", "web"]);
    watch.until(|line| line.starts_with("deleted   web "));
}

#[test]
fn events_tell_who_did_what_and_what_became_of_a_request() {
    let mut sim = Sim::start(&[]);
    let mut follow = Following::start(&sim, &["events", "--follow", "-o", "json"]);
    sim.ok(&["vm", "run", "web", "--image", "micro"]);
    let about_web = |line: &str| line.contains("\"name\":\"web\"");
    let created: Value =
        serde_json::from_str(&follow.until(|l| about_web(l) && l.contains("\"created\""))).expect("JSON");
    let actor = created["actor"].as_str().expect("an actor");
    assert!(actor.starts_with("uid:"), "{created}");
    let request = created["request_id"].as_str().expect("a request");

    sim.stop();
    sim.again();
    let of_request = sim.ok(&["events", "--request", request, "-o", "json"]);
    assert!(
        of_request.contains("\"created\"") && of_request.lines().all(|l| l.contains(request)),
        "{of_request}"
    );
    sim.ok(&["vm", "rm", "web"]);
    follow.until(|line| about_web(line) && line.contains("delete"));

    let table = sim.ok(&["events", "vm/web"]);
    assert!(table.starts_with("AGE"), "{table}");
    assert!(!table.contains("image/"), "{table}");
    assert_eq!(sim.ok(&["events", "-n", "2", "-o", "json"]).lines().count(), 2);
}
