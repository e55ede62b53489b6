//! The informer: whole at first, current afterwards, and neither a gap nor a ghost when the watch is lost.

use std::time::Duration;

use agentd_api::ssh_key::SshKey;
use agentd_api::{ErrorCode, Kind, Object};
use agentd_client::{AnyObject, ClientError, Informer, InformerEvent, ListOptions};
use serde_json::json;

use super::server::{Reply, Server, key, list, problem};

fn line(event: &str, name: &str, revision: u64) -> String {
    format!("{}\n", json!({"event": event, "revision": revision, "object": key(name, revision)}))
}

/// What comes next, in a word.
async fn next(informer: &mut Informer<AnyObject>) -> String {
    match tokio::time::timeout(Duration::from_secs(10), informer.next()).await.expect("in time") {
        Ok(InformerEvent::Synced) => "synced".to_owned(),
        Ok(InformerEvent::Changed { name, .. }) => format!("changed {name}"),
        Ok(InformerEvent::Removed(object)) => format!("removed {}", object.meta.name),
        Ok(InformerEvent::Disconnected(_)) => "disconnected".to_owned(),
        Err(error) => format!("error {:?}", error.code()),
    }
}

fn names(informer: &Informer<AnyObject>) -> Vec<String> {
    informer.items().map(|o| o.meta.name.to_string()).collect()
}

#[tokio::test]
async fn a_lost_watch_is_resumed_where_it_was_lost() {
    let server = Server::new([
        list(&[key("a", 1), key("b", 2)], 5, None),
        Reply::cut(&line("modified", "a", 6)),
        Reply::chunked(&(line("deleted", "b", 7) + &line("added", "c", 8)), 1000),
        Reply::Silence,
    ]);
    let mut informer = Informer::new(&server.client(), SshKey::DEF, ListOptions::default());
    let mut seen = Vec::new();
    while seen.last().is_none_or(|last| last != "changed c") {
        seen.push(next(&mut informer).await);
    }
    assert_eq!(
        seen,
        ["changed a", "changed b", "synced", "changed a", "disconnected", "removed b", "changed c"]
    );
    assert_eq!(names(&informer), ["a", "c"]);
    let lines: Vec<String> = server.requests().into_iter().map(|r| r.line).collect();
    assert!(lines[1].contains("since=5") && lines[2].contains("since=6"), "{lines:?}");
}

#[tokio::test]
async fn a_compacted_revision_is_listed_again() {
    let server = Server::new([
        list(&[key("a", 1), key("b", 2)], 5, None),
        problem(ErrorCode::RevisionCompacted),
        list(&[key("b", 2), key("c", 90)], 95, None),
        Reply::Silence,
    ]);
    let mut informer = Informer::new(&server.client(), SshKey::DEF, ListOptions::default());
    let mut seen = Vec::new();
    while seen.iter().filter(|event| *event == "synced").count() < 2 {
        seen.push(next(&mut informer).await);
    }
    assert_eq!(seen, ["changed a", "changed b", "synced", "changed c", "removed a", "synced"]);
    assert_eq!((names(&informer), informer.revision()), (vec!["b".to_owned(), "c".to_owned()], Some(95)));
}

#[tokio::test]
async fn what_waiting_does_not_mend_is_returned() {
    let server = Server::new([problem(ErrorCode::Forbidden)]);
    let mut informer: Informer<Object<SshKey>> =
        Informer::new(&server.client(), SshKey::DEF, ListOptions::default());
    let error = informer.next().await.expect_err("forbidden");
    assert!(matches!(&error, ClientError::Problem(p) if p.code == ErrorCode::Forbidden), "{error:?}");
}
