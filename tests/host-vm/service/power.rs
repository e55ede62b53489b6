//! The host loses its power amid a hundred creates: what was acknowledged is there, and the host becomes what was asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use agent_tests::boots_test;
use agent_tests::host::wait_until;
use agent_tests::machine::{until, whole};
use serde_json::{Value, json};

use super::{agentd, begin_with_images, furnish, install, ok};

const ALL: usize = 100;
const CALLERS: usize = 4;
/// The power is cut once so many were acknowledged, while the next are under way.
const ENOUGH: usize = 40;
const ACKNOWLEDGED: &str = "acknowledged ";

fn acknowledged(said: &str) -> BTreeSet<&str> {
    // The last line may be half of one.
    let whole = said.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().filter_map(|line| line.strip_prefix(ACKNOWLEDGED)).collect()
}

/// Every other is a volume, which the host has at once; the others are VMs, which have their address at once.
fn what(n: usize) -> (&'static str, String, Value) {
    if n.is_multiple_of(2) {
        ("/v1/volumes", format!("volume-{n}"), json!({"size": "16MiB"}))
    } else {
        ("/v1/vms", format!("vm-{n}"), json!({"image": "micro", "memory": "64MiB", "desired": "stopped"}))
    }
}

fn creates() {
    install(1);
    begin_with_images();
    // What is looked at is not how the package and the images got here.
    ok("sync");
    agentd().wait_ready();
    std::thread::scope(|scope| {
        for caller in 0..CALLERS {
            scope.spawn(move || {
                for n in (caller..ALL).step_by(CALLERS) {
                    let (path, name, spec) = what(n);
                    let answer = agentd().answer_to_post(path, &json!({"name": name, "spec": spec}));
                    let status = answer.split_whitespace().nth(1);
                    assert!(status.is_some_and(|status| status.starts_with("20")), "{answer}");
                    println!("{ACKNOWLEDGED}{name}");
                }
            });
        }
    });
    // Were all of them done, it would not have been amid them.
    std::thread::sleep(Duration::from_secs(60));
}

fn enough(said: &str) -> bool {
    acknowledged(said).len() >= ENOUGH
}

/// All that there is of a kind.
fn all(kind: &str) -> BTreeMap<String, Value> {
    let text = agentd().ok(&["get", kind, "-o", "json"]);
    let list: Value = serde_json::from_str(&text).expect("a list");
    let each = list["items"].as_array().expect("items").iter();
    each.map(|object| (object["name"].as_str().expect("a name").to_owned(), object.clone())).collect()
}

fn address(vm: &Value) -> String {
    let ip = vm.pointer("/status/addresses/0/ip").and_then(Value::as_str);
    ip.unwrap_or_else(|| panic!("{vm}")).to_owned()
}

fn path(volume: &Value) -> String {
    volume["status"]["path"].as_str().unwrap_or_else(|| panic!("{volume}")).to_owned()
}

fn all_that_was_acknowledged_is_there() {
    super::started_by_the_boot();
    let said = std::fs::read_to_string("/payload/said").expect("what was said before");
    let acknowledged = acknowledged(&said);
    assert!((ENOUGH..ALL).contains(&acknowledged.len()), "{} were acknowledged", acknowledged.len());
    let agentd = agentd();
    agentd.wait_ready();
    let (vms, volumes) = (all("vm"), all("volume"));
    let is_there = |name: &str| vms.contains_key(name) || volumes.contains_key(name);
    let lost: Vec<&&str> = acknowledged.iter().filter(|name| !is_there(name)).collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
    println!("{} were acknowledged, {} are there", acknowledged.len(), vms.len() + volumes.len());
    assert!(!vms.is_empty() && !volumes.is_empty(), "both sorts: {acknowledged:?}");
    let addresses: BTreeSet<String> = vms.values().map(address).collect();
    assert_eq!(addresses.len(), vms.len(), "an address is one VM's: {addresses:?}");

    // The host becomes what was asked for: each volume is a whole disk, and there is no other.
    wait_until("the volumes are ready", Duration::from_secs(300), || {
        let states: Vec<Value> = all("volume").values().map(|v| v["status"]["state"].clone()).collect();
        if states.iter().all(|state| state == "ready") { Ok(()) } else { Err(format!("{states:?}")) }
    });
    let paths: BTreeSet<String> = all("volume").values().map(path).collect();
    let pool = paths
        .first()
        .and_then(|path| Path::new(path).parent()?.parent())
        .unwrap_or_else(|| panic!("no pool: {paths:?}"));
    let files = ok(&format!("find {} -type f -name 'volume.*'", pool.display()));
    let files: BTreeSet<String> = files.lines().map(ToOwned::to_owned).collect();
    assert_eq!(files, paths);
    for file in files {
        ok(&format!("qemu-img check -q {file}"));
    }
    let vms: Vec<Value> = all("vm").into_values().collect();
    assert!(vms.iter().all(|vm| vm["status"]["state"] == "stopped"), "{vms:?}");
    let doctor = agentd.ctl(&["doctor"]);
    assert!(!doctor.stdout.contains("fail"), "{doctor:?}");
    // And what was not asked for before can still be had.
    agentd.ok(&["vm", "create", "after", "--image", "micro", "--memory", "64MiB"]);
    assert!(!addresses.contains(&agentd.address("after")));
    agentd.ok(&["delete", "volume/volume-0"]);
}

boots_test!(
    vm_power_is_cut_amid_creates,
    900,
    furnish,
    [until(creates, enough), whole(all_that_was_acknowledged_is_there)]
);
