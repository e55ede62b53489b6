//! Actions: what each writes down, and when it is refused.

use super::*;

async fn world_with_web(state: &str, desired: &str) -> (World, ObjectKey) {
    let world = World::new().await;
    world.vm("web", json!({"desired": desired})).await.expect("created");
    let web = key("vm", "web");
    world.set_status(&web, json!({"state": state})).await;
    (world, web)
}

#[tokio::test]
async fn each_action_from_each_state() {
    // state, desired, action -> (status, desired then, generation then), or None for a conflict
    let table = [
        ("stopped", "stopped", "start", Some((202, "running", 2))),
        ("stopped", "running", "start", Some((202, "running", 2))),
        ("failed", "running", "start", Some((202, "running", 2))),
        ("running", "running", "start", Some((200, "running", 1))),
        ("paused", "paused", "start", Some((202, "running", 2))),
        ("running", "running", "stop", Some((202, "stopped", 2))),
        ("paused", "paused", "stop", Some((202, "stopped", 2))),
        ("stopped", "stopped", "stop", Some((200, "stopped", 1))),
        ("running", "running", "restart", Some((202, "running", 1))),
        ("stopped", "stopped", "restart", Some((202, "running", 2))),
        ("paused", "paused", "restart", Some((202, "running", 2))),
        ("running", "running", "pause", Some((202, "paused", 2))),
        ("paused", "paused", "pause", Some((200, "paused", 1))),
        ("stopped", "stopped", "pause", None),
        ("paused", "paused", "resume", Some((202, "running", 2))),
        ("running", "running", "resume", Some((200, "running", 1))),
        ("stopped", "running", "resume", None),
    ];
    for (state, desired, action, wanted) in table {
        let (world, web) = world_with_web(state, desired).await;
        let case = format!("{action} when {state} and to be {desired}");
        match (world.act(&web, action).await, wanted) {
            (Ok(reply), Some((status, then, generation))) => {
                let vm = body(&reply);
                assert_eq!((reply.status, &vm["spec"]["desired"]), (status, &json!(then)), "{case}");
                assert_eq!(vm["generation"], generation, "{case}");
                let asked = vm["status"]["restart_requested"] == json!(true);
                assert_eq!(asked, action == "restart" && state != "stopped", "{case}");
            }
            (Err(problem), None) => assert_eq!(code(&problem), ErrorCode::Conflict, "{case}"),
            (got, wanted) => panic!("{case}: {got:?}, not {wanted:?}"),
        }
    }
}

#[tokio::test]
async fn reconcile_wakes_now_or_later() {
    let (world, web) = world_with_web("running", "running").await;
    world.act(&web, "reconcile").await.expect("accepted");
    let later =
        world.intents.act(&caller(), &web, "reconcile", json!({"delay": "5s"})).await.expect("accepted");
    assert_eq!(later.status, 202);
    let woken = std::mem::take(&mut *world.woken.0.lock());
    let web_name = "vm/default/web".to_owned();
    assert_eq!(woken, [(web_name.clone(), None), (web_name, Some(Duration::from_secs(5)))]);
    for (bad, field) in [
        (json!({"delay": "soon"}), "delay"),
        (json!({"delay": 5}), "delay"),
        (json!({"delay": "2days"}), "delay"),
        (json!({"daley": "5s"}), "daley"),
        (json!("5s"), ""),
    ] {
        let problem =
            world.intents.act(&caller(), &web, "reconcile", bad.clone()).await.expect_err("refused");
        assert_eq!(fields(&problem), [field], "{bad}");
    }
    let problem =
        world.intents.act(&caller(), &web, "start", json!({"delay": "5s"})).await.expect_err("refused");
    assert_eq!(fields(&problem), ["delay"]);
    assert!(world.woken.0.lock().is_empty());
}

#[tokio::test]
async fn retry_forgets_failed_attempts_and_wakes() {
    let (world, web) = world_with_web("failed", "running").await;
    let attempts = json!({"count": 7, "last_error": "no room", "code": "insufficient_capacity"});
    world.set_status(&web, json!({"attempts": attempts, "reason": "no room"})).await;
    let vm = body(&world.act(&web, "retry").await.expect("accepted"));
    assert_eq!(vm["status"]["state"], "pending");
    assert!(vm["status"]["attempts"].is_null() && vm["status"]["reason"].is_null());
    assert_eq!(vm["generation"], 1, "the wish is the same");
    assert_eq!(world.woken.0.lock().len(), 1);
    world.set_status(&web, json!({"state": "running"})).await;
    let vm = body(&world.act(&web, "retry").await.expect("accepted"));
    assert_eq!(vm["status"]["state"], "running", "what did not fail is left as it is");
}

#[tokio::test]
async fn a_delete_that_is_stuck_can_be_retried() {
    let (world, web) = world_with_web("running", "running").await;
    world.delete(&web).await.expect("marked");
    world.act(&web, "retry").await.expect("accepted");
    world.act(&web, "reconcile").await.expect("accepted");
    assert_eq!(code(&world.act(&web, "stop").await.expect_err("refused")), ErrorCode::Conflict);
}

#[tokio::test]
async fn actions_that_are_none_and_objects_that_are_not_there() {
    let world = World::new().await;
    let problem = world.act(&key("network", "default"), "start").await.expect_err("refused");
    assert_eq!(code(&problem), ErrorCode::NotFound);
    assert!(problem.hint.expect("a hint").contains("reconcile"));
    let problem = world.act(&key("vm", "none"), "start").await.expect_err("refused");
    assert_eq!(code(&problem), ErrorCode::NotFound);
    world.act(&key("network", "default"), "retry").await.expect("every kind has it");
}
