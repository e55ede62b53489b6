//! Clones: their disks are made of their source's, whatever happens to the daemon meanwhile, and what they stand on goes
//! with the last of them.

use std::sync::Arc;

use agentd_api::State;
use agentd_api::snapshot::Snapshot;
use agentd_api::vm::Vm;
use agentd_api::{Kind, ObjectKey};
use agentd_drivers::vm::{Power, VmDriver};
use agentd_drivers::volume::sets::DiskSets;
use agentd_drivers::volume::{VolumeDriver, VolumeError};
use agentd_store::{Query, Stored};
use serde_json::{Value, json};
use uuid::Uuid;

use super::crash::{die_at, furnished};
use crate::reconcile::testing::{Host, key};

const SOURCE: &str = "web";

/// A source that runs with a further disk.
async fn running(host: &Host) -> Uuid {
    let id = host.vm(SOURCE, 2, json!({"disks": [{"size": "64MiB"}]})).await.id();
    host.until_state(&key("vm", SOURCE), State::Running).await;
    id
}

/// As the intents write a clone down, with a snapshot of its own where `of` names none.
async fn clone(host: &Host, name: &str, last: u8, mode: &str, of: Option<&str>) -> Arc<Stored> {
    let source = host.get::<Vm>(&key("vm", SOURCE));
    let own = format!("for-{name}");
    let snapshot = match of {
        Some(of) => host.store.get(&key("snapshot", of)).expect("a snapshot"),
        None => {
            let status = json!({"vm_id": source.meta.id, "taken_for": {"clone": name}});
            host.create(&key("snapshot", &own), &["disks"], json!({"vm": SOURCE}), status).await
        }
    };
    let spec = json!({
        "image": "micro", "source": {"vm": SOURCE, "mode": mode}, "disks": [{"size": "64MiB"}],
        "networks": [{"network": "default"}],
    });
    let spec: agentd_api::vm::VmSpec = serde_json::from_value(spec).expect("a spec");
    let mut bases: Vec<Uuid> = source.status.origin.map(|origin| origin.bases).unwrap_or_default();
    if mode == "linked" {
        bases.insert(0, snapshot.id());
    }
    let address = json!({"network": "default", "ip": format!("10.77.0.{last}"), "mac": format!("52:54:00:00:00:{last:02x}")});
    let status = json!({
        "state": "pending", "addresses": [address], "image_digest": source.status.image_digest,
        "origin": {
            "vm": SOURCE, "vm_id": source.meta.id, "mode": mode, "bases": if mode == "linked" { bases } else { vec![] },
            "snapshot": {"name": snapshot.name(), "id": snapshot.id(), "own": of.is_none()},
        },
    });
    let spec = serde_json::to_value(spec).expect("json");
    host.create(&key("vm", name), &["domain", "network", "volume"], spec, status).await
}

async fn snapshot(host: &Host, name: &str) -> Uuid {
    let vm = host.store.get(&key("vm", SOURCE)).expect("a VM").id();
    let made =
        host.create(&key("snapshot", name), &["disks"], json!({"vm": SOURCE}), json!({"vm_id": vm})).await;
    host.until_state(&key("snapshot", name), State::Ready).await;
    made.id()
}

fn snapshots(host: &Host) -> usize {
    host.store.list(&Query::kind(Snapshot::DEF.kind)).items.len()
}

async fn remove(host: &Host, key: &ObjectKey) {
    host.delete(key).await;
    host.until_gone(key).await;
}

