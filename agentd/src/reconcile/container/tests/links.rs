//! Links of containers that somebody deletes: the engine knows nothing of it.

use std::time::Duration;

use agentd_api::State;
use agentd_drivers::container::{ContainerError, ContainerLook, HealthState};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::reconcile::testing::{Daemon, Host, key, wait_until};

/// A container `web` that runs, its id and that of its network.
async fn bed() -> (Host, Daemon, Uuid, Uuid) {
    let host = Host::new();
    host.furnish().await;
    let daemon = host.start();
    let web = host.container("web", 9, json!({})).await.id();
    host.until_state(&key("container", "web"), State::Running).await;
    host.until_quiet().await;
    let network = host.store.get(&key("network", "default")).expect("there").id();
    (host, daemon, web, network)
}

async fn linked(host: &Host, web: Uuid, network: Uuid) -> bool {
    let seen = host.container.observe(web).await.expect("observed").expect("it is there");
    seen.endpoint(network).is_some_and(|endpoint| endpoint.linked)
}

/// How often it was told that it was plugged in.
fn attached(host: &Host) -> usize {
    host.verbs(&key("container", "web")).iter().filter(|verb| *verb == "attached").count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_somebody_deletes_is_put_back_and_told() {
    let (host, _daemon, web, network) = bed().await;
    assert_eq!(attached(&host), 0);
    host.container.behind_our_back_unlink(web, network);
    wait_until("it is told", || attached(&host) > 0).await;
    host.until_quiet().await;
    assert!(linked(&host, web, network).await, "it is put back");
    assert_eq!(attached(&host), 1, "once");
    assert_eq!(host.state(&key("container", "web")).as_deref(), Some("running"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mac_that_the_engine_made_up_at_a_start_is_put_right() {
    let (host, _daemon, web, network) = bed().await;
    let mac = async || {
        let seen = host.container.observe(web).await.expect("observed").expect("it is there");
        seen.endpoint(network).and_then(|endpoint| endpoint.mac).expect("it has one")
    };
    let given = mac().await;
    host.container.forget_macs(web, true);
    host.container.behind_our_back_start(web);
    wait_until("it is told", || attached(&host) > 0).await;
    host.until_quiet().await;
    assert_eq!(mac().await, given);
    assert_eq!(attached(&host), 1, "once");
    assert_eq!(host.state(&key("container", "web")).as_deref(), Some("running"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_went_while_agentd_was_away_is_put_back() {
    let (host, daemon, web, network) = bed().await;
    daemon.kill();
    host.container.behind_our_back_unlink(web, network);
    assert!(!linked(&host, web, network).await);
    let daemon = host.start();
    wait_until("it is told", || attached(&host) > 0).await;
    host.until_quiet().await;
    assert!(linked(&host, web, network).await, "no event has told of it");
    // And of one that has all of its links nothing is asked.
    daemon.kill();
    let asked = host.container.calls("connect");
    let _daemon = host.start();
    host.until_quiet().await;
    assert_eq!(host.container.calls("connect"), asked);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_cannot_be_put_back_is_said_and_tried_in_its_own_time() {
    let (host, _daemon, web, network) = bed().await;
    let at = key("container", "web");
    host.container.fail_next("connect", 1000, move || ContainerError::NoNetwork(network));
    let before = host.container.calls("connect");
    host.container.behind_our_back_unlink(web, network);
    let failing = |o: &Value| o["status"]["attempts"]["count"].as_u64().is_some_and(|count| count >= 2);
    let told = host.until(&at, "said to fail", failing).await;
    assert_eq!(told["status"]["state"], "running", "its program runs on");
    assert!(told["status"]["reason"].as_str().is_some_and(|r| r.contains("no network")), "{told:#}");

    // What the host tells meanwhile does not hasten it: the next try is a second away.
    for n in 0..100 {
        let health = if n % 2 == 0 { HealthState::Unhealthy } else { HealthState::Healthy };
        host.container.set_health(web, health, "");
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    let tries = host.container.calls("connect") - before;
    assert!((2..=4).contains(&tries), "{tries} tries");

    host.container.fail_no_more("connect");
    host.until(&at, "mended", |o| o["status"]["attempts"].is_null() && o["status"]["reason"].is_null()).await;
    assert!(linked(&host, web, network).await);
}
