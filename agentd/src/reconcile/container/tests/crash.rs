//! A daemon that is killed in the middle, and the one after it.

use agentd_api::State;
use agentd_drivers::container::{ContainerDef, ContainerLife, ContainerLook, ContainerState};
use serde_json::json;

use crate::reconcile::testing::{Host, key, wait_until};

/// The calls that change something on a container's way up, down and out.
const STEPS: [&str; 6] =
    ["ensure_network", "ensure_created", "start", "ask_to_stop", "remove", "remove_network"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_each_step_it_goes_on_where_it_was() {
    for step in STEPS {
        let host = Host::new();
        host.furnish().await;
        let daemon = host.start();
        let at = key("container", "web");
        let down = matches!(step, "ask_to_stop" | "remove" | "remove_network");
        if !down {
            host.container.hang(step);
        }
        let made = host.container("web", 9, json!({})).await;
        if down {
            host.until_state(&at, State::Running).await;
            host.container.hang(step);
            match step {
                "ask_to_stop" => drop(host.want(&at, "stopped").await),
                "remove" => host.delete(&at).await,
                _ => {
                    host.delete(&at).await;
                    host.until_gone(&at).await;
                    host.delete(&key("network", "default")).await;
                }
            }
        }
        wait_until(step, || host.container.calls(step) > 0).await;
        daemon.kill();
        host.container.release(step);
        let daemon = host.start();
        match step {
            "ask_to_stop" => drop(host.until_state(&at, State::Stopped).await),
            "remove" => host.until_gone(&at).await,
            "remove_network" => host.until_gone(&key("network", "default")).await,
            _ => {
                host.until_state(&at, State::Running).await;
                let seen = host.container.observe(made.id()).await.expect("observed").expect("there");
                assert_eq!(seen.state, ContainerState::Running, "{step}");
                assert_eq!(host.container.list().await.expect("listed").len(), 1, "{step}");
            }
        }
        daemon.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_runs_is_adopted_and_what_ran_once_is_not_run_again() {
    let host = Host::new();
    host.furnish().await;
    let daemon = host.start();
    host.container("web", 9, json!({})).await;
    host.until_state(&key("container", "web"), State::Running).await;
    daemon.kill();
    // Killed after the engine has started it, and before that is written down.
    let once = host.container("once", 10, json!({"command": ["exit", "0"]})).await;
    let at = key("container", "once");
    host.update(&at, |o| {
        o["status"]["state"] = json!("provisioning");
        o["status"]["image_digest"] = json!("sha256:tool");
        o["status"]["starting"] = json!({"generation": 1});
    })
    .await;
    let mut def = ContainerDef::new(once.id(), (at.project.clone(), at.name.clone()), "sha256:tool");
    def.command = Some(vec!["exit".to_owned(), "0".to_owned()]);
    host.container.ensure_created(&def).await.expect("made");
    host.container.start(once.id()).await.expect("started");
    let (starts, made) = (host.container.calls("start"), host.container.calls("ensure_created"));
    let daemon = host.start();
    let off = host.until_state(&key("container", "once"), State::Stopped).await;
    assert_eq!(off["status"]["last_stop"]["how"], "exited");
    host.until_state(&key("container", "web"), State::Running).await;
    host.until_quiet().await;
    assert_eq!((host.container.calls("start"), host.container.calls("ensure_created")), (starts, made));
    daemon.stop().await;
}
