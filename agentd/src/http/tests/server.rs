//! What the server says of itself, and what it says to nonsense.

use serde_json::Value;

use super::served::{Served, vm};

#[tokio::test]
async fn it_says_who_and_how_it_is() {
    let server = Served::start().await;
    server.put(vec![vm("a"), vm("b")]).await;
    let info = server.call("GET", "/v1").await.json();
    assert_eq!((info["name"].as_str(), info["revision"].as_u64()), (Some("agentd"), Some(2)));
    let health = server.call("GET", "/healthz").await;
    assert_eq!((health.status, &health.body[..]), (200, &b"ok\n"[..]));
    assert!(server.call("GET", "/v1/doctor").await.json()["checks"].is_array());
    assert_eq!(server.call("GET", "/readyz").await.json()["ready"], true);
    server.known.reasons.lock().push("libvirt: no socket".to_owned());
    let problem = server.call("GET", "/readyz").await.problem(503, "backend_unavailable");
    assert!(problem.detail.contains("libvirt: no socket"), "{}", problem.detail);
    assert!(problem.retryable);
}

#[tokio::test]
async fn a_store_that_is_closed_is_seen() {
    let server = Served::start().await;
    server.store.clone().close().await.expect("closed");
    server.call("GET", "/healthz").await.problem(503, "store_unavailable");
    let problem = server.call("GET", "/readyz").await.problem(503, "backend_unavailable");
    assert!(problem.detail.contains("store"), "{}", problem.detail);
}

#[tokio::test]
async fn metrics_count_objects_and_requests() {
    let server = Served::start().await;
    server.put(vec![vm("a"), vm("b")]).await;
    server.call("GET", "/v1/vms/a").await;
    server.call("GET", "/v1/vms/nope").await;
    let metrics = server.call("GET", "/metrics").await;
    assert!(metrics.header("content-type").starts_with("application/openmetrics-text"));
    let text = String::from_utf8(metrics.body.to_vec()).expect("text");
    for line in [
        "agentd_objects{kind=\"vm\",state=\"pending\"} 2",
        "agentd_objects{kind=\"vm\",state=\"running\"} 0",
        "agentd_store_revision 2",
        "agentd_http_requests_total{route=\"/v1/{kinds}/{name}\",method=\"GET\",status=\"200\"} 1",
        "agentd_http_requests_total{route=\"/v1/{kinds}/{name}\",method=\"GET\",status=\"404\"} 1",
        "# EOF",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
    }
}

#[tokio::test]
async fn kinds_and_the_document_are_served() {
    let server = Served::start().await;
    let kinds = server.call("GET", "/v1/kinds").await.json();
    let vms = kinds["kinds"].as_array().expect("kinds").iter().find(|k| k["kind"] == "vm").expect("vm");
    assert_eq!(vms["path"], "/v1/vms");
    assert!(vms["actions"].as_array().is_some_and(|a| a.iter().any(|a| a["name"] == "start")));
    let schema = vms["schema"]["$ref"].as_str().and_then(|r| r.strip_prefix('#')).expect("a reference");
    assert!(kinds.pointer(schema).is_some());
    let document = server.call("GET", "/openapi.json").await.json();
    assert_eq!(document["openapi"], "3.1.0");
}

#[tokio::test]
async fn nonsense_is_answered_with_what_there_is() {
    let server = Served::start().await;
    for path in ["/", "/v2", "/v1/", "/v1/things", "/v1/vms/a/b/c", "/v1/vms/"] {
        server.call("GET", path).await.problem(404, "not_found");
    }
    for (method, path, allow) in [
        ("DELETE", "/v1/vms", "GET, HEAD, POST"),
        ("POST", "/v1/vms/a", "GET, HEAD, PUT, PATCH, DELETE"),
        ("GET", "/v1/vms/a/start", "POST"),
        ("POST", "/healthz", "GET, HEAD"),
        ("TRACE", "/v1", "GET, HEAD"),
        ("OPTIONS", "/v1/vms", "GET, HEAD, POST"),
        ("BREW", "/v1/images/a/content", "PUT"),
    ] {
        let answer = server.call(method, path).await;
        answer.problem(405, "method_not_allowed");
        assert_eq!(answer.header("allow"), allow, "{method} {path}");
    }
    for path in ["/v1", "/v1/kinds", "/healthz", "/readyz", "/metrics", "/openapi.json", "/v1/doctor"] {
        server.call("GET", &format!("{path}?x=1")).await.refused("x");
    }
}

