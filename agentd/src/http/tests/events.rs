//! Events: lists, and followers.

use super::served::{Lines, Served, ssh_key};

#[tokio::test]
async fn what_became_of_a_request_can_be_learned() {
    let server = Served::start().await;
    let headers = [("x-request-id", "mine-1"), ("content-type", "application/json")];
    let created = server.send("POST", "/v1/ssh-keys", &headers, &ssh_key("me").to_string()).await;
    assert_eq!((created.status, created.header("x-request-id")), (201, "mine-1"), "{:?}", created.body);
    assert_eq!(server.json("POST", "/v1/ssh-keys", &ssh_key("you")).await.status, 201);
    let found = server.call("GET", "/v1/events?request_id=mine-1").await.json();
    let items = found["items"].as_array().expect("items");
    assert_eq!(items.len(), 1, "{found}");
    assert_eq!((items[0]["name"].as_str(), items[0]["kind"].as_str()), (Some("me"), Some("ssh-key")));
    assert!(items[0]["actor"].as_str().is_some_and(|a| a.starts_with("uid:")));
    let next = server.call("GET", "/v1/events").await.json()["next"].as_u64().expect("a number");
    assert!(
        server.call("GET", &format!("/v1/events?since={next}")).await.json()["items"]
            == serde_json::json!([])
    );
    let of_you = server.call("GET", "/v1/events?kind=ssh-key&project=default&name=you&limit=1").await.json();
    assert_eq!(of_you["items"][0]["name"], "you");
}

#[tokio::test]
async fn a_follower_is_told_as_it_happens() {
    let server = Served::start().await;
    assert_eq!(server.json("POST", "/v1/ssh-keys", &ssh_key("old")).await.status, 201);
    let mut lines = Lines::open(&server.socket, "/v1/events?follow=true", &[]).await;
    assert_eq!(lines.head.headers["content-type"], "application/x-ndjson");
    assert_eq!(lines.event().await["name"], "old");
    assert_eq!(server.json("POST", "/v1/ssh-keys", &ssh_key("new")).await.status, 201);
    let new = lines.event().await;
    assert_eq!(new["name"], "new");
    let since = new["seq"].as_u64().expect("a number");
    let path = format!("/v1/events?follow=true&since={since}&kind=ssh-key");
    let mut later = Lines::open(&server.socket, &path, &[("accept", "text/event-stream")]).await;
    assert_eq!(server.json("POST", "/v1/ssh-keys", &ssh_key("last")).await.status, 201);
    assert_eq!(later.line().await.as_deref(), Some("event: event"));
    assert_eq!(later.line().await, Some(format!("id: {}", since + 1)));
}

#[tokio::test]
async fn bad_questions_are_refused_by_name() {
    let server = Served::start().await;
    for (query, field) in [
        ("kind=nothing", "kind"),
        ("since=-1", "since"),
        ("name=A%20b", "name"),
        ("limit=0", "limit"),
        ("follow=yes", "follow"),
        ("x=1", "x"),
    ] {
        server.call("GET", &format!("/v1/events?{query}")).await.refused(field);
    }
}
