//! Watches, compaction, events and remembered answers.

use std::time::Duration;

use agentd_store::{Compacted, EventQuery, Expect, Options, Query, Remembered, Store, Update};
use bytes::Bytes;
use serde_json::json;

use crate::fixture::{Open, changes, create, done, dump, event, new_vm, remove, set_status, vm};

pub async fn a_watch_sees_every_change_once_in_order(open: Open<'_>) {
    let store = open(Options::default());
    let mut all = store.watch(Some(0)).expect("from the beginning");
    let made = create(&store, "a").await;
    let mut rest = store.watch(None).expect("from now");
    let moved = set_status(&store, "a", json!({"state": "running"})).await;
    done(&store, |tx| {
        tx.create(new_vm("b"))?;
        tx.remove(&vm("a"), Expect::Any)
    })
    .await;
    let mut seen = Vec::new();
    for _ in 0..4 {
        let change = all.next().await.expect("kept");
        seen.push((change.revision, change.what.as_str(), change.object.name().to_string()));
        if change.revision == 2 {
            assert_eq!((change.before.as_ref(), &change.object), (Some(&made), &moved));
        }
        if change.what.as_str() == "deleted" {
            assert_eq!((change.before.as_ref(), &change.object), (Some(&moved), &moved));
        }
        assert_eq!(all.position(), change.revision);
    }
    let expected = [(1, "added", "a"), (2, "modified", "a"), (3, "added", "b"), (4, "deleted", "a")];
    assert_eq!(seen, expected.map(|(revision, what, of)| (revision, what, of.to_owned())));
    assert!(all.try_next().is_none());
    assert_eq!(rest.next().await.expect("kept").revision, 2);
    let listed = store.list(&Query::kind("vm"));
    assert!(
        store
            .watch(Some(listed.revision))
            .expect("a list's revision can be watched from")
            .try_next()
            .is_none()
    );
}

pub async fn a_watch_resumes_after_reopening(open: Open<'_>) {
    let store = open(Options::default());
    for at in 0..5 {
        create(&store, &format!("vm-{at}")).await;
        set_status(&store, &format!("vm-{at}"), json!({"state": "running"})).await;
    }
    remove(&store, "vm-1").await;
    create(&store, "vm-1").await;
    set_status(&store, "vm-2", json!({"state": "stopped"})).await;
    remove(&store, "vm-3").await;
    done(&store, |tx| {
        tx.create(new_vm("brief"))?;
        tx.update(&vm("brief"), Expect::Any, Update { deleting: Some(true), ..Update::default() })?;
        tx.remove(&vm("brief"), Expect::Any)
    })
    .await;
    let before = changes(&store, 0);
    assert_eq!(before.len() as u64, store.revision());
    store.close().await.expect("closed");
    let store = open(Options::default());
    assert_eq!(changes(&store, 0), before);
    assert_eq!(changes(&store, 12), before[12..]);
    let mut watch = store.watch(Some(before.len() as u64)).expect("kept");
    create(&store, "late").await;
    assert_eq!(watch.next().await.expect("kept").revision, before.len() as u64 + 1);
}

pub async fn a_watch_that_comes_too_late_is_told(open: Open<'_>) {
    let options = Options { history: 10, ..Options::default() };
    let store = open(options);
    create(&store, "a").await;
    for at in 0..30 {
        set_status(&store, "a", json!({"state": "running", "reason": at.to_string()})).await;
    }
    assert_eq!(store.watch(Some(20)).err(), Some(Compacted { oldest: 21 }));
    assert_eq!(changes(&store, 21).len(), 10);
    assert_eq!(store.watch(Some(32)).err(), Some(Compacted { oldest: 21 }), "nor of a revision to come");
}