/// One that runs, whose disks are there, beside a source that was left alone.
async fn made(host: &Host, name: &str, source: Uuid) -> Value {
    let vm = host.until_state(&key("vm", name), State::Running).await;
    let id = vm["id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
    assert_eq!(vm["status"]["origin"]["disks_made"], true, "{vm}");
    let seen = host.volume.observe(id).await.expect("seen");
    assert!(seen.disk.is_some() && seen.further.len() == 1, "{seen:?}");
    let running = host.vm.observe(source).await.expect("seen").expect("there");
    assert_eq!(running.power, Power::Running);
    vm
}

#[tokio::test(flavor = "multi_thread")]
async fn clones_of_one_snapshot_share_a_set_which_goes_with_the_last() {
    let host = furnished().await;
    let _daemon = host.start();
    let source = running(&host).await;
    let one = snapshot(&host, "one").await;
    let (a, b) = (
        clone(&host, "a", 3, "linked", Some("one")).await,
        clone(&host, "b", 4, "linked", Some("one")).await,
    );
    made(&host, "a", source).await;
    made(&host, "b", source).await;
    assert_eq!((host.volume.stands_on(a.id()), host.volume.stands_on(b.id())), (Some(one), Some(one)));
    assert_eq!(host.volume.faults().calls("copy_disk"), 2, "each disk was copied once");
    assert!(
        host.vm
            .defined(a.id())
            .expect("defined")
            .boot
            .expect("a kernel")
            .cmdline
            .contains("systemd.machine_id=")
    );
    assert!(
        !host.vm.defined(source).expect("defined").boot.expect("a kernel").cmdline.contains("machine_id")
    );
    // The snapshot and the source go; what was made of them stays.
    remove(&host, &key("snapshot", "one")).await;
    remove(&host, &key("vm", SOURCE)).await;
    remove(&host, &key("vm", "a")).await;
    assert_eq!(host.volume.list_sets().await.expect("sets"), [one]);
    assert_eq!(host.state(&key("vm", "b")).as_deref(), Some("running"));
    remove(&host, &key("vm", "b")).await;
    assert_eq!(host.volume.list_sets().await.expect("sets"), Vec::<Uuid>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clone_cut_off_anywhere_is_made_and_leaves_nothing_beside() {
    for mode in ["linked", "full"] {
        for after in [false, true] {
            for n in 1.. {
                let host = furnished().await;
                let daemon = host.start();
                let source = running(&host).await;
                daemon.stop().await;
                let id = clone(&host, "new", 3, mode, None).await.id();
                let new = key("vm", "new");
                let died = die_at(&host, n, after, || host.state(&new).as_deref() == Some("running")).await;
                let _daemon = host.start();
                made(&host, "new", source).await;
                host.until_quiet().await;
                assert_eq!(snapshots(&host), 0, "the snapshot that was taken for it is gone");
                assert!(host.vm.held_snapshots(source).is_empty());
                let sets = host.volume.list_sets().await.expect("sets");
                assert_eq!(sets, host.get::<Vm>(&new).status.origin.expect("an origin").bases);
                assert_eq!(host.volume.stands_on(id).is_some(), mode == "linked");
                remove(&host, &new).await;
                assert!(host.volume.list_sets().await.expect("sets").is_empty());
                assert_eq!(host.volume.list().await.expect("folders"), [source]);
                if !died {
                    assert!(n > 8, "only {n} changes were seen");
                    break;
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_deleted_on_its_way_leaves_nothing() {
    let host = furnished().await;
    let _daemon = host.start();
    let source = running(&host).await;
    host.volume
        .faults()
        .fail_next("copy_disk", 1000, || VolumeError::Capacity("the disk is full".to_owned()));
    for (mode, name) in [("linked", "a"), ("full", "b")] {
        clone(&host, name, 3, mode, None).await;
        let waiting = host
            .until(&key("vm", name), "refused", |o| {
                o["status"]["attempts"]["code"] == "insufficient_capacity"
            })
            .await;
        assert!(waiting["status"]["reason"].as_str().is_some_and(|r| r.contains("full")), "{waiting}");
        remove(&host, &key("vm", name)).await;
        host.until_quiet().await;
        assert_eq!(snapshots(&host), 0);
        assert!(host.volume.list_sets().await.expect("sets").is_empty());
    }
    assert!(host.vm.held_snapshots(source).is_empty());
    assert_eq!(host.volume.list().await.expect("folders"), [source]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_fails_fails_its_clone_and_a_lost_disk_is_not_made_anew() {
    let host = furnished().await;
    let _daemon = host.start();
    running(&host).await;
    let refused = || agentd_drivers::vm::VmError::Refused("no".to_owned());
    host.vm.fail_next("take_snapshot", 1, refused);
    let id = clone(&host, "new", 3, "linked", None).await.id();
    let new = key("vm", "new");
    let failed = host.until_state(&new, State::Failed).await;
    assert!(
        failed["status"]["reason"].as_str().is_some_and(|r| r.contains("failed: ") && r.contains("no")),
        "{failed}"
    );
    host.retry(&key("snapshot", "for-new")).await;
    host.until_state(&new, State::Running).await;
    host.want(&new, "stopped").await;
    host.until_state(&new, State::Stopped).await;
    host.volume.lose_disk_behind_our_back(id);
    host.want(&new, "running").await;
    let failed = host.until_state(&new, State::Failed).await;
    assert!(failed["status"]["reason"].as_str().is_some_and(|r| r.contains("disk is gone")), "{failed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_exports_and_imports_left_that_were_cut_off_is_swept() {
    let host = furnished().await;
    let daemon = host.start();
    let source = running(&host).await;
    daemon.stop().await;
    let export = Uuid::now_v7();
    let status = json!({"vm_id": source, "taken_for": {"export": export}});
    let held = key("snapshot", "for-an-export");
    host.create(&held, &["disks"], json!({"vm": SOURCE}), status).await;
    let import = Uuid::now_v7();
    host.volume.begin_set(import).await.expect("begun");
    let _daemon = host.start();
    host.until_gone(&held).await;
    assert!(host.vm.held_snapshots(source).is_empty());
    let set_is_gone = async || host.volume.list_sets().await.expect("sets").is_empty();
    for _ in 0..500 {
        if set_is_gone().await {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert!(set_is_gone().await);
    assert_eq!(host.state(&key("vm", SOURCE)).as_deref(), Some("running"));
}
