//! A store that is older than its host, as after an old backup was restored: what nobody owns is named, what loses nothing
//! is mended, and the rest is left until a person does what doctor says.

use std::path::Path;
use std::time::Duration;

use agent_tests::host::engine::{IMAGE, STAY, containers, docker};
use agent_tests::host::{Agentd, guest, namespace, traces, virsh, wait_until};
use agent_tests::host_test;
use serde_json::{Value, json};

use crate::backup::restore;

const SOON: Duration = Duration::from_secs(60);

fn sh(script: &str) -> Result<String, String> {
    namespace::run("/bin/sh", &["-c", script]).map_err(|error| format!("{error:#}"))
}

/// What doctor finds that is nobody's: (subject, what `--fix` does, what a person types).
fn findings(agentd: &Agentd) -> Vec<(String, Option<String>, Option<String>)> {
    let report: Value =
        serde_json::from_str(&agentd.ctl(&["doctor", "-o", "json"]).stdout).expect("a report");
    let all = report["findings"].as_array().cloned().unwrap_or_default();
    let text = |finding: &Value, key: &str| finding[key].as_str().map(ToOwned::to_owned);
    all.iter()
        .inspect(|finding| assert_eq!(finding["sort"], "orphan", "{finding}"))
        .map(|one| (text(one, "subject").expect("a subject"), text(one, "fix"), text(one, "by_hand")))
        .collect()
}

fn subjects(agentd: &Agentd) -> Vec<String> {
    let mut all: Vec<String> = findings(agentd).into_iter().map(|(subject, ..)| subject).collect();
    all.sort();
    all
}

fn id(agentd: &Agentd, kind: &str, name: &str) -> String {
    let object = agentd.get(kind, name).unwrap_or_else(|| panic!("no {kind}/{name}"));
    object["id"].as_str().expect("an id").to_owned()
}

/// Another store in the place of the daemon's, as `file` says.
fn set_back(agentd: &mut Agentd, file: &Path) {
    agentd.stop();
    for name in ["agentd.db", "agentd.db-wal", "agentd.db-shm", "agentd.db.mark"] {
        let _ = std::fs::remove_file(agentd.state().join(name));
    }
    restore(file, agentd.state()).expect("restored");
    agentd.start();
}

host_test!(vm_and_container_orphans_are_named_and_what_loses_nothing_is_mended, |host| {
    let mut agentd = host.with_agentd();
    let _docker = host.start_docker();
    agentd.wait_ready();
    let backup = host.scratch().join("agentd.backup");
    agentd.ok(&["backup", &backup.to_string_lossy()]);

    let saved = host.scratch().join("box.tar").to_string_lossy().into_owned();
    docker(&["save", "-o", &saved, IMAGE]).expect("saved");
    agentd.ok(&["image", "load", &saved, "--name", "tool"]);
    agentd.post("/v1/networks", &json!({"name": "lab", "spec": {"cidr": "10.88.0.0/24"}}));
    agentd.ok(&["volume", "create", "data", "--size", "16MiB"]);
    for name in ["on", "off"] {
        agentd.ok(&["vm", "run", name, "--image", "micro", "--memory", "128MiB", "--network", "lab"]);
    }
    let line = ["container", "run", "box", "--image", IMAGE, "--network", "lab"];
    agentd.ok(&[&line[..], &["--", "sh", "-c", STAY]].concat());
    guest::answers(&agentd, "on");
    agentd.ok(&["vm", "stop", "off"]);
    let [on, off] = ["on", "off"].map(|name| id(&agentd, "vm", name));
    let (lab, container) = (id(&agentd, "network", "lab"), id(&agentd, "container", "box"));
    let (data, tool) = (id(&agentd, "volume", "data"), id(&agentd, "image", "tool"));
    let bridge =
        agentd.get("network", "lab").expect("lab")["status"]["bridge"].as_str().expect("a bridge").to_owned();
    let address = agentd.address("on");
    assert_eq!(subjects(&agentd), [""; 0]);

    set_back(&mut agentd, &backup);
    let mut expected = vec![
        format!("container-image/{tool}"),
        format!("container/{container}"),
        format!("domain/{off}"),
        format!("domain/{on}"),
        format!("network/{lab}"),
        format!("vm-folder/{off}"),
        format!("vm-folder/{on}"),
        format!("volume/{data}"),
    ];
    expected.sort();
    assert_eq!(subjects(&agentd), expected);
    // What runs goes on, and only the stopped domain's definition is taken away.
    let mended = agentd.ctl(&["doctor", "--fix", "--yes"]);
    assert!(mended.stderr.contains("its definition is removed"), "{mended:?}");
    expected.retain(|subject| *subject != format!("domain/{off}"));
    assert_eq!(subjects(&agentd), expected);
    assert!(virsh(&["list", "--all", "--uuid"]).expect("libvirt").trim() == on, "one domain is left");
    assert!(guest::get(&address, 80, "/").is_ok_and(|page| page.contains(&address)), "the guest answers");
    assert!(containers().len() == 1 && traces::links().contains(&bridge));

    // What doctor says is to be done by hand does it. First what runs, then what it held.
    let by_hand = |subject: &str| {
        let all = findings(&agentd);
        let one = all.iter().find(|(found, ..)| found == subject);
        let command = one.and_then(|(.., by_hand)| by_hand.clone());
        command.unwrap_or_else(|| panic!("nothing is to be done by hand about {subject}: {all:?}"))
    };
    let shutdown = by_hand(&format!("domain/{on}"));
    sh(shutdown.split(',').next().expect("a command")).expect("asked to power off");
    wait_until("the guest is off", SOON, || {
        let state = virsh(&["domstate", &on])?;
        if state.trim() == "shut off" { Ok(()) } else { Err(state) }
    });
    sh(&by_hand(&format!("container/{container}"))).expect("done");
    agentd.ctl(&["doctor", "--fix", "--yes"]);
    assert!(virsh(&["list", "--all", "--uuid"]).expect("libvirt").trim().is_empty());
    assert!(!traces::links().contains(&bridge), "its bridge is gone");
    for what in [format!("container-image/{tool}"), format!("volume/{data}")] {
        sh(&by_hand(&what)).expect("done");
    }
    for folder in [&on, &off] {
        assert!(
            agentd.state().join("vms").join(folder).is_dir(),
            "its disks are left until somebody says so"
        );
        sh(&by_hand(&format!("vm-folder/{folder}"))).expect("done");
    }
    assert_eq!(subjects(&agentd), [""; 0]);
    assert_eq!(traces::of_vms(&agentd), [""; 0]);
    assert!(docker(&["image", "inspect", IMAGE]).is_ok(), "what was never agentd's is there");
    // It goes on as if nothing had been.
    agentd.ok(&["vm", "run", "new", "--image", "micro", "--memory", "128MiB"]);
    guest::answers(&agentd, "new");
    agentd.ok(&["delete", "vm/new"]);
});
