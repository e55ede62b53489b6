//! A VM changed while it runs, on fakes; and the daemon killed at each step of it.

use agentd_api::State;
use agentd_api::vm::Vm;
use agentd_drivers::vm::{VmDriver, VmError};
use serde_json::{Value, json};

use super::crash::die_at;
use crate::claims;
use crate::reconcile::testing::{Daemon, Host, key};

const LAB_IP: &str = "10.78.0.5";
const LAB_MAC: &str = "52:54:00:00:01:05";

fn condition<'a>(o: &'a Value, kind: &str) -> Option<&'a str> {
    let all = o["status"]["conditions"].as_array()?;
    let found = all.iter().find(|c| c["type"] == kind && c["status"] == true)?;
    found["reason"].as_str()
}

/// A VM on `default` that runs, and a network `lab` beside it.
async fn running(host: &Host) -> (Daemon, uuid::Uuid) {
    host.furnish().await;
    host.network("lab", "10.78.0.0/24").await;
    let daemon = host.start();
    let spec = json!({"cpus_max": 4, "memory": "256MiB", "memory_max": "512MiB"});
    let id = host.vm("web", 2, spec).await.id();
    host.until_state(&key("vm", "web"), State::Running).await;
    host.until_quiet().await;
    (daemon, id)
}

/// As the intent does: the address is taken with the wish.
async fn join_lab(host: &Host) {
    let lab = host.store.get(&key("network", "lab")).expect("a network").id();
    let taken = host.store.transact(move |tx| {
        for (space, value) in
            claims::of_interface(lab, LAB_IP.parse().expect("an ip"), LAB_MAC.parse().expect("a mac"))
        {
            tx.allocate(&space, &value, &key("vm", "web"))?;
        }
        Ok::<(), agentd_store::TxError>(())
    });
    taken.await.expect("taken");
    host.update(&key("vm", "web"), |o| {
        let networks = o["spec"]["networks"].as_array_mut().expect("a list");
        networks.push(json!({"network": "lab"}));
        let addresses = o["status"]["addresses"].as_array_mut().expect("a list");
        addresses.push(json!({"network": "lab", "ip": LAB_IP, "mac": LAB_MAC}));
    })
    .await;
}

async fn leave_lab(host: &Host) {
    host.update(&key("vm", "web"), |o| {
        o["spec"]["networks"].as_array_mut().expect("a list").pop();
        let gone = o["status"]["addresses"].as_array_mut().expect("a list").pop().expect("an address");
        o["status"]["leaving"] = json!([gone]);
    })
    .await;
}

fn lab_owner(host: &Host) -> bool {
    let lab = host.store.get(&key("network", "lab")).expect("a network").id();
    host.store.owner_of(&claims::ip_space(lab), LAB_IP).is_some()
}

