//! The life of a VM as one session, and each form of output.

use agent_tests::sim::{Sim, steady};
use serde_json::Value;

/// A VM that is fixed in everything that would differ.
const WEB: [&str; 12] = [
    "vm",
    "run",
    "web",
    "--image",
    "micro",
    "--cpus",
    "2",
    "--memory",
    "1024MiB",
    "--network",
    "default,ip=10.77.0.9",
    "--label=app=web",
];

#[test]
fn a_vm_from_run_to_rm() {
    let sim = Sim::start(&[]);
    sim.ok(&["image", "build", "micro"]);
    let mut session = String::new();
    let run = sim.ctl(&WEB);
    assert_eq!(run.status, 0, "{run:?}\n{}", sim.log());
    session.push_str(&steady(&run.stdout));
    for line in [
        &["vm", "list"][..],
        &["vm", "list", "-o", "wide"],
        &["vm", "list", "-o", "name"],
        &["vm", "ls", "-l", "app=web", "--field", "state=running"],
        &["vm", "list", "-l", "app=db"],
        &["get", "vm/web", "image/micro", "network", "default"],
        &["image", "list"],
        &["network", "list"],
        &["ssh-key", "list"],
    ] {
        session.push_str(&sim.transcript(line));
    }
    insta::assert_snapshot!(session);
    for (verb, state) in [
        ("pause", "paused"),
        ("resume", "running"),
        ("restart", "running"),
        ("stop", "stopped"),
        ("stop", "stopped"),
        ("start", "running"),
    ] {
        let answer = sim.ctl(&["vm", verb, "web"]);
        assert_eq!(answer.status, 0, "{verb}: {answer:?}\n{}", sim.log());
        assert_eq!(answer.stdout, "", "{verb}: what was done is talk");
        assert!(answer.stderr.ends_with(&format!("vm/web: {state}\n")), "{verb}: {answer:?}");
        assert_eq!(sim.state("vm/web"), state, "{verb}");
    }
    let removed = sim.ctl(&["vm", "rm", "web"]);
    assert_eq!((removed.status, removed.stdout.as_str()), (0, ""), "{removed:?}");
    assert!(removed.stderr.ends_with("vm/web: gone\n"), "{removed:?}");
    assert_eq!(sim.get("vm/web"), None);
}

#[test]
fn json_is_the_api_s_own() {
    let sim = Sim::start(&[]);
    sim.ok(&WEB);
    let ran: Value = serde_json::from_str(&sim.ok(&["vm", "list", "-o", "json"])).expect("JSON");
    assert!(ran["revision"].is_u64() && ran["continue"].is_null(), "a list is the API's list: {ran}");
    let one = sim.ok(&["vm", "show", "web", "-o", "json"]);
    let object: Value = serde_json::from_str(&one).expect("JSON");
    assert_eq!(object, ran["items"][0]);
    assert_eq!(object["spec"]["memory"], "1GiB");
    assert_eq!(object["status"]["addresses"][0]["ip"], "10.77.0.9");
    assert!(
        one.starts_with("{\"kind\":\"vm\",\"project\":\"default\",\"name\":\"web\","),
        "its order is kept: {one}"
    );
    let id = object["id"].as_str().expect("an id");
    assert_eq!(sim.ok(&["get", "vm", id, "-o", "name"]), "vm/web\n", "an id is as good as a name");

    let stopped: Value = serde_json::from_str(&sim.ok(&["vm", "stop", id, "-o", "json"])).expect("JSON");
    assert_eq!(stopped["status"]["state"], "stopped", "what is printed is what came of it");
    assert_eq!(sim.ok(&["vm", "start", "web", "-o", "name"]), "vm/web\n");
}

#[test]
fn yaml_and_details_show_the_same_object() {
    let sim = Sim::start(&[]);
    sim.ok(&WEB);
    let mut session = sim.transcript(&["vm", "show", "web", "-o", "yaml"]);
    session.push_str(&sim.transcript(&["vm", "show", "web"]));
    insta::assert_snapshot!(numbers(&session));
    let described = sim.ok(&["describe", "vm/web"]);
    let events = described.split_once("Events:").expect("events").1;
    for word in ["created", "AGE", "ACTOR"] {
        assert!(events.contains(word), "{word} in {described}");
    }
}

#[test]
fn a_dry_run_changes_nothing() {
    let sim = Sim::start(&[]);
    let mut run = WEB.to_vec();
    run.push("--dry-run");
    let answer = sim.ctl(&run);
    assert_eq!(answer.status, 0, "{answer:?}");
    assert!(answer.stdout.contains("web") && answer.stderr.contains("nothing was changed"), "{answer:?}");
    assert_eq!(sim.get("vm/web"), None);
    sim.ok(&WEB);
    for line in [&["vm", "rm", "web", "--dry-run"][..], &["vm", "stop", "web", "--dry-run"]] {
        let answer = sim.ctl(line);
        assert!(answer.status == 0 && answer.stderr.contains("nothing was changed"), "{line:?}: {answer:?}");
        assert_eq!(sim.state("vm/web"), "running", "{line:?}");
    }
}

#[test]
fn a_created_vm_is_off_and_one_for_once_goes_by_itself() {
    let sim = Sim::start(&[]);
    let created = sim.ctl(&["vm", "create", "cold", "--image", "micro"]);
    assert_eq!(created.status, 0, "{created:?}\n{}", sim.log());
    assert_eq!(sim.state("vm/cold"), "stopped");
    sim.ok(&["vm", "run", "once", "--image", "micro", "--rm"]);
    let once = sim.get("vm/once").expect("it runs");
    assert_eq!(once["spec"]["remove_when_stopped"], true);
    sim.ctl(&["vm", "stop", "once"]);
    agent_tests::host::wait_until("it is gone", agent_tests::sim::LIMIT, || match sim.get("vm/once") {
        None => Ok(()),
        Some(vm) => Err(vm["status"].to_string()),
    });
}

/// Revisions and generations depend on how many passes it took.
fn numbers(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let key = line.trim_start().split(':').next().unwrap_or_default();
        let counted = matches!(key, "revision" | "Revision" | "image_digest" | "host_boot" | "console_log");
        match line.split_once(':').filter(|_| counted) {
            Some((head, _)) => out.push_str(&format!("{head}: ...\n")),
            None => out.push_str(&format!("{line}\n")),
        }
    }
    out
}
