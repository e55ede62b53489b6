//! Networks on fakes: made, mended, shared by many, and taken away.

use std::sync::Arc;
use std::time::{Duration, Instant};

use agentd_api::State;
use agentd_drivers::network::{NetworkDriver, NetworkError};
use serde_json::json;

use super::ensure_default_network;
use crate::reconcile::testing::{Host, key, wait_until};

#[tokio::test(flavor = "multi_thread")]
async fn the_default_network_is_made_once_where_the_host_has_room() {
    let host = Host::new();
    host.network.set_taken(vec!["10.77.0.0/16".parse().expect("a network")]);
    let driver: Arc<dyn NetworkDriver> = host.network.clone();
    assert!(ensure_default_network(&host.store, &driver, None).await.expect("made"));
    assert!(!ensure_default_network(&host.store, &driver, None).await.expect("there"));
    let _daemon = host.start();
    let default = key("network", "default");
    let seen = host.until_state(&default, State::Ready).await;
    assert_eq!(seen["spec"]["cidr"], "10.78.0.0/24");
    assert_eq!(seen["status"]["gateway"], "10.78.0.1");
    assert_eq!(seen["status"]["domain"], "default.internal");
    assert_eq!(seen["finalizers"], json!(["bridge"]));
    let id = host.store.get(&default).expect("a network").id();
    assert_eq!(seen["status"]["bridge"], host.network.bridge(id));
    assert_eq!(host.network.firewall().networks.len(), 1);
    assert_eq!(host.store.owner_of("cidr", "10.78.0.0/24"), Some(default));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_broken_behind_our_back_is_mended_soon() {
    let host = Host::new();
    let _daemon = host.start();
    let id = host.network("default", "10.77.0.0/24").await.id();
    host.until_state(&key("network", "default"), State::Ready).await;
    host.until_quiet().await;
    let driver: Arc<dyn NetworkDriver> = host.network.clone();
    let started = Instant::now();
    host.network.break_behind_our_back(id);
    host.network.flush_firewall_behind_our_back();
    wait_until("the firewall is back", || host.network.firewall().networks.len() == 1).await;
    while !driver.observe(id).await.expect("an answer").bridge {
        assert!(started.elapsed() < Duration::from_secs(2), "the bridge is not mended");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_cannot_be_made_says_so_and_its_vms_wait() {
    let host = Host::new();
    let _daemon = host.start();
    host.image("micro").await;
    let id = host.network("default", "10.77.0.0/24").await.id();
    let (default, web) = (key("network", "default"), key("vm", "web"));
    host.until_state(&default, State::Ready).await;
    host.network.foreign_bridge(id, true);
    host.network.break_behind_our_back(id);
    let seen = host.until(&default, "in conflict", |o| o["status"]["attempts"]["code"] == "conflict").await;
    assert_eq!(seen["status"]["state"], "provisioning");
    host.vm("web", 2, json!({})).await;
    host.until(&web, "waiting", |o| {
        o["status"]["reason"].as_str().is_some_and(|r| r.contains("network 'default' is not ready"))
    })
    .await;
    assert!(host.vm.defined(host.store.get(&web).expect("a VM").id()).is_none());
    host.network.foreign_bridge(id, false);
    host.until_state(&default, State::Ready).await;
    host.until_state(&web, State::Running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_without_dnsmasq_says_so_and_its_vms_can_be_deleted() {
    let host = Host::new();
    host.network.set_missing(vec![("dnsmasq".to_owned(), "dnsmasq-base".to_owned())]);
    let _daemon = host.start();
    host.furnish().await;
    host.vm("web", 2, json!({})).await;
    let (default, web) = (key("network", "default"), key("vm", "web"));
    let seen = host.until_state(&default, State::Failed).await;
    assert_eq!(seen["status"]["attempts"]["code"], "unsupported");
    let seen = host.until_state(&web, State::Failed).await;
    assert!(seen["status"]["reason"].as_str().is_some_and(|r| r.contains("dnsmasq")), "{seen}");
    host.delete(&web).await;
    host.until_gone(&web).await;
    host.network.set_missing(Vec::new());
    host.retry(&default).await;
    host.until_state(&default, State::Ready).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_vms_at_once_are_few_changes_of_the_network() {
    const VMS: u8 = 100;
    let host = Host::new();
    let _daemon = host.start();
    host.furnish().await;
    host.until_state(&key("image", "micro"), State::Ready).await;
    host.until_state(&key("network", "default"), State::Ready).await;
    host.until_quiet().await;
    let before = host.network.faults().calls("ensure");
    host.network.faults().slow("ensure", Duration::from_millis(50));
    for n in 0..VMS {
        host.vm(&format!("v{n}"), n + 2, json!({})).await;
    }
    for n in 0..VMS {
        host.until_state(&key("vm", &format!("v{n}")), State::Running).await;
    }
    assert_eq!(host.network.networks()[0].hosts.len(), usize::from(VMS));
    let ensures = host.network.faults().calls("ensure") - before;
    // Eight VMs are worked on at once, and each round serves all of them that wait.
    assert!(ensures <= u64::from(VMS) / 2, "{ensures} changes for {VMS} VMs");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_goes_when_no_vm_is_on_it() {
    let host = Host::new();
    let _daemon = host.start();
    host.furnish().await;
    let id = host.store.get(&key("network", "default")).expect("a network").id();
    host.vm("web", 2, json!({})).await;
    let (default, web) = (key("network", "default"), key("vm", "web"));
    host.until_state(&web, State::Running).await;
    host.delete(&default).await;
    let seen =
        host.until(&default, "held by its VM", |o| o["status"]["attempts"]["code"] == "conflict").await;
    assert_eq!(seen["status"]["state"], "deleting");
    assert!(host.network.network(id).is_some(), "the VM still needs it");
    host.delete(&web).await;
    host.until_gone(&web).await;
    host.until_gone(&default).await;
    assert!(host.network.networks().is_empty());
    assert!(host.network.firewall().networks.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_of_the_driver_is_tried_again() {
    let host = Host::new();
    let busy = || NetworkError::Failed { step: "netlink".to_owned(), detail: "busy".to_owned() };
    host.network.faults().fail_next("ensure", 1, busy);
    let _daemon = host.start();
    host.network("default", "10.77.0.0/24").await;
    let default = key("network", "default");
    host.until_state(&default, State::Ready).await;
}
