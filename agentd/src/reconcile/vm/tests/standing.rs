//! Policies that stand while nobody looks: boots of the host, expiry, alarms, limits.

use std::time::Duration;

use agentd_api::vm::{DiskLimits, StopKind, Vm};
use agentd_api::{ByteSize, State, Timestamp};
use agentd_drivers::vm::{HostFirmware, VmTuning};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::reconcile::testing::{Daemon, Host, key};

async fn running(host: &Host, name: &str, last: u8, more: Value) -> Uuid {
    let id = host.vm(name, last, more).await.id();
    host.until_state(&key("vm", name), State::Running).await;
    id
}

/// The host goes down and comes up again.
async fn boot(host: &Host, daemon: Daemon, guests: &[Uuid]) -> Daemon {
    host.until_quiet().await;
    daemon.kill();
    for guest in guests {
        host.vm.guest_crashes(*guest);
    }
    host.start_with(host.drivers(), "boot-2")
}

fn started(host: &Host, name: &str) -> Timestamp {
    host.get::<Vm>(&key("vm", name)).status.started_at.expect("it was started")
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_boot_they_are_started_in_their_order_with_the_delays_between() {
    let host = Host::new();
    let daemon = host.start();
    host.furnish().await;
    let last = running(&host, "a-last", 2, json!({})).await;
    let second = running(&host, "b-second", 3, json!({"autostart": {"order": 2}})).await;
    let delay = json!({"autostart": {"order": 1, "delay": "700ms"}});
    let first = running(&host, "c-first", 4, delay).await;
    let never =
        running(&host, "d-never", 5, json!({"autostart": {"enabled": false}, "restart": "always"})).await;
    host.vm.slow("start", Duration::from_millis(150));
    let _daemon = boot(&host, daemon, &[last, second, first, never]).await;
    let waits = host
        .until(&key("vm", "a-last"), "waiting for its turn", |o| {
            o["status"]["reason"].as_str().is_some_and(|r| r.contains("those before it"))
        })
        .await;
    assert_eq!(waits["status"]["state"], "stopped", "it says that it is off");
    for name in ["c-first", "b-second", "a-last"] {
        host.until(&key("vm", name), "running in the new boot", |o| {
            o["status"]["host_boot"] == "boot-2" && o["status"]["state"] == "running"
        })
        .await;
    }
    let (one, two, three) = (started(&host, "c-first"), started(&host, "b-second"), started(&host, "a-last"));
    assert!(one.plus(Duration::from_millis(690)) <= two, "{one} {two}: the delay is kept");
    assert!(two <= three, "{two} {three}");
    let stays = host.until_state(&key("vm", "d-never"), State::Stopped).await;
    assert!(stays["status"]["reason"].as_str().is_some_and(|r| r.contains("host went down")), "{stays}");
    host.until_quiet().await;
    assert_eq!(host.state(&key("vm", "d-never")).as_deref(), Some("stopped"));
    host.want(&key("vm", "d-never"), "running").await;
    host.until_state(&key("vm", "d-never"), State::Running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_does_not_come_up_holds_up_nobody() {
    let host = Host::new();
    let daemon = host.start();
    host.furnish().await;
    let bad = running(&host, "bad", 2, json!({"autostart": {"order": 1}})).await;
    let good = running(&host, "good", 3, json!({})).await;
    host.until_quiet().await;
    daemon.kill();
    host.vm.guest_crashes(bad);
    host.vm.guest_crashes(good);
    let refused = || agentd_drivers::vm::VmError::Refused("as told".to_owned());
    host.vm.fail_next("start", 1, refused);
    let _daemon = host.start_with(host.drivers(), "boot-2");
    host.until(&key("vm", "good"), "running in the new boot", |o| o["status"]["host_boot"] == "boot-2").await;
    host.until_state(&key("vm", "bad"), State::Failed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn held_for_the_hosts_shutdown_it_is_off_until_the_next_boot_and_then_runs() {
    let host = Host::new();
    let daemon = host.start();
    host.furnish().await;
    running(&host, "web", 2, json!({"restart": "always", "remove_when_stopped": true})).await;
    let web = key("vm", "web");
    host.update(&web, |o| o["status"]["held_boot"] = json!("boot-1")).await;
    let held = host.until_state(&web, State::Stopped).await;
    assert!(held["status"]["reason"].as_str().is_some_and(|r| r.contains("next boot")), "{held}");
    assert_eq!(held["spec"]["desired"], "running");
    assert_eq!(host.get::<Vm>(&web).status.last_stop.expect("a stop").how, StopKind::Acpi);
    host.until_quiet().await;
    daemon.kill();
    // The daemon alone is started again: nothing changes.
    let daemon = host.start();
    host.until_quiet().await;
    assert_eq!(host.state(&web).as_deref(), Some("stopped"));
    let _daemon = boot(&host, daemon, &[]).await;
    host.until(&web, "running in the new boot", |o| {
        o["status"]["host_boot"] == "boot-2" && o["status"]["state"] == "running"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_goes_at_its_time_also_when_the_daemon_was_down_then() {
    let host = Host::new();
    let daemon = host.start();
    host.furnish().await;
    let at = |ms: u64| json!(Timestamp::now().plus(Duration::from_millis(ms)).to_string());
    running(&host, "soon", 2, json!({"expires_at": at(900)})).await;
    running(&host, "zero", 3, json!({"expires_at": "1970-01-01T00:00:00Z"})).await;
    running(&host, "later", 4, json!({"expires_at": at(60_000)})).await;
    running(&host, "longer", 5, json!({"expires_at": at(1500)})).await;
    host.set_spec(&key("vm", "longer"), "expires_at", Value::Null).await;
    host.until_gone(&key("vm", "soon")).await;
    assert!(host.verbs(&key("vm", "soon")).contains(&"expired".to_owned()));
    host.set_spec(&key("vm", "later"), "expires_at", at(300)).await;
    host.until_gone(&key("vm", "later")).await;

    running(&host, "missed", 6, json!({"expires_at": at(700)})).await;
    host.until_quiet().await;
    daemon.kill();
    tokio::time::sleep(Duration::from_millis(800)).await;
    let _daemon = host.start();
    host.until_gone(&key("vm", "missed")).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    for never in ["zero", "longer"] {
        assert_eq!(host.state(&key("vm", never)).as_deref(), Some("running"), "{never}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_and_a_watchdog_are_told_from_other_ends() {
    let host = Host::new();
    let _daemon = host.start();
    host.furnish().await;
    let id = running(&host, "web", 2, json!({"restart": "on-failure", "watchdog": "poweroff"})).await;
    let web = key("vm", "web");
    host.vm.guest_panics(id);
    host.until(&web, "running again", |o| o["status"]["restarts"] == 1 && o["status"]["state"] == "running")
        .await;
    let status = host.get::<Vm>(&web).status;
    assert_eq!(status.last_stop.expect("a stop").how, StopKind::Panicked);
    assert!(host.verbs(&web).contains(&"panicked".to_owned()));
    host.vm.guest_hangs(id);
    host.until(&web, "running again", |o| o["status"]["restarts"] == 2 && o["status"]["state"] == "running")
        .await;
    assert_eq!(host.get::<Vm>(&web).status.last_stop.expect("a stop").how, StopKind::Watchdog);
    assert!(host.verbs(&web).contains(&"watchdog".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_follow_the_spec_of_a_running_guest_and_what_cannot_be_is_said() {
    let host = Host::new();
    let _daemon = host.start();
    host.furnish().await;
    let id = running(&host, "web", 2, json!({"disk_limits": {"read": "10MiB"}})).await;
    let web = key("vm", "web");
    let read = |mib| DiskLimits { read: Some(ByteSize::mib(mib)), ..DiskLimits::default() };
    let has = async || host.vm.tuning(id).await.expect("an answer").expect("it runs");
    assert_eq!(has().await.disk, read(10));
    host.until_quiet().await;
    host.vm.set_unmet_shares(Some("no cgroup"));
    host.update(&web, |o| {
        o["spec"]["disk_limits"] = json!({"read": "20MiB"});
        o["spec"]["cpu_shares"] = json!(200);
    })
    .await;
    let limits = |is: bool| {
        move |o: &Value| {
            let all = o["status"]["conditions"].as_array().cloned().unwrap_or_default();
            all.iter().any(|c| c["type"] == "limits_applied") == is
        }
    };
    let told = host.until(&web, "told of", limits(true)).await;
    assert!(told["status"]["conditions"].to_string().contains("spec.cpu_shares"), "{told}");
    assert_eq!(has().await.disk, read(20));
    assert_eq!(host.get::<Vm>(&web).status.common.condition("pending_restart"), None);
    host.until_quiet().await;
    let calls = host.vm.calls("tune");
    host.set_spec(&web, "cpu_shares", Value::Null).await;
    host.until(&web, "well again", limits(false)).await;
    host.until_quiet().await;
    assert_eq!(host.vm.calls("tune"), calls + 1, "once for a change");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_kvm_is_unsupported_by_name_where_there_is_none() {
    let host = Host::new();
    let _daemon = host.start();
    host.furnish().await;
    host.vm("web", 2, json!({"nested": true})).await;
    let failed = host.until_state(&key("vm", "web"), State::Failed).await;
    assert_eq!(failed["status"]["attempts"]["code"], "unsupported", "{failed}");
    assert!(failed["status"]["reason"].as_str().is_some_and(|r| r.contains("spec.nested")), "{failed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn firmware_that_the_host_loses_is_unsupported_by_name_until_it_is_there_again() {
    let host = Host::new();
    let _daemon = host.start();
    host.furnish().await;
    host.vm.set_firmware(HostFirmware::default());
    host.vm("web", 2, json!({"firmware": "uefi-secure", "tpm": true})).await;
    let web = key("vm", "web");
    let failed = host.until_state(&web, State::Failed).await;
    assert_eq!(failed["status"]["attempts"]["code"], "unsupported", "{failed}");
    let reason = failed["status"]["reason"].as_str().expect("a reason");
    assert!(reason.contains("spec.firmware") && reason.contains("ovmf"), "{reason}");
    host.vm.set_firmware(HostFirmware::whole());
    host.set_spec(&web, "grace", json!("20s")).await;
    let running = host.until_state(&web, State::Running).await;
    let id = running["id"].as_str().expect("an id").parse().expect("an id");
    let defined = host.vm.defined(id).expect("a domain");
    assert!(defined.boot.is_none() && defined.hardware.tpm);
    let uefi = defined.hardware.uefi.expect("UEFI");
    assert!(uefi.secure && uefi.variables.ends_with(format!("{id}/uefi-secure.fd")), "{uefi:?}");
}
