//! Watches: where they begin, that nothing is missed or repeated, how selectors see changes.

use std::time::Duration;

use agentd_store::Update;
use tokio::time::timeout;

use super::served::{LIMIT, Lines, Served, labelled, vm, vm_key};
use crate::http::Limits;

fn at(event: &str, name: &str, revision: u64) -> (String, String, u64) {
    (event.to_owned(), name.to_owned(), revision)
}

#[tokio::test]
async fn a_watch_begins_with_what_is_there_and_goes_on_with_what_happens() {
    let server = Served::start().await;
    server.put(vec![vm("a"), vm("b")]).await;
    let mut watch = Lines::open(&server.socket, "/v1/vms?watch=true", &[]).await;
    assert_eq!(watch.head.headers["content-type"], "application/x-ndjson");
    assert_eq!(watch.next().await, at("added", "a", 1));
    assert_eq!(watch.next().await, at("added", "b", 2));
    assert_eq!(watch.next().await, at("bookmark", "", 2));
    server.put(vec![vm("c")]).await;
    assert_eq!(watch.change().await, at("added", "c", 3));
    server.set_state(&vm_key("c"), "running").await;
    let event = watch.event().await;
    assert_eq!(
        (event["event"].as_str(), event["object"]["status"]["state"].as_str()),
        (Some("modified"), Some("running"))
    );
    server.remove(&vm_key("a")).await;
    assert_eq!(watch.change().await, at("deleted", "a", 5));
}

#[tokio::test]
async fn a_watch_that_was_cut_resumes_without_a_gap_or_a_repeat() {
    let server = Served::start().await;
    let store = server.store.clone();
    let writer = tokio::spawn(async move {
        for n in 0..300 {
            let new = vm(&format!("vm-{n:03}"));
            store.transact(move |tx| tx.create(new.clone()).map(drop)).await.expect("created");
        }
    });
    let (mut seen, mut since) = (Vec::new(), 0);
    while seen.len() < 300 {
        let mut watch = Lines::open(&server.socket, &format!("/v1/vms?watch=true&since={since}"), &[]).await;
        // Cut after a few, at whatever place.
        for _ in 0..(seen.len() % 13 + 1).min(300 - seen.len()) {
            let (event, name, revision) = watch.change().await;
            assert_eq!(event, "added");
            since = revision;
            seen.push(name);
        }
    }
    writer.await.expect("written");
    let wanted: Vec<String> = (0..300).map(|n| format!("vm-{n:03}")).collect();
    assert_eq!(seen, wanted);
}

#[tokio::test]
async fn even_its_beginning_can_be_cut_anywhere() {
    let server = Served::start().await;
    server.put(vec![vm("c"), vm("a"), vm("b")]).await;
    server.set_state(&vm_key("c"), "running").await;
    let mut watch = Lines::open(&server.socket, "/v1/vms?watch=true", &[]).await;
    let (_, first, revision) = watch.next().await;
    assert_eq!(first, "a", "the oldest revision comes first");
    drop(watch);
    let mut rest = Lines::open(&server.socket, &format!("/v1/vms?watch=true&since={revision}"), &[]).await;
    assert_eq!(rest.change().await.1, "b");
    assert_eq!(rest.change().await.1, "c");
}

#[tokio::test]
async fn a_selector_sees_objects_come_into_it_and_leave_it() {
    let server = Served::start().await;
    server.put(vec![vm("a"), labelled("b", &[("tier", "web")])]).await;
    let path = "/v1/vms?watch=true&since=2&fields=state=running";
    let mut watch = Lines::open(&server.socket, path, &[]).await;
    server.set_state(&vm_key("a"), "running").await;
    assert_eq!(watch.change().await, at("added", "a", 3), "it begins to match");
    server
        .update(
            &vm_key("a"),
            Update { labels: labelled("x", &[("k", "v")]).labels.into(), ..Update::default() },
        )
        .await;
    assert_eq!(watch.change().await, at("modified", "a", 4));
    server.set_state(&vm_key("a"), "stopped").await;
    assert_eq!(watch.change().await, at("deleted", "a", 5), "it ceases to match");
    server.remove(&vm_key("a")).await;
    server.set_state(&vm_key("b"), "running").await;
    assert_eq!(watch.change().await, at("added", "b", 7), "what did not match is deleted unseen");
    server.remove(&vm_key("b")).await;
    assert_eq!(watch.change().await, at("deleted", "b", 8));
}

