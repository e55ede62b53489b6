//! Creating, reading, changing and deleting one object.

use serde_json::json;

use super::served::{Served, key, ssh_key, vm, vm_key};

#[tokio::test]
async fn an_object_is_created_read_changed_and_marked_for_deletion() {
    let server = Served::start().await;
    let created = server.json("POST", "/v1/ssh-keys", &ssh_key("me")).await;
    assert_eq!(created.status, 201, "{:?}", created.body);
    let object = created.json();
    assert_eq!((object["kind"].as_str(), object["project"].as_str()), (Some("ssh-key"), Some("default")));
    let revision = object["revision"].as_u64().expect("a revision");
    assert_eq!(created.header("etag"), format!("\"{revision}\""));

    let got = server.call("GET", "/v1/ssh-keys/me").await;
    assert_eq!((got.status, got.json()), (200, object.clone()));
    assert_eq!(got.header("content-type"), "application/json");
    assert_eq!(got.header("etag"), created.header("etag"));
    let by_id = server.call("GET", &format!("/v1/ssh-keys/{}", object["id"].as_str().expect("an id"))).await;
    assert_eq!(by_id.json(), object, "an id does where a name does");

    let patched = server.json("PATCH", "/v1/ssh-keys/me", &json!({"labels": {"a": "b"}})).await;
    assert_eq!(patched.status, 200, "{:?}", patched.body);
    assert_eq!(patched.json()["labels"]["a"], "b");
    let replaced = server.json("PUT", "/v1/ssh-keys/me", &got.json()).await;
    assert_eq!(replaced.status, 200, "a whole object can be put back: {:?}", replaced.body);
    assert_eq!(replaced.json()["labels"], json!({}));

    let deleted = server.call("DELETE", "/v1/ssh-keys/me").await;
    assert!(matches!(deleted.status, 200 | 202), "{:?}", deleted.body);
    assert!(deleted.json()["deleting_at"].is_string());
}

#[tokio::test]
async fn a_second_object_of_the_same_name_is_refused_and_another_project_is_another_name() {
    let server = Served::start().await;
    assert_eq!(server.json("POST", "/v1/ssh-keys", &ssh_key("me")).await.status, 201);
    server.json("POST", "/v1/ssh-keys", &ssh_key("me")).await.problem(409, "already_exists");
    assert_eq!(server.json("POST", "/v1/ssh-keys?project=other", &ssh_key("me")).await.status, 201);
    server.call("GET", "/v1/ssh-keys/me?project=third").await.problem(404, "not_found");
    server.call("GET", "/v1/ssh-keys/you").await.problem(404, "not_found");
}

#[tokio::test]
async fn a_dry_run_changes_nothing() {
    let server = Served::start().await;
    let before = server.store.revision();
    let dry = server.json("POST", "/v1/ssh-keys?dry_run=true", &ssh_key("me")).await;
    assert!(matches!(dry.status, 200 | 201), "{:?}", dry.body);
    assert_eq!(server.store.revision(), before);
    server.call("GET", "/v1/ssh-keys/me").await.problem(404, "not_found");
    server.json("POST", "/v1/ssh-keys?dry_run=perhaps", &ssh_key("me")).await.refused("dry_run");
}

#[tokio::test]
async fn if_match_is_honoured() {
    let server = Served::start().await;
    let created = server.json("POST", "/v1/ssh-keys", &ssh_key("me")).await;
    let etag = created.header("etag").to_owned();
    let change = |label: &str| json!({"labels": {"a": label}}).to_string();
    let patch = async |if_match: &str, label: &str| {
        let headers = [("if-match", if_match), ("content-type", "application/merge-patch+json")];
        server.send("PATCH", "/v1/ssh-keys/me", &headers, &change(label)).await
    };
    assert_eq!(patch(&etag, "one").await.status, 200);
    patch(&etag, "two").await.problem(412, "revision_mismatch");
    assert_eq!(patch("*", "three").await.status, 200);
    patch("\"x\"", "four").await.refused("If-Match");
    assert_eq!(server.call("GET", "/v1/ssh-keys/me").await.json()["labels"]["a"], "three");
    let stale = server.send("DELETE", "/v1/ssh-keys/me", &[("if-match", etag.as_str())], "").await;
    stale.problem(412, "revision_mismatch");
}

