//! The server's end: watches end in order, what is being answered is answered, what rests is closed.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::served::{LIMIT, Line, Lines, Served, vm};

#[tokio::test]
async fn with_nothing_under_way_it_stops_at_once() {
    // A busy machine may take a test off the CPU for longer than this; not three times in a row.
    let mut took = Vec::new();
    for _ in 0..3 {
        took.push(stop_with_nothing_under_way().await);
        if took.iter().any(|t| *t < Duration::from_millis(200)) {
            return;
        }
    }
    panic!("it took {took:?}");
}

async fn stop_with_nothing_under_way() -> Duration {
    let server = Served::start().await;
    server.put(vec![vm("a")]).await;
    let silent = UnixStream::connect(&server.socket).await.expect("connected");
    let mut used = Line::open(&server.socket).await;
    assert_eq!(used.send("GET", "/v1", &[], "").await.status, 200);
    let mut watch = Lines::open(&server.socket, "/v1/vms?watch=true", &[]).await;
    let mut events = Lines::open(&server.socket, "/v1/events?follow=true", &[]).await;
    assert_eq!(watch.next().await.1, "a");
    assert_eq!(watch.next().await.0, "bookmark");
    let begun = Instant::now();
    server.cancel.cancel();
    timeout(LIMIT, server.task).await.expect("it stops").expect("in order");
    let took = begun.elapsed();
    assert_eq!(watch.line().await, None, "the stream ends in order");
    assert_eq!(events.line().await, None);
    assert!(UnixStream::connect(&server.socket).await.is_err(), "nobody is let in any more");
    drop(silent);
    took
}

#[tokio::test]
async fn what_is_being_answered_is_answered() {
    let server = Served::start().await;
    let mut stream = UnixStream::connect(&server.socket).await.expect("connected");
    stream
        .write_all(b"PUT /v1/images/a/content HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nab")
        .await
        .expect("sent");
    // Answered in between, so the upload before it was taken up too.
    assert_eq!(server.call("GET", "/v1").await.status, 200);
    server.cancel.cancel();
    stream.write_all(b"cd").await.expect("sent");
    let mut answer = String::new();
    timeout(LIMIT, stream.read_to_string(&mut answer)).await.expect("in time").expect("read");
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    timeout(LIMIT, server.task).await.expect("it stops").expect("in order");
}

#[tokio::test]
async fn what_does_not_come_to_its_end_is_given_up() {
    let server = Served::start().await;
    let mut stream = UnixStream::connect(&server.socket).await.expect("connected");
    stream
        .write_all(b"PUT /v1/images/a/content HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nab")
        .await
        .expect("sent");
    assert_eq!(server.call("GET", "/v1").await.status, 200);
    let begun = Instant::now();
    server.cancel.cancel();
    timeout(LIMIT, server.task).await.expect("it stops").expect("in order");
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}
