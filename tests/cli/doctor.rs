//! `doctor` and `info`, with a daemon and without.

use agent_tests::sim::{Sim, agentctl, finished};
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
