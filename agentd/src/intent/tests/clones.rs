//! Clones: what they take over, what they are refused, and what stays until they are made.

use super::*;

/// A running VM with two disks, a published port, a fixed address and a snapshot.
async fn world_with_source() -> (World, ObjectKey) {
    let world = World::new().await;
    let more = json!({
        "cpus": 2, "memory": "256MiB", "huge_pages": true, "disk": "1GiB", "disks": [{"size": "64MiB"}],
        "networks": [{"network": "default", "ip": "10.77.0.50", "limits": {"inbound": "1MiB"}}],
        "publish": [{"host": 8080, "guest": 80}], "user_data": "#!/bin/sh\n", "restart": "always",
        "expires_at": "2100-01-02T03:04:05Z",
    });
    world.vm("web", more).await.expect("created");
    let web = key("vm", "web");
    world.set_status(&web, json!({"state": "running", "image_digest": "sha256:aa"})).await;
    world.make("snapshot", json!({"name": "one", "spec": {"vm": "web"}})).await;
    world.set_status(&key("snapshot", "one"), json!({"state": "ready"})).await;
    (world, web)
}

fn from(source: Value) -> Value {
    json!({"source": source})
}

#[tokio::test]
async fn a_clone_is_as_its_source_but_for_what_can_be_one_vms_only() {
    let (world, web) = world_with_source().await;
    let made = body(&world.vm("new", from(json!({"vm": "web"}))).await.expect("created"));
    let spec = &made["spec"];
    assert_eq!(
        (&spec["cpus"], &spec["memory"], &spec["disk"]),
        (&json!(2), &json!("256MiB"), &json!("1GiB"))
    );
    assert_eq!((&spec["disks"], &spec["restart"]), (&json!([{"size": "64MiB"}]), &json!("always")));
    assert_eq!(spec["networks"], json!([{"network": "default", "limits": {"inbound": "1MiB"}}]));
    assert_eq!(spec["huge_pages"], true, "which the host has");
    assert!(spec["publish"].is_null() && spec["expires_at"].is_null(), "{spec}");
    let (is, was) = (&made["status"]["addresses"][0], &world.get(&web)["status"]["addresses"][0]);
    assert_ne!((&is["ip"], &is["mac"]), (&was["ip"], &was["mac"]));
    let origin = &made["status"]["origin"];
    assert_eq!((&origin["vm_id"], &origin["mode"]), (&world.get(&web)["id"], &json!("linked")));
    assert_eq!(made["status"]["image_digest"], "sha256:aa");
    // The snapshot that it is made of is written down with it.
    let name = origin["snapshot"]["name"].as_str().expect("a name");
    let snapshot = world.get(&key("snapshot", name));
    assert_eq!(snapshot["status"]["taken_for"], json!({"clone": "new"}));
    assert_eq!(
        (&snapshot["id"], &origin["bases"][0]),
        (&origin["snapshot"]["id"], &origin["snapshot"]["id"])
    );
    assert_eq!(snapshot["finalizers"], json!(["disks"]));
    // What is given holds; a full one stands on nothing.
    let more = json!({"source": {"vm": "web", "snapshot": "one", "mode": "full"}, "cpus": 1, "publish": [{"host": 81, "guest": 80}]});
    let full = body(&world.vm("full", more).await.expect("created"));
    assert_eq!((&full["spec"]["cpus"], &full["spec"]["publish"][0]["host"]), (&json!(1), &json!(81)));
    assert!(full["status"]["origin"]["bases"].is_null(), "{full}");
    assert!(full["status"]["origin"]["snapshot"]["own"].is_null(), "{full}");
}

