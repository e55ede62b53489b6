//! What wakes a pass, and what does not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use agentd_api::network::Network;
use agentd_api::ssh_key::SshKey;
use agentd_api::{ObjectName, State};
use agentd_store::Query;
use serde_json::json;

use super::super::{Fault, Outcome};
use super::stage::{Actor, Stage, idle, play};
use crate::reconcile::testing::{key, wait_until};

fn name(text: &str) -> ObjectName {
    ObjectName::parse(text).expect("a name")
}

async fn key_object(stage: &Stage, name: &str) {
    stage.host.create(&key("ssh-key", name), &[], json!({"public_key": "x"}), json!({})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pass_that_writes_its_status_is_not_woken_by_that() {
    let keys = Arc::new(Actor::<SshKey>::new(|pass, object| {
        Box::pin(async move {
            let mut status = object.status.clone();
            for step in ["one", "two", "three"] {
                status.fingerprint = Some(format!("{step} of {}", object.meta.revision));
                pass.publish::<SshKey>(&status).await.expect("published");
            }
            status.common.state = State::Ready;
            Outcome::settled(status)
        })
    }));
    let stage = play(&keys, &idle());
    key_object(&stage, "a").await;
    stage.host.until_state(&key("ssh-key", "a"), State::Ready).await;
    stage.host.until_quiet().await;
    assert_eq!(keys.passes(&key("ssh-key", "a")), 1);
    stage.host.set_spec(&key("ssh-key", "a"), "public_key", json!("y")).await;
    stage.host.until_quiet().await;
    assert_eq!(keys.passes(&key("ssh-key", "a")), 2, "a change by somebody else wakes it");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_kinds_that_read_each_other_come_to_rest() {
    let keys = Arc::new(Actor::<SshKey>::new(|pass, object| {
        Box::pin(async move {
            let other = pass.get::<Network>(&name("b")).expect("read");
            let mut status = object.status.clone();
            status.fingerprint = other.map(|o| format!("{}", o.status.common.state));
            status.common.state = State::Ready;
            Outcome::settled(status)
        })
    }));
    let networks = Arc::new(Actor::<Network>::new(|pass, object| {
        Box::pin(async move {
            let other = pass.get::<SshKey>(&name("a")).expect("read");
            let mut status = object.status.clone();
            status.bridge = other.and_then(|o| o.status.fingerprint);
            status.common.state = State::Ready;
            Outcome::settled(status)
        })
    }));
    let stage = play(&keys, &networks);
    key_object(&stage, "a").await;
    stage.host.network("b", "10.1.0.0/24").await;
    stage.host.until(&key("network", "b"), "what both agree on", |o| o["status"]["bridge"] == "ready").await;
    stage.host.until_quiet().await;
    let passes = keys.passes(&key("ssh-key", "a")) + networks.passes(&key("network", "b"));
    assert!(passes <= 10, "{passes} passes for two objects");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_wakes_and_what_is_no_longer_read_does_not() {
    let reads = Arc::new(AtomicBool::new(true));
    let told = reads.clone();
    let keys = Arc::new(Actor::<SshKey>::new(move |pass, object| {
        if told.load(Ordering::SeqCst) {
            pass.get::<Network>(&name("b")).expect("read");
        }
        let status = object.status.clone();
        Box::pin(async move { Outcome::settled(status) })
    }));
    let stage = play(&keys, &idle());
    let a = key("ssh-key", "a");
    key_object(&stage, "a").await;
    wait_until("it had a pass", || keys.passes(&a) == 1).await;
    stage.host.until_quiet().await;
    stage.host.network("b", "10.1.0.0/24").await;
    wait_until("what it read appeared", || keys.passes(&a) > 1).await;
    // The network's own pass writes its status, which is a change as well.
    stage.host.until_quiet().await;
    let before = keys.passes(&a);
    stage.host.set_spec(&key("network", "b"), "nat", json!(false)).await;
    wait_until("what it read changed", || keys.passes(&a) > before).await;
    stage.host.until_quiet().await;
    reads.store(false, Ordering::SeqCst);
    let before = keys.passes(&a);
    stage.trigger.wake(a.clone());
    wait_until("it was woken", || keys.passes(&a) == before + 1).await;
    stage.host.until_quiet().await;
    stage.host.set_spec(&key("network", "b"), "nat", json!(true)).await;
    stage.host.until_quiet().await;
    assert_eq!(keys.passes(&a), before + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_wakes_when_an_object_enters_or_leaves_it() {
    let keys = Arc::new(Actor::<SshKey>::new(|pass, object| {
        let query =
            Query { fields: vec![("cidr".into(), true, "10.1.0.0/24".into())], ..Query::kind("network") };
        let found = pass.list(&query).len();
        let mut status = object.status.clone();
        status.fingerprint = Some(found.to_string());
        Box::pin(async move { Outcome::settled(status) })
    }));
    let stage = play(&keys, &idle());
    let a = key("ssh-key", "a");
    key_object(&stage, "a").await;
    let counts = |n: &'static str| move |o: &serde_json::Value| o["status"]["fingerprint"] == n;
    stage.host.until(&a, "none", counts("0")).await;
    stage.host.network("b", "10.1.0.0/24").await;
    stage.host.until(&a, "one", counts("1")).await;
    stage.host.set_spec(&key("network", "b"), "cidr", json!("10.2.0.0/24")).await;
    stage.host.until(&a, "none again", counts("0")).await;
    stage.host.until_quiet().await;
    let before = keys.passes(&a);
    stage.host.network("c", "10.3.0.0/24").await;
    stage.host.until_quiet().await;
    assert_eq!(keys.passes(&a), before, "one that is not in the list wakes nobody");
}

#[tokio::test(flavor = "multi_thread")]
async fn so_many_at_once_and_no_more_and_each_alone() {
    let keys = Arc::new(Actor::<SshKey>::new(|_, object| {
        let status = object.status.clone();
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(5)).await;
            Outcome::settled(status)
        })
    }));
    let stage = play(&keys, &idle());
    for n in 0..30 {
        key_object(&stage, &format!("k{n}")).await;
    }
    wait_until("all had a pass", || keys.passes.lock().len() == 30).await;
    let most = keys.most.load(Ordering::SeqCst);
    assert!((2..=4).contains(&most), "{most} at once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resync_visits_all_and_writes_nothing() {
    let mut actor = Actor::<SshKey>::new(|_, object| {
        let status = object.status.clone();
        Box::pin(async move { Outcome::settled(status) })
    });
    actor.resync = Some(Duration::from_millis(200));
    let keys = Arc::new(actor);
    let stage = play(&keys, &idle());
    for n in 0..20 {
        key_object(&stage, &format!("k{n}")).await;
    }
    wait_until("all had a pass", || keys.passes.lock().len() == 20).await;
    stage.host.until_quiet().await;
    let revision = stage.host.store.revision();
    let passes = |n: usize| keys.passes(&key("ssh-key", &format!("k{n}")));
    let before: Vec<usize> = (0..20).map(passes).collect();
    wait_until("all had two more", || (0..20).all(|n| passes(n) >= before[n] + 2)).await;
    assert_eq!(stage.host.store.revision(), revision);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_else_wrote_into_the_status_meanwhile_stays() {
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let held = gate.clone();
    let networks = Arc::new(Actor::<Network>::new(move |_, object| {
        let held = held.clone();
        let mut status = object.status.clone();
        Box::pin(async move {
            held.acquire().await.expect("open").forget();
            status.common.state = State::Ready;
            Outcome::settled(status)
        })
    }));
    let stage = play(&idle(), &networks);
    let b = key("network", "b");
    stage.host.network("b", "10.1.0.0/24").await;
    wait_until("its pass is under way", || networks.passes(&b) == 1).await;
    stage.host.update(&b, |o| o["status"]["domain"] = json!("theirs")).await;
    gate.add_permits(1);
    let seen = stage.host.until_state(&b, State::Ready).await;
    assert_eq!(seen["status"]["domain"], "theirs");
    wait_until("it looked again", || networks.passes(&b) == 2).await;
    gate.add_permits(1);
    stage.host.until_quiet().await;
    assert_eq!(networks.passes(&b), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_because_the_daemon_ends_is_told_as_no_failure() {
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let keys = {
        let gate = gate.clone();
        Arc::new(Actor::<SshKey>::new(move |_, object| {
            let (gate, status) = (gate.clone(), object.status.clone());
            Box::pin(async move {
                gate.acquire().await.expect("open").forget();
                Outcome::failed(status, Fault::internal("who would have answered has ended"))
            })
        }))
    };
    let stage = play(&keys, &idle());
    let a = key("ssh-key", "a");
    key_object(&stage, "a").await;
    wait_until("its pass is under way", || keys.passes(&a) == 1).await;
    let before = stage.host.get::<SshKey>(&a).meta.revision;
    stage.cancel.cancel();
    gate.add_permits(1);
    stage.tracker.close();
    stage.tracker.wait().await;
    assert_eq!(stage.host.get::<SshKey>(&a).meta.revision, before, "it is as it was");
    assert!(!stage.host.verbs(&a).contains(&"failed".to_owned()), "{:?}", stage.host.verbs(&a));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_stops_at_once_when_nothing_is_in_flight_and_soon_when_something_hangs() {
    let stage = play(&idle(), &idle());
    key_object(&stage, "a").await;
    stage.host.until_quiet().await;
    stage.cancel.cancel();
    stage.tracker.close();
    let started = std::time::Instant::now();
    stage.tracker.wait().await;
    assert!(started.elapsed() < Duration::from_secs(1));

    let keys = Arc::new(Actor::<SshKey>::new(|_, _| Box::pin(std::future::pending())));
    let stage = play(&keys, &idle());
    key_object(&stage, "a").await;
    wait_until("it hangs", || keys.passes(&key("ssh-key", "a")) == 1).await;
    stage.cancel.cancel();
    stage.tracker.close();
    let ended = tokio::time::timeout(Duration::from_secs(5), stage.tracker.wait()).await;
    assert!(ended.is_ok(), "it does not end");
}
