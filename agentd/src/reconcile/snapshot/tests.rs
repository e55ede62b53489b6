//! Policies: when one asks for a snapshot, and what of its own it keeps.

use agentd_api::snapshot::Snapshot;
use agentd_api::vm::{SnapshotPolicy, SnapshotsTaken, StopKind, Vm, VmStop};
use agentd_api::{Kind, Object, State, Timestamp};
use agentd_store::Query;
use serde_json::json;

use super::schedule::{Due, due, name_of};
use crate::reconcile::testing::{Host, key, wait_until};

fn at(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

fn vm() -> Object<Vm> {
    serde_json::from_value(json!({
        "kind": "vm", "project": "default", "name": "web", "id": "01970000-0000-7000-8000-000000000000",
        "revision": 9, "generation": 2, "created_at": "2026-01-01T00:00:00Z", "spec": {"image": "micro"},
        "status": {"state": "running", "image_digest": "sha256:0"},
    }))
    .expect("a VM")
}

#[test]
fn what_is_due_follows_from_when_it_was_last_its_time() {
    let now = at("2026-01-02T03:30:00Z");
    let mut web = vm();
    assert_eq!(due(&web, now), Due::Nothing, "without a policy");
    web.spec.snapshot_policy = Some(SnapshotPolicy { schedule: "0 * * * *".to_owned(), keep: 2 });
    assert_eq!(due(&web, now), Due::Begin);
    let last = |web: &mut Object<Vm>, schedule: &str, time: &str| {
        web.status.scheduled = Some(SnapshotsTaken { schedule: schedule.to_owned(), last: at(time) });
    };
    last(&mut web, "0 * * * *", "2026-01-02T03:00:00Z");
    assert_eq!(due(&web, now), Due::At(at("2026-01-02T04:00:00Z")));
    last(&mut web, "5 * * * *", "2026-01-02T03:00:00Z");
    assert_eq!(due(&web, now), Due::Begin, "another schedule begins anew");
    // Days were missed: it is due once, since the time of that is written down with it.
    last(&mut web, "0 * * * *", "2025-12-24T00:00:00Z");
    assert_eq!(due(&web, now), Due::Now);
    web.status.common.state = State::Stopped;
    web.status.last_stop =
        Some(VmStop { how: StopKind::Acpi, at: at("2025-12-23T00:00:00Z"), generation: 1 });
    assert_eq!(due(&web, now), Due::Skip, "it has been off since");
    web.status.last_stop =
        Some(VmStop { how: StopKind::Acpi, at: at("2025-12-25T00:00:00Z"), generation: 1 });
    assert_eq!(due(&web, now), Due::Now, "it has run since");
    web.status.image_digest = None;
    assert_eq!(due(&web, now), Due::Skip, "it has no disk");
    web.meta.deleting_at = Some(now);
    assert_eq!(due(&web, now), Due::Nothing);
}

#[test]
fn names_are_by_vm_and_time() {
    let time = at("2026-01-02T03:04:05.999Z");
    let name = |vm: &str| name_of(&vm.parse().expect("a name"), time).expect("a name").to_string();
    assert_eq!(name("web"), "web-20260102-030405");
    assert_eq!(name(&"b".repeat(63)).len(), 63);
}

fn of_policy(host: &Host) -> Vec<Object<Snapshot>> {
    let all = host.store.list(&Query::kind(Snapshot::DEF.kind)).items;
    let all = all.iter().map(|s| s.object::<Snapshot>().expect("a snapshot"));
    all.filter(|s| s.status.by_policy && !s.meta.deleting()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_takes_and_keeps_and_removes_only_its_own() {
    let host = Host::new();
    host.furnish().await;
    let daemon = host.start();
    let policy = json!({"snapshot_policy": {"schedule": "* * * * * *", "keep": 2}});
    let id = host.vm("web", 2, policy).await.id();
    host.until_state(&key("vm", "web"), State::Running).await;
    host.create(&key("snapshot", "mine"), &["disks"], json!({"vm": "web"}), json!({"vm_id": id})).await;
    host.until_state(&key("snapshot", "mine"), State::Ready).await;
    let first = {
        wait_until("it takes one", || !of_policy(&host).is_empty()).await;
        of_policy(&host)[0].meta.name.clone()
    };
    wait_until("the first is removed", || of_policy(&host).iter().all(|s| s.meta.name != first)).await;
    wait_until("two are kept", || {
        of_policy(&host).iter().filter(|s| s.status.common.state == State::Ready).count() == 2
    })
    .await;
    assert_eq!(host.state(&key("snapshot", "mine")).as_deref(), Some("ready"), "what is not its own stays");
    // What was missed while agentd was away is made up for once.
    daemon.stop().await;
    let before = host.get::<Vm>(&key("vm", "web")).status.scheduled.expect("a time").last;
    host.set_spec(&key("vm", "web"), "snapshot_policy", json!({"schedule": "0 0 1 1 *", "keep": 2})).await;
    host.update(&key("vm", "web"), |o| {
        o["status"]["scheduled"] = json!({"schedule": "0 0 1 1 *", "last": "2020-06-01T00:00:00Z"});
    })
    .await;
    let held = host.vm.held_snapshots(id).len();
    let _daemon = host.start();
    wait_until("its time is written down", || {
        host.get::<Vm>(&key("vm", "web")).status.scheduled.is_some_and(|s| s.last > before)
    })
    .await;
    wait_until("one is taken", || {
        of_policy(&host)
            .iter()
            .filter(|s| s.meta.created_at >= before && s.status.taken_at > Some(before))
            .count()
            == 1
    })
    .await;
    host.until_quiet().await;
    assert_eq!(host.vm.held_snapshots(id).len(), held, "one came and one went");
}
