//! The client against a server that says exactly what a test wants it to, also what no daemon should.

mod informer;
mod server;

use std::time::Duration;

use agentd_api::list::WatchKind;
use agentd_api::object::Draft;
use agentd_api::ssh_key::{SshKey, SshKeySpec};
use agentd_api::{ErrorCode, ObjectName};
use agentd_client::{Client, ClientError, ListOptions, Upload, WriteOptions};
use serde_json::json;

use server::{Reply, Server, key, list, problem};

fn name(text: &str) -> ObjectName {
    ObjectName::parse(text).expect("a name")
}

fn draft() -> Draft<SshKey> {
    let spec = SshKeySpec { public_key: "ssh-ed25519 AAAA".to_owned() };
    Draft { name: name("me"), labels: Default::default(), annotations: Default::default(), spec }
}

#[tokio::test]
async fn no_daemon_is_told_from_a_broken_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let missing = Client::new(folder.path().join("none.sock")).info().await;
    assert!(matches!(missing, Err(ClientError::NoDaemon { .. })), "{missing:?}");

    // A socket that nobody listens on any more, as after a SIGKILL.
    let stale = folder.path().join("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).expect("a socket"));
    let refused = Client::new(&stale).info().await;
    assert!(matches!(refused, Err(ClientError::NoDaemon { .. })), "{refused:?}");

    let server = Server::new([Reply::HangUp, Reply::HangUp]);
    let broken = server.client().info().await;
    assert!(matches!(broken, Err(ClientError::Transport { .. })), "{broken:?}");
}

