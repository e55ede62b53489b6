//! Snapshots: what may be taken, gone back to and deleted, and what a VM's deletion makes of them.

use super::*;

/// A running VM with a snapshot that is ready.
async fn world_with_snapshot() -> (World, ObjectKey, ObjectKey) {
    let world = World::new().await;
    let web = body(&world.vm("web", json!({})).await.expect("created"));
    world.set_status(&key("vm", "web"), json!({"state": "running"})).await;
    let made = world.make("snapshot", json!({"name": "one", "spec": {"vm": "web", "memory": true}})).await;
    assert_eq!(made["status"]["vm_id"], web["id"]);
    assert_eq!(made["finalizers"], json!(["disks"]));
    world.set_status(&key("snapshot", "one"), json!({"state": "ready"})).await;
    (world, key("vm", "web"), key("snapshot", "one"))
}

async fn restore(world: &World, at: &ObjectKey, options: Value) -> Result<Reply, Problem> {
    world.intents.act(&caller(), at, "restore", options).await
}

#[tokio::test]
async fn what_cannot_be_taken_is_refused_by_its_field() {
    let (world, web, one) = world_with_snapshot().await;
    let draft = |spec: Value| json!({"name": "two", "spec": spec});
    assert_eq!(fields(&world.refused("snapshot", draft(json!({"vm": "nobody"}))).await), ["spec.vm"]);
    assert_eq!(
        fields(&world.refused("snapshot", draft(json!({"vm": "web", "disk": true}))).await),
        ["spec.disk"]
    );
    let changed = world.patch(&one, json!({"spec": {"memory": false}})).await.expect_err("fixed");
    assert_eq!(fields(&changed), ["spec.memory"]);
    world.set_status(&web, json!({"state": "stopped"})).await;
    let problem = world.refused("snapshot", draft(json!({"vm": "web", "memory": true}))).await;
    assert_eq!((code(&problem), fields(&problem)), (ErrorCode::Conflict, vec!["spec.memory"]));
    world.create("snapshot", draft(json!({"vm": "web"}))).await.expect("its disks can be");
}

#[tokio::test]
async fn a_vm_is_taken_back_only_to_its_own() {
    let (world, web, one) = world_with_snapshot().await;
    let problem = restore(&world, &one, json!({"vm": "other"})).await.expect_err("another's");
    assert_eq!(fields(&problem), ["vm"]);
    let problem = restore(&world, &one, json!({"to": "web"})).await.expect_err("no such option");
    assert_eq!(fields(&problem), ["to"]);
    assert_eq!(restore(&world, &one, json!({"vm": "web"})).await.expect("its own").status, 202);
    let way = world.get(&web)["status"]["restore"].clone();
    assert_eq!(
        (&way["snapshot"], &way["memory"], &way["phase"]),
        (&json!("one"), &json!(true), &json!("stopping"))
    );
    assert_eq!(restore(&world, &one, json!({})).await.expect("the same").status, 200);
    let problem = world.delete(&one).await.expect_err("it is needed");
    assert_eq!(code(&problem), ErrorCode::InUse);
    // A later VM of the name is another.
    world.set_status(&web, json!({"restore": null})).await;
    let id = "01970000-0000-7000-8000-000000000000";
    world.set_status(&one, json!({"vm_id": id})).await;
    assert_eq!(code(&restore(&world, &one, json!({})).await.expect_err("another")), ErrorCode::Conflict);
    world.set_status(&one, json!({"state": "failed"})).await;
    assert_eq!(code(&restore(&world, &one, json!({})).await.expect_err("not whole")), ErrorCode::Conflict);
}

#[tokio::test]
async fn a_vm_with_snapshots_goes_only_with_them() {
    let (world, web, one) = world_with_snapshot().await;
    let problem = world.delete(&web).await.expect_err("it has a snapshot");
    assert_eq!(code(&problem), ErrorCode::InUse);
    assert!(problem.detail.contains("snapshot/default/one"), "{problem:?}");
    assert!(world.get(&web)["deleting_at"].is_null());
    let all = Caller { cascade: true, ..caller() };
    world.intents.delete(&all, &web, None).await.expect("with them");
    assert!(world.get(&web)["deleting_at"].is_string() && world.get(&one)["deleting_at"].is_string());
}

#[tokio::test]
async fn a_bad_schedule_is_named() {
    let world = World::new().await;
    for (policy, field) in [
        (json!({"schedule": "whenever", "keep": 3}), "spec.snapshot_policy.schedule"),
        (json!({"schedule": "0 0 31 2 *", "keep": 3}), "spec.snapshot_policy.schedule"),
        (json!({"schedule": "0 3 * * *", "keep": 0}), "spec.snapshot_policy.keep"),
    ] {
        let draft = json!({"name": "web", "spec": vm_spec(json!({"snapshot_policy": policy}))});
        assert_eq!(fields(&world.refused("vm", draft).await), [field], "{policy}");
    }
}

#[tokio::test]
async fn a_suspended_vm_keeps_its_memory_unless_that_is_asked_for() {
    let world = World::new().await;
    world.vm("web", json!({})).await.expect("created");
    let web = key("vm", "web");
    world.set_status(&web, json!({"state": "running"})).await;
    assert_eq!(body(&world.act(&web, "suspend").await.expect("taken on"))["spec"]["desired"], "suspended");
    let saved = json!({"state": "suspended", "saved": {"at": "2026-01-02T03:04:05Z", "size": "1MiB"}});
    world.set_status(&web, saved).await;
    for action in ["stop", "restart", "pause"] {
        assert_eq!(code(&world.act(&web, action).await.expect_err(action)), ErrorCode::Conflict, "{action}");
    }
    let fresh = body(&world.act(&web, "start-fresh").await.expect("taken on"));
    assert_eq!(
        (&fresh["status"]["saved"]["discard"], &fresh["spec"]["desired"]),
        (&json!(true), &json!("running"))
    );
}