#[tokio::test]
async fn what_cannot_be_cloned_is_refused_by_its_field_and_leaves_nothing() {
    let (world, web) = world_with_source().await;
    for (more, field) in [
        (from(json!({"vm": "nobody"})), "spec.source.vm"),
        (from(json!({"vm": "web", "snapshot": "two"})), "spec.source.snapshot"),
        (from(json!({"vm": "web", "how": "fast"})), "spec.source.how"),
        (json!({"source": {"vm": "web"}, "image": "debian-12"}), "spec.image"),
        (json!({"source": {"vm": "web"}, "disk": "512MiB"}), "spec.disk"),
        (json!({"source": {"vm": "web"}, "disks": []}), "spec.disks"),
        (json!({"source": {"vm": "web"}, "disks": [{"size": "32MiB"}]}), "spec.disks[0].size"),
    ] {
        let problem = world.refused_vm(more.clone()).await;
        assert_eq!((code(&problem), fields(&problem)), (ErrorCode::Invalid, vec![field]), "{more}");
    }
    world.set_status(&key("snapshot", "one"), json!({"state": "failed"})).await;
    let problem = world.refused_vm(from(json!({"vm": "web", "snapshot": "one"}))).await;
    assert_eq!((code(&problem), fields(&problem)), (ErrorCode::Conflict, vec!["spec.source.snapshot"]));
    // One that was never started has no disk, and one that is itself on its way none yet.
    world.vm("off", json!({"desired": "stopped"})).await.expect("created");
    let problem = world.refused_vm(from(json!({"vm": "off"}))).await;
    assert_eq!((code(&problem), fields(&problem)), (ErrorCode::Conflict, vec!["spec.source.vm"]));
    assert!(problem.hint.is_some_and(|hint| hint.contains("agentctl vm start off")));
    world.vm("first", from(json!({"vm": "web"}))).await.expect("created");
    assert_eq!(code(&world.refused_vm(from(json!({"vm": "first"}))).await), ErrorCode::Conflict);
    let problem = world.patch(&key("vm", "first"), json!({"spec": {"source": {"mode": "full"}}})).await;
    assert_eq!(fields(&problem.expect_err("fixed")), ["spec.source"]);
    world
        .create_as(&dry(), "vm", json!({"name": "dry", "spec": vm_spec(from(json!({"vm": "web"})))}))
        .await
        .expect("dry");
    let all = world.store.list(&agentd_store::Query::kind("snapshot")).items;
    assert_eq!(all.len(), 2, "that of the first clone and the one that was there");
    drop(web);
}

#[tokio::test]
async fn a_source_and_its_snapshot_stay_until_the_clone_is_made() {
    let (world, web) = world_with_source().await;
    let made = body(&world.vm("new", from(json!({"vm": "web", "snapshot": "one"}))).await.expect("created"));
    let all = Caller { cascade: true, ..caller() };
    for (at, who) in [(&key("snapshot", "one"), caller()), (&web, all.clone())] {
        let problem = world.intents.delete(&who, at, None).await.expect_err("it is needed");
        assert_eq!(code(&problem), ErrorCode::InUse);
        assert!(problem.detail.contains("vm/default/new"), "{problem:?}");
    }
    let mut origin = made["status"]["origin"].clone();
    origin["disks_made"] = json!(true);
    world.set_status(&key("vm", "new"), json!({"origin": origin})).await;
    world.delete(&key("snapshot", "one")).await.expect("the clone has what it needs");
    world.intents.delete(&all, &web, None).await.expect("likewise");
}

#[tokio::test]
async fn sets_lie_beneath_each_other_only_so_deep() {
    let (world, web) = world_with_source().await;
    let bases: Vec<String> = (0..8).map(|n| format!("01970000-0000-7000-8000-00000000000{n}")).collect();
    let origin = json!({"vm": "x", "vm_id": bases[0], "mode": "linked", "bases": bases, "disks_made": true});
    world.set_status(&web, json!({"origin": origin})).await;
    let problem = world.refused_vm(from(json!({"vm": "web"}))).await;
    assert_eq!((code(&problem), fields(&problem)), (ErrorCode::Conflict, vec!["spec.source.mode"]));
    world.vm("full", from(json!({"vm": "web", "mode": "full"}))).await.expect("a full one can be");
}
