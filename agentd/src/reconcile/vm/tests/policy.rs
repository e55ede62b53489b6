//! What others do to a VM, and what becomes of it.

use agentd_api::State;
use agentd_api::vm::{StopKind, Vm};
use agentd_drivers::vm::{Power, VmDriver};
use serde_json::json;
use std::time::{Duration, Instant};

use crate::reconcile::testing::{Host, key, wait_until};

/// How soon what is done behind our back must be seen.
const SOON: Duration = Duration::from_secs(2);

async fn running(host: &Host, more: serde_json::Value) -> uuid::Uuid {
    host.furnish().await;
    let id = host.vm("web", 2, more).await.id();
    host.until_state(&key("vm", "web"), State::Running).await;
    host.until_quiet().await;
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destroyed_guest_is_reported_and_stays_off_by_policy_never() {
    let host = Host::new();
    let daemon = host.start();
    let id = running(&host, json!({})).await;
    let web = key("vm", "web");
    let started = Instant::now();
    host.vm.behind_our_back_destroy(id);
    let seen = host.until_state(&web, State::Stopped).await;
    assert!(started.elapsed() < SOON);
    assert!(seen["status"]["reason"].as_str().is_some_and(|r| r.contains("somebody else")), "{seen}");
    assert_eq!(host.get::<Vm>(&web).status.last_stop.expect("a stop").how, StopKind::Destroyed);
    daemon.trigger.wake(web.clone());
    host.until_quiet().await;
    assert_eq!(host.state(&web).as_deref(), Some("stopped"));
    host.want(&web, "running").await;
    host.until_state(&web, State::Running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_failure_starts_again_after_a_crash_and_not_after_a_power_off() {
    let host = Host::new();
    let _daemon = host.start();
    let id = running(&host, json!({"restart": "on-failure"})).await;
    let web = key("vm", "web");
    host.vm.guest_crashes(id);
    host.until(&web, "running again", |o| o["status"]["restarts"] == 1 && o["status"]["state"] == "running")
        .await;
    host.vm.guest_powers_off(id);
    let off = host.until_state(&web, State::Stopped).await;
    assert!(off["status"]["reason"].as_str().is_some_and(|r| r.contains("by itself")), "{off}");
    host.until_quiet().await;
    assert_eq!(host.state(&web).as_deref(), Some("stopped"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_crashes_at_once_is_started_ever_more_slowly() {
    let host = Host::new();
    let daemon = host.start();
    let id = running(&host, json!({"restart": "always"})).await;
    let web = key("vm", "web");
    host.vm.guest_crashes(id);
    host.until(&web, "running again", |o| o["status"]["restarts"] == 1 && o["status"]["state"] == "running")
        .await;
    host.vm.guest_crashes(id);
    let rests = host
        .until(&web, "resting", |o| {
            o["status"]["reason"].as_str().is_some_and(|r| r.contains("started again at"))
        })
        .await;
    assert_eq!(rests["status"]["state"], "stopped");
    // The wait is written down, and so survives the daemon.
    daemon.kill();
    let _daemon = host.start();
    host.until(&web, "running again", |o| o["status"]["restarts"] == 2 && o["status"]["state"] == "running")
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undefined_guest_is_defined_again_while_it_runs() {
    let host = Host::new();
    let _daemon = host.start();
    let id = running(&host, json!({})).await;
    let started = Instant::now();
    host.vm.behind_our_back_undefine(id);
    wait_until("it is defined again", || host.vm.defined(id).is_some()).await;
    assert!(started.elapsed() < SOON);
    let seen = host.vm.observe(id).await.expect("an answer").expect("a domain");
    assert_eq!(seen.power, Power::Running, "the guest went on");
    host.until_quiet().await;
    assert!(host.verbs(&key("vm", "web")).contains(&"defined".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn destroyed_and_undefined_it_can_be_started_again() {
    let host = Host::new();
    let _daemon = host.start();
    let id = running(&host, json!({})).await;
    let web = key("vm", "web");
    host.vm.behind_our_back_undefine(id);
    host.vm.behind_our_back_destroy(id);
    host.until_state(&web, State::Stopped).await;
    wait_until("its definition is back", || host.vm.defined(id).is_some()).await;
    host.want(&web, "running").await;
    host.until_state(&web, State::Running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_boot_of_the_host_what_ran_runs_again_and_what_was_off_stays_off() {
    let host = Host::new();
    let daemon = host.start();
    let id = running(&host, json!({})).await;
    let off = host.vm("off", 3, json!({})).await.id();
    let (web, other) = (key("vm", "web"), key("vm", "off"));
    host.until_state(&other, State::Running).await;
    host.vm.guest_powers_off(off);
    host.until_state(&other, State::Stopped).await;
    host.until_quiet().await;
    daemon.kill();
    host.vm.guest_crashes(id);
    let _daemon = host.start_with(host.drivers(), "boot-2");
    host.until(&web, "running in the new boot", |o| {
        o["status"]["host_boot"] == "boot-2" && o["status"]["state"] == "running"
    })
    .await;
    assert_eq!(host.get::<Vm>(&web).status.last_stop.expect("a stop").how, StopKind::HostDown);
    host.until_quiet().await;
    assert_eq!(host.state(&other).as_deref(), Some("stopped"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_with_rm_goes_when_it_has_ended() {
    let host = Host::new();
    let _daemon = host.start();
    let id = running(&host, json!({"remove_when_stopped": true})).await;
    host.vm.guest_powers_off(id);
    host.until_gone(&key("vm", "web")).await;
    assert_eq!(host.vm.defined(id), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_libvirt_is_away_the_last_state_stays_and_says_so() {
    let host = Host::new();
    let _daemon = host.start();
    running(&host, json!({})).await;
    let web = key("vm", "web");
    let available = |is: bool| {
        move |o: &serde_json::Value| {
            let all = o["status"]["conditions"].as_array().cloned().unwrap_or_default();
            all.iter().any(|c| c["type"] == "backend_available" && c["status"] == is)
        }
    };
    host.vm.set_available(false);
    host.vm("late", 3, json!({})).await;
    let late = key("vm", "late");
    let seen = host.until(&web, "said to be out of reach", available(false)).await;
    assert_eq!(seen["status"]["state"], "running");
    assert!(seen["status"]["attempts"].is_null(), "nobody tried anything");
    let seen = host.until(&late, "said to be out of reach", available(false)).await;
    assert_eq!(seen["status"]["state"], "pending");
    host.until_quiet().await;
    host.vm.set_available(true);
    host.until(&web, "in reach", available(true)).await;
    host.until_state(&late, State::Running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vm_that_never_ran_can_be_deleted_without_libvirt() {
    let host = Host::new();
    host.vm.set_available(false);
    let _daemon = host.start();
    host.furnish().await;
    host.vm("web", 2, json!({})).await;
    let web = key("vm", "web");
    host.until(&web, "looked at", |o| o["status"]["observed_generation"] == 1).await;
    host.delete(&web).await;
    host.until_gone(&web).await;
}
