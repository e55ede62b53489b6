//! Containers, as whole commands.

use agent_tests::sim::{Sim, steady};

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
