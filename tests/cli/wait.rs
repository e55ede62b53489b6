//! Waiting: what is said meanwhile, what ends it, and that nothing is undone by its end.

use std::io::{BufRead, BufReader, Read};
use std::process::Stdio;

use agent_tests::host::{signal, wait_until};
use agent_tests::sim::{LIMIT, Sim};
use nix::sys::signal::Signal;
use serde_json::json;

/// `lines` are there, in that order, others between them or not.
fn in_order(text: &str, lines: &[&str]) {
    let mut rest = text;
    for line in lines {
        let at = rest
            .find(line)
            .unwrap_or_else(|| panic!("'{line}' is not there, or not in its place, in\n{text}"));
        rest = &rest[at + line.len()..];
    }
}

#[test]
fn a_run_that_builds_its_image_says_how_far_it_is() {
    let sim = Sim::start(&["--delay", "image.build=300ms", "--delay", "vm.start=200ms"]);
    let answer = sim.ctl(&["vm", "run", "web", "--image", "micro"]);
    assert_eq!(answer.status, 0, "{answer:?}\n{}", sim.log());
    in_order(&answer.stderr, &["vm/web: pending", "image/micro: provisioning", "vm/web: running\n"]);
    assert!(answer.stderr.lines().count() < 60, "a log stays short: {}", answer.stderr);
    assert!(!answer.stderr.contains('\u{1b}') && !answer.stdout.contains('\u{1b}'), "no codes in a pipe");
    assert_eq!(answer.stdout.lines().count(), 2, "{}", answer.stdout);
}

#[test]
fn a_failure_has_its_reason_and_exit_status() {
    let sim = Sim::start(&["--fault", "vm.start=fail:99:permanent"]);
    let answer = sim.ctl(&["vm", "run", "web", "--image", "micro"]);
    assert_eq!(answer.status, 1, "{answer:?}");
    in_order(&answer.stderr, &["error: vm/web: ", "told to fail", "hint: ", "agentctl retry vm/web"]);
    assert_eq!(sim.state("vm/web"), "failed", "what was made stays, with its reason");

    let sim = Sim::start(&["--fault", "vm.start=fail:99:unsupported"]);
    let answer = sim.ctl(&["vm", "run", "web", "--image", "micro"]);
    assert_eq!(answer.status, 5, "{answer:?}");
}

#[test]
fn retry_has_another_try() {
    let sim = Sim::start(&["--fault", "vm.start=fail:1:permanent"]);
    assert_eq!(sim.ctl(&["vm", "run", "web", "--image", "micro"]).status, 1);
    let retry = sim.ctl(&["retry", "vm/web"]);
    assert_eq!((retry.status, retry.stderr.as_str()), (0, "vm/web: is tried again\n"));
    wait_until("it runs", LIMIT, || match sim.state("vm/web").as_str() {
        "running" => Ok(()),
        other => Err(other.to_owned()),
    });
}

#[test]
fn a_time_limit_names_the_last_state_and_undoes_nothing() {
    let sim = Sim::start(&["--fault", "vm.start=hang"]);
    let answer = sim.ctl(&["vm", "run", "web", "--image", "micro", "--timeout", "1s"]);
    assert_eq!(answer.status, 8, "{answer:?}");
    in_order(
        &answer.stderr,
        &["error: vm/web: not running after 1s; it is provisioning", "hint: it goes on"],
    );
    sim.order(&json!({"do": "release", "target": "vm.start"}));
    wait_until("it runs all the same", LIMIT, || match sim.state("vm/web").as_str() {
        "running" => Ok(()),
        other => Err(other.to_owned()),
    });
}

#[test]
fn ctrl_c_leaves_the_vm_in_the_making_and_says_so() {
    let sim = Sim::start(&["--fault", "vm.start=hang"]);
    let mut child = sim
        .command(&["vm", "run", "web", "--image", "micro"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("agentctl starts");
    let mut talk = BufReader::new(child.stderr.take().expect("its talk"));
    let mut said = String::new();
    // It waits, and so it listens to Ctrl-C, once it has said the first line.
    while !said.contains("vm/web: ") {
        assert_ne!(talk.read_line(&mut said).expect("a line"), 0, "it ended: {said}");
    }
    wait_until("it is being started", LIMIT, || match sim.state("vm/web").as_str() {
        "provisioning" => Ok(()),
        other => Err(other.to_owned()),
    });
    signal(child.id(), Signal::SIGINT);
    talk.read_to_string(&mut said).expect("the rest");
    assert_eq!(child.wait().expect("an end").code(), Some(130), "{said}");
    in_order(&said, &["error: vm/web: interrupted; it is provisioning", "agentd goes on with it"]);
    sim.order(&json!({"do": "release", "target": "vm.start"}));
    wait_until("it runs all the same", LIMIT, || match sim.state("vm/web").as_str() {
        "running" => Ok(()),
        other => Err(other.to_owned()),
    });
}

#[test]
fn without_waiting_the_answer_comes_at_once() {
    let sim = Sim::start(&["--fault", "vm.start=hang"]);
    let answer = sim.ctl(&["vm", "run", "web", "--image", "micro", "--no-wait", "-o", "name"]);
    assert_eq!((answer.status, answer.stdout.as_str()), (0, "vm/web\n"), "{answer:?}");
    let removed = sim.ctl(&["vm", "rm", "web", "--no-wait"]);
    assert_eq!((removed.status, removed.stderr.as_str()), (0, "vm/web: marked for deletion\n"));
    sim.order(&json!({"do": "release", "target": "vm.start"}));
}

#[test]
fn a_daemon_that_restarts_is_waited_for() {
    let mut sim = Sim::start(&["--delay", "image.build=1s"]);
    let mut child = sim
        .command(&["image", "build", "micro"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("agentctl starts");
    let mut talk = BufReader::new(child.stderr.take().expect("its talk"));
    let mut said = String::new();
    let mut until = |line: &str, said: &mut String| {
        while !said.contains(line) {
            assert_ne!(talk.read_line(said).expect("a line"), 0, "it ended: {said}");
        }
    };
    until("image/micro: provisioning", &mut said);
    sim.kill();
    until("waiting for it to come back", &mut said);
    sim.again();
    until("image/micro: ready", &mut said);
    assert_eq!(child.wait().expect("an end").code(), Some(0), "{said}\n{}", sim.log());
}

#[test]
fn a_daemon_that_stays_away_is_waited_for_until_the_time_limit() {
    let mut sim = Sim::start(&["--fault", "vm.start=hang"]);
    let mut child = sim
        .command(&["vm", "run", "web", "--image", "micro", "--timeout", "4s"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("agentctl starts");
    let mut talk = BufReader::new(child.stderr.take().expect("its talk"));
    let mut said = String::new();
    while !said.contains("vm/web: ") {
        assert_ne!(talk.read_line(&mut said).expect("a line"), 0, "it ended: {said}");
    }
    sim.kill();
    talk.read_to_string(&mut said).expect("the rest");
    assert_eq!(child.wait().expect("an end").code(), Some(8), "{said}");
    in_order(
        &said,
        &[
            "waiting for it to come back",
            "error: vm/web: not running after 4s; it was ",
            "when agentd was last heard: ",
            "hint: once agentd is back it goes on",
        ],
    );
    assert_eq!(said.matches("waiting for it to come back").count(), 1, "told once: {said}");
    assert_eq!(sim.ctl(&["get", "vm/web"]).status, 7, "and without waiting it is said at once");
}
