//! Who may not call is told so, on every path, and learns nothing else.

use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use super::served::Served;
use crate::http::{Limits, PeerError, PeerRules};

fn nobody_is_member(_: &str, _: u32, _: u32) -> Result<bool, PeerError> {
    Ok(false)
}

/// What curl gets as this user: status, content type, body.
fn curl_as(server: &Served, uid: u32, method: &str, path: &str) -> (String, String, String) {
    #[expect(clippy::disallowed_methods, reason = "a test needs a process of another user")]
    let out = std::process::Command::new("setpriv")
        .args([format!("--reuid={uid}"), format!("--regid={uid}")])
        .args(["--clear-groups", "curl", "--silent", "--show-error", "--max-time", "20", "--unix-socket"])
        .arg(&server.socket)
        .args(["-X", method, "-w", "\n%{http_code} %{content_type}", &format!("http://agentd{path}")])
        .output()
        .expect("setpriv and curl are installed, and the test runs as root");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let text = String::from_utf8(out.stdout).expect("text");
    let (body, last) = text.rsplit_once('\n').expect("two parts");
    let (status, kind) = last.split_once(' ').expect("two words");
    (status.to_owned(), kind.to_owned(), body.to_owned())
}

/// Opens the socket's file to all: that the kernel lets a stranger connect is the case that is tested.
fn open_to_all(server: &Served) {
    for path in [server.dir.path(), &server.socket] {
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o777)).expect("chmod");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_is_answered_403_on_every_path() {
    let server = Served::start().await;
    open_to_all(&server);
    for (method, path) in [
        ("GET", "/v1"),
        ("GET", "/healthz"),
        ("GET", "/readyz"),
        ("GET", "/metrics"),
        ("GET", "/openapi.json"),
        ("GET", "/v1/vms"),
        ("GET", "/v1/vms?watch=true"),
        ("POST", "/v1/vms"),
        ("DELETE", "/v1/vms/web"),
        ("POST", "/v1/vms/web/start"),
        ("GET", "/v1/vms/web/logs"),
        ("GET", "/v1/vms/web/console"),
        ("PUT", "/v1/images/a/content"),
        ("GET", "/nowhere"),
        ("BREW", "/v1"),
    ] {
        let (status, kind, body) = curl_as(&server, 65534, method, path);
        assert_eq!(
            (status.as_str(), kind.as_str()),
            ("403", "application/problem+json"),
            "{method} {path}: {body}"
        );
        let problem: Value = serde_json::from_str(&body).expect("a problem");
        assert_eq!(problem["code"], "forbidden");
        assert!(!problem["request_id"].as_str().unwrap_or_default().is_empty());
    }
    let (status, ..) = curl_as(&server, 0, "GET", "/v1");
    assert_eq!(status, "200", "root is let in by the same door");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_of_the_group_is_let_in_by_its_gid() {
    // The group of gid 65534 is whatever this host calls it; a process with that gid is a member.
    let group = nix::unistd::Group::from_gid(65534.into()).expect("looked up").expect("there is one").name;
    let server = Served::with(Limits::default(), PeerRules::new(group)).await;
    open_to_all(&server);
    let (status, _, body) = curl_as(&server, 65534, "GET", "/healthz");
    assert_eq!((status.as_str(), body.as_str()), ("200", "ok\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_take_no_places_of_callers() {
    let rules = PeerRules::with(u32::MAX, "agentd", nobody_is_member);
    let server = Served::with(Limits { connections: 1, ..Limits::default() }, rules).await;
    open_to_all(&server);
    for _ in 0..3 {
        assert_eq!(curl_as(&server, 65534, "GET", "/v1").0, "403");
    }
    assert_eq!(server.call("GET", "/v1").await.status, 200);
}
