//! The connection, against a socket that answers as an engine does.

use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;

use super::connect::parse;
use super::events::image_id;
use super::wire::query;
use super::*;
use crate::fault::{Class, Classed};

/// Answers `/version` with that version, and tells one event of each connection that asks for events, then hangs up:
/// `late` after it was asked.
fn serve(socket: &Path, api: &'static str, late: Duration) -> tokio::task::JoinHandle<()> {
    let listener = UnixListener::bind(socket).expect("bound");
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.expect("accepted");
            tokio::spawn(async move {
                let mut asked = vec![0; 4096];
                let read = stream.read(&mut asked).await.unwrap_or_default();
                let asked = String::from_utf8_lossy(&asked[..read]).into_owned();
                let body = if asked.starts_with("GET /version ") {
                    format!(
                        "{{\"Version\":\"20.10.24\",\"ApiVersion\":\"{api}\",\"Components\":[{{\"Name\":\"Engine\"}}]}}"
                    )
                } else if asked.starts_with(&format!("GET /v{api}/events ")) {
                    tokio::time::sleep(late).await;
                    let labels = "{\"agentd.id\":\"x\"}";
                    format!(
                        "{{\"Type\":\"pod\"}}\n{{\"Type\":\"container\",\"Action\":\"die\",\"Actor\":{{\"ID\":\"abc\",\"Attributes\":{labels}}}}}\n"
                    )
                } else {
                    String::new()
                };
                let head =
                    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                let _ = stream.write_all((head + &body).as_bytes()).await;
            });
        }
    })
}

async fn next(events: &mut broadcast::Receiver<EngineEvent>) -> EngineEvent {
    let waited = tokio::time::timeout(Duration::from_secs(5), events.recv()).await;
    waited.expect("told in time").expect("the engine lives")
}

#[tokio::test]
async fn an_engine_that_is_away_is_found_when_it_comes_and_everything_may_have_changed() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("engine.sock");
    let engine = Engine::new(EngineOptions { socket: Some(socket.clone()) });
    let error = engine.linked().await.expect_err("nobody is there");
    assert!(matches!(error, EngineError::Unavailable { .. }), "{error}");
    assert_eq!(error.class(), Class::Transient);
    assert!(error.to_string().contains("engine.sock"), "{error}");

    let mut events = engine.events();
    let server = serve(&socket, "1.41", Duration::ZERO);
    assert_eq!(next(&mut events).await.subject, Subject::Everything);
    let event = next(&mut events).await;
    assert_eq!((event.subject, event.action.as_str(), event.id.as_str()), (Subject::Container, "die", "abc"));
    assert_eq!(event.attributes.get("agentd.id").map(String::as_str), Some("x"));
    assert_eq!(next(&mut events).await.subject, Subject::Everything, "it hung up");
    assert_eq!(next(&mut events).await.subject, Subject::Everything, "and is listened to again");
    assert_eq!(engine.linked().await.expect("there").flavor, Flavor::Docker);
    server.abort();
}

#[tokio::test]
async fn an_engine_that_hangs_up_was_away_though_no_call_was_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("engine.sock");
    let server = serve(&socket, "1.41", Duration::from_secs(1));
    let engine = Engine::new(EngineOptions { socket: Some(socket) });
    let mut events = engine.events();
    assert_eq!(next(&mut events).await.subject, Subject::Everything);
    assert_eq!(engine.outage(), None, "it was there from the first");
    while next(&mut events).await.subject != Subject::Everything {}
    let from = engine.outage().expect("it hung up").from;
    engine.linked().await.expect("it is there");
    let over = engine.outage().expect("it was away");
    assert!(over.from >= from && over.to.is_some_and(|to| to >= over.from), "{over:?}");
    server.abort();
}

#[tokio::test]
async fn an_engine_whose_answer_begins_with_its_first_event_is_there_before_that() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("engine.sock");
    let late = Duration::from_secs(2);
    let server = serve(&socket, "1.41", late);
    let engine = Engine::new(EngineOptions { socket: Some(socket) });
    let began = std::time::Instant::now();
    let mut events = engine.events();
    assert_eq!(next(&mut events).await.subject, Subject::Everything);
    assert!(began.elapsed() < late, "it was waited for");
    assert_eq!(next(&mut events).await.action, "die");
    server.abort();
}

#[tokio::test]
async fn an_engine_that_is_too_old_is_refused_by_its_version() {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("engine.sock");
    let server = serve(&socket, "1.40", Duration::ZERO);
    let engine = Engine::new(EngineOptions { socket: Some(socket) });
    let error = engine.linked().await.expect_err("too old");
    assert_eq!(error.class(), Class::Unsupported);
    assert!(error.to_string().contains("1.40") && error.to_string().contains("1.41"), "{error}");
    server.abort();
}

#[test]
fn versions_are_numbers() {
    assert_eq!(parse("1.41"), Some((1, 41)));
    assert!(parse("1.9") < Some(API_LEAST) && parse("1.100") > Some(API_LEAST));
    assert_eq!(parse("one"), None);
}

#[test]
fn a_query_holds_what_a_url_may() {
    assert_eq!(query("/x", &[]), "/x");
    assert_eq!(query("/x", &[("path", "/a b&c"), ("n", "1")]), "/x?path=%2Fa%20b%26c&n=1");
}

#[test]
fn an_images_id_in_an_event_is_the_one_that_it_has_elsewhere() {
    let digits = "0a".repeat(32);
    let whole = format!("sha256:{digits}");
    assert_eq!(image_id(digits), whole);
    assert_eq!(image_id(whole.clone()), whole);
    for other in ["", "box:1"] {
        assert_eq!(image_id(other.to_owned()), other);
    }
}
