//! The daemon dies at each change of the host, before it and after it, on the way to a running VM and on the way to its
//! end. Whatever it leaves, the next daemon comes to the same.

use std::time::Duration;

use agentd_api::volume::ATTACHED;
use agentd_api::{ObjectKey, State};
use agentd_drivers::vm::disks::volume_serial;
use agentd_drivers::vm::{Power, VmDriver};
use agentd_drivers::volume::VolumeDriver;
use agentd_drivers::volume::pool::PoolDriver;
use serde_json::json;
use uuid::Uuid;

use super::killer::{Killer, under};
use crate::reconcile::testing::{BOOT, Host, key, wait_until};

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
            let more = json!({"publish": [{"host": 8080, "guest": 80}], "firmware": "uefi", "tpm": true});
            let id = host.vm("web", 2, more).await.id();
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

/// The volume's id, taken by the VM with the spec that names it, as the intents do.
async fn want_volume(host: &Host, vm: &ObjectKey, volume: Uuid, wanted: bool) {
    let owner = vm.clone();
    let taken = host.store.transact(move |tx| match wanted {
        true => tx.allocate(ATTACHED, &volume.to_string(), &owner),
        false => Ok(()),
    });
    taken.await.expect("taken");
    let all = if wanted { json!([{"volume": "data"}]) } else { json!([]) };
    host.set_spec(vm, "volumes", all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_plugged_or_unplugged_cut_off_anywhere_converges() {
    for (wanted, after) in [(true, false), (true, true), (false, false), (false, true)] {
        for n in 1.. {
            let host = furnished().await;
            let spec = json!({"size": "64MiB", "format": "qcow2"});
            let data = key("volume", "data");
            let volume = host.create(&data, &["content"], spec, serde_json::Value::Null).await.id();
            let vm = host.vm("web", 2, json!({})).await.id();
            let web = key("vm", "web");
            let daemon = host.start();
            host.until_state(&web, State::Running).await;
            host.until_state(&data, State::Ready).await;
            if !wanted {
                want_volume(&host, &web, volume, true).await;
                host.until_state(&data, State::Attached).await;
            }
            host.until_quiet().await;
            daemon.stop().await;
            want_volume(&host, &web, volume, wanted).await;
            let goal = if wanted { "attached" } else { "ready" };
            let there = || host.state(&data).as_deref() == Some(goal);
            let died = die_at(&host, n, after, there).await;
            let _daemon = host.start();
            wait_until("it is as wanted", || {
                there() && host.store.owner_of(ATTACHED, &volume.to_string()).is_some() == wanted
            })
            .await;
            let domain = host.vm.observe(vm).await.expect("seen").expect("there");
            assert_eq!(domain.power, Power::Running);
            assert_eq!(domain.disk(&volume_serial(volume)).is_some(), wanted);
            let defined = host.vm.defined(vm).expect("defined");
            assert_eq!(defined.disks.len(), usize::from(wanted));
            assert_eq!(host.pool.list().await.expect("a list"), [volume], "its content stays");
            assert_eq!(host.vm.calls("start"), 1, "the guest was not touched");
            if !died {
                assert!(n > 1, "no change was seen");
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
