//! Snapshots, ways back to them, and guests suspended to disk; and the daemon's death at each change of the host on the
//! way. Whatever is cut off, no half of it is left, and what was on the disk is there.

use agentd_api::State;
use agentd_api::snapshot::Snapshot;
use agentd_api::vm::{RestorePhase, StopKind, Vm, VmDesired};
use agentd_drivers::vm::snapshot::Memory;
use agentd_drivers::vm::{Power, VmDriver, VmError};
use serde_json::{Value, json};
use uuid::Uuid;

use super::crash::{die_at, furnished};
use crate::reconcile::testing::{Host, key};

/// A VM that runs, with "A" on its disk and "one" in mind.
async fn running(host: &Host) -> Uuid {
    let id = host.vm("web", 2, json!({})).await.id();
    host.until_state(&key("vm", "web"), State::Running).await;
    host.vm.write_disk(id, "A");
    host.vm.write_memory(id, "one");
    id
}

/// As the intents write one down.
async fn snapshot(host: &Host, name: &str, memory: bool) -> Uuid {
    let vm = host.store.get(&key("vm", "web")).expect("a VM").id();
    let spec = json!({"vm": "web", "memory": memory});
    host.create(&key("snapshot", name), &["disks"], spec, json!({"vm_id": vm})).await.id()
}

async fn restore(host: &Host, name: &'static str) {
    let wanted = host.get::<Snapshot>(&key("snapshot", name));
    host.update(&key("vm", "web"), move |o| {
        o["status"]["restore"] =
            json!({"snapshot": name, "id": wanted.meta.id, "memory": wanted.spec.memory});
    })
    .await;
}