#[tokio::test]
async fn other_kinds_and_projects_are_not_seen() {
    let server = Served::start().await;
    let mut watch = Lines::open(&server.socket, "/v1/ssh-keys?watch=true&since=0", &[]).await;
    server.put(vec![vm("a")]).await;
    let other = super::served::ssh_key("other");
    assert_eq!(server.json("POST", "/v1/ssh-keys?project=p", &other).await.status, 201);
    assert_eq!(server.json("POST", "/v1/ssh-keys", &super::served::ssh_key("mine")).await.status, 201);
    assert_eq!(watch.change().await.1, "mine");
}

#[tokio::test]
async fn bookmarks_come_while_nothing_does_that_is_seen() {
    let limits = Limits { bookmark: Duration::from_millis(50), ..Limits::default() };
    let server = Served::limited(limits).await;
    let mut watch = Lines::open(&server.socket, "/v1/networks?watch=true", &[]).await;
    assert_eq!(watch.next().await, at("bookmark", "", 0));
    server.put(vec![vm("a")]).await;
    let moved = async { while watch.next().await.2 == 0 {} };
    timeout(LIMIT, moved).await.expect("a bookmark moves past changes of other kinds");
}

#[tokio::test]
async fn a_revision_that_is_gone_is_told_at_once() {
    let server = Served::start().await;
    server.put(vec![vm("a"), vm("b"), vm("c")]).await;
    server.store.compact(2).await.expect("compacted");
    let gone = server.call("GET", "/v1/vms?watch=true&since=1").await.problem(410, "revision_compacted");
    assert!(gone.hint.is_some());
    server.call("GET", "/v1/vms?watch=true&since=999").await.problem(410, "revision_compacted");
    let mut watch = Lines::open(&server.socket, "/v1/vms?watch=true&since=2", &[]).await;
    assert_eq!(watch.change().await, at("added", "c", 3));
}

#[tokio::test]
async fn a_watcher_that_sleeps_too_long_is_told_and_slows_nobody() {
    let server = Served::start().await;
    let mut sleeper = Lines::open(&server.socket, "/v1/vms?watch=true&since=0", &[]).await;
    let big = "x".repeat(200 << 10);
    server.put(vec![vm("a")]).await;
    for n in 0..40 {
        let annotations = Some([("n".to_owned(), format!("{n}{big}"))].into());
        server.update(&vm_key("a"), Update { annotations, ..Update::default() }).await;
    }
    server.store.compact(server.store.revision()).await.expect("compacted");
    let mut last = sleeper.event().await;
    while last["event"] != "error" {
        last = sleeper.event().await;
    }
    assert_eq!(last["problem"]["code"], "revision_compacted", "{last}");
    assert_eq!(last["problem"]["status"], 410);
    assert_eq!(sleeper.line().await, None, "that was the last line");
}

#[tokio::test]
async fn server_sent_events_are_given_to_those_who_ask() {
    let server = Served::start().await;
    server.put(vec![vm("a")]).await;
    let accept = [("accept", "text/event-stream")];
    let mut watch = Lines::open(&server.socket, "/v1/vms?watch=true", &accept).await;
    assert_eq!(watch.head.headers["content-type"], "text/event-stream");
    assert_eq!(watch.line().await.as_deref(), Some("event: added"));
    assert_eq!(watch.line().await.as_deref(), Some("id: 1"));
    let data = watch.line().await.expect("data");
    let event: serde_json::Value =
        serde_json::from_str(data.strip_prefix("data: ").expect("data")).expect("JSON");
    assert_eq!(event["object"]["name"], "a");
    assert_eq!(watch.line().await.as_deref(), Some(""));
    drop(watch);
    server.put(vec![vm("b")]).await;
    let resumed = [("accept", "text/event-stream"), ("last-event-id", "1")];
    let mut watch = Lines::open(&server.socket, "/v1/vms?watch=true", &resumed).await;
    assert_eq!(watch.line().await.as_deref(), Some("event: added"));
    assert_eq!(watch.line().await.as_deref(), Some("id: 2"));
}
