//! Containers that somebody else made.

use agentd_api::{ObjectKey, State};
use agentd_drivers::container::{
    ContainerLook, ContainerSeen, ContainerState, EngineRestart, ForeignDef, Wired,
};
use serde_json::{Value, json};

use crate::reconcile::testing::{Host, key, wait_until};

fn at() -> ObjectKey {
    key("container", "db")
}

/// Somebody's container `db`, which runs.
fn stranger(host: &Host) -> String {
    let mut def = ForeignDef::plain("db", "tool", &["serve"]);
    def.restart = EngineRestart::Always;
    host.container.add_foreign(def)
}

/// As the intent writes it down.
async fn adopt(host: &Host, engine_id: &str, more: Value) -> uuid::Uuid {
    let mut spec =
        json!({"image": "tool", "command": ["serve"], "networks": [{"network": "default"}], "grace": "30s"});
    if let (Some(spec), Some(more)) = (spec.as_object_mut(), more.as_object()) {
        spec.extend(more.clone());
    }
    let spec: agentd_api::container::ContainerSpec = serde_json::from_value(spec).expect("a spec");
    let status = json!({
        "state": "pending", "engine_id": engine_id, "image_digest": "sha256:tool",
        "addresses": [{"network": "default", "ip": "10.77.0.9", "mac": "52:54:00:00:01:09"}],
        "adopted": {"engine_id": engine_id, "name": "db", "at": "2026-01-02T03:04:05Z"},
    });
    let spec = serde_json::to_value(spec).expect("json");
    host.create(&at(), &["container", "network"], spec, status).await.id()
}

async fn seen(host: &Host) -> Option<ContainerSeen> {
    host.container.observe(host.store.get(&at())?.id()).await.expect("observed")
}

async fn bed() -> Host {
    let host = Host::new();
    host.furnish().await;
    host
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_is_taken_over_where_it_is_and_goes_with_its_object() {
    let host = bed().await;
    let daemon = host.start();
    let (engine_id, other) =
        (stranger(&host), host.container.add_foreign(ForeignDef::plain("other", "tool", &[])));
    adopt(&host, &engine_id, json!({})).await;
    let running = host.until_state(&at(), State::Running).await;
    assert_eq!(running["status"]["engine_id"], json!(engine_id));
    host.until_quiet().await;
    let conditions = host.store.get(&at()).expect("there").value()["status"]["conditions"].to_string();
    assert!(conditions.contains("adopted") && !conditions.contains("made_as_wanted"), "{conditions}");
    let there = seen(&host).await.expect("there");
    assert_eq!((&there.engine_id, there.state, there.restarts), (&engine_id, ContainerState::Running, false));
    let network = host.store.get(&key("network", "default")).expect("there").id();
    let on: Vec<_> = there.endpoints.iter().map(|e| e.network.clone()).collect();
    assert_eq!(on, [Wired::Ours(network)], "off the engine's own");
    let named = host.network.network(network).map(|setup| setup.hosts).unwrap_or_default();
    assert!(named.iter().any(|h| h.name.as_str() == "db" && h.ip.to_string() == "10.77.0.9"), "{named:?}");
    for never in ["ensure_created", "start", "kill", "ask_to_stop"] {
        assert_eq!(host.container.calls(never), 0, "{never}");
    }
    // What is wanted of it later is done where it is.
    host.set_spec(&at(), "pids", json!(20)).await;
    host.until_quiet().await;
    assert_eq!(seen(&host).await.expect("there").limits.pids, Some(20));
    host.want(&at(), "stopped").await;
    host.until_state(&at(), State::Stopped).await;
    host.want(&at(), "running").await;
    host.until_state(&at(), State::Running).await;
    assert_eq!(seen(&host).await.expect("there").engine_id, engine_id, "it is the same");

    host.delete(&at()).await;
    host.until_gone(&at()).await;
    let left: Vec<_> =
        host.container.foreign().await.expect("listed").into_iter().map(|f| f.engine_id).collect();
    assert_eq!(left, [other]);
    assert_eq!(host.container.list().await.expect("listed"), []);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_is_known_after_a_kill_and_not_touched() {
    let host = bed().await;
    let engine_id = stranger(&host);
    // Written down, and the daemon is gone.
    let id = adopt(&host, &engine_id, json!({})).await;
    let daemon = host.start();
    host.until_state(&at(), State::Running).await;
    host.until_quiet().await;
    daemon.kill();
    host.container.leave(id);
    let revision = host.store.revision();
    let daemon = host.start();
    assert!(host.container.foreign().await.expect("listed").is_empty(), "known before anything is looked at");
    host.until_quiet().await;
    assert_eq!(host.store.revision(), revision, "there is nothing to do");
    assert_eq!((host.container.calls("ensure_created"), host.container.calls("start")), (0, 0));
    daemon.kill();
    // Deleted by a daemon that did nothing else.
    host.container.leave(id);
    host.delete(&at()).await;
    let daemon = host.start();
    host.until_gone(&at()).await;
    assert!(host.container.foreign().await.expect("listed").is_empty(), "it is gone, and not forgotten");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_made_in_its_place_is_ours() {
    for (policy, made) in [("always", true), ("never", false)] {
        let host = bed().await;
        let daemon = host.start();
        let engine_id = stranger(&host);
        let id = adopt(&host, &engine_id, json!({"restart": policy})).await;
        host.until_state(&at(), State::Running).await;
        host.container.behind_our_back_remove(id);
        if made {
            let again = host
                .until(&at(), "made again", |o| {
                    o["status"]["state"] == "running" && o["status"]["engine_id"] != json!(engine_id)
                })
                .await;
            assert!(again["status"]["adopted"].is_null(), "{again:#}");
            assert!(!again["status"]["conditions"].to_string().contains("adopted"), "{again:#}");
            let def = host.container.made_by(id).expect("ours");
            assert_eq!(def.command.as_deref(), Some(&["serve".to_owned()][..]));
        } else {
            let off = host.until_state(&at(), State::Stopped).await;
            assert_eq!(off["status"]["last_stop"]["how"], "removed");
            assert!(off["status"]["adopted"].is_null(), "{off:#}");
        }
        daemon.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_stopped_stays_so_and_one_that_stops_is_seen() {
    let host = bed().await;
    let daemon = host.start();
    let engine_id = stranger(&host);
    let id = adopt(&host, &engine_id, json!({"restart": "never"})).await;
    host.until_state(&at(), State::Running).await;
    host.container.behind_our_back_stop(id);
    let off = host.until_state(&at(), State::Stopped).await;
    assert_eq!(
        (&off["status"]["last_stop"]["how"], &off["status"]["exit_code"]),
        (&json!("failed"), &json!(143))
    );
    host.container.behind_our_back_start(id);
    host.until_state(&at(), State::Running).await;
    daemon.stop().await;

    let host = bed().await;
    let mut def = ForeignDef::plain("db", "tool", &["serve"]);
    def.seen.state = ContainerState::Exited;
    let engine_id = host.container.add_foreign(def);
    adopt(&host, &engine_id, json!({"desired": "stopped"})).await;
    let daemon = host.start();
    host.until_state(&at(), State::Stopped).await;
    host.until_quiet().await;
    assert_eq!(host.container.calls("start"), 0);
    wait_until("it is no stranger", || host.container.calls("observe") > 0).await;
    daemon.stop().await;
}