fn ended(vm: &Value) -> bool {
    vm["status"]["restore"].is_null() && vm["status"]["last_restore"].is_object()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_is_taken_gone_back_to_and_deleted() {
    let host = furnished().await;
    let _daemon = host.start();
    let id = running(&host).await;
    snapshot(&host, "one", false).await;
    let taken = host.until_state(&key("snapshot", "one"), State::Ready).await;
    assert_eq!(taken["status"]["frozen"], false, "the guest has no agent: {taken}");
    assert!(taken["status"]["not_frozen_because"].is_string(), "{taken}");
    assert_eq!(taken["status"]["guest"], "running");
    host.vm.write_disk(id, "B");
    restore(&host, "one").await;
    let web =
        host.until(&key("vm", "web"), "restored", |o| ended(o) && o["status"]["state"] == "running").await;
    assert!(web["status"]["last_restore"]["error"].is_null(), "{web}");
    assert_eq!(web["status"]["last_stop"]["how"], "restored");
    assert_eq!(
        (host.vm.read_disk(id).as_str(), host.vm.read_memory(id).as_str()),
        ("A", ""),
        "it booted anew"
    );
    assert_eq!(host.vm.memories(id), [], "nothing is left of the way back");
    host.delete(&key("snapshot", "one")).await;
    host.until_gone(&key("snapshot", "one")).await;
    assert!(host.vm.held_snapshots(id).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_with_an_agent_is_frozen_and_never_left_so() {
    let host = furnished().await;
    let _daemon = host.start();
    let id = running(&host).await;
    host.vm.set_agent(id, true);
    snapshot(&host, "one", false).await;
    let taken = host.until_state(&key("snapshot", "one"), State::Ready).await;
    assert_eq!(taken["status"]["frozen"], true, "{taken}");
    assert!(!host.vm.is_frozen(id));
    host.vm.fail_next("take_snapshot", 9, || VmError::Refused("no".to_owned()));
    snapshot(&host, "two", false).await;
    let failed = host.until_state(&key("snapshot", "two"), State::Failed).await;
    assert!(failed["status"]["reason"].as_str().is_some_and(|r| r.contains("no")), "{failed}");
    assert!(!host.vm.is_frozen(id), "a failure thaws too");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_fails_it_and_leaves_nothing() {
    let host = furnished().await;
    let _daemon = host.start();
    let id = running(&host).await;
    host.vm.fail_next("take_snapshot", 1, || VmError::Capacity("the disk is full".to_owned()));
    snapshot(&host, "one", true).await;
    let failed = host.until_state(&key("snapshot", "one"), State::Failed).await;
    assert_eq!(failed["status"]["attempts"]["code"], "insufficient_capacity", "{failed}");
    assert!(failed["status"]["attempts"]["next_at"].is_null(), "its moment is gone");
    assert_eq!((host.vm.held_snapshots(id), host.vm.memories(id)), (vec![], vec![]));
    host.retry(&key("snapshot", "one")).await;
    host.until_state(&key("snapshot", "one"), State::Ready).await;
    assert_eq!(host.vm.memories(id).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_vm_goes_on_from_a_memory_and_is_wanted_running_then() {
    let host = furnished().await;
    let _daemon = host.start();
    let id = running(&host).await;
    snapshot(&host, "one", true).await;
    host.until_state(&key("snapshot", "one"), State::Ready).await;
    host.want(&key("vm", "web"), "stopped").await;
    host.until_state(&key("vm", "web"), State::Stopped).await;
    host.vm.write_disk(id, "B");
    restore(&host, "one").await;
    host.until(&key("vm", "web"), "restored", |o| ended(o) && o["status"]["state"] == "running").await;
    assert_eq!(host.get::<Vm>(&key("vm", "web")).spec.desired, VmDesired::Running);
    assert_eq!((host.vm.read_disk(id).as_str(), host.vm.read_memory(id).as_str()), ("A", "one"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_way_back_that_fails_leaves_the_vm_as_it_was() {
    for method in ["save_memory", "take_snapshot", "revert", "start_from_memory"] {
        let host = furnished().await;
        let _daemon = host.start();
        let id = running(&host).await;
        snapshot(&host, "one", true).await;
        host.until_state(&key("snapshot", "one"), State::Ready).await;
        host.vm.write_disk(id, "B");
        host.vm.write_memory(id, "two");
        host.vm.fail_next(method, 1, || VmError::Capacity("the disk is full".to_owned()));
        restore(&host, "one").await;
        let web = host.until(&key("vm", "web"), "given up", ended).await;
        let error = web["status"]["last_restore"]["error"].as_str().unwrap_or_default().to_owned();
        assert!(error.contains("the disk is full"), "{method}: {web}");
        host.until_state(&key("vm", "web"), State::Running).await;
        assert_eq!(
            (host.vm.read_disk(id).as_str(), host.vm.read_memory(id).as_str()),
            ("B", "two"),
            "{method}"
        );
        assert_eq!(host.vm.held_snapshots(id).len(), 1, "{method}");
        assert_eq!(host.vm.memories(id).len(), 1, "{method}: of the snapshot alone");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_guest_goes_on_and_one_that_ran_meanwhile_does_not() {
    let host = furnished().await;
    let _daemon = host.start();
    let id = running(&host).await;
    let web = key("vm", "web");
    host.want(&web, "suspended").await;
    let seen = host.until_state(&web, State::Suspended).await;
    assert_eq!(seen["status"]["last_stop"]["how"], "suspended");
    host.until_quiet().await;
    assert_eq!(host.state(&web).as_deref(), Some("suspended"), "it stays so");
    host.want(&web, "running").await;
    host.until_state(&web, State::Running).await;
    assert_eq!(host.vm.read_memory(id), "one");
    assert_eq!(host.vm.memories(id), []);
    host.want(&web, "suspended").await;
    host.until_state(&web, State::Suspended).await;
    // Somebody starts it, and what it does then is not in that memory.
    host.vm.start(id).await.expect("virsh start");
    host.until(&web, "thrown away", |o| {
        o["status"]["saved"].is_null() || o["status"]["state"] == "suspended"
    })
    .await;
    host.want(&web, "running").await;
    host.until_state(&web, State::Running).await;
    assert_eq!(host.vm.memories(id), []);
    // And by order it is thrown away too.
    host.want(&web, "suspended").await;
    host.until_state(&web, State::Suspended).await;
    host.update(&web, |o| {
        o["status"]["saved"]["discard"] = json!(true);
        o["spec"]["desired"] = json!("running");
        o["touch"] = json!(true);
    })
    .await;
    host.until_state(&web, State::Running).await;
    assert_eq!(host.vm.read_memory(id), "", "it was started anew");
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_go_with_a_vm_that_goes_by_itself() {
    let host = furnished().await;
    let _daemon = host.start();
    let id = host.vm("web", 2, json!({"remove_when_stopped": true})).await.id();
    host.until_state(&key("vm", "web"), State::Running).await;
    snapshot(&host, "one", true).await;
    host.until_state(&key("snapshot", "one"), State::Ready).await;
    host.vm.guest_powers_off(id);
    host.until_gone(&key("vm", "web")).await;
    host.until_gone(&key("snapshot", "one")).await;
}

/// What a way is cut off in: what begins it, when it is done, and what must hold then.
async fn cut_off_anywhere(
    begin: impl AsyncFn(&Host),
    done: impl Fn(&Host) -> bool,
    holds: impl AsyncFn(&Host, Uuid),
    least: i64,
) {
    for after in [false, true] {
        for n in 1.. {
            let host = furnished().await;
            let daemon = host.start();
            let id = running(&host).await;
            snapshot(&host, "one", true).await;
            host.until_state(&key("snapshot", "one"), State::Ready).await;
            host.vm.write_disk(id, "B");
            host.vm.write_memory(id, "two");
            daemon.stop().await;
            begin(&host).await;
            let died = die_at(&host, n, after, || done(&host)).await;
            let _daemon = host.start();
            holds(&host, id).await;
            assert!(!host.vm.is_frozen(id), "at change {n}");
            if !died {
                assert!(n > least, "only {n} changes were seen");
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_cut_off_anywhere_is_whole_or_not_there() {
    let begin = async |host: &Host| {
        let id = host.store.get(&key("vm", "web")).expect("a VM").id();
        host.vm.set_agent(id, true);
        snapshot(host, "two", false).await;
    };
    let ready = |host: &Host| host.state(&key("snapshot", "two")).as_deref() == Some("ready");
    let holds = async |host: &Host, id: Uuid| {
        let two = host.until_state(&key("snapshot", "two"), State::Ready).await;
        assert_eq!(two["status"]["frozen"], true);
        assert_eq!(two["status"]["freezing"], Value::Null);
        assert_eq!(host.vm.held_snapshots(id).len(), 2);
        assert_eq!((host.vm.read_disk(id).as_str(), host.vm.read_memory(id).as_str()), ("B", "two"));
        assert_eq!(host.vm.observe(id).await.expect("seen").expect("there").power, Power::Running);
    };
    cut_off_anywhere(begin, ready, holds, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_way_back_cut_off_anywhere_is_gone_to_its_end() {
    let begin = async |host: &Host| restore(host, "one").await;
    let done = |host: &Host| {
        let web = host.get::<Vm>(&key("vm", "web"));
        web.status.restore.is_none() && web.status.last_restore.is_some()
    };
    let holds = async |host: &Host, id: Uuid| {
        let web = host
            .until(&key("vm", "web"), "restored", |o| ended(o) && o["status"]["state"] == "running")
            .await;
        assert!(web["status"]["last_restore"]["error"].is_null(), "{web}");
        assert_eq!((host.vm.read_disk(id).as_str(), host.vm.read_memory(id).as_str()), ("A", "one"));
        assert_eq!(host.vm.held_snapshots(id).len(), 1, "no undo is left");
        assert_eq!(host.vm.memories(id).len(), 1, "no undo is left");
    };
    cut_off_anywhere(begin, done, holds, 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_way_back_cut_off_anywhere_ends_where_it_began() {
    let begin = async |host: &Host| {
        let one = host.get::<Snapshot>(&key("snapshot", "one")).meta.id;
        host.update(&key("vm", "web"), move |o| {
            // The disks lack what it asks for: it fails when the guest has been stopped already.
            o["status"]["restore"] =
                json!({"snapshot": "one", "id": one, "memory": true, "phase": "stopping"});
        })
        .await;
        host.vm.fail_next("revert", 1, || VmError::Capacity("the disk is full".to_owned()));
    };
    let done = |host: &Host| host.get::<Vm>(&key("vm", "web")).status.last_restore.is_some();
    let holds = async |host: &Host, id: Uuid| {
        let web =
            host.until(&key("vm", "web"), "ended", |o| ended(o) && o["status"]["state"] == "running").await;
        // A death that takes the failure with it lets the next try succeed.
        let failed = web["status"]["last_restore"]["error"].is_string();
        let expected = if failed { ("B", "two") } else { ("A", "one") };
        assert_eq!((host.vm.read_disk(id).as_str(), host.vm.read_memory(id).as_str()), expected, "{web}");
        assert_eq!((host.vm.held_snapshots(id).len(), host.vm.memories(id).len()), (1, 1));
    };
    cut_off_anywhere(begin, done, holds, 5).await;
    assert_eq!(RestorePhase::default(), RestorePhase::Stopping);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_cut_off_anywhere_leaves_no_half() {
    let begin = async |host: &Host| host.delete(&key("snapshot", "one")).await;
    let gone = |host: &Host| host.store.get(&key("snapshot", "one")).is_none();
    let holds = async |host: &Host, id: Uuid| {
        host.until_gone(&key("snapshot", "one")).await;
        assert_eq!((host.vm.held_snapshots(id), host.vm.memories(id)), (vec![], vec![]));
        assert_eq!(host.vm.read_disk(id), "B");
    };
    cut_off_anywhere(begin, gone, holds, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspend_and_a_resume_cut_off_anywhere_lose_nothing() {
    let begin = async |host: &Host| drop(host.want(&key("vm", "web"), "suspended").await);
    let suspended = |host: &Host| host.state(&key("vm", "web")).as_deref() == Some("suspended");
    let holds = async |host: &Host, id: Uuid| {
        host.until_state(&key("vm", "web"), State::Suspended).await;
        let stop = host.get::<Vm>(&key("vm", "web")).status.last_stop.expect("a stop");
        assert_eq!(stop.how, StopKind::Suspended);
        assert!(host.vm.memories(id).contains(&Memory::Suspended));
        // And the other way, with a death in the middle of that.
        host.want(&key("vm", "web"), "running").await;
        host.until_state(&key("vm", "web"), State::Running).await;
        assert_eq!((host.vm.read_disk(id).as_str(), host.vm.read_memory(id).as_str()), ("B", "two"));
        assert_eq!(host.vm.memories(id).len(), 1);
    };
    cut_off_anywhere(begin, suspended, holds, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resume_cut_off_anywhere_goes_on_from_that_memory() {
    for after in [false, true] {
        for n in 1.. {
            let host = furnished().await;
            let daemon = host.start();
            let id = running(&host).await;
            host.want(&key("vm", "web"), "suspended").await;
            host.until_state(&key("vm", "web"), State::Suspended).await;
            daemon.stop().await;
            host.want(&key("vm", "web"), "running").await;
            let up = || host.state(&key("vm", "web")).as_deref() == Some("running");
            let died = die_at(&host, n, after, up).await;
            let _daemon = host.start();
            host.until_state(&key("vm", "web"), State::Running).await;
            host.until_quiet().await;
            assert_eq!(host.vm.read_memory(id), "one", "at change {n}");
            assert_eq!(host.vm.memories(id), [], "at change {n}");
            if !died {
                assert!(n > 2, "only {n} changes were seen");
                break;
            }
        }
    }
}
