//! What is refused names its field, has the exit status of its sort, and leaves nothing behind.

use agent_tests::sim::Sim;
use serde_json::json;

fn run<'a>(name: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["vm", "run", name, "--image", "micro"][..], more].concat()
}

#[test]
fn each_refusal_names_its_field_and_leaves_nothing() {
    let sim = Sim::start(&[]);
    sim.ok(&["image", "build", "micro"]);
    let big = sim.file("user-data", vec![b'#'; 1 << 20]);
    let binary = sim.file("binary", [0xff, 0xfe, 0x00]);
    let long = "a".repeat(64);
    let mut session = String::new();
    for (line, exit, field) in [
        (vec!["vm", "run", "a", "--image", "nothing-of-this-name"], 2, "spec.image"),
        (run("a", &["--memory", "1GB2"]), 2, "spec.memory"),
        (run("a", &["--memory", "900TiB"]), 1, "spec.memory"),
        (run("a", &["--memory", "1MiB"]), 2, "spec.memory"),
        (run("a", &["--cpus", "0"]), 2, "spec.cpus"),
        (run("a", &["--disk", "tiny"]), 2, "spec.disk"),
        (run("a", &["--grace", "2h"]), 2, "spec.grace"),
        (run("a", &["--network", "nowhere"]), 2, "spec.networks[0].network"),
        (run("a", &["--network", "default,ip=192.0.2.1"]), 2, "spec.networks[0].ip"),
        (run("a", &["--network", "default,ip=here"]), 2, "spec.networks[0].ip"),
        (run("a", &["--ssh-key", "nobody"]), 2, "spec.ssh_keys[0]"),
        (run(&long, &[]), 2, "name"),
        (run("../a", &[]), 2, "name"),
        (run("a<b>&\"'", &[]), 2, "name"),
        (run("a", &["--user-data", &big]), 2, "spec.user_data"),
        (run("a", &["--user-data", &binary]), 2, "spec.user_data"),
        (run("a", &["--cpus", "0", "--grace", "2h"]), 2, "spec.cpus"),
    ] {
        let answer = sim.ctl(&line);
        assert!(answer.stderr.contains(field), "{line:?} does not name {field}: {answer:?}");
        assert_eq!(answer.stdout, "", "{line:?}: {answer:?}");
        assert_eq!(answer.status, exit, "{line:?}: {answer:?}");
        session.push_str(&sim.transcript(&line));
    }
    assert_eq!(sim.ok(&["get", "vm", "-o", "name"]), "");
    insta::assert_snapshot!(anywhere(&session));
}

/// Without how much memory this machine has, as the refusal of too much says it.
fn anywhere(session: &str) -> String {
    let (before, rest) = session.split_once("900TiB is more than the ").expect("the refusal of too much");
    let (_, after) = rest.split_once(" MiB that this host has").expect("its limit");
    format!("{before}900TiB is more than the NNN MiB that this host has{after}")
}

#[test]
fn what_is_there_is_not_made_again_and_what_is_used_is_not_removed() {
    let sim = Sim::start(&[]);
    sim.ok(&run("web", &[]));
    let before = sim.get("vm/web").expect("it is there");
    let mut session = String::new();
    for (line, exit) in [
        (run("web", &[]), 4),
        (vec!["image", "rm", "micro"], 4),
        (vec!["delete", "network/default"], 4),
        (run("other", &["--network", "default,ip=10.77.0.2"]), 4),
        (vec!["vm", "rm", "nobody"], 3),
        (vec!["vm", "start", "nobody"], 3),
        (vec!["vm", "show", "nobody"], 3),
        (vec!["get", "image/nothing"], 3),
        (vec!["get", "vm/UPPER"], 2),
        (vec!["vm", "list", "-l", "a=b=c"], 2),
        (vec!["vm", "list", "--field", "colour=red"], 2),
        (vec!["get", "pods"], 2),
        (vec!["retry", "vm"], 2),
        (vec!["delete", "vm"], 2),
        (vec!["--project", "nowhere", "vm", "show", "web"], 3),
    ] {
        let answer = sim.ctl(&line);
        assert_eq!(answer.status, exit, "{line:?}: {answer:?}");
        session.push_str(&sim.transcript(&line));
    }
    let hints = session.lines().filter(|l| l.contains("hint:")).count();
    assert!(hints >= 8, "only {hints} hints in\n{session}");
    insta::assert_snapshot!(session);
    let after = sim.get("vm/web").expect("it is there");
    assert_eq!((&before["spec"], &before["id"]), (&after["spec"], &after["id"]));
}

#[test]
fn a_port_that_a_program_of_the_host_has_is_refused_with_who_it_is() {
    let sim = Sim::start(&[]);
    sim.ok(&run("web", &[]));
    let nginx = json!({"program": "nginx", "pid": 812, "address": "0.0.0.0", "port": 8080});
    sim.order(&json!({"do": "listeners", "listeners": [nginx]}));
    for line in [
        run("other", &["--publish", "8080:80"]),
        run("other", &["--publish", "127.0.0.1:8080:80", "--dry-run"]),
        vec!["vm", "publish", "web", "8080:80"],
    ] {
        let answer = sim.ctl(&line);
        assert_eq!((answer.status, answer.stdout.as_str()), (4, ""), "{line:?}: {answer:?}");
        for says in [
            "spec.publish[0].host: port 8080/tcp is taken on this host by nginx (pid 812)\n",
            "hint: publish another port, or end what listens there\n",
        ] {
            assert!(answer.stderr.contains(says), "{line:?}: {answer:?}");
        }
    }
    assert_eq!(sim.ok(&["get", "vm", "-o", "name"]), "vm/web\n");
    sim.ok(&["vm", "publish", "web", "8081:80"]);
    sim.order(&json!({"do": "listeners", "listeners": []}));
    sim.ok(&["vm", "publish", "web", "8080:80"]);
}

#[test]
fn what_is_none_of_the_flags_is_usage() {
    let sim = Sim::start(&[]);
    for line in [
        &["vm"][..],
        &["vm", "migrate", "web"],
        &["vm", "run", "web"],
        &["vm", "run", "web", "--image", "micro", "--publish", "eighty"],
        &["vm", "rm"],
        &["vm", "list", "-o", "xml"],
        &["--project", "Ü", "vm", "list"],
        &["completion", "tcsh"],
    ] {
        let answer = sim.ctl(line);
        assert_eq!((answer.status, answer.stdout.as_str()), (2, ""), "{line:?}: {answer:?}");
    }
}
