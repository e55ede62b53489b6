//! Callers that send too much, too slowly, or nothing: a clear answer, and the others are served on.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::served::{LIMIT, Line, Served, vm};
use crate::http::Limits;

/// What is answered until the connection is closed.
async fn rest(stream: &mut UnixStream) -> String {
    let mut all = Vec::new();
    // One that is closed for being late is reset; what was answered before counts.
    let closed = timeout(LIMIT, stream.read_to_end(&mut all)).await;
    assert!(closed.is_ok(), "not closed after {:?}", String::from_utf8_lossy(&all));
    String::from_utf8(all).expect("text")
}

async fn raw(server: &Served, bytes: &[u8]) -> UnixStream {
    let mut stream = UnixStream::connect(&server.socket).await.expect("connected");
    stream.write_all(bytes).await.expect("written");
    stream
}

#[tokio::test]
async fn a_body_over_a_mebibyte_is_refused_announced_or_not() {
    let server = Served::start().await;
    let mut announced = raw(
        &server,
        b"POST /v1/vms HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 1048577\r\n\r\n{",
    )
    .await;
    let answer = rest(&mut announced).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("\"code\":\"too_large\""), "{answer}");

    let mut chunked =
        raw(&server, b"POST /v1/vms HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n").await;
    let chunk = [b"10000\r\n".as_slice(), &[b' '; 0x10000], b"\r\n"].concat();
    for _ in 0..17 {
        if chunked.write_all(&chunk).await.is_err() {
            break;
        }
    }
    let answer = rest(&mut chunked).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");

    let just = format!("{{\"name\":\"a\"{}}}", " ".repeat((1 << 20) - 12));
    assert_eq!(just.len(), 1 << 20);
    server.send("POST", "/v1/vms", &[], &just).await.refused("spec");
}

#[tokio::test]
async fn a_head_that_does_not_come_to_its_end_is_answered_408() {
    let limits = Limits { head: Duration::from_millis(200), ..Limits::default() };
    let server = Served::limited(limits).await;
    let mut slow = raw(&server, b"GET /v1 HTTP/1.1\r\nhost:").await;
    let begun = Instant::now();
    // A byte now and then does not buy time.
    let dripping = async {
        loop {
            if slow.write_all(b" ").await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LIMIT, dripping).await.expect("cut off");
    assert!(begun.elapsed() >= Duration::from_millis(200));
    let answer = rest(&mut slow).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("\"code\":\"request_timeout\""), "{answer}");
    assert_eq!(server.call("GET", "/v1").await.status, 200);
}

#[tokio::test]
async fn a_body_that_does_not_come_to_its_end_is_answered_408() {
    let limits = Limits { body_time: Duration::from_millis(200), ..Limits::default() };
    let server = Served::limited(limits).await;
    let mut slow = raw(&server, b"POST /v1/vms HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n{").await;
    let answer = rest(&mut slow).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("body"), "{answer}");
}

#[tokio::test]
async fn who_is_answered_before_all_was_sent_can_send_on_until_the_answer_is_read() {
    let server = Served::start().await;
    for (path, kind, status) in [
        ("/v1/nothing", "application/json", 404),
        ("/v1/vms", "application/json", 413),
        ("/v1/archives?spec=no", "application/octet-stream", 400),
    ] {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: a\r\ncontent-type: {kind}\r\ncontent-length: 100000000\r\n\r\n{{"
        );
        let mut stream = raw(&server, head.as_bytes()).await;
        // The whole of the answer, and that no more follows.
        let answer = rest(&mut stream).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        for _ in 0..64 {
            stream.write_all(&[b' '; 0x10000]).await.unwrap_or_else(|error| panic!("{path}: {error}"));
        }
    }
}

/// A refusal's status, and its problem, which the answer announces as one and gives the id of its request.
fn problem(answer: &str) -> (u16, serde_json::Value) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
    let header = |name: &str| head.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(": "));
    assert_eq!(header("content-type"), Some("application/problem+json"), "{answer}");
    assert_eq!(header("content-length"), Some(body.len().to_string().as_str()), "{answer}");
    assert_eq!(header("connection"), Some("close"), "{answer}");
    let problem: serde_json::Value = serde_json::from_str(body).unwrap_or_else(|e| panic!("{e}: {answer}"));
    assert_eq!(problem["status"], status, "{answer}");
    assert_eq!(problem["request_id"].as_str(), header("x-request-id"), "{answer}");
    assert!(header("x-request-id").is_some_and(|id| id.len() == 36), "{answer}");
    (status, problem)
}

#[tokio::test]
async fn a_head_that_is_too_long_or_no_http_is_refused_with_a_problem() {
    let server = Served::start().await;
    let long = format!("GET /v1 HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(100 << 10));
    let far = format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "y".repeat(70 << 10));
    let many = format!("GET /v1 HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(200));
    for (head, status, code) in [
        (long.as_str(), 431, "too_large"),
        (&far, 431, "too_large"),
        (&many, 431, "too_large"),
        ("\x16\x03\x01 hello\r\n\r\n", 400, "invalid"),
        ("GET /v1\r\n\r\n", 400, "invalid"),
        ("GET /v1 HTTP/1.1\r\nno colon\r\n\r\n", 400, "invalid"),
        ("GET /v1 HTTP/9.9\r\n\r\n", 400, "invalid"),
        ("GET /a b HTTP/1.1\r\n\r\n", 400, "invalid"),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "invalid"),
    ] {
        let mut stream = UnixStream::connect(&server.socket).await.expect("connected");
        // What is refused may be refused before all of it is written.
        let _ = stream.write_all(head.as_bytes()).await;
        let answer = rest(&mut stream).await;
        let (got, problem) = problem(&answer);
        let shown: String = head.chars().take(40).collect();
        assert_eq!((got, problem["code"].as_str()), (status, Some(code)), "{shown:?}: {answer}");
    }
    assert_eq!(server.call("GET", "/v1").await.status, 200);
}