#[tokio::test]
async fn a_create_is_sent_twice_under_one_key_and_a_delete_once() {
    let server = Server::new([Reply::HangUp, Reply::json(201, &key("me", 4))]);
    let made = server.client().create(&draft(), &WriteOptions::default()).await.expect("made");
    assert_eq!(made.meta.name.as_str(), "me");
    let seen = server.requests();
    assert_eq!(seen.len(), 2);
    let keys: Vec<Option<String>> = seen.iter().map(|r| r.header("idempotency-key")).collect();
    assert!(keys[0].is_some() && keys[0] == keys[1], "{keys:?}");
    assert_eq!(seen[0].header("x-request-id"), seen[1].header("x-request-id"), "one request, told twice");
    assert_eq!(seen[0].body, br#"{"name":"me","spec":{"public_key":"ssh-ed25519 AAAA"}}"#);

    let server = Server::new([Reply::HangUp, Reply::json(200, &key("me", 5))]);
    let lost = server.client().delete::<SshKey>(&name("me"), &WriteOptions::default()).await;
    assert!(matches!(lost, Err(ClientError::Transport { .. })), "{lost:?}");
    assert_eq!(server.requests().len(), 1, "what is not known to be safe is not repeated");
}

#[tokio::test]
async fn options_go_where_the_contract_has_them() {
    let server = Server::new([Reply::json(200, &key("me", 5))]);
    let options = WriteOptions { dry_run: true, if_match: Some(4), ..WriteOptions::of(name("lab")) };
    server.client().patch::<SshKey>(&name("me"), &json!({"labels": {}}), &options).await.expect("patched");
    let seen = &server.requests()[0];
    assert_eq!(seen.line, "PATCH /v1/ssh-keys/me?project=lab&dry_run=true HTTP/1.1");
    assert_eq!(seen.header("if-match").as_deref(), Some("\"4\""));
    assert_eq!(seen.header("content-type").as_deref(), Some("application/merge-patch+json"));
}

#[tokio::test]
async fn any_text_can_be_asked_for() {
    let server = Server::new([problem(ErrorCode::NotFound)]);
    let odd = "../a b?c#\u{e9}%";
    let error =
        server.client().kind(<SshKey as agentd_api::Kind>::DEF).get(None, odd).await.expect_err("not found");
    assert!(error.is_not_found(), "{error:?}");
    assert_eq!(server.requests()[0].line, "GET /v1/ssh-keys/..%2Fa%20b%3Fc%23%C3%A9%25 HTTP/1.1");
}

#[tokio::test]
async fn refusals_keep_what_the_daemon_said() {
    let server = Server::new([
        problem(ErrorCode::InUse),
        Reply::Text(
            "HTTP/1.1 502 Bad Gateway\r\ncontent-length: 5\r\nconnection: close\r\n\r\n<\x1b[2J".into(),
        ),
        Reply::json(200, &json!({"items": 7})),
    ]);
    let client = server.client();
    let refused = client.info().await.expect_err("refused");
    assert_eq!(refused.code(), Some(ErrorCode::InUse));
    let ClientError::Problem(problem) = refused else { panic!("no problem") };
    assert_eq!(Some(problem.request_id), server.requests()[0].header("x-request-id"), "the request is known");
    let strange = client.info().await.expect_err("refused");
    assert!(
        matches!(&strange, ClientError::Unexpected { status: 502, body, .. } if !body.contains('\u{1b}')),
        "{strange:?}"
    );
    let unread = client.list::<SshKey>(&ListOptions::default()).await.expect_err("not a list");
    assert!(matches!(unread, ClientError::Decode { .. }), "{unread:?}");
}

#[tokio::test]
async fn an_answer_that_does_not_come_is_given_up() {
    let half = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"items\":[";
    let server = Server::new([Reply::Silence, Reply::Stall(half.into())]);
    let client = server.client().with_timeout(Duration::from_millis(100));
    for what in ["nothing", "half of it"] {
        let late = client.info().await.expect_err("too late");
        assert!(matches!(late, ClientError::TimedOut { .. }), "{what}: {late:?}");
    }
}

#[tokio::test]
async fn a_list_is_all_of_its_pages() {
    let server = Server::new([
        list(&[key("a", 1), key("b", 2)], 7, Some("b&c")),
        list(&[key("c", 3)], 8, None),
        list(&[key("a", 1)], 9, Some("more")),
    ]);
    let options = ListOptions { labels: vec!["x=y".into(), "!z".into()], ..ListOptions::default() };
    let all = server.client().list::<SshKey>(&options).await.expect("a list");
    let names: Vec<&str> = all.items.iter().map(|o| o.meta.name.as_str()).collect();
    assert_eq!((names, all.revision, all.next), (vec!["a", "b", "c"], 7, None));
    assert_eq!(server.requests()[1].line, "GET /v1/ssh-keys?labels=x%3Dy%2C%21z&continue=b%26c HTTP/1.1");
    let page = ListOptions { limit: Some(1), ..ListOptions::default() };
    let page = server.client().list::<SshKey>(&page).await.expect("a page");
    assert_eq!((page.items.len(), page.next.as_deref()), (1, Some("more")), "a limit bounds the answer");
}

#[tokio::test]
async fn a_watch_reads_lines_however_they_are_cut() {
    let line =
        |event: &str, revision| json!({"event": event, "revision": revision, "object": key("a", revision)});
    let ended = json!({"event": "error", "revision": 9, "problem": {"code": "revision_compacted", "status": 410,
        "title": "t", "detail": "gone", "retryable": false}});
    let text = format!(
        "{}\n\n{}\n{}\n{ended}\n",
        line("added", 3),
        line("deleted", 4),
        json!({"event": "bookmark", "revision": 8})
    );
    for size in [1, 7, 64, text.len()] {
        let server = Server::new([Reply::chunked(&text, size)]);
        let mut watch =
            server.client().watch::<SshKey>(Some(2), &ListOptions::default()).await.expect("a watch");
        let mut seen = Vec::new();
        let end = loop {
            match watch.next().await {
                Some(Ok(event)) => seen.push((event.event, event.revision, event.object.is_some())),
                other => break other,
            }
        };
        use WatchKind::{Added, Bookmark, Deleted};
        assert_eq!(seen, [(Added, 3, true), (Deleted, 4, true), (Bookmark, 8, false)], "pieces of {size}");
        let code = end.and_then(Result::err).and_then(|e| e.code());
        assert_eq!(code, Some(ErrorCode::RevisionCompacted), "pieces of {size}");
        assert_eq!(server.requests()[0].line, "GET /v1/ssh-keys?watch=true&since=2 HTTP/1.1");
    }
}

#[tokio::test]
async fn an_upload_is_as_long_as_it_was_announced() {
    let image = json!({"kind": "image", "project": "default", "name": "disk", "revision": 2, "generation": 1,
        "id": "01970000-0000-7000-8000-000000000000", "created_at": "2026-01-02T03:04:05Z",
        "spec": {"source": {"upload": {"size": 600_000}}}, "status": {"state": "provisioning"}});
    let content: Vec<u8> = (0..600_000u32).map(|n| n as u8).collect();
    let upload = |length: u64, told: std::sync::Arc<std::sync::Mutex<Vec<u64>>>| Upload {
        project: name("default"),
        name: name("disk"),
        content: std::io::Cursor::new(content.clone()),
        length,
        progress: move |done| told.lock().expect("a lock").push(done),
    };
    let server = Server::new([Reply::json(200, &image), Reply::json(200, &image)]);
    let told = std::sync::Arc::default();
    server.client().upload(upload(600_000, std::sync::Arc::clone(&told))).await.expect("sent");
    let seen = &server.requests()[0];
    assert_eq!(seen.line, "PUT /v1/images/disk/content?project=default HTTP/1.1");
    assert!(seen.body == content, "{} bytes arrived", seen.body.len());
    assert_eq!(told.lock().expect("a lock").last(), Some(&600_000));
    let short = server.client().upload(upload(600_001, std::sync::Arc::default())).await;
    assert!(matches!(short, Err(ClientError::Transport { .. })), "{short:?}");
}

#[tokio::test]
async fn readiness_is_read_whatever_its_status() {
    let server = Server::new([Reply::json(503, &json!({"ready": false, "reasons": ["libvirt is away"]}))]);
    let readiness = server.client().readyz().await.expect("read");
    assert_eq!((readiness.ready, readiness.reasons.len()), (false, 1));
}
