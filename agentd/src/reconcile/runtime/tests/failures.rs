//! Failed passes, panics, and how an object goes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use agentd_api::ssh_key::SshKey;
use agentd_api::{ErrorCode, State};
use parking_lot::Mutex;
use serde_json::json;

use super::super::{Fault, Outcome};
use super::stage::{Actor, Stage, idle, play};
use crate::reconcile::testing::{key, wait_until};

async fn key_object(stage: &Stage, name: &str, finalizers: &[&str]) {
    stage.host.create(&key("ssh-key", name), finalizers, json!({"public_key": "x"}), json!({})).await;
}

/// Fails as often as told, then is ready.
fn failing(times: usize, fault: impl Fn() -> Fault + Send + Sync + 'static) -> Arc<Actor<SshKey>> {
    let left = AtomicUsize::new(times);
    Arc::new(Actor::<SshKey>::new(move |_, object| {
        let mut status = object.status.clone();
        let fails = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok();
        let fault = fails.then(&fault);
        Box::pin(async move {
            match fault {
                Some(fault) => Outcome::failed(status, fault),
                None => {
                    (status.common.state, status.common.reason) = (State::Ready, None);
                    Outcome::settled(status)
                }
            }
        })
    }))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_that_may_pass_is_tried_again_and_shown() {
    let keys = failing(2, || Fault::transient("not now"));
    let stage = play(&keys, &idle());
    let a = key("ssh-key", "a");
    let started = std::time::Instant::now();
    key_object(&stage, "a", &[]).await;
    let seen = stage.host.until(&a, "tried twice", |o| o["status"]["attempts"]["count"] == 2).await;
    assert_eq!(seen["status"]["attempts"]["last_error"], "not now");
    assert_eq!(seen["status"]["attempts"]["code"], "backend_unavailable");
    assert_eq!(seen["status"]["reason"], "not now");
    let seen = stage.host.until_state(&a, State::Ready).await;
    assert!(seen["status"]["attempts"].is_null());
    assert!(started.elapsed() > Duration::from_millis(1300), "half a second, then a second");
    let failed = stage.host.verbs(&a).into_iter().filter(|v| v == "failed").count();
    assert_eq!(failed, 1, "the same failure again is no new event");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_that_does_not_pass_stops_until_the_spec_changes_or_retry() {
    let keys = failing(2, || Fault::permanent(ErrorCode::Invalid, "never"));
    let stage = play(&keys, &idle());
    let a = key("ssh-key", "a");
    key_object(&stage, "a", &[]).await;
    let seen = stage.host.until_state(&a, State::Failed).await;
    assert_eq!(seen["status"]["reason"], "never");
    assert!(seen["status"]["attempts"]["next_at"].is_null());
    stage.trigger.wake(a.clone());
    stage.host.until_quiet().await;
    assert_eq!(keys.passes(&a), 1);
    stage.host.retry(&a).await;
    wait_until("it was tried again", || keys.passes(&a) == 2).await;
    stage.host.until_state(&a, State::Failed).await;
    stage.host.set_spec(&a, "public_key", json!("y")).await;
    stage.host.until_state(&a, State::Ready).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_a_failed_attempt_and_takes_nothing_down() {
    let keys = Arc::new(Actor::<SshKey>::new(|_, object| {
        let mut status = object.status.clone();
        let bad = object.meta.name.as_str() == "bad" && object.meta.generation == 1;
        Box::pin(async move {
            assert!(!bad, "the pass of a bad one");
            status.common.state = State::Ready;
            status.common.reason = None;
            Outcome::settled(status)
        })
    }));
    let stage = play(&keys, &idle());
    key_object(&stage, "bad", &[]).await;
    key_object(&stage, "good", &[]).await;
    let bad = key("ssh-key", "bad");
    let seen = stage.host.until(&bad, "failed", |o| o["status"]["attempts"]["count"] == 1).await;
    assert_eq!(seen["status"]["attempts"]["code"], "internal");
    assert!(seen["status"]["reason"].as_str().is_some_and(|r| r.contains("the pass of a bad one")));
    stage.host.until_state(&key("ssh-key", "good"), State::Ready).await;
    stage.host.set_spec(&bad, "public_key", json!("y")).await;
    stage.host.until_state(&bad, State::Ready).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn finalizers_are_undone_in_their_order_and_a_refusal_holds_the_rest() {
    let refusals = AtomicUsize::new(2);
    let actor = Actor::<SshKey>::new(|_, object| {
        let status = object.status.clone();
        Box::pin(async move { Outcome::settled(status) })
    });
    let keys = Arc::new(actor.undoing(move |finalizer| {
        let refuse = finalizer == "second"
            && refusals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok();
        if refuse { Err(Fault::permanent(ErrorCode::InUse, "it is in use")) } else { Ok(()) }
    }));
    let stage = play(&keys, &idle());
    let a = key("ssh-key", "a");
    key_object(&stage, "a", &["first", "second", "third"]).await;
    wait_until("it had a pass", || keys.passes(&a) == 1).await;
    stage.host.delete(&a).await;
    let seen = stage.host.until(&a, "refused twice", |o| o["status"]["attempts"]["count"] == 2).await;
    assert_eq!(seen["status"]["state"], "deleting");
    assert_eq!(seen["status"]["reason"], "it is in use");
    assert_eq!(seen["finalizers"], json!(["second", "third"]));
    stage.host.until_gone(&a).await;
    assert_eq!(*keys.undone.lock(), ["first", "second", "third"]);
    assert!(stage.host.verbs(&a).contains(&"deleted".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_of_the_same_name_is_another_one() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let told = seen.clone();
    let keys = Arc::new(Actor::<SshKey>::new(move |_, object| {
        told.lock().push(object.meta.id);
        let status = object.status.clone();
        Box::pin(async move { Outcome::settled(status) })
    }));
    let stage = play(&keys, &idle());
    let a = key("ssh-key", "a");
    for n in 1..=3 {
        key_object(&stage, "a", &["first"]).await;
        wait_until("it had a pass", || seen.lock().len() == n).await;
        stage.host.delete(&a).await;
        stage.host.until_gone(&a).await;
    }
    let mut ids = seen.lock().clone();
    ids.dedup();
    assert_eq!(ids.len(), 3);
}
