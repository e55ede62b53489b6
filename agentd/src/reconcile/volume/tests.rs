//! Volumes on fakes: made, grown, lost; and with the VM that has them, also when the daemon dies.

use agentd_api::vm::Vm;
use agentd_api::volume::{ATTACHED, Volume};
use agentd_api::{ByteSize, ObjectKey, State};
use agentd_drivers::vm::VmError;
use agentd_drivers::vm::disks::volume_serial;
use agentd_drivers::volume::pool::PoolDriver;
use agentd_store::TxError;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::reconcile::testing::{Host, key, wait_until};

async fn volume(host: &Host, name: &str) -> Uuid {
    let spec = json!({"size": "64MiB", "format": "qcow2"});
    host.create(&key("volume", name), &["content"], spec, Value::Null).await.id()
}

/// As the intents do: the volumes are taken with the spec.
async fn want(host: &Host, vm: &ObjectKey, volumes: &[(&str, Uuid)]) {
    let (owner, ids) = (vm.clone(), volumes.iter().map(|(_, id)| id.to_string()).collect::<Vec<_>>());
    let taken = host.store.transact(move |tx| {
        for id in &ids {
            tx.allocate(ATTACHED, id, &owner)?;
        }
        Ok::<(), TxError>(())
    });
    taken.await.expect("taken");
    let all: Vec<Value> = volumes.iter().map(|(name, _)| json!({"volume": name})).collect();
    host.set_spec(vm, "volumes", json!(all)).await;
}

fn device(o: &Value) -> Option<&str> {
    o["status"]["attached_to"]["device"].as_str()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_is_made_grown_and_removed_and_never_made_twice() {
    let host = Host::new();
    let _daemon = host.start();
    let (id, data) = (volume(&host, "data").await, key("volume", "data"));
    host.until_state(&data, State::Ready).await;
    assert_eq!(host.get::<Volume>(&data).status.serial, Some(volume_serial(id)));
    host.set_spec(&data, "size", json!("96MiB")).await;
    host.until(&data, "larger", |o| o["status"]["size"] == "96MiB").await;
    assert_eq!(host.pool.observe(id).await.expect("seen").expect("there").size, ByteSize::mib(96));
    host.pool.lose_behind_our_back(id);
    host.set_spec(&data, "size", json!("97MiB")).await;
    let failed = host.until_state(&data, State::Failed).await;
    assert!(failed["status"]["reason"].as_str().is_some_and(|r| r.contains("gone")), "{failed}");
    assert_eq!(host.pool.list().await.expect("listed"), Vec::<Uuid>::new(), "not made anew, empty");
    host.delete(&data).await;
    host.until_gone(&data).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_are_plugged_grown_and_given_back_only_when_the_guest_has_let_go() {
    let host = Host::new();
    let _daemon = host.start();
    host.furnish().await;
    let (one, two) = (volume(&host, "one").await, volume(&host, "two").await);
    let vm = host.vm("web", 2, json!({"disks": [{"size": "32MiB"}]})).await.id();
    let (web, first, second) = (key("vm", "web"), key("volume", "one"), key("volume", "two"));
    host.until_state(&web, State::Running).await;
    host.until_state(&second, State::Ready).await;
    want(&host, &web, &[("one", one), ("two", two)]).await;
    host.until(&first, "plugged", |o| device(o) == Some("vdd")).await;
    host.until(&second, "plugged", |o| device(o) == Some("vde")).await;
    assert!(host.get::<Vm>(&web).status.common.condition("pending_restart").is_none());
    assert_eq!(host.vm.calls("start"), 1);

    host.set_spec(&second, "size", json!("80MiB")).await;
    wait_until("it is grown by its guest", || {
        host.vm.resized(vm, &volume_serial(two)) == Some(ByteSize::mib(80))
    })
    .await;
    host.set_spec(&web, "disks", json!([{"size": "48MiB"}])).await;
    wait_until("so is its own disk", || host.vm.resized(vm, "disk-1") == Some(ByteSize::mib(48))).await;

    // Somebody takes it out: it is put back.
    host.vm.behind_our_back_unplug(vm, &volume_serial(one));
    wait_until("it is plugged again", || host.vm.calls("attach_disk") == 3).await;
    host.until_quiet().await;
    assert_eq!(device(&host.store.get(&first).expect("there").value()), Some("vdd"));

    // The guest holds it: it stays the VM's, and that is said.
    host.vm.hold_disks(vm, true);
    want(&host, &web, &[("two", two)]).await;
    host.until(&first, "held", |o| o["status"]["attached_to"]["detaching"] == true).await;
    let held =
        host.until(&web, "saying so", |o| o.to_string().contains("has not let go of volume 'one'")).await;
    assert_eq!(held["status"]["state"], "running");
    assert_eq!(host.store.owner_of(ATTACHED, &one.to_string()), Some(web.clone()));
    host.vm.hold_disks(vm, false);
    host.until_state(&first, State::Ready).await;
    assert_eq!(host.store.owner_of(ATTACHED, &one.to_string()), None);
    host.until(&web, "quiet", |o| !o.to_string().contains("disks_plugged")).await;
    assert_eq!(device(&host.store.get(&second).expect("there").value()), Some("vde"), "it keeps its name");

    // A VM that goes leaves its volumes.
    host.delete(&web).await;
    host.until_gone(&web).await;
    host.until_state(&second, State::Ready).await;
    assert_eq!(host.pool.list().await.expect("listed").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_cannot_be_plugged_says_why_and_the_vm_runs_on() {
    let host = Host::new();
    let _daemon = host.start();
    host.furnish().await;
    let one = volume(&host, "one").await;
    host.vm("web", 2, json!({})).await;
    let web = key("vm", "web");
    host.until_state(&web, State::Running).await;
    host.vm.fail_next("attach_disk", usize::MAX, || VmError::Capacity("no slot is free".to_owned()));
    want(&host, &web, &[("one", one)]).await;
    let vm = host.until(&web, "saying why", |o| o.to_string().contains("no slot is free")).await;
    assert_eq!(vm["status"]["state"], "running");
    host.vm.fail_no_more("attach_disk");
    host.until(&key("volume", "one"), "plugged in the end", |o| device(o).is_some()).await;
}
