//! Subresources as all kinds have them: what is refused before they are opened, and how they answer.

use super::served::{Served, vm};

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
    server.call("GET", "/v1/vms/nobody/logs").await.problem(404, "not_found");
    server.call("GET", "/v1/vms/web/logs?project=other").await.problem(404, "not_found");
    server.call("GET", "/v1/vms/web/nothing").await.problem(404, "not_found");
    server.call("GET", "/v1/networks/web/logs").await.problem(404, "not_found");
    let answer = server.call("POST", "/v1/vms/web/logs").await;
    answer.problem(405, "method_not_allowed");
    assert_eq!(answer.header("allow"), "GET");
}
