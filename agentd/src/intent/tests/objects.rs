//! What happens to an object that is not refused.

use agentd_api::event::Outcome;
use agentd_store::EventQuery;

use super::*;

#[tokio::test]
async fn a_created_object_is_whole() {
    let world = World::new().await;
    let draft = json!({"name": "web", "labels": {"tier": "front"}, "annotations": {"note": "<&>"}, "spec": {"image": "micro", "memory": "1024MiB"}});
    let vm = world.make("vm", draft).await;
    assert_eq!(vm["kind"], "vm");
    assert_eq!(vm["generation"], 1);
    assert_eq!(vm["labels"], json!({"tier": "front"}));
    assert_eq!(vm["annotations"], json!({"note": "<&>"}));
    assert_eq!(vm["spec"]["memory"], "1GiB");
    assert_eq!(vm["finalizers"], json!(["domain", "network", "volume"]));
    assert_eq!(vm["status"]["state"], "pending");
    assert_eq!(vm["status"]["addresses"][0]["ip"], "10.77.0.2");
    assert_eq!(vm, world.get(&key("vm", "web")), "the answer is what is stored");
}

#[tokio::test]
async fn what_get_answered_can_be_put_back() {
    let world = World::new().await;
    world.vm("web", json!({})).await.expect("created");
    let web = key("vm", "web");
    let before = world.get(&web);
    let reply = world.intents.replace(&caller(), &web, before.clone(), None).await.expect("put");
    assert_eq!((reply.status, body(&reply)), (200, before.clone()), "nothing changed");
    let events = world.store.events(&EventQuery::default()).items.len();
    let mut wanted = before.clone();
    wanted["spec"]["cpus"] = json!(4);
    wanted["status"]["state"] = json!("running");
    let after = body(&world.intents.replace(&caller(), &web, wanted, None).await.expect("put"));
    assert_eq!((&after["spec"]["cpus"], &after["generation"]), (&json!(4), &json!(2)));
    assert_eq!(after["status"]["state"], "pending", "the status is not the caller's to write");
    assert_eq!(world.store.events(&EventQuery::default()).items.len(), events + 1);
}

#[tokio::test]
async fn a_replacement_of_another_object_is_refused() {
    let world = World::new().await;
    world.vm("web", json!({})).await.expect("created");
    let web = key("vm", "web");
    for (field, value) in [("name", "db"), ("kind", "image"), ("project", "other")] {
        let mut draft = json!({"spec": {"image": "micro"}});
        draft[field] = json!(value);
        let problem = world.intents.replace(&caller(), &web, draft, None).await.expect_err("refused");
        assert_eq!(fields(&problem), [field]);
    }
}

#[tokio::test]
async fn a_replacement_without_labels_has_none() {
    let world = World::new().await;
    world.make("vm", json!({"name": "web", "labels": {"a": "b"}, "spec": {"image": "micro"}})).await;
    let draft = json!({"spec": {"image": "micro"}});
    let after = body(&world.intents.replace(&caller(), &key("vm", "web"), draft, None).await.expect("put"));
    assert_eq!((&after["labels"], &after["generation"]), (&json!({}), &json!(1)));
}

#[tokio::test]
async fn a_patch_merges_and_null_takes_away() {
    let world = World::new().await;
    world
        .make(
            "vm",
            json!({"name": "web", "labels": {"a": "1", "b": "2"}, "spec": {"image": "micro", "cpus": 3}}),
        )
        .await;
    let web = key("vm", "web");
    let patch = json!({"labels": {"a": null, "c": "3"}, "spec": {"cpus": null, "memory": "1GiB"}});
    let after = body(&world.patch(&web, patch).await.expect("patched"));
    assert_eq!(after["labels"], json!({"b": "2", "c": "3"}));
    assert_eq!((&after["spec"]["cpus"], &after["spec"]["memory"]), (&json!(1), &json!("1GiB")));
    let addresses = after["status"]["addresses"].clone();
    let after = body(&world.patch(&web, json!({"labels": null})).await.expect("patched"));
    assert_eq!((&after["labels"], &after["status"]["addresses"]), (&json!({}), &addresses));
    for (patch, field) in [
        (json!({"status": {"state": "running"}}), "status"),
        (json!({"finalizers": []}), "finalizers"),
        (json!({"spec": null}), "spec"),
        (json!({"spec": {"cpuss": 1}}), "spec.cpuss"),
        (json!({"sepc": {}}), "sepc"),
        (json!({"name": "db"}), "name"),
        (json!([]), ""),
    ] {
        assert_eq!(fields(&world.patch(&web, patch.clone()).await.expect_err("refused")), [field], "{patch}");
    }
}

#[tokio::test]
async fn if_match_holds_for_every_change() {
    let world = World::new().await;
    let made = world.vm("web", json!({})).await.expect("created");
    let web = key("vm", "web");
    let (old, who) = (Some(made.revision), caller());
    world.patch(&web, json!({"labels": {"a": "b"}})).await.expect("patched");
    let draft = json!({"spec": {"image": "micro", "cpus": 2}});
    for refused in [
        world.intents.replace(&who, &web, draft.clone(), old).await,
        world.intents.patch(&who, &web, draft.clone(), old).await,
        world.intents.delete(&who, &web, old).await,
    ] {
        let problem = refused.expect_err("refused");
        assert_eq!((code(&problem), problem.status), (ErrorCode::RevisionMismatch, 412));
    }
    let now = world.store.get(&web).expect("there").revision();
    world.intents.replace(&who, &web, draft, Some(now)).await.expect("the right revision");
}

#[tokio::test]
async fn a_delete_marks_and_again_is_the_same_answer() {
    let world = World::new().await;
    world.vm("web", json!({})).await.expect("created");
    let web = key("vm", "web");
    let first = world.delete(&web).await.expect("marked");
    assert_eq!(first.status, 202);
    assert!(body(&first)["deleting_at"].is_string());
    assert_eq!(world.delete(&web).await.expect("marked"), first);
    let changes = [
        world.patch(&web, json!({"spec": {"cpus": 2}})).await,
        world.act(&web, "start").await,
        world.create("vm", json!({"name": "web", "spec": {"image": "micro"}})).await,
    ];
    for refused in changes {
        assert_eq!(refused.expect_err("refused").status, 409);
    }
    assert_eq!(code(&world.delete(&key("vm", "none")).await.expect_err("refused")), ErrorCode::NotFound);
}

#[tokio::test]
async fn what_became_of_a_request_can_be_learned() {
    let world = World::new().await;
    let who = Caller { request_id: "req-42".to_owned(), ..caller() };
    world
        .create_as(&who, "vm", json!({"name": "web", "spec": {"image": "debian-12"}}))
        .await
        .expect("created");
    let events = world.store.events(&EventQuery::default()).items;
    let of: Vec<_> = events.iter().filter(|e| e.request_id.as_deref() == Some("req-42")).collect();
    let told: Vec<_> = of.iter().map(|e| (e.kind.as_str(), e.name.as_str(), e.verb.as_str())).collect();
    assert_eq!(told, [("image", "debian-12", "created"), ("vm", "web", "created")]);
    assert!(of.iter().all(|e| e.actor == "uid:1000" && e.outcome == Outcome::Accepted));
}
