//! A host that is lost, and another that goes on from its backup: what is there again, what is told to be lost, and what
//! is put back.

use std::path::Path;
use std::time::Duration;

use agent_tests::host::daemon::binary;
use agent_tests::host::{Agentd, guest, namespace, traces, wait_until};
use agent_tests::host_test;
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(60);

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn copy(from: &Path, to: &Path) {
    namespace::run("/usr/bin/cp", &["-a", &text(from), &text(to)]).expect("copied");
}

pub fn restore(file: &Path, state: &Path) -> Result<String, String> {
    let arguments = ["restore", &text(file), "--state-dir", &text(state)];
    namespace::run(&text(&binary("agentd")), &arguments).map_err(|error| format!("{error:#}"))
}

/// All objects by what they are told by, and not by what was seen of them.
fn told(agentd: &Agentd) -> Vec<Value> {
    let of_kind = |kind: &&str| {
        let list: Value = serde_json::from_str(&agentd.ok(&["get", kind, "-o", "json"])).expect("JSON");
        list["items"].as_array().cloned().unwrap_or_default()
    };
    let fields = ["kind", "name", "id", "generation", "created_at", "spec"];
    let all = ["network", "image", "flavor", "vm"];
    all.iter().flat_map(of_kind).map(|object| json!(fields.map(|field| object[field].clone()))).collect()
}

host_test!(vm_and_network_of_a_lost_host_come_back_from_its_backup, |host| {
    let mut lost = host.with_agentd();
    lost.post("/v1/networks", &json!({"name": "lab", "spec": {"cidr": "10.88.0.0/24"}}));
    lost.ok(&["vm", "run", "web", "--image", "micro", "--memory", "128MiB", "--network", "lab"]);
    guest::answers(&lost, "web");
    let written = guest::get(&lost.address("web"), 80, "/cgi-bin/write?kept").expect("written");
    assert_eq!(written.trim(), "kept");
    lost.ok(&["vm", "stop", "web"]);
    let (file, kept) = (host.scratch().join("agentd.backup"), host.scratch().join("kept"));
    lost.ok(&["backup", &text(&file)]);
    let (known, address) = (told(&lost), lost.address("web"));
    let id = lost.vm("web")["id"].as_str().expect("an id").to_owned();
    copy(&lost.state().join("vms").join(&id), &kept);
    let refused = restore(&file, lost.state()).expect_err("a daemon runs there");
    assert!(refused.contains("in use by another agentd"), "{refused}");
    // The host is lost, with all that it had but for what was kept elsewhere.
    lost.ok(&["vm", "rm", "web"]);
    for network in ["lab", "default"] {
        lost.ok(&["delete", &format!("network/{network}")]);
        wait_until("the network is gone", SOON, || match lost.get("network", network) {
            None => Ok(()),
            Some(network) => Err(network.to_string()),
        });
    }
    lost.stop();

    let state = host.scratch().join("fresh");
    let said = restore(&file, &state).expect("restored");
    assert!(said.contains("vm/web (project default): its disks"), "{said}");
    let refused = restore(&file, &state).expect_err("a store is there");
    assert!(refused.contains("is there already"), "{refused}");
    copy(&lost.state().join("images"), &state);
    let fresh = host.bare_agentd("fresh");
    assert_eq!(told(&fresh), known, "ids, generations, specs, times");
    fresh.wait_ready();
    let web = fresh.wait_state("web", "failed", SOON);
    let why = web["status"]["reason"].as_str().unwrap_or_default();
    assert!(why.contains("its disk is gone") && why.contains("agentctl retry vm/web"), "{why}");
    assert!(!state.join("vms").join(&id).exists(), "no other disk is made in its place");
    // One that comes new is on the restored network, and has an address of its own.
    fresh.ok(&["vm", "run", "new", "--image", "micro", "--memory", "128MiB", "--network", "lab"]);
    guest::answers(&fresh, "new");
    assert_eq!(fresh.address("web"), address, "it is still its own");
    assert_ne!(fresh.address("new"), address);
    // What was kept is put back, and is the guest that it was.
    std::fs::create_dir_all(state.join("vms")).expect("a folder");
    copy(&kept, &state.join("vms").join(&id));
    fresh.ok(&["retry", "vm/web"]);
    fresh.wait_state("web", "stopped", SOON);
    fresh.ok(&["vm", "start", "web"]);
    guest::answers(&fresh, "web");
    let held = guest::get(&fresh.address("web"), 80, "/cgi-bin/write").expect("an answer");
    assert_eq!((held.trim(), fresh.address("web")), ("kept", address));
    fresh.ok(&["vm", "rm", "web", "new"]);
    assert_eq!(traces::of_vms(&fresh), Vec::<String>::new());
});