#[tokio::test]
async fn an_idempotent_create_happens_once() {
    let server = Served::start().await;
    let body = ssh_key("me").to_string();
    let headers = [("idempotency-key", "abc-1"), ("content-type", "application/json")];
    let first = server.send("POST", "/v1/ssh-keys", &headers, &body).await;
    let second = server.send("POST", "/v1/ssh-keys", &headers, &body).await;
    assert_eq!((first.status, second.status), (201, 201), "{:?}", second.body);
    assert_eq!(first.json(), second.json());
    for bad in ["", &"k".repeat(129), "a\tb"] {
        let answer = server.send("POST", "/v1/ssh-keys", &[("idempotency-key", bad)], &body).await;
        answer.refused("Idempotency-Key");
    }
}

#[tokio::test]
async fn an_object_that_has_not_changed_is_not_sent_again() {
    let server = Served::start().await;
    server.put(vec![vm("web")]).await;
    let got = server.call("GET", "/v1/vms/web").await;
    let etag = got.header("etag").to_owned();
    let same = server.send("GET", "/v1/vms/web", &[("if-none-match", etag.as_str())], "").await;
    assert_eq!((same.status, same.body.len()), (304, 0));
    assert_eq!(same.header("etag"), etag);
    server.set_state(&vm_key("web"), "running").await;
    let changed = server.send("GET", "/v1/vms/web", &[("if-none-match", etag.as_str())], "").await;
    assert_eq!(changed.json()["status"]["state"], "running");
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    let server = Served::start().await;
    server.put(vec![vm("web")]).await;
    let got = server.call("GET", "/v1/vms/web").await;
    let head = server.call("HEAD", "/v1/vms/web").await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), got.body.len().to_string());
    assert_eq!(head.header("etag"), got.header("etag"));
}

#[tokio::test]
async fn actions_are_handed_on() {
    let server = Served::start().await;
    server.put(vec![vm("web")]).await;
    let asked = server.json("POST", "/v1/vms/web/reconcile", &json!({"delay": "5s"})).await;
    assert!(matches!(asked.status, 200 | 202), "{:?}", asked.body);
    let woken = server.known.woken.lock().clone();
    assert_eq!(woken, [(vm_key("web"), Some(std::time::Duration::from_secs(5)))]);
    let bare = server.call("POST", "/v1/vms/web/reconcile").await;
    assert!(matches!(bare.status, 200 | 202), "no body is needed: {:?}", bare.body);
    let unknown = server.call("POST", "/v1/vms/web/explode").await.problem(404, "not_found");
    assert!(unknown.detail.contains("start"), "it names those that there are: {}", unknown.detail);
    server.call("POST", "/v1/vms/none/start").await.problem(404, "not_found");
}

#[tokio::test]
async fn bad_names_are_refused_by_name() {
    let server = Served::start().await;
    for bad in ["UPPER", "a_b", "-a", "a%20b", "%2e%2e", "%00", &"a".repeat(64), "%zz"] {
        let refused = server.call("GET", &format!("/v1/vms/{bad}")).await.refused("name");
        assert!(refused.detail.len() < 300, "{}", refused.detail);
    }
    server.call("GET", "/v1/vms/../etc").await.problem(404, "not_found");
    server.call("GET", "/v1/vms/web?project=Bad_One").await.refused("project");
    let same = server.call("GET", "/v1/vms/%77eb").await.problem(404, "not_found");
    assert!(same.detail.contains("'web'"), "an encoded name is the name: {}", same.detail);
}

#[tokio::test]
async fn an_upload_is_handed_on_as_it_comes() {
    let server = Served::start().await;
    let content = "x".repeat(3 << 20);
    let sent = server.send("PUT", "/v1/images/mine/content?project=p", &[], &content).await;
    assert_eq!(sent.status, 202, "{:?}", sent.body);
    let uploads = server.known.uploads.lock();
    let (caller, to, length, bytes) = uploads.first().expect("one upload");
    assert_eq!((to, *length, *bytes), (&key("image", "p", "mine"), Some(3 << 20), 3 << 20));
    assert_eq!(caller.request_id, sent.header("x-request-id"));
}