#[tokio::test]
async fn request_ids_are_echoed_or_made() {
    let server = Served::start().await;
    let own = server.send("GET", "/v1", &[("x-request-id", "a-b.c")], "").await;
    assert_eq!(own.header("x-request-id"), "a-b.c");
    for bad in ["a b", &"x".repeat(65)] {
        let made = server.send("GET", "/v1", &[("x-request-id", bad)], "").await;
        let id: uuid::Uuid = made.header("x-request-id").parse().expect("a UUID");
        assert_eq!(id.get_version_num(), 7);
    }
}

#[tokio::test]
async fn bodies_that_are_no_json_are_refused_with_a_sentence() {
    let server = Served::start().await;
    let json = ("content-type", "application/json");
    let post =
        async |headers: &[(&str, &str)], body: &str| server.send("POST", "/v1/vms", headers, body).await;
    let problem = post(&[json], "{\"name\":").await.refused("body");
    assert!(problem.detail.contains("line 1"), "{}", problem.detail);
    post(&[json], "").await.refused("body");
    post(&[json], &"[".repeat(100_000)).await.refused("body");
    assert!(matches!(post(&[json], "[]").await.status, 400));
    post(&[("content-type", "text/plain")], "{}").await.problem(415, "unsupported_media_type");
    post(&[("content-type", "application/merge-patch+json")], "{}")
        .await
        .problem(415, "unsupported_media_type");
    let unknown = r#"{"name":"a","colour":"red","spec":{"image":"micro"}}"#;
    post(&[], unknown).await.refused("colour");
    let inner = r#"{"name":"a","spec":{"image":"micro","cpu":1}}"#;
    post(&[("content-type", "application/json; charset=utf-8")], inner).await.refused("spec.cpu");
    let items: &Value = &server.call("GET", "/v1/vms").await.json()["items"];
    assert_eq!(items, &serde_json::json!([]), "nothing is left behind");
}

#[tokio::test]
async fn a_handler_that_panics_costs_one_request() {
    let server = Served::start().await;
    server.known.broken.store(true, std::sync::atomic::Ordering::Relaxed);
    let mut line = super::served::Line::open(&server.socket).await;
    let problem = line.send("GET", "/v1/doctor", &[], "").await.problem(500, "internal");
    assert!(!problem.detail.contains("test wants"), "the inside stays inside: {}", problem.detail);
    assert_eq!(line.send("GET", "/v1", &[], "").await.status, 200, "even its connection lives on");
}

#[tokio::test]
async fn figures_are_told_of_one_project_one_guest_or_all() {
    let server = Served::start().await;
    let names = |list: &Value| -> Vec<String> {
        let items = list["items"].as_array().expect("items");
        items.iter().map(|f| format!("{}/{}", f["project"], f["name"]).replace('"', "")).collect()
    };
    for (query, wanted) in [
        ("", vec!["default/web"]),
        ("?project=*", vec!["default/web", "other/web"]),
        ("?project=other&kind=vm", vec!["other/web"]),
        ("?kind=network", vec![]),
        ("?name=db", vec![]),
    ] {
        let list = server.call("GET", &format!("/v1/stats{query}")).await.json();
        assert_eq!(names(&list), wanted, "{query}");
        assert!(list["at"].is_string());
    }
    assert_eq!(server.call("GET", "/v1/stats").await.json()["items"][0]["disks"][0]["read_bytes"], 5);
    server.call("GET", "/v1/stats?kind=cat").await.problem(400, "invalid");
    server.call("GET", "/v1/stats?cpu=1").await.problem(400, "invalid");
    let metrics = server.call("GET", "/metrics").await;
    let text = String::from_utf8(metrics.body.to_vec()).expect("text");
    for line in [
        "agentd_guest_figures_available 1",
        "agentd_guest_cpu_seconds_total{kind=\"vm\",project=\"other\",name=\"web\"} 1.5",
        "agentd_guest_memory_given_bytes{kind=\"vm\",project=\"default\",name=\"web\"} 32.0",
        "agentd_guest_disk_read_bytes_total{kind=\"vm\",project=\"default\",name=\"web\",device=\"vda\"} 5.0",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} in\n{text}");
    }
}
