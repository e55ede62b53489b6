//! One VM from its wish to its end, on fakes.

use agentd_api::vm::{StopKind, Vm};
use agentd_api::{ErrorCode, State};
use agentd_drivers::vm::VmError;
use serde_json::json;
use std::time::Duration;

use crate::reconcile::testing::{Host, key, wait_until};

#[tokio::test(flavor = "multi_thread")]
async fn a_vm_starts_stops_starts_again_and_goes() {
    let host = Host::new();
    let _daemon = host.start();
    host.furnish().await;
    let id = host.vm("web", 2, json!({"publish": [{"host": 8080, "guest": 80}]})).await.id();
    let web = key("vm", "web");
    host.until_state(&web, State::Running).await;
    let vm = host.get::<Vm>(&web);
    assert!(vm.status.started_at.is_some() && vm.status.accel.is_some() && vm.status.console_log.is_some());
    assert_eq!(vm.status.common.observed_generation, 1);
    assert_eq!(vm.status.common.progress, None);
    let domain = host.vm.defined(id).expect("a domain");
    let network = host.network.networks().remove(0);
    assert_eq!(network.hosts.len(), 1);
    assert_eq!(domain.nics[0].mac, network.hosts[0].mac);
    assert_eq!(network.domain, "default.internal");
    assert_eq!(host.network.firewall().forwards[0].guest, 80);

    host.want(&web, "stopped").await;
    host.until_state(&web, State::Stopped).await;
    let stop = host.get::<Vm>(&web).status.last_stop.expect("a stop");
    assert_eq!(stop.how, StopKind::Acpi);
    host.want(&web, "running").await;
    host.until_state(&web, State::Running).await;
    host.want(&web, "paused").await;
    host.until_state(&web, State::Paused).await;
    host.want(&web, "running").await;
    host.until_state(&web, State::Running).await;

    host.delete(&web).await;
    host.until_gone(&web).await;
    assert_eq!(host.vm.defined(id), None);
    assert!(host.network.networks()[0].hosts.is_empty());
    assert!(host.network.firewall().forwards.is_empty());
    assert!(host.volume.seed(id).is_none());
    let verbs = host.verbs(&web);
    for verb in ["started", "stopped", "paused", "resumed", "deleted"] {
        assert!(verbs.iter().any(|v| v == verb), "{verb} in {verbs:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_waited_for_and_is_no_failure() {
    let host = Host::new();
    let _daemon = host.start();
    host.vm("web", 2, json!({})).await;
    let web = key("vm", "web");
    let waits = |for_what: &'static str| {
        move |o: &serde_json::Value| o["status"]["reason"].as_str().is_some_and(|r| r.contains(for_what))
    };
    let seen = host.until(&web, "waiting for its image", waits("image 'micro' does not exist")).await;
    assert_eq!(seen["status"]["state"], "pending");
    assert!(seen["status"]["attempts"].is_null(), "waiting is no failed attempt");
    host.image("micro").await;
    host.until(&web, "waiting for its network", waits("network 'default' does not exist")).await;
    host.network("default", "10.77.0.0/24").await;
    host.until_state(&web, State::Running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_failed_fails_the_vm_until_it_is_made() {
    let host = Host::new();
    host.image
        .faults()
        .fail_next("build", 1, || agentd_drivers::image::ImageError::Refused("no such package".into()));
    let _daemon = host.start();
    host.furnish().await;
    host.vm("web", 2, json!({})).await;
    let web = key("vm", "web");
    let failed = host.until_state(&web, State::Failed).await;
    assert!(failed["status"]["reason"].as_str().is_some_and(|r| r.contains("no such package")), "{failed}");
    host.retry(&key("image", "micro")).await;
    host.until_state(&web, State::Running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vm_that_is_failed_because_its_image_is_hears_of_the_image_after_a_restart_too() {
    let host = Host::new();
    host.image
        .faults()
        .fail_next("build", 1, || agentd_drivers::image::ImageError::Refused("no such package".into()));
    let daemon = host.start();
    host.furnish().await;
    host.vm("web", 2, json!({})).await;
    let web = key("vm", "web");
    host.until_state(&web, State::Failed).await;
    host.until_quiet().await;
    daemon.kill();
    let _daemon = host.start();
    host.until_quiet().await;
    host.retry(&key("image", "micro")).await;
    host.until_state(&web, State::Running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_does_not_listen_is_forced_off_after_its_grace_even_across_a_restart() {
    let host = Host::new();
    let daemon = host.start();
    host.furnish().await;
    let id = host.vm("deaf", 2, json!({"grace": "1500ms"})).await.id();
    let deaf = key("vm", "deaf");
    host.until_state(&deaf, State::Running).await;
    host.vm.ignore_shutdown(id, true);
    host.want(&deaf, "stopped").await;
    let asked = host
        .until(&deaf, "asked", |o| o["status"]["reason"].as_str().is_some_and(|r| r.contains("forced at")))
        .await;
    assert_eq!(asked["status"]["state"], "running", "it runs until it is off");
    daemon.kill();
    let _daemon = host.start();
    host.until_state(&deaf, State::Stopped).await;
    let stop = host.get::<Vm>(&deaf).status.last_stop.expect("a stop");
    assert_eq!(stop.how, StopKind::Forced);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_that_was_asked_for_survives_death() {
    let host = Host::new();
    let daemon = host.start();
    host.furnish().await;
    let id = host.vm("web", 2, json!({})).await.id();
    let web = key("vm", "web");
    let first = host.until_state(&web, State::Running).await;
    host.until_quiet().await;
    host.vm.hang("shutdown");
    host.update(&web, |o| o["status"]["restart_requested"] = json!(true)).await;
    wait_until("it is asked to power off", || host.vm.calls("shutdown") > 0).await;
    daemon.kill();
    host.vm.release("shutdown");
    let _daemon = host.start();
    host.until(&web, "started anew", |o| {
        o["status"]["state"] == "running" && o["status"]["started_at"] != first["status"]["started_at"]
    })
    .await;
    let status = host.get::<Vm>(&web).status;
    assert!(!status.restart_requested);
    assert_eq!(status.last_stop.expect("a stop").how, StopKind::Acpi);
    host.until_quiet().await;
    assert_eq!(host.vm.calls("start"), 2, "started once for the wish and once for the restart of {id}");
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_counted_shown_and_forgotten() {
    let host = Host::new();
    host.vm
        .fail_next("start", usize::MAX, || VmError::Failed { call: "start", detail: "no luck".to_owned() });
    let _daemon = host.start();
    host.furnish().await;
    host.vm("web", 2, json!({})).await;
    let web = key("vm", "web");
    let tried =
        host.until(&web, "tried twice", |o| o["status"]["attempts"]["count"].as_u64() >= Some(2)).await;
    host.vm.fail_no_more("start");
    assert_eq!(tried["status"]["attempts"]["code"], ErrorCode::BackendUnavailable.as_str());
    assert!(tried["status"]["attempts"]["next_at"].is_string());
    assert!(tried["status"]["reason"].as_str().is_some_and(|r| r.contains("no luck")));
    assert_eq!(tried["status"]["state"], "provisioning");
    let done = host.until_state(&web, State::Running).await;
    assert!(done["status"]["attempts"].is_null() && done["status"]["reason"].is_null());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_libvirt_refuses_stays_failed_until_the_spec_changes_or_retry() {
    let host = Host::new();
    host.vm.fail_next("ensure_defined", 2, || VmError::Refused("bad XML".to_owned()));
    let daemon = host.start();
    host.furnish().await;
    host.vm("web", 2, json!({})).await;
    let web = key("vm", "web");
    let failed = host.until_state(&web, State::Failed).await;
    assert!(failed["status"]["attempts"]["next_at"].is_null());
    daemon.trigger.wake(web.clone());
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(host.vm.calls("ensure_defined"), 1, "a wake alone is no new try");
    host.retry(&web).await;
    host.until(&web, "failed again", |_| host.vm.calls("ensure_defined") == 2).await;
    host.until_state(&web, State::Failed).await;
    host.set_spec(&web, "cpus", json!(2)).await;
    host.until_state(&web, State::Running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_that_is_refused_stays_visible_until_it_succeeds() {
    let host = Host::new();
    let _daemon = host.start();
    host.furnish().await;
    let id = host.vm("web", 2, json!({})).await.id();
    let web = key("vm", "web");
    host.until_state(&web, State::Running).await;
    host.vm.fail_next("undefine", usize::MAX, || VmError::Failed {
        call: "undefine",
        detail: "busy".to_owned(),
    });
    host.delete(&web).await;
    let seen = host.until(&web, "refused", |o| o["status"]["attempts"]["count"].as_u64() >= Some(2)).await;
    assert_eq!(seen["status"]["state"], "deleting");
    assert!(seen["status"]["reason"].as_str().is_some_and(|r| r.contains("busy")), "{seen}");
    assert_eq!(seen["finalizers"], json!(["domain", "network", "volume"]));
    assert!(!host.network.networks()[0].hosts.is_empty(), "what comes later in the order is not undone yet");
    host.vm.fail_no_more("undefine");
    host.until_gone(&web).await;
    assert_eq!(host.vm.defined(id), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spec_changed_under_a_running_guest_waits_for_its_restart() {
    let host = Host::new();
    let _daemon = host.start();
    host.furnish().await;
    let id = host.vm("web", 2, json!({})).await.id();
    let web = key("vm", "web");
    host.until_state(&web, State::Running).await;
    host.set_spec(&web, "cpus", json!(200)).await;
    let pending = |o: &serde_json::Value| {
        let all = o["status"]["conditions"].as_array().cloned().unwrap_or_default();
        all.iter().any(|c| c["type"] == "pending_restart" && c["status"] == true)
    };
    host.until(&web, "pending a restart", pending).await;
    assert_eq!(host.state(&web).as_deref(), Some("running"));
    host.update(&web, |o| o["status"]["restart_requested"] = json!(true)).await;
    host.until(&web, "restarted", |o| !pending(o) && o["status"]["state"] == "running").await;
    assert_eq!(host.vm.defined(id).expect("a domain").cpus, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_of_a_request_is_in_the_events_and_what_nobody_asked_for_names_none() {
    let host = Host::new();
    let daemon = host.start();
    host.furnish().await;
    let id = host.vm("web", 2, json!({"desired": "stopped"})).await.id();
    let web = key("vm", "web");
    host.until_state(&web, State::Stopped).await;
    let asked = agentd_store::NewEvent {
        kind: "vm".to_owned(),
        project: "default".to_owned(),
        name: "web".to_owned(),
        id,
        actor: "uid:0".to_owned(),
        verb: "start".to_owned(),
        message: "wanted".to_owned(),
        outcome: agentd_api::event::Outcome::Accepted,
        request_id: Some("req-7".to_owned()),
    };
    let recorded = host.store.transact(move |tx| {
        tx.record(asked.clone());
        Ok::<(), agentd_store::TxError>(())
    });
    recorded.await.expect("recorded");
    host.want(&web, "running").await;
    host.until_state(&web, State::Running).await;
    daemon.stop().await;
    let _daemon = host.start();
    host.vm.guest_powers_off(id);
    host.until_state(&web, State::Stopped).await;
    let events = host.store.events(&agentd_store::EventQuery::default()).items;
    let of = |verb: &str| events.iter().find(|e| e.id == id && e.verb == verb).expect("an event").clone();
    assert_eq!(of("started").request_id.as_deref(), Some("req-7"));
    assert_eq!(of("stopped").request_id, None);
}
