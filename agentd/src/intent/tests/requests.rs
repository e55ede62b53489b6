//! Dry runs and idempotency keys.

use super::*;

fn keyed(key: &str) -> Caller {
    Caller { idempotency_key: Some(key.to_owned()), ..caller() }
}

fn web(cpus: u32) -> Value {
    json!({"name": "web", "spec": {"image": "micro", "cpus": cpus}})
}

#[tokio::test]
async fn a_dry_run_answers_what_would_be_and_does_nothing() {
    let world = World::new().await;
    let before = world.store.revision();
    let would = world.create_as(&dry(), "vm", web(2)).await.expect("it would be created");
    assert_eq!(would.status, 201);
    assert_eq!(body(&would)["status"]["addresses"][0]["ip"], "10.77.0.2");
    assert!(world.store.get(&key("vm", "web")).is_none());
    let problem = world.create_as(&dry(), "vm", web(0)).await.expect_err("it would be refused");
    assert_eq!(fields(&problem), ["spec.cpus"]);
    assert_eq!(world.store.revision(), before);

    let made = world.vm("web", json!({})).await.expect("created");
    assert_eq!(body(&made)["status"]["addresses"][0]["ip"], "10.77.0.2", "the dry run took no address");
    let at = key("vm", "web");
    let patched = world.intents.patch(&dry(), &at, json!({"spec": {"cpus": 8}}), None).await.expect("would");
    assert_eq!(body(&patched)["spec"]["cpus"], 8);
    let stopped = world.intents.act(&dry(), &at, "stop", Value::Null).await.expect("would");
    assert_eq!(body(&stopped)["spec"]["desired"], "stopped");
    let gone = world.intents.delete(&dry(), &at, None).await.expect("would");
    assert!(body(&gone)["deleting_at"].is_string());
    world.intents.act(&dry(), &at, "reconcile", Value::Null).await.expect("would");
    assert!(world.woken.0.lock().is_empty());
    assert_eq!(world.store.get(&at).expect("there").revision(), made.revision);
}

#[tokio::test]
async fn the_same_key_and_request_is_answered_once_and_for_all() {
    let world = World::new().await;
    let first = world.create_as(&keyed("k1"), "vm", web(1)).await.expect("created");
    world.patch(&key("vm", "web"), json!({"labels": {"a": "b"}})).await.expect("patched");
    let again = world.create_as(&keyed("k1"), "vm", web(1)).await.expect("the same answer");
    assert_eq!(again, first);

    let other = world.create_as(&keyed("k1"), "vm", web(2)).await.expect_err("another request");
    assert_eq!((code(&other), other.status), (ErrorCode::Conflict, 409));
    let deletes = world.intents.delete(&keyed("k1"), &key("vm", "web"), None).await;
    assert_eq!(code(&deletes.expect_err("another request")), ErrorCode::Conflict);

    let fresh = world.create_as(&keyed("k2"), "vm", web(1)).await.expect_err("a new request");
    assert_eq!(code(&fresh), ErrorCode::AlreadyExists);
}

#[tokio::test]
async fn what_was_refused_may_be_tried_again_under_its_key() {
    let world = World::new().await;
    let draft = json!({"name": "web", "spec": {"image": "micro", "networks": [{"network": "late"}]}});
    world.create_as(&keyed("k"), "vm", draft.clone()).await.expect_err("no such network");
    world.make("network", json!({"name": "late", "spec": {"cidr": "10.9.0.0/24"}})).await;
    world.create_as(&keyed("k"), "vm", draft).await.expect("created");
}

#[tokio::test]
async fn keys_of_two_users_do_not_meet() {
    let world = World::new().await;
    world.create_as(&keyed("k"), "vm", web(1)).await.expect("created");
    let other = Caller { principal: Principal::local(1001, 1001), ..keyed("k") };
    let problem = world.create_as(&other, "vm", web(1)).await.expect_err("its own request");
    assert_eq!(code(&problem), ErrorCode::AlreadyExists);
}

#[tokio::test]
async fn many_at_once_with_one_key_make_one_object() {
    let world = Arc::new(World::new().await);
    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let world = world.clone();
            tokio::spawn(async move { world.create_as(&keyed("same"), "vm", web(1)).await })
        })
        .collect();
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.expect("joined").expect("answered"));
    }
    assert!(answers.iter().all(|a| *a == answers[0]));
}

#[tokio::test]
async fn a_key_must_be_one() {
    let world = World::new().await;
    for bad in ["", "a b", "ä", &"k".repeat(256)] {
        let problem = world.create_as(&keyed(bad), "vm", web(1)).await.expect_err("refused");
        assert_eq!(fields(&problem), ["Idempotency-Key"], "{bad}");
    }
}

#[tokio::test]
async fn the_memory_of_keys_outlives_the_daemon() {
    let dir = tempfile::tempdir().expect("a folder");
    let draft = json!({"name": "net", "spec": {"cidr": "10.9.0.0/24"}});
    let def = registry::by_kind("network").expect("a kind");
    let mut answers = Vec::new();
    for _ in 0..2 {
        let store = open(dir.path());
        let intents = Intents::new(store.clone(), Arc::new(SmallHost::new()), Arc::new(Woken::default()));
        answers
            .push(intents.create(&keyed("k"), def, &name("default"), draft.clone()).await.expect("created"));
        drop(intents);
        store.close().await.expect("closed");
    }
    assert_eq!(answers[0], answers[1]);
}

#[tokio::test]
async fn a_store_that_cannot_write_is_said_and_nothing_is_promised() {
    let world = World::new().await;
    world.store.clone().close().await.expect("closed");
    let problem = world.create("vm", web(1)).await.expect_err("refused");
    assert_eq!((code(&problem), problem.status, problem.retryable), (ErrorCode::StoreUnavailable, 503, true));
    assert_eq!(problem.request_id, "req-1");
    assert!(world.store.get(&key("vm", "web")).is_none());
}
