//! Volumes on fakes: made, grown, lost; and with the VM or the containers that have them, also when the daemon dies.

use agentd_api::vm::Vm;
use agentd_api::volume::{ATTACHED, Volume};
use agentd_api::{ByteSize, ObjectKey, State};
use agentd_drivers::container::{ContainerError, ContainerLook, ContainerVolumes, EngineVolume, MountSource};
use agentd_drivers::vm::DiskFormat;
use agentd_drivers::vm::VmError;
use agentd_drivers::vm::disks::volume_serial;
use agentd_drivers::volume::pool::{Content, PoolDriver, PoolVolume};
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

async fn file_system(host: &Host, name: &str) -> Uuid {
    let spec = json!({"size": "64MiB", "mode": "filesystem", "format": "raw"});
    host.create(&key("volume", name), &["content"], spec, Value::Null).await.id()
}

fn mounting(volume: &str) -> Value {
    json!({"mounts": [{"path": "/data", "source": {"volume": volume}}]})
}

fn mounted_by(o: &Value) -> Vec<&str> {
    let users = o["status"]["mounted_by"].as_array().map(Vec::as_slice).unwrap_or_default();
    users.iter().filter_map(|user| user["container"].as_str()).collect()
}

/// Nothing of volumes is left but their content.
async fn nothing_is_out(host: &Host) -> bool {
    host.container.volumes().await.expect("listed").is_empty()
        && host.pool.attached().await.expect("listed").is_empty()
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_share_a_file_system_and_the_last_one_gives_it_back() {
    let host = Host::new();
    let _daemon = host.start();
    host.furnish().await;
    let (id, data) = (file_system(&host, "data").await, key("volume", "data"));
    let ready = host.until_state(&data, State::Ready).await;
    assert!(ready["status"]["device"].is_null() && ready["status"]["serial"].is_null(), "{ready}");
    assert!(nothing_is_out(&host).await);
    let one = host.container("one", 2, mounting("data")).await.id();
    host.container("two", 3, mounting("data")).await;
    for name in ["one", "two"] {
        host.until_state(&key("container", name), State::Running).await;
    }
    let both = host.until(&data, "had by both", |o| mounted_by(o).len() == 2).await;
    assert_eq!(both["status"]["state"], "attached");
    let device = both["status"]["device"].as_str().expect("a device");
    let wanted = MountSource::Volume(EngineVolume { id, device: device.into() });
    assert_eq!(host.container.made_by(one).expect("made").mounts[0].source, wanted);

    host.set_spec(&data, "size", json!("96MiB")).await;
    host.until(&data, "larger", |o| o["status"]["size"] == "96MiB").await;
    host.delete(&key("container", "one")).await;
    host.until(&data, "had by one", |o| mounted_by(o) == ["two"]).await;
    assert_eq!(host.pool.attached().await.expect("listed"), [id]);
    // After a boot of the host its device is made again for the one that is started.
    host.pool.lose_devices();
    let two = host.store.get(&key("container", "two")).expect("there").id();
    host.container.program_exits(two, 1);
    host.until_state(&key("container", "two"), State::Stopped).await;
    host.want(&key("container", "two"), "running").await;
    host.until_state(&key("container", "two"), State::Running).await;
    assert_eq!(host.pool.attached().await.expect("listed"), [id]);
    host.delete(&key("container", "two")).await;
    let free = host.until_state(&data, State::Ready).await;
    assert!(free["status"]["device"].is_null() && mounted_by(&free).is_empty(), "{free}");
    assert!(nothing_is_out(&host).await);
    assert_eq!(host.pool.list().await.expect("listed"), [id], "its content outlives them");
    host.delete(&data).await;
    host.until_gone(&data).await;
    assert_eq!(host.pool.list().await.expect("listed"), Vec::<Uuid>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_system_that_somebody_else_has_is_taken_back_later_and_without_an_engine_none_is_asked() {
    let host = Host::new();
    let _daemon = host.start();
    host.furnish().await;
    let data = key("volume", "data");
    file_system(&host, "data").await;
    host.container("one", 2, mounting("data")).await;
    host.until_state(&key("container", "one"), State::Running).await;
    let refused =
        || ContainerError::VolumeInUse { volume: Uuid::nil(), detail: "in use - [c0ffee]".to_owned() };
    host.container.fail_next("remove_volume", 1000, refused);
    host.delete(&key("container", "one")).await;
    let free = host.until_state(&data, State::Ready).await;
    assert!(free["status"]["device"].is_string(), "{free}");
    host.delete(&data).await;
    host.until(&data, "saying who", |o| o.to_string().contains("c0ffee")).await;
    assert_eq!(host.pool.list().await.expect("listed").len(), 1, "nothing is lost under whoever has it");
    host.container.fail_no_more("remove_volume");
    host.until_gone(&data).await;
    assert!(nothing_is_out(&host).await);

    host.container.set_available(false);
    file_system(&host, "more").await;
    host.until_state(&key("volume", "more"), State::Ready).await;
    host.delete(&key("volume", "more")).await;
    host.until_gone(&key("volume", "more")).await;
}

/// The calls that change something on the way to a mounted volume and back.
const STEPS: [(&str, bool); 6] = [
    ("ensure", true),
    ("attach", true),
    ("ensure_volume", true),
    ("remove_volume", false),
    ("detach", false),
    ("remove", false),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_each_step_of_a_mounted_volume_the_next_daemon_goes_on() {
    for (step, up) in STEPS {
        let host = Host::new();
        host.furnish().await;
        let (data, web) = (key("volume", "data"), key("container", "web"));
        let hang = |on: bool| match (step, on) {
            ("ensure_volume" | "remove_volume", true) => host.container.hang(step),
            ("ensure_volume" | "remove_volume", false) => host.container.release(step),
            (_, true) => host.pool.faults().hang(step),
            (_, false) => host.pool.faults().release(step),
        };
        let calls = || match step {
            "ensure_volume" | "remove_volume" => host.container.calls(step),
            _ => host.pool.faults().calls(step),
        };
        let daemon = host.start();
        if up {
            hang(true);
        }
        let id = file_system(&host, "data").await;
        host.container("web", 9, mounting("data")).await;
        if !up {
            host.until_state(&web, State::Running).await;
            hang(true);
            host.delete(&web).await;
            if step == "remove" {
                host.until_state(&data, State::Ready).await;
                host.delete(&data).await;
            }
        }
        wait_until(step, || calls() > 0).await;
        daemon.kill();
        hang(false);
        let daemon = host.start();
        if up {
            host.until_state(&web, State::Running).await;
            assert_eq!(host.container.volumes().await.expect("listed"), [id], "{step}");
            assert_eq!(host.container.list().await.expect("listed").len(), 1, "{step}");
            host.delete(&web).await;
        }
        host.until_gone(&web).await;
        if step != "remove" {
            host.until(&data, "given back", |o| {
                o["status"]["state"] == "ready" && o["status"]["device"].is_null()
            })
            .await;
            assert_eq!(host.pool.list().await.expect("listed"), [id], "{step}");
            host.delete(&data).await;
        }
        host.until_gone(&data).await;
        assert!(nothing_is_out(&host).await, "{step}");
        assert_eq!(host.pool.list().await.expect("listed"), Vec::<Uuid>::new(), "{step}");
        daemon.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_out_of_volumes_that_no_object_is_of_is_swept() {
    let host = Host::new();
    let id = Uuid::now_v7();
    let wanted =
        PoolVolume { id, size: ByteSize::mib(16), format: DiskFormat::Raw, content: Content::FileSystem };
    host.pool.ensure(&wanted).await.expect("made");
    let device = host.pool.attach(id).await.expect("attached");
    host.container.ensure_volume(&EngineVolume { id, device }).await.expect("made");
    let _daemon = host.start();
    wait_until("the device is taken away", || host.pool.faults().calls("detach") > 0).await;
    host.until_quiet().await;
    assert!(nothing_is_out(&host).await);
    assert_eq!(host.pool.list().await.expect("listed"), [id], "its content is told of and left");
}
