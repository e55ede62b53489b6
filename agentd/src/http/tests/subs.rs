//! Subresources as all kinds have them: what is refused before they are opened, and how they answer.

use agentd_api::frame::Frame;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::served::{LIMIT, Served, vm};

#[tokio::test]
async fn content_comes_with_its_type() {
    let server = Served::start().await;
    server.put(vec![vm("web")]).await;
    let answer = server.call("GET", "/v1/vms/web/logs?tail=3").await;
    assert_eq!((answer.status, &answer.body[..]), (200, &b"onetwo"[..]));
    assert_eq!(answer.header("content-type"), "application/octet-stream");
    assert_eq!(answer.header("cache-control"), "no-store");
}

#[tokio::test]
async fn what_is_not_asked_rightly_is_refused_by_name() {
    let server = Served::start().await;
    server.put(vec![vm("web")]).await;
    server.call("GET", "/v1/vms/web/logs?colour=red").await.refused("colour");
    server.call("GET", "/v1/vms/web/logs?tail=all").await.refused("tail");
    server.call("GET", "/v1/images/tool/save?format=zip").await.refused("format");
    server.call("GET", "/v1/images/tool/save?format=oci").await.problem(404, "not_found");
    server.call("GET", "/v1/vms/nobody/logs").await.problem(404, "not_found");
    server.call("GET", "/v1/vms/web/logs?project=other").await.problem(404, "not_found");
    server.call("GET", "/v1/vms/web/nothing").await.problem(404, "not_found");
    server.call("GET", "/v1/networks/web/logs").await.problem(404, "not_found");
    let answer = server.call("POST", "/v1/vms/web/logs").await;
    answer.problem(405, "method_not_allowed");
    assert_eq!(answer.header("allow"), "GET");
}

/// Asks for a stream; the answer's head, and the connection past it.
async fn ask(server: &Served, path: &str, headers: &str) -> (String, UnixStream) {
    let mut stream = UnixStream::connect(&server.socket).await.expect("connected");
    let request = format!("GET {path} HTTP/1.1\r\nhost: agentd\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = timeout(LIMIT, stream.read_u8()).await.expect("in time").expect("a head");
        head.push(byte);
    }
    (String::from_utf8(head).expect("text").to_lowercase(), stream)
}

const UPGRADE: &str = "connection: upgrade\r\nupgrade: agentd-frames\r\n";

#[tokio::test]
async fn a_stream_is_an_upgraded_connection() {
    let server = Served::start().await;
    server.put(vec![vm("web")]).await;
    let (head, mut stream) = ask(&server, "/v1/vms/web/console?tail=5", UPGRADE).await;
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    assert!(
        head.contains("upgrade: agentd-frames\r\n") && head.contains("connection: upgrade\r\n"),
        "{head}"
    );
    assert!(head.contains("x-request-id: "), "{head}");
    let sent = Frame::In(vec![7; 100_000]).to_bytes();
    let (mut from, mut to) = stream.split();
    let mut back = vec![0; sent.len()];
    let both = async { tokio::join!(to.write_all(&sent), from.read_exact(&mut back)) };
    let (written, read) = timeout(LIMIT, both).await.expect("in time");
    written.expect("sent");
    read.expect("it comes back");
    assert!(back == sent);
    assert_eq!(server.call("GET", "/v1").await.status, 200, "others are served meanwhile");
}

#[tokio::test]
async fn what_is_no_upgrade_is_refused_before_anything_is_opened() {
    let server = Served::start().await;
    server.put(vec![vm("web")]).await;
    for headers in [
        &[][..],
        &[("upgrade", "agentd-frames")],
        &[("connection", "upgrade")],
        &[("connection", "upgrade"), ("upgrade", "websocket")],
        &[("connection", "upgrade"), ("upgrade", "agentd-bytes")],
    ] {
        let problem = server.send("GET", "/v1/vms/web/console", headers, "").await.refused("Upgrade");
        assert!(problem.hint.unwrap_or_default().contains("two-way stream"), "{headers:?}");
    }
    let upgrade = [("connection", "keep-alive, Upgrade"), ("upgrade", "agentd-frames")];
    server.send("GET", "/v1/vms/web/console?colour=red", &upgrade, "").await.refused("colour");
    server.send("GET", "/v1/vms/web/console?force=perhaps", &upgrade, "").await.refused("force");
    server.send("GET", "/v1/vms/nobody/console", &upgrade, "").await.problem(404, "not_found");
    let (head, _stream) =
        ask(&server, "/v1/vms/web/console", "connection: keep-alive, Upgrade\r\nupgrade: agentd-frames\r\n")
            .await;
    assert!(head.starts_with("http/1.1 101 "), "{head}");
}

#[tokio::test]
async fn a_stream_that_does_not_end_is_cut_when_the_server_stops() {
    let server = Served::start().await;
    server.put(vec![vm("web")]).await;
    let (head, mut stream) = ask(&server, "/v1/vms/web/console", UPGRADE).await;
    assert!(head.starts_with("http/1.1 101 "), "{head}");
    server.cancel.cancel();
    // This one heeds no stop, so it has the grace and no more.
    timeout(LIMIT, server.task).await.expect("it stops").expect("in order");
    let mut rest = Vec::new();
    let _ = timeout(LIMIT, stream.read_to_end(&mut rest)).await.expect("cut");
    assert_eq!(rest, b"");
}
