//! The guests' part of the host's shutdown, over kinds and projects.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use agent_tests::sim::Sim;
use serde_json::Value;

/// The network `default` of another project, as what is no agentctl asks for it.
fn network(sim: &Sim, project: &str) {
    let body = r#"{"name":"default","spec":{"cidr":"10.99.0.0/24"}}"#;
    let mut stream = UnixStream::connect(sim.socket()).expect("agentd-sim");
    write!(
        stream,
        "POST /v1/networks?project={project} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .expect("asked");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 20"), "{answer}");
}

#[test]
fn guests_of_all_projects_stop_in_the_reverse_of_their_order() {
    let mut sim = Sim::start(&[]);
    let said = sim.ctl(&["shutdown"]);
    assert_eq!((said.status, said.stderr.as_str()), (0, "no guests are wanted to run\n"), "{said:?}");
    sim.ok(&["container", "run", "web", "--image", "tool", "--autostart-order", "1"]);
    network(&sim, "other");
    sim.ok(&["--project", "other", "vm", "run", "db", "--image", "micro", "--autostart-order", "2"]);
    sim.ok(&["vm", "run", "plain", "--image", "micro"]);
    sim.ok(&["vm", "create", "off", "--image", "micro"]);

    let dry = sim.ctl(&["shutdown", "--dry-run"]);
    assert_eq!((dry.status, dry.stderr.as_str()), (0, "vm/plain\nvm/db\ncontainer/web\n"), "{dry:?}");
    assert_eq!(sim.state("vm/plain"), "running");

    let done = sim.ctl(&["shutdown"]);
    assert_eq!(done.status, 0, "{done:?}");
    let at = |sim: &Sim, arguments: &[&str]| -> String {
        let text = sim.ok(&[arguments, &["-o", "json"]].concat());
        let guest: Value = serde_json::from_str(&text).expect("an object");
        assert_eq!(guest["status"]["state"], "stopped", "{guest}");
        assert_eq!(guest["spec"]["desired"], "running", "{guest}");
        guest["status"]["last_stop"]["at"].as_str().unwrap_or_else(|| panic!("{guest}")).to_owned()
    };
    let all = |sim: &Sim| {
        [
            at(sim, &["get", "vm/plain"]),
            at(sim, &["--project", "other", "get", "vm/db"]),
            at(sim, &["get", "container/web"]),
        ]
    };
    let stopped = all(&sim);
    assert!(stopped.is_sorted(), "{stopped:?}");
    // Until the host boots: a daemon that only starts anew leaves them off.
    sim.stop();
    sim.again();
    assert_eq!(all(&sim), stopped);
}