pub async fn a_slow_watcher_is_told_and_holds_up_nobody(open: Open<'_>) {
    let options = Options { history_bytes: 64 << 10, ..Options::default() };
    let store = open(options);
    create(&store, "a").await;
    let mut slow = store.watch(Some(0)).expect("kept");
    assert_eq!(slow.next().await.expect("kept").revision, 1);
    let mut quick = store.watch(Some(0)).expect("kept");
    let mut last = 0;
    for at in 0..300 {
        set_status(&store, "a", json!({"state": "running", "reason": format!("{at:01000}")})).await;
        while let Some(change) = quick.try_next() {
            last = change.expect("it keeps up").revision;
        }
    }
    assert_eq!(last, 301);
    let told = slow.next().await.expect_err("it fell behind");
    assert!(told.oldest > 100 && told.oldest < 301, "{told:?}");
    assert_eq!(slow.next().await, Err(told), "again");
    assert!(store.stats().change_bytes <= 64 << 10);
    assert!(store.watch(Some(told.oldest)).is_ok());
}

pub async fn compaction_forgets_and_goes_on(open: Open<'_>) {
    let store = open(Options::default());
    for at in 0..10 {
        create(&store, &format!("vm-{at}")).await;
    }
    remove(&store, "vm-0").await;
    store.compact(7).await.expect("compacted");
    assert_eq!(store.watch(Some(6)).err(), Some(Compacted { oldest: 7 }));
    let kept = changes(&store, 7);
    assert_eq!(kept.len(), 4);
    let before = dump(&store);
    store.close().await.expect("closed");
    let store = open(Options::default());
    assert_eq!(dump(&store), before);
    assert_eq!(store.watch(Some(6)).err(), Some(Compacted { oldest: 7 }));
    store.compact(u64::MAX).await.expect("all of it");
    assert_eq!(create(&store, "next").await.revision(), 12);
    assert_eq!(changes(&store, 11).len(), 1);
}

pub async fn history_is_bounded_across_reopening(open: Open<'_>) {
    let small = || Options { history: 50, ..Options::default() };
    let store = open(small());
    create(&store, "a").await;
    for at in 0..700 {
        let key = vm("a");
        let change = Update { status: Some(json!({"reason": at.to_string()})), ..Update::default() };
        done(&store, move |tx| tx.update(&key, Expect::Any, change.clone())).await;
    }
    let before = changes(&store, store.stats().oldest);
    store.close().await.expect("closed");
    let store = open(Options::default());
    let stats = store.stats();
    assert!(stats.changes >= 50 && stats.changes < 700, "{} changes are kept on disk", stats.changes);
    let all = changes(&store, stats.oldest);
    assert_eq!(all[all.len() - before.len()..], before);
    store.close().await.expect("closed");
    assert_eq!(open(small()).stats().changes, 50);
}

/// The newest changes are over the close, as many as there is room for; the older ones are compacted, and told so.
pub async fn history_at_rest_is_the_newest_of_it(open: Open<'_>) {
    let store = open(Options { history_at_rest: 20_000, ..Options::default() });
    create(&store, "a").await;
    for at in 0..100 {
        let key = vm("a");
        let change = Update { status: Some(json!({"reason": at.to_string()})), ..Update::default() };
        done(&store, move |tx| tx.update(&key, Expect::Any, change.clone())).await;
    }
    let before = changes(&store, 0);
    let revision = store.revision();
    store.close().await.expect("closed");
    let store = open(Options::default());
    let stats = store.stats();
    assert!((5..50).contains(&stats.changes), "{} changes are kept", stats.changes);
    assert!(stats.change_bytes <= 20_000, "{} bytes are kept", stats.change_bytes);
    assert_eq!(store.revision(), revision);
    let kept = changes(&store, stats.oldest);
    assert_eq!(kept, before[before.len() - stats.changes..]);
    assert_eq!(store.watch(Some(stats.oldest - 1)).map(drop), Err(Compacted { oldest: stats.oldest }));
}

