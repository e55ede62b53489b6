//! Containers, as whole commands.

use agent_tests::sim::{Sim, steady};
use serde_json::json;

const WEB: [&str; 13] = [
    "container",
    "run",
    "web",
    "--image",
    "tool",
    "--memory",
    "64MiB",
    "--network",
    "default,ip=10.77.0.9",
    "--label=app=web",
    "--privileged",
    "--",
    "serve",
];

#[test]
fn a_container_from_run_to_rm() {
    let sim = Sim::start(&[]);
    let run = sim.ctl(&WEB);
    assert_eq!(run.status, 0, "{run:?}\n{}", sim.log());
    let mut session = steady(&run.stdout);
    for line in [
        &["container", "list"][..],
        &["container", "ls", "-l", "app=web", "--field", "privileged=true", "-o", "name"],
        &["container", "resize", "web", "--cpus", "0.5"],
        &["container", "run", "--image", "tool", "web"],
        &["container", "run", "more", "--image", "tool", "--network", "default,ip=10.77.0.9"],
        &["container", "run", "far", "--image", "tool", "--bind", "/etc:/etc"],
        &["container", "rename", "web", "front"],
        &["container", "exec", "front", "--", "echo", "hello"],
        &["container", "diff", "front"],
    ] {
        session.push_str(&sim.transcript(line));
    }
    for (verb, state) in
        [("pause", "paused"), ("resume", "running"), ("restart", "running"), ("stop", "stopped")]
    {
        let answer = sim.ctl(&["container", verb, "front"]);
        assert_eq!(answer.status, 0, "{verb}: {answer:?}\n{}", sim.log());
        assert!(answer.stderr.ends_with(&format!("container/front: {state}\n")), "{verb}: {answer:?}");
    }
    for line in [
        &["container", "wait", "front"][..],
        &["container", "exec", "front", "--", "echo", "hello"],
        &["container", "logs", "front"],
    ] {
        session.push_str(&sim.transcript(line));
    }
    insta::assert_snapshot!(session);
    let removed = sim.ctl(&["container", "rm", "front"]);
    assert!(removed.stderr.ends_with("container/front: gone\n"), "{removed:?}");
}

#[test]
fn volumes_with_a_file_system_are_for_containers() {
    let sim = Sim::start(&[]);
    let done = |line: &[&str]| {
        let answer = sim.ctl(line);
        assert_eq!(answer.status, 0, "{line:?}: {answer:?}\n{}", sim.log());
    };
    done(&["volume", "create", "data", "--mode", "filesystem", "--size", "64MiB"]);
    done(&["volume", "create", "disk", "--size", "64MiB"]);
    done(&["container", "run", "one", "--image", "tool", "--volume", "data:/data"]);
    done(&["container", "run", "two", "--image", "tool", "--volume", "data:/srv:ro"]);
    let mut session = String::new();
    for line in [
        &["volume", "create", "bad", "--mode", "filesystem", "--size", "64MiB", "--format", "qcow2"][..],
        &["container", "run", "three", "--image", "tool", "--volume", "disk:/data"],
        &["container", "run", "three", "--image", "tool", "--volume", "none:/data"],
        &["vm", "create", "web", "--image", "micro", "--volume", "data"],
        &["volume", "list"],
        &["volume", "resize", "data", "32MiB"],
        &["volume", "rm", "data"],
    ] {
        session.push_str(&sim.transcript(line));
    }
    insta::assert_snapshot!(session);
    done(&["container", "rm", "one", "two"]);
    done(&["volume", "rm", "data"]);
}

#[test]
fn what_somebody_else_made_is_listed_and_adopted() {
    let sim = Sim::start(&[]);
    let foreign = |name: &str, beyond: Option<&str>, privileged: bool| {
        let order = json!({"do": "foreign", "name": name, "image": "tool", "command": ["serve"], "beyond": beyond,
            "privileged": privileged});
        sim.order(&order);
    };
    sim.ok(&["container", "run", "web", "--image", "tool", "--network", "default,ip=10.77.0.9"]);
    foreign("db", None, false);
    foreign("Odd_one", Some("HostConfig.NetworkMode"), false);
    foreign("root", None, true);
    let mut session = String::new();
    for line in [
        &["container", "list", "--all"][..],
        &["container", "list", "--all", "-o", "name"],
        &["container", "list", "--all", "-l", "app=web"],
        &["container", "list", "-o", "name"],
        &["adopt", "container/Odd_one", "--name", "odd"],
        &["adopt", "container/Odd_one"],
        &["adopt", "none"],
        &["adopt", "vm/web"],
        &["adopt", "db", "--name", "web"],
        &["adopt", "db", "--network", "none-such"],
        &["adopt", "db", "--network", "default,ip=10.77.0.20", "--dry-run"],
        &["container", "list", "-o", "name"],
    ] {
        session.push_str(&sim.transcript(line));
    }
    let adopted = sim.ctl(&["adopt", "foreign/db", "--network", "default,ip=10.77.0.20"]);
    assert_eq!(adopted.status, 0, "{adopted:?}\n{}", sim.log());
    session.push_str(&steady(&adopted.stdout));
    for line in [
        &["adopt", "db", "--name", "again"][..],
        &["container", "list", "--all", "-o", "name"],
        &["container", "exec", "db", "--", "echo", "hello"],
    ] {
        session.push_str(&sim.transcript(line));
    }
    let json: serde_json::Value =
        serde_json::from_str(&sim.ok(&["container", "list", "--all", "-o", "json"])).expect("a list");
    assert_eq!(json["items"].as_array().map(Vec::len), Some(2), "{json}");
    let others = &json["foreign"];
    assert_eq!((&others[0]["name"], &others[0]["privileged"]), (&json!("Odd_one"), &json!(false)));
    assert_eq!((&others[1]["name"], &others[1]["privileged"]), (&json!("root"), &json!(true)));
    let yaml = sim.ok(&["container", "list", "--all", "-o", "yaml"]);
    assert!(yaml.contains("name: Odd_one") && yaml.contains("name: web"), "{yaml}");
    sim.order(&json!({"do": "engine", "available": false}));
    session.push_str(&sim.transcript(&["container", "list", "--all"]));
    assert!(sim.ok(&["container", "list", "-o", "name"]).contains("container/web"));
    insta::assert_snapshot!(session);
}
