//! The daemon dies at each change of the host, before it and after it, on the way to a running VM and on the way to its
//! end. Whatever it leaves, the next daemon comes to the same.

use std::time::Duration;

use agentd_api::State;
use agentd_drivers::vm::{Power, VmDriver};
use agentd_drivers::volume::VolumeDriver;
use serde_json::json;

use super::killer::{Killer, under};
use crate::reconcile::testing::{BOOT, Host, key};

/// A way has come to its end when the daemon has not died of the next change for this long after the goal was reached.
const NO_MORE: Duration = Duration::from_millis(600);

pub(super) async fn furnished() -> Host {
    let host = Host::new();
    host.furnish().await;
    host
}

/// Starts a daemon that dies at change `n`, waits until it has or the goal is reached, and starts one that lives.
/// Whether it died.
pub(super) async fn die_at(host: &Host, n: i64, after: bool, goal: impl Fn() -> bool) -> bool {
    let killer = Killer::at(n, after);
    let daemon = host.start_with(under(&killer, &host.drivers()), BOOT);
    let reached = async {
        while !goal() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(NO_MORE).await;
    };
    let died = tokio::select! {
        () = killer.dead.notified() => true,
        () = reached => false,
        () = tokio::time::sleep(Duration::from_secs(20)) => panic!("neither death nor the goal at change {n}"),
    };
    daemon.kill();
    died
}

#[tokio::test(flavor = "multi_thread")]
async fn a_creation_cut_off_anywhere_converges() {
    for after in [false, true] {
        for n in 1.. {
            let host = furnished().await;
            let id = host.vm("web", 2, json!({"publish": [{"host": 8080, "guest": 80}]})).await.id();
            let web = key("vm", "web");
            let died = die_at(&host, n, after, || host.state(&web).as_deref() == Some("running")).await;
            let _daemon = host.start();
            host.until_state(&web, State::Running).await;
            let domains = host.vm.list().await.expect("a list");
            assert_eq!(domains.len(), 1, "one VM, one domain");
            assert_eq!((domains[0].id, domains[0].power), (id, Power::Running));
            assert_eq!(host.volume.list().await.expect("a list"), [id]);
            assert_eq!(host.network.networks()[0].hosts.len(), 1);
            assert_eq!(host.network.firewall().forwards.len(), 1);
            if !died {
                assert!(n > 6, "only {n} changes were seen");
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_cut_off_anywhere_leaves_nothing() {
    for after in [false, true] {
        for n in 1.. {
            let host = furnished().await;
            host.vm("web", 2, json!({"publish": [{"host": 8080, "guest": 80}]})).await;
            let web = key("vm", "web");
            let daemon = host.start();
            host.until_state(&web, State::Running).await;
            daemon.stop().await;
            host.delete(&web).await;
            let died = die_at(&host, n, after, || host.store.get(&web).is_none()).await;
            let _daemon = host.start();
            host.until_gone(&web).await;
            assert!(host.vm.list().await.expect("a list").is_empty());
            assert!(host.volume.list().await.expect("a list").is_empty());
            host.until_quiet().await;
            assert!(host.network.networks()[0].hosts.is_empty());
            assert!(host.network.firewall().forwards.is_empty());
            if !died {
                assert!(n > 4, "only {n} changes were seen");
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_belongs_to_no_object_is_told_and_left_as_it_is() {
    let host = furnished().await;
    host.vm("web", 2, json!({})).await;
    let web = key("vm", "web");
    let daemon = host.start();
    let id = host.store.get(&web).expect("a VM").id();
    host.until_state(&web, State::Running).await;
    daemon.stop().await;
    let mut orphan = host.vm.defined(id).expect("a domain");
    orphan.id = uuid::Uuid::now_v7();
    host.vm.ensure_defined(&orphan).await.expect("defined");
    host.vm.start(orphan.id).await.expect("started");
    host.volume.console_log(orphan.id).await.expect("a folder");
    let _daemon = host.start();
    let told = || {
        let all = host.store.events(&agentd_store::EventQuery::default()).items;
        all.iter().filter(|e| e.verb == "orphaned" && e.id == orphan.id).count()
    };
    // The domain and the folder.
    crate::reconcile::testing::wait_until("both are told of", || told() == 2).await;
    host.until_quiet().await;
    let folders: std::collections::BTreeSet<_> =
        host.volume.list().await.expect("a list").into_iter().collect();
    assert_eq!(folders, [id, orphan.id].into());
    assert_eq!(host.vm.list().await.expect("a list").len(), 2);
    assert_eq!(host.state(&web).as_deref(), Some("running"));
}
