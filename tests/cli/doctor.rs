//! `doctor` and `info`, with a daemon and without.

use agent_tests::host::wait_until;
use agent_tests::sim::{LIMIT, Sim, agentctl, finished};
use serde_json::Value;

#[test]
fn doctor_says_what_the_daemon_found() {
    let sim = Sim::start(&[]);
    let answer = sim.ctl(&["doctor"]);
    let report: Value = serde_json::from_str(&sim.ctl(&["doctor", "-o", "json"]).stdout).expect("JSON");
    let checks = report["checks"].as_array().expect("checks");
    assert!(!checks.is_empty());
    let failed = checks.iter().any(|check| check["verdict"] == "fail");
    assert_eq!(answer.status, i32::from(failed), "{answer:?}");
    for check in checks {
        let name = check["name"].as_str().expect("a name");
        assert!(answer.stdout.contains(name), "{name} in {answer:?}");
        if check["verdict"] != "ok"
            && let Some(fix) = check["fix"].as_str()
        {
            assert!(answer.stdout.contains(&format!("fix: {fix}")), "{fix} in {answer:?}");
        }
    }
}

#[test]
fn doctor_without_a_daemon_says_how_to_start_one_and_what_it_sees() {
    let folder = tempfile::tempdir().expect("a folder");
    let answer =
        finished(agentctl(&folder.path().join("none.sock"), &["doctor"]).output().expect("agentctl runs"));
    assert_eq!(answer.status, 7, "{answer:?}");
    assert!(answer.stdout.starts_with("FAIL  daemon"), "{answer:?}");
    for word in ["fix: sudo ", "qemu-img", "dnsmasq", "kvm"] {
        assert!(answer.stdout.contains(word), "{word} in {answer:?}");
    }
}

#[test]
fn info_names_the_host_and_its_backends() {
    let sim = Sim::start(&[]);
    let text = sim.ok(&["info"]);
    for word in ["Daemon:", "Guests run by:", "State in:", "BACKEND"] {
        assert!(text.contains(word), "{word} in {text}");
    }
    let info: Value = serde_json::from_str(&sim.ok(&["info", "-o", "json"])).expect("JSON");
    for backend in info["backends"].as_array().expect("backends") {
        assert!(text.contains(backend["name"].as_str().expect("a name")), "{backend} in {text}");
    }
}

#[test]
fn what_differs_is_told_and_mended_when_that_is_agreed_to() {
    let mut sim = Sim::start(&[]);
    sim.ok(&["image", "build", "micro"]);
    sim.ok(&["vm", "run", "web", "--image", "micro"]);
    sim.ok(&["vm", "stop", "web"]);
    let nothing = sim.ctl(&["doctor", "--fix"]);
    assert!(nothing.stderr.contains("nothing was found that can be mended"), "{nothing:?}");
    // Its definition goes, and cannot be made again.
    let id = sim.get("vm/web").expect("a VM")["id"].clone();
    sim.order(&serde_json::json!({"do": "fail", "target": "vm.ensure_defined", "how": "permanent"}));
    sim.order(&serde_json::json!({"do": "guest", "vm": id, "does": "undefined"}));
    wait_until("it is given up", LIMIT, || match sim.state("vm/web").as_str() {
        "failed" => Ok(()),
        other => Err(other.to_owned()),
    });
    let told = sim.ctl(&["doctor"]).stdout;
    assert!(told.contains("missing  vm/default/web: libvirt has no domain of it"), "{told}");
    assert!(told.contains("--fix: forgets failed attempts at it"), "{told}");
    let unasked = sim.ctl(&["doctor", "--fix"]);
    assert_eq!(unasked.status, 2, "{unasked:?}");
    assert!(unasked.stderr.contains("hint: ") && unasked.stderr.contains("--yes"), "{unasked:?}");
    assert_eq!(sim.state("vm/web"), "failed", "nobody agreed to it");
    let mended = sim.ctl(&["doctor", "--fix", "--yes"]);
    assert!(mended.stderr.contains("done  vm/default/web  it is on the host"), "{mended:?}\n{}", sim.log());
    // On another host, where its disks are not.
    sim.stop();
    sim.again();
    let told = sim.ctl(&["doctor", "--fix", "--yes"]);
    assert!(told.stdout.contains("missing  vm/default/web: its disks are gone"), "{told:?}");
    assert!(told.stdout.contains("by hand: put back "), "{told:?}");
    assert!(!told.stderr.contains("vm/default/web"), "nothing mends that: {told:?}");
}
