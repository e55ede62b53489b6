//! Containers that somebody else made, over the socket.

use agentd_drivers::container::{Beyond, ForeignDef};
use serde_json::json;

use super::Place;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_ones_are_listed_and_one_is_adopted() {
    let place = Place::new();
    let (daemon, fakes) = place.start().await;
    assert_eq!(place.ask("GET", "/v1/foreign", b"").await, (200, json!({"items": []})));
    let id = fakes.container.add_foreign(ForeignDef::plain("db", "tool", &["serve"]));
    let mut odd = ForeignDef::plain("odd", "tool", &[]);
    odd.beyond.push(Beyond { field: "HostConfig.NetworkMode".to_owned(), what: "host".to_owned() });
    odd.seen.privileged = None;
    fakes.container.add_foreign(odd);
    let (status, listed) = place.ask("GET", "/v1/foreign", b"").await;
    assert_eq!(
        (status, &listed["items"][0]["name"], &listed["items"][1]["name"]),
        (200, &json!("db"), &json!("odd"))
    );
    let first = &listed["items"][0];
    assert_eq!((&first["engine_id"], &first["state"]), (&json!(id), &json!("running")));
    assert_eq!((&first["kind"], &first["image"]), (&json!("container"), &json!("tool")));
    assert_eq!((&first["privileged"], listed["items"][1].get("privileged")), (&json!(false), None));
    let (_, own) = place.ask("GET", "/v1/containers", b"").await;
    assert_eq!(own["items"], json!([]), "they are none of its own");

    for (wish, status, says) in [
        (json!({"container": "none"}), 404, "no container 'none'"),
        (json!({"container": "odd"}), 422, "HostConfig.NetworkMode"),
        (json!({"container": "db", "nam": "x"}), 400, "nam"),
        (json!({}), 400, "container"),
    ] {
        let (got, problem) = place.ask("POST", "/v1/adopt", wish.to_string().as_bytes()).await;
        assert_eq!(got, status, "{problem}");
        assert!(problem.to_string().contains(says), "{problem}");
    }
    let wish = json!({"container": "db", "name": "store"}).to_string();
    let (status, made) = place.ask("POST", "/v1/adopt?dry_run=true", wish.as_bytes()).await;
    assert_eq!((status, &made["name"]), (201, &json!("store")));
    assert_eq!(place.ask("GET", "/v1/containers/store", b"").await.0, 404);
    let (status, made) = place.ask("POST", "/v1/adopt", wish.as_bytes()).await;
    assert_eq!((status, &made["status"]["adopted"]["name"]), (201, &json!("db")));
    place.until("/v1/containers/store", |_, o| o["status"]["state"] == "running").await;
    let (_, listed) = place.ask("GET", "/v1/foreign", b"").await;
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(1), "{listed}");
    assert_eq!(place.ask("POST", "/v1/adopt", wish.as_bytes()).await.0, 409);

    fakes.container.set_available(false);
    for (method, path, body) in
        [("GET", "/v1/foreign", ""), ("POST", "/v1/adopt", &*wish.replace("db", "odd"))]
    {
        let (status, problem) = place.ask(method, path, body.as_bytes()).await;
        assert_eq!((status, &problem["code"]), (503, &json!("backend_unavailable")), "{problem}");
    }
    assert_eq!(place.ask("GET", "/v1/containers", b"").await.0, 200, "its own are served all the same");
    daemon.stop().await.expect("stopped");
}