pub async fn events_are_kept_and_bounded(open: Open<'_>) {
    let options = || Options { events: 100, ..Options::default() };
    let store = open(options());
    let mut heard = store.watch_events();
    for at in 0..500 {
        done(&store, move |tx| {
            tx.record(event(&format!("vm-{at}"), "started"));
            Ok(())
        })
        .await;
    }
    assert!(heard.has_changed().expect("open"));
    assert_eq!(*heard.borrow_and_update(), 500);
    assert_eq!(store.revision(), 0, "events are no changes");
    let list = store.events(&EventQuery::default());
    let seqs: Vec<u64> = list.items.iter().map(|event| event.seq).collect();
    assert_eq!((seqs, list.next), ((401..=500).collect(), 500));
    store.close().await.expect("closed");
    let store = open(options());
    assert_eq!(store.events(&EventQuery::default()), list);
    done(&store, |tx| {
        tx.record(event("x", "y"));
        Ok(())
    })
    .await;
    assert_eq!(store.events(&EventQuery::default()).next, 501);
}

pub async fn events_are_found_by_what_they_are_of(open: Open<'_>) {
    let store = open(Options::default());
    done(&store, |tx| {
        for at in 0..30 {
            tx.record(event(if at % 3 == 0 { "web" } else { "db" }, "changed"));
        }
        Ok(())
    })
    .await;
    let of = |query: EventQuery| -> (Vec<u64>, u64) {
        let list = store.events(&query);
        (list.items.iter().map(|event| event.seq).collect(), list.next)
    };
    let web = || EventQuery { name: Some("web".to_owned()), ..EventQuery::default() };
    assert_eq!(of(EventQuery { limit: Some(2), ..web() }), (vec![25, 28], 30), "the last ones");
    assert_eq!(of(EventQuery { since: Some(0), limit: Some(2), ..web() }), (vec![1, 4], 4));
    assert_eq!(of(EventQuery { since: Some(4), limit: Some(2), ..web() }), (vec![7, 10], 10));
    assert_eq!(of(EventQuery { since: Some(28), ..web() }), (vec![], 30));
    assert_eq!(of(EventQuery { since: Some(99), ..web() }), (vec![], 99));
    let request = EventQuery { request_id: Some("request-db".to_owned()), ..EventQuery::default() };
    assert_eq!(of(request).0.len(), 20);
}

fn answer(body: &str) -> Remembered {
    Remembered { fingerprint: "POST /v1/vms".to_owned(), status: 201, body: Bytes::from(body.to_owned()) }
}

async fn remember(store: &Store, key: &str, body: &str) {
    let (key, body) = (key.to_owned(), body.to_owned());
    done(store, move |tx| {
        tx.remember(&key, answer(&body));
        Ok(())
    })
    .await;
}

async fn recall(store: &Store, key: &str) -> Option<Remembered> {
    let key = key.to_owned();
    done(store, move |tx| Ok(tx.recall(&key))).await
}

pub async fn answers_are_kept_and_bounded(open: Open<'_>) {
    let options = || Options { answers: 20, ..Options::default() };
    let store = open(options());
    for at in 0..50 {
        remember(&store, &format!("key-{at}"), &format!("body-{at}")).await;
    }
    remember(&store, "key-40", "another").await;
    for (key, body) in [("key-49", Some("body-49")), ("key-40", Some("another")), ("key-10", None)] {
        assert_eq!(recall(&store, key).await, body.map(answer), "{key}");
    }
    assert_eq!(store.stats().answers, 20);
    store.close().await.expect("closed");
    let store = open(options());
    assert_eq!(recall(&store, "key-49").await, Some(answer("body-49")));
    assert_eq!(recall(&store, "key-40").await, Some(answer("another")));
    let bytes = Options { answer_bytes: 10_000, ..Options::default() };
    store.close().await.expect("closed");
    let store = open(bytes);
    for at in 0..10 {
        remember(&store, &format!("large-{at}"), &"x".repeat(2000)).await;
    }
    assert!(store.stats().answers < 10);
    assert!(recall(&store, "large-9").await.is_some());
}

pub async fn answers_expire(open: Open<'_>) {
    let store = open(Options { answer_age: Duration::from_millis(300), ..Options::default() });
    let began = std::time::Instant::now();
    remember(&store, "key", "body").await;
    while recall(&store, "key").await.is_some() {
        assert!(began.elapsed() < Duration::from_secs(10), "it expires");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(began.elapsed() >= Duration::from_millis(250), "but not before its time");
}