fn lab_hosts(host: &Host) -> usize {
    let all = host.network.networks();
    all.iter().find(|n| n.name.as_str() == "lab").map_or(0, |n| n.hosts.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn cpus_memory_disk_and_ports_change_without_a_restart() {
    let host = Host::new();
    let (_daemon, id) = running(&host).await;
    let web = key("vm", "web");
    host.update(&web, |o| {
        o["spec"]["cpus"] = json!(3);
        o["spec"]["memory"] = json!("512MiB");
        o["spec"]["disk"] = json!("1GiB");
        o["spec"]["publish"] = json!([{"host": 8080, "guest": 80}]);
    })
    .await;
    let now = host.until(&web, "changed", |o| o["status"]["observed_generation"] == 2).await;
    let live = host.vm.running_with(id).expect("it runs");
    assert_eq!((live.cpus, live.memory.to_string()), (3, "512MiB".to_owned()));
    assert_eq!(host.vm.calls("resize_disk"), 1);
    assert_eq!(host.network.firewall().forwards[0].host, 8080);
    assert_eq!((condition(&now, "pending_restart"), condition(&now, "pending_guest")), (None, None));
    host.set_spec(&web, "publish", json!([])).await;
    host.until(&web, "changed", |o| o["status"]["observed_generation"] == 3).await;
    assert!(host.network.firewall().forwards.is_empty());
    host.set_spec(&web, "cpus", json!(1)).await;
    host.until(&web, "changed", |o| o["status"]["observed_generation"] == 4).await;
    assert_eq!(host.vm.running_with(id).expect("it runs").cpus, 1);
    assert_eq!(host.vm.calls("start"), 1);
    assert!(host.verbs(&web).iter().any(|v| v == "changed"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_machine_and_its_seed_have_from_their_start_waits_for_a_restart_by_name() {
    let host = Host::new();
    let (_daemon, _) = running(&host).await;
    let web = key("vm", "web");
    host.update(&web, |o| {
        o["spec"]["watchdog"] = json!("reset");
        o["spec"]["user_data"] = json!("#cloud-config\n");
        o["spec"]["network_config"] = json!("version: 2\n");
    })
    .await;
    let now = host.until(&web, "told", |o| condition(o, "pending_restart").is_some()).await;
    let why = condition(&now, "pending_restart").expect("it waits");
    for words in ["watchdog off -> reset waits for a restart", "user_data waits", "network_config waits"] {
        assert!(why.contains(words), "no '{words}': {why}");
    }
    assert!(why.contains("first boot only") && !why.contains("ssh_keys"), "{why}");
    // Taken back, nothing waits any more.
    host.set_spec(&web, "user_data", json!(null)).await;
    let now = host.until(&web, "told", |o| o["status"]["observed_generation"] == 3).await;
    let why = condition(&now, "pending_restart").expect("the rest waits");
    assert!(!why.contains("user_data") && why.contains("watchdog"), "{why}");
    host.update(&web, |o| o["status"]["restart_requested"] = json!(true)).await;
    let now = host.until(&web, "started anew", |o| condition(o, "pending_restart").is_none()).await;
    assert_eq!(now["spec"]["watchdog"], "reset");
    host.until_state(&web, State::Running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_guest_does_not_let_go_of_is_asked_for_again() {
    let host = Host::new();
    let (_daemon, id) = running(&host).await;
    let web = key("vm", "web");
    host.set_spec(&web, "cpus", json!(2)).await;
    host.until(&web, "changed", |o| o["status"]["observed_generation"] == 2).await;
    host.vm.hold_on(id, true);
    host.set_spec(&web, "cpus", json!(1)).await;
    let asked = host.until(&web, "asked", |o| condition(o, "pending_guest").is_some()).await;
    assert!(
        condition(&asked, "pending_guest").is_some_and(|why| why.starts_with("cpus 2 -> 1")),
        "{asked:#}"
    );
    assert_eq!(
        (asked["status"]["state"].as_str(), condition(&asked, "pending_restart")),
        (Some("running"), None)
    );
    host.vm.hold_on(id, false);
    host.until(&web, "let go", |o| condition(o, "pending_guest").is_none()).await;
    assert_eq!(host.vm.running_with(id).expect("it runs").cpus, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_a_restart_says_so_by_field_and_is_so_after_it() {
    let host = Host::new();
    let (_daemon, id) = running(&host).await;
    let web = key("vm", "web");
    host.set_spec(&web, "memory_max", json!("1GiB")).await;
    host.set_spec(&web, "memory", json!("1GiB")).await;
    let waits = host
        .until(&web, "waiting", |o| {
            condition(o, "pending_restart").is_some_and(|why| why.contains("memory 256MiB"))
        })
        .await;
    let why = condition(&waits, "pending_restart").unwrap_or_default();
    for part in [
        "memory 256MiB -> 1GiB waits for a restart: it was started with room for 512MiB",
        "memory_max 512MiB -> 1GiB",
    ] {
        assert!(why.contains(part), "{why}");
    }
    host.update(&web, |o| o["status"]["restart_requested"] = json!(true)).await;
    host.until(&web, "restarted", |o| condition(o, "pending_restart").is_none()).await;
    assert_eq!(host.vm.running_with(id).expect("it runs").memory.to_string(), "1GiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interface_is_plugged_in_and_its_address_is_free_only_once_it_is_out() {
    let host = Host::new();
    let (_daemon, id) = running(&host).await;
    let web = key("vm", "web");
    join_lab(&host).await;
    host.until(&web, "joined", |o| o["status"]["observed_generation"] == 2).await;
    let live = host.vm.running_with(id).expect("it runs");
    let tap = host.instance.tap(id, 1);
    assert_eq!(
        (live.nics.len(), live.nics[1].mac.to_string(), &live.nics[1].tap),
        (2, LAB_MAC.to_owned(), &tap)
    );
    assert_eq!(lab_hosts(&host), 1, "it has its place in DHCP and DNS");

    host.vm.hold_on(id, true);
    leave_lab(&host).await;
    host.until(&web, "asked", |o| condition(o, "pending_guest").is_some()).await;
    assert!(lab_owner(&host), "the guest has it still");
    assert_eq!(lab_hosts(&host), 1);
    host.vm.hold_on(id, false);
    let out = host.until(&web, "out", |o| o["status"]["leaving"].is_null()).await;
    assert!(!lab_owner(&host), "{out:#}");
    host.until_quiet().await;
    assert_eq!((host.vm.running_with(id).expect("it runs").nics.len(), lab_hosts(&host)), (1, 0));
    assert!(host.verbs(&web).iter().any(|v| v == "detached"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interface_that_stays_in_is_out_when_the_guest_is_off() {
    let host = Host::new();
    let (_daemon, id) = running(&host).await;
    let web = key("vm", "web");
    join_lab(&host).await;
    host.until(&web, "joined", |o| o["status"]["observed_generation"] == 2).await;
    host.vm.hold_on(id, true);
    leave_lab(&host).await;
    host.until(&web, "asked", |o| condition(o, "pending_guest").is_some()).await;
    host.want(&web, "stopped").await;
    host.until(&web, "off", |o| o["status"]["state"] == "stopped" && o["status"]["leaving"].is_null()).await;
    assert!(!lab_owner(&host));
    host.until_quiet().await;
    assert_eq!(lab_hosts(&host), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_the_host_refuses_does_not_fail_the_vm() {
    let host = Host::new();
    let (_daemon, id) = running(&host).await;
    let web = key("vm", "web");
    host.vm.fail_next("set_cpus", 1, || VmError::Unsupported("no such thing".to_owned()));
    host.set_spec(&web, "cpus", json!(2)).await;
    let waits = host.until(&web, "waiting", |o| condition(o, "pending_restart").is_some()).await;
    assert_eq!(waits["status"]["state"], "running");
    assert!(
        condition(&waits, "pending_restart").is_some_and(|why| why.contains("no such thing")),
        "{waits:#}"
    );
    host.vm
        .fail_next("set_memory", 1, || VmError::Failed { call: "set_memory", detail: "no luck".to_owned() });
    host.set_spec(&web, "memory", json!("512MiB")).await;
    host.until(&web, "done", |_| {
        host.vm.running_with(id).is_some_and(|live| live.memory.to_string() == "512MiB")
    })
    .await;
    assert_eq!(host.vm.calls("start"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hot_plug_cut_off_anywhere_converges() {
    for after in [false, true] {
        for n in 1.. {
            let host = Host::new();
            let (daemon, id) = running(&host).await;
            daemon.stop().await;
            let web = key("vm", "web");
            join_lab(&host).await;
            host.set_spec(&web, "cpus", json!(2)).await;
            let joined = |o: &Host| {
                let live = o.vm.running_with(id);
                live.is_some_and(|live| live.nics.len() == 2 && live.cpus == 2) && lab_hosts(o) == 1
            };
            let died = die_at(&host, n, after, || joined(&host)).await;
            let daemon = host.start();
            host.until(&web, "joined", |_| joined(&host)).await;
            host.until_quiet().await;
            daemon.stop().await;
            assert_eq!((host.vm.calls("start"), host.vm.list().await.expect("a list").len()), (1, 1));
            assert!(lab_owner(&host));
            if !died {
                assert!(n > 3, "only {n} changes were seen");
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unplug_cut_off_anywhere_gives_the_address_back_once() {
    for after in [false, true] {
        for n in 1.. {
            let host = Host::new();
            let (daemon, id) = running(&host).await;
            let web = key("vm", "web");
            join_lab(&host).await;
            host.until(&web, "joined", |o| o["status"]["observed_generation"] == 2).await;
            daemon.stop().await;
            leave_lab(&host).await;
            let out = |o: &Host| !lab_owner(o) && lab_hosts(o) == 0;
            let died = die_at(&host, n, after, || out(&host)).await;
            let has = host.vm.running_with(id).expect("it runs").nics.len() == 2;
            assert!(!has || lab_owner(&host), "given back at step {n} while the guest has it");
            let _daemon = host.start();
            host.until(&web, "out", |_| out(&host)).await;
            assert_eq!(host.vm.running_with(id).expect("it runs").nics.len(), 1);
            let vm = host.get::<Vm>(&web);
            assert_eq!((vm.status.leaving.len(), vm.status.addresses.len()), (0, 1));
            if !died {
                assert!(n > 1, "only {n} changes were seen");
                break;
            }
        }
    }
}