#[tokio::test]
async fn a_bad_head_behind_good_ones_is_refused_after_their_answers() {
    let server = Served::start().await;
    server.put(vec![vm("a")]).await;
    let good = "GET /v1/vms/a HTTP/1.1\r\nhost: a\r\n\r\nGET /v1/vms HTTP/1.1\r\nhost: a\r\n\r\n";
    // In one go, and with a pause between: after all answers are read.
    let mut stream = raw(&server, format!("{good}nonsense\r\n\r\n").as_bytes()).await;
    let answer = rest(&mut stream).await;
    let at = answer.rfind("HTTP/1.1 ").expect("answers");
    assert_eq!(answer.matches("HTTP/1.1 200 ").count(), 2, "{answer}");
    assert_eq!(problem(&answer[at..]).0, 400);

    let mut stream = raw(&server, b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let mut answered = Vec::new();
    while !answered.ends_with(b"ok\n") {
        answered.push(timeout(LIMIT, stream.read_u8()).await.expect("in time").expect("answered"));
    }
    stream.write_all(b"nonsense\r\n\r\n").await.expect("written");
    assert_eq!(problem(&rest(&mut stream).await).0, 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_idle_connections_keep_nobody_from_being_served() {
    let server = Served::start().await;
    server.put(vec![vm("a")]).await;
    let mut idle = Vec::new();
    for n in 0..1000 {
        let mut stream = UnixStream::connect(&server.socket).await.expect("connected");
        if n % 2 == 0 {
            // Half of them have been of use before.
            stream.write_all(b"GET /v1/vms/a HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("written");
            let mut byte = [0; 12];
            stream.read_exact(&mut byte).await.expect("answered");
            assert_eq!(&byte, b"HTTP/1.1 200");
        }
        idle.push(stream);
    }
    for _ in 0..20 {
        let begun = Instant::now();
        assert_eq!(server.call("GET", "/v1/vms/a").await.status, 200);
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    }
    drop(idle);
}

#[tokio::test]
async fn connections_beyond_the_bound_are_answered_429_and_room_comes_back() {
    let limits = Limits { connections: 3, ..Limits::default() };
    let server = Served::limited(limits).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut line = Line::open(&server.socket).await;
        assert_eq!(line.send("GET", "/v1", &[], "").await.status, 200);
        held.push(line);
    }
    let problem = server.call("GET", "/v1").await.problem(429, "too_many_requests");
    assert!(problem.retryable);
    held.pop();
    let freed = async {
        while server.call("GET", "/v1").await.status != 200 {
            tokio::task::yield_now().await;
        }
    };
    timeout(LIMIT, freed).await.expect("the place of a closed connection is free again");
}

#[tokio::test]
async fn idle_connections_are_closed_in_the_end() {
    let limits = Limits { idle: Duration::from_millis(100), ..Limits::default() };
    let server = Served::limited(limits).await;
    let mut silent = raw(&server, b"").await;
    assert_eq!(rest(&mut silent).await, "", "it is closed without a word");
    let mut used = raw(&server, b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let answer = rest(&mut used).await;
    assert!(answer.ends_with("ok\n"), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_read_holds_up_nobody_and_is_cut_off() {
    let limits = Limits { stalled: Duration::from_millis(300), ..Limits::default() };
    let server = Served::limited(limits).await;
    server.put((0..3000).map(|n| vm(&format!("vm-{n:04}"))).collect()).await;
    let mut lazy = raw(&server, b"GET /v1/vms HTTP/1.1\r\nhost: a\r\n\r\n").await;
    for _ in 0..10 {
        assert_eq!(server.call("GET", "/v1/vms/vm-0001").await.status, 200);
    }
    // Not reading is the point here, so this waits on the clock.
    tokio::time::sleep(Duration::from_millis(900)).await;
    let got = rest(&mut lazy).await;
    assert!(got.starts_with("HTTP/1.1 200"), "{}", &got[..40]);
    assert!(got.len() < 1 << 20, "{} bytes: the rest was never written", got.len());
}

#[tokio::test]
async fn several_requests_in_one_go_are_answered_in_order() {
    let server = Served::start().await;
    let two = b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\nGET /nowhere HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    let mut stream = raw(&server, two).await;
    let answer = rest(&mut stream).await;
    let statuses: Vec<&str> =
        answer.split("HTTP/1.1 ").skip(1).map(|part| part.split(' ').next().unwrap_or_default()).collect();
    assert_eq!(statuses, ["200", "404"], "{answer}");
}

#[tokio::test]
async fn who_has_nothing_more_to_say_is_answered_still() {
    let server = Served::start().await;
    server.put((0..500).map(|n| vm(&format!("vm-{n:03}"))).collect()).await;
    let mut stream = raw(&server, b"GET /v1/vms HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
    stream.shutdown().await.expect("half closed");
    let answer = rest(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with('}'), "{} bytes", answer.len());
}
