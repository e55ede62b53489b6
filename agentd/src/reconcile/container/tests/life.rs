//! From nothing to running and back, and what others do meanwhile.

use std::time::Duration;

use agentd_api::State;
use agentd_api::container::Container;
use agentd_drivers::container::{ContainerError, ContainerLook, ContainerState, HealthState, Wired};
use agentd_drivers::network::HostEntry;
use serde_json::json;

use crate::reconcile::testing::{Host, key, wait_until};

async fn bed() -> Host {
    let host = Host::new();
    host.furnish().await;
    host
}

async fn seen(host: &Host, name: &str) -> Option<agentd_drivers::container::ContainerSeen> {
    let id = host.store.get(&key("container", name)).map(|o| o.id())?;
    host.container.observe(id).await.expect("observed")
}

fn hosts(host: &Host, network: uuid::Uuid) -> Vec<HostEntry> {
    host.network.network(network).map(|setup| setup.hosts).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_is_made_on_its_network_with_its_limits_and_goes_without_a_trace() {
    let host = bed().await;
    let daemon = host.start();
    let limits = json!({"cpus": 0.5, "memory": "64MiB", "pids": 20, "cpu_shares": 200, "command": ["serve"]});
    let made = host.container("web", 9, limits).await;
    let at = key("container", "web");
    let running = host.until_state(&at, State::Running).await;
    let container = seen(&host, "web").await.expect("it is there");
    assert_eq!(running["status"]["engine_id"], json!(container.engine_id));
    assert_eq!(running["status"]["image_digest"], "sha256:tool");
    assert_eq!(container.limits.nanocpus, Some(500_000_000));
    assert_eq!((container.limits.pids, container.limits.cpu_shares), (Some(20), Some(2048)));
    let network = host.store.get(&key("network", "default")).expect("there").id();
    let endpoint = container.endpoint(network).expect("on its network");
    assert_eq!(endpoint.ip.map(|ip| ip.to_string()).as_deref(), Some("10.77.0.9"));
    let def = host.container.made_by(made.id()).expect("ours");
    assert_eq!(def.dns.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.77.0.1"]);
    assert_eq!(def.dns_search, ["default.internal"]);
    let named = hosts(&host, network);
    assert!(named.iter().any(|h| h.name.as_str() == "web" && h.ip.to_string() == "10.77.0.9"), "{named:?}");

    host.set_spec(&at, "memory", json!("32MiB")).await;
    host.until(&at, "as wanted", |o| o["status"]["observed_generation"] == 2).await;
    assert_eq!(seen(&host, "web").await.expect("there").limits.memory, Some(agentd_api::ByteSize::mib(32)));
    host.want(&at, "paused").await;
    host.until_state(&at, State::Paused).await;
    host.want(&at, "running").await;
    host.until_state(&at, State::Running).await;
    host.want(&at, "stopped").await;
    let off = host.until_state(&at, State::Stopped).await;
    assert_eq!(
        (&off["status"]["last_stop"]["how"], &off["status"]["exit_code"]),
        (&json!("stopped"), &json!(143))
    );
    host.delete(&at).await;
    host.until_gone(&at).await;
    assert_eq!(host.container.observe(made.id()).await.expect("observed"), None);
    assert!(!hosts(&host, network).iter().any(|h| h.name.as_str() == "web"));
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_deaf_is_killed_once_its_grace_is_over() {
    let host = bed().await;
    let _daemon = host.start();
    let made = host.container("deaf", 9, json!({"grace": "300ms"})).await;
    let at = key("container", "deaf");
    host.until_state(&at, State::Running).await;
    host.container.ignore_stop(made.id(), true);
    host.want(&at, "stopped").await;
    let off = host.until_state(&at, State::Stopped).await;
    assert_eq!(off["status"]["last_stop"]["how"], "killed");
    assert_eq!(host.container.calls("ask_to_stop"), 1, "a second signal may mean more than the first");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ends_by_itself_says_how_and_its_policy_judges_it() {
    let host = bed().await;
    let _daemon = host.start();
    host.container("once", 9, json!({"command": ["exit", "3"]})).await;
    let once = host.until_state(&key("container", "once"), State::Stopped).await;
    assert_eq!(
        (&once["status"]["exit_code"], &once["status"]["last_stop"]["how"]),
        (&json!(3), &json!("failed"))
    );
    let once = host.store.get(&key("container", "once")).expect("there").id();
    host.container.told_of_want_of_memory(once);
    let late = |o: &serde_json::Value| o["status"]["last_stop"]["how"] == "oom_killed";
    let once = host.until(&key("container", "once"), "told later", late).await;
    assert_eq!((&once["status"]["oom_killed"], &once["status"]["exit_code"]), (&json!(true), &json!(3)));
    assert!(once["status"]["reason"].as_str().is_some_and(|why| why.contains("want of memory")), "{once}");

    let made = host.container("web", 10, json!({"restart": "on-failure"})).await;
    let at = key("container", "web");
    host.until_state(&at, State::Running).await;
    host.container.program_runs_out_of_memory(made.id());
    let again = |o: &serde_json::Value| o["status"]["restarts"] == 1 && o["status"]["state"] == "running";
    let now = host.until(&at, "started again", again).await;
    assert_eq!(now["status"]["last_stop"]["how"], "oom_killed");
    host.container.program_exits(made.id(), 0);
    let off = host.until_state(&at, State::Stopped).await;
    assert_eq!(off["status"]["last_stop"]["how"], "exited");
    host.container("tidy", 11, json!({"command": ["exit", "0"], "remove_when_stopped": true})).await;
    host.until_gone(&key("container", "tidy")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_done_behind_our_back_is_repaired_or_told() {
    let host = bed().await;
    let _daemon = host.start();
    let made = host.container("kept", 9, json!({"restart": "always"})).await;
    let left = host.container("left", 10, json!({})).await;
    for name in ["kept", "left"] {
        host.until_state(&key("container", name), State::Running).await;
    }
    host.container.behind_our_back_remove(made.id());
    let again = |o: &serde_json::Value| o["status"]["restarts"] == 1 && o["status"]["state"] == "running";
    host.until(&key("container", "kept"), "made again", again).await;
    assert!(seen(&host, "kept").await.is_some_and(|c| c.state == ContainerState::Running));
    host.container.behind_our_back_remove(left.id());
    let off = host.until_state(&key("container", "left"), State::Stopped).await;
    assert!(off["status"]["reason"].as_str().is_some_and(|r| r.contains("somebody else removed it")));

    let network = host.store.get(&key("network", "default")).expect("there").id();
    let plugged = || async {
        let seen = seen(&host, "kept").await.expect("there");
        (seen.endpoint(network).is_some(), seen.endpoints.len())
    };
    host.container.behind_our_back_disconnect(made.id(), network);
    host.until_quiet().await;
    assert_eq!(plugged().await, (true, 1), "it is put back");
    host.container.behind_our_back_connect(made.id(), "bridge");
    host.until_quiet().await;
    assert_eq!(plugged().await, (true, 1), "no network of the engine's own is joined");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_engine_is_away_the_last_known_state_stays() {
    let host = bed().await;
    let _daemon = host.start();
    host.container("web", 9, json!({})).await;
    let at = key("container", "web");
    host.until_state(&at, State::Running).await;
    host.container.set_available(false);
    let away = |o: &serde_json::Value| {
        let conditions = o["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().any(|c| c["type"] == "backend_available" && c["status"] == false)
    };
    let told = host.until(&at, "said to be unseen", away).await;
    assert_eq!(told["status"]["state"], "running");
    host.container("new", 10, json!({})).await;
    host.until(&key("container", "new"), "waiting", away).await;
    host.container.set_available(true);
    host.until(&at, "seen", |o| !away(o)).await;
    host.until_state(&key("container", "new"), State::Running).await;
}

// dockerd that is started again has its socket before it answers: whoever calls meanwhile waits, and is refused nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ends_with_an_engine_that_nobody_found_away_is_started_again() {
    let host = bed().await;
    let _daemon = host.start();
    let web = host.container("web", 9, json!({})).await;
    let at = key("container", "web");
    host.until_state(&at, State::Running).await;
    host.container.set_available(false);
    host.container.set_available(true);
    host.container.program_exits(web.id(), 0);
    host.until(&at, "down with its engine", |o| o["status"]["last_stop"]["how"] == "host_down").await;
    host.until_state(&at, State::Running).await;

    // What is started since ends by itself.
    tokio::time::sleep(Duration::from_millis(5)).await;
    let new = host.container("new", 10, json!({})).await;
    let at = key("container", "new");
    host.until_state(&at, State::Running).await;
    host.container.program_exits(new.id(), 0);
    let off = host.until_state(&at, State::Stopped).await;
    assert_eq!(off["status"]["last_stop"]["how"], "exited");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_it_comes_after_is_waited_for() {
    let host = bed().await;
    let _daemon = host.start();
    let db = host.container("db", 9, json!({})).await;
    let at = key("container", "web");
    host.container("web", 10, json!({"after": [{"container": "db", "healthy": true}]})).await;
    let waits =
        |o: &serde_json::Value| o["status"]["reason"].as_str().is_some_and(|r| r.contains("not healthy"));
    host.until_state(&key("container", "db"), State::Running).await;
    host.until(&at, "waiting", waits).await;
    host.container.set_health(db.id(), HealthState::Healthy, "");
    host.until_state(&at, State::Running).await;
    let db = host.get::<Container>(&key("container", "db"));
    assert_eq!(db.status.health.map(|h| h.state), Some(agentd_api::container::HealthState::Healthy));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_is_said() {
    let host = bed().await;
    host.container.set_image("none", false);
    let _daemon = host.start();
    host.container("imageless", 9, json!({"image": "none"})).await;
    let failed = host.until_state(&key("container", "imageless"), State::Failed).await;
    assert!(failed["status"]["reason"].as_str().is_some_and(|r| r.contains("no image 'none'")));
    host.container.fail_next("start", 1, || ContainerError::Refused("there is no such program".to_owned()));
    host.container("programless", 10, json!({})).await;
    let failed = host.until_state(&key("container", "programless"), State::Failed).await;
    assert!(failed["status"]["reason"].as_str().is_some_and(|r| r.contains("no such program")));
    host.container("outside", 11, json!({"mounts": [{"path": "/x", "source": {"bind": "/etc"}}]})).await;
    let failed = host.until_state(&key("container", "outside"), State::Failed).await;
    assert!(failed["status"]["reason"].as_str().is_some_and(|r| r.contains("spec.mounts[0]")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_that_the_host_refuses_leaves_it_running() {
    let host = bed().await;
    let _daemon = host.start();
    host.container("web", 9, json!({"memory": "64MiB"})).await;
    let at = key("container", "web");
    host.until_state(&at, State::Running).await;
    host.container.fail_next("update", 9, || ContainerError::Refused("it fills more".to_owned()));
    host.set_spec(&at, "memory", json!("8MiB")).await;
    let told = |o: &serde_json::Value| {
        let conditions = o["status"]["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().any(|c| c["type"] == "limits_applied" && c["status"] == false)
    };
    let now = host.until(&at, "said", told).await;
    assert_eq!(now["status"]["state"], "running");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interface_that_goes_gives_its_address_back_once_it_is_off() {
    let host = bed().await;
    let _daemon = host.start();
    host.network("lan", "10.78.0.0/24").await;
    host.container("web", 9, json!({})).await;
    let at = key("container", "web");
    host.until_state(&at, State::Running).await;
    host.update(&at, |o| {
        o["spec"]["networks"] = json!([{"network": "lan"}]);
        o["status"]["leaving"] = o["status"]["addresses"].take();
        o["status"]["addresses"] = json!([{"network": "lan", "ip": "10.78.0.2", "mac": "52:54:00:00:02:01"}]);
    })
    .await;
    host.until(&at, "moved", |o| o["status"]["leaving"].is_null() && o["status"]["observed_generation"] == 2)
        .await;
    let endpoints = seen(&host, "web").await.expect("there").endpoints;
    let lan = host.store.get(&key("network", "lan")).expect("there").id();
    assert_eq!(endpoints.iter().map(|e| e.network.clone()).collect::<Vec<_>>(), [Wired::Ours(lan)]);
    let network = host.store.get(&key("network", "default")).expect("there").id();
    wait_until("the old address is nobody's", || {
        hosts(&host, network).iter().all(|h| h.name.as_str() != "web")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_name_reaches_the_engine_and_the_dns() {
    let host = bed().await;
    let _daemon = host.start();
    let made = host.container("web", 9, json!({})).await;
    host.until_state(&key("container", "web"), State::Running).await;
    let before = seen(&host, "web").await.expect("there");
    host.store
        .transact(|tx| {
            let now = tx.rename(&key("container", "web"), &"front".parse().expect("a name"))?;
            let mut status = now.value()["status"].clone();
            status["renamed_from"] = json!(["web"]);
            let update = agentd_store::Update { status: Some(status), ..Default::default() };
            tx.update(now.key(), agentd_store::Expect::Any, update).map(|_| ())
        })
        .await
        .expect("renamed");
    let at = key("container", "front");
    let settled =
        |o: &serde_json::Value| o["status"]["renamed_from"].is_null() && o["status"]["renamed"].is_null();
    host.until(&at, "known everywhere", settled).await;
    let after = seen(&host, "front").await.expect("there");
    assert_eq!((after.engine_id, after.state), (before.engine_id, ContainerState::Running));
    assert_ne!(after.name, before.name);
    let network = host.store.get(&key("network", "default")).expect("there").id();
    let names: Vec<String> = hosts(&host, network).iter().map(|h| h.name.to_string()).collect();
    assert_eq!(names, ["front"]);
    assert_eq!(host.get::<Container>(&at).meta.id, made.id());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_expires_goes() {
    let host = bed().await;
    let _daemon = host.start();
    let soon = agentd_api::Timestamp::now().plus(Duration::from_millis(600)).to_string();
    host.container("short", 9, json!({"expires_at": soon})).await;
    let at = key("container", "short");
    host.until_state(&at, State::Running).await;
    host.until_gone(&at).await;
    assert!(host.verbs(&at).contains(&"expired".to_owned()));
}
