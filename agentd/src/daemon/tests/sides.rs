//! Where the host and the objects differ, and what a repair does of it: on a daemon that has lost its objects, and on one
//! whose host has lost their side.

use agentd_drivers::container::ContainerLook;
use agentd_drivers::network::NetworkDriver;
use agentd_drivers::vm::{VmDriver, VmError};
use agentd_drivers::volume::VolumeDriver;
use agentd_drivers::volume::pool::PoolDriver;
use uuid::Uuid;

use super::archives::fetch;
use super::*;

impl Place {
    /// A daemon on a host that has been used.
    async fn start_on(&self, fakes: &Fakes) -> Daemon {
        let made = Daemon::start(self.config(), unlogged(), |_, _| Ok(fakes.drivers()));
        made.await.expect("started")
    }

    async fn findings(&self) -> Vec<Value> {
        let (status, report) = self.ask("GET", "/v1/doctor", b"").await;
        assert_eq!(status, 200, "{report}");
        report["findings"].as_array().expect("findings").clone()
    }

    async fn finding(&self, subject: &str) -> Value {
        let all = self.findings().await;
        let one = all.iter().find(|finding| finding["subject"] == subject);
        one.unwrap_or_else(|| panic!("no {subject} in {all:?}")).clone()
    }

    /// Whether it was done, and what is said of it.
    async fn repair(&self, subject: &str) -> (bool, String) {
        let body = json!({"subjects": [subject]}).to_string();
        let (status, done) = self.ask("POST", "/v1/doctor", body.as_bytes()).await;
        assert_eq!(status, 200, "{done}");
        let one = &done["items"][0];
        assert_eq!(one["subject"], subject);
        (one["done"].as_bool().expect("a bool"), one["detail"].as_str().expect("a text").to_owned())
    }

    async fn made(&self, path: &str, body: Value, state: &str) -> Uuid {
        let (status, answer) = self.ask("POST", path, body.to_string().as_bytes()).await;
        assert_eq!(status, 201, "{answer}");
        let object = format!("{path}/{}", body["name"].as_str().expect("a name"));
        let object = self.until(&object, |_, object| object["status"]["state"] == state).await;
        object["id"].as_str().and_then(|id| id.parse().ok()).expect("an id")
    }
}

fn vm(name: &str) -> Value {
    json!({"name": name, "spec": {"image": "micro", "memory": "64MiB", "networks": [{"network": "lab"}]}})
}

/// What is on the host and of no object.
struct Orphans {
    lab: Uuid,
    data: Uuid,
    on: Uuid,
    off: Uuid,
    tool: Uuid,
}

/// A daemon whose store is older than what is on its host.
async fn forgetful(place: &Place) -> (Daemon, Fakes, Orphans) {
    let (daemon, fakes) = place.start().await;
    let before = fetch(place, "/v1/backup").await.1;
    let lab = json!({"name": "lab", "spec": {"cidr": "10.99.0.0/24"}});
    let lab = place.made("/v1/networks", lab, "ready").await;
    let data = json!({"name": "data", "spec": {"size": "64MiB"}});
    let data = place.made("/v1/volumes", data, "ready").await;
    let (on, off) =
        (place.made("/v1/vms", vm("on"), "running").await, place.made("/v1/vms", vm("off"), "running").await);
    assert_eq!(place.ask("POST", "/v1/vms/off/stop", b"").await.0, 202);
    place.until("/v1/vms/off", |_, vm| vm["status"]["state"] == "stopped").await;
    fakes.container.set_image("tool", true);
    let tool = json!({"name": "box", "spec": {"image": "tool", "networks": [{"network": "lab"}]}});
    let tool = place.made("/v1/containers", tool, "running").await;
    assert_eq!(place.findings().await, Vec::<Value>::new());
    daemon.stop().await.expect("stopped");
    // Another store, which is older than all of them.
    for file in ["agentd.db", "agentd.db-wal", "agentd.db.mark"] {
        let _ = std::fs::remove_file(place.state().join(file));
    }
    let file = place.dir.path().join("agentd.backup");
    std::fs::write(&file, before).expect("written");
    restore(&file, &place.state()).await.map(drop).expect("restored");
    let daemon = place.start_on(&fakes).await;
    (daemon, fakes, Orphans { lab, data, on, off, tool })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_belongs_to_nobody_is_found_and_only_what_is_safe_is_removed() {
    let place = Place::new();
    let (daemon, fakes, Orphans { lab, data, on, off, tool }) = forgetful(&place).await;
    let empty = Uuid::now_v7();
    fakes.volume.console_log(empty).await.expect("a folder without a disk");

    let subjects = [
        (format!("domain/{on}"), None, Some("virsh shutdown")),
        (format!("domain/{off}"), Some("removes its definition"), None),
        (format!("container/{tool}"), None, Some("docker rm")),
        (format!("network/{lab}"), None, Some("may be on it")),
        (format!("vm-folder/{on}"), None, Some("rm -r ")),
        (format!("vm-folder/{off}"), None, Some("rm -r ")),
        (format!("vm-folder/{empty}"), Some("holds no disk"), None),
        (format!("volume/{data}"), None, Some("rm -r ")),
    ];
    for (subject, fix, by_hand) in &subjects {
        let finding = place.finding(subject).await;
        assert_eq!(finding["sort"], "orphan");
        for (is, wanted) in [(&finding["fix"], fix), (&finding["by_hand"], by_hand)] {
            assert_eq!(is.is_string(), wanted.is_some(), "{finding}");
            assert!(is.as_str().unwrap_or_default().contains(wanted.unwrap_or_default()), "{finding}");
        }
    }
    // What is not safe is not done, whoever asks for it.
    for (subject, ..) in subjects.iter().filter(|(_, fix, _)| fix.is_none()) {
        let (done, why) = place.repair(subject).await;
        assert!(!done && why.contains("for a person to do"), "{subject}: {why}");
    }
    assert_eq!(place.repair("domain/none").await, (false, "it is not found any more".to_owned()));
    assert!(fakes.vm.observe(on).await.expect("seen").is_some());
    assert!(fakes.pool.observe(data).await.expect("seen").is_some());
    // What is safe is, and leaves the disks.
    assert_eq!(place.repair(&format!("domain/{off}")).await, (true, "its definition is removed".to_owned()));
    assert!(fakes.vm.observe(off).await.expect("seen").is_none());
    assert!(fakes.volume.observe(off).await.expect("seen").disk.is_some());
    assert!(place.repair(&format!("vm-folder/{empty}")).await.0);
    assert!(!fakes.volume.list().await.expect("listed").contains(&empty));
    let events = place.ask("GET", "/v1/events", b"").await.1;
    let told =
        |event: &Value| event["id"] == json!(off) && event["verb"] == "repaired" && event["actor"] == "uid:0";
    assert!(events["items"].as_array().expect("events").iter().any(told), "{events}");
    // With nothing on it any more the network can go.
    fakes.vm.behind_our_back_destroy(on);
    fakes.container.behind_our_back_remove(tool);
    assert!(place.repair(&format!("network/{lab}")).await.0);
    assert!(!fakes.network.list().await.expect("listed").contains(&lab));
    assert!(fakes.container.list().await.expect("listed").is_empty());
    assert_eq!(place.ask("POST", "/v1/doctor", b"{\"subjects\":[]}").await.0, 400);
    daemon.stop().await.expect("stopped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_object_without_its_side_is_tried_again_and_lost_content_is_told() {
    let place = Place::new();
    let (daemon, fakes) = place.start().await;
    place.made("/v1/networks", json!({"name": "lab", "spec": {"cidr": "10.99.0.0/24"}}), "ready").await;
    place.made("/v1/volumes", json!({"name": "data", "spec": {"size": "64MiB"}}), "ready").await;
    let web = place.made("/v1/vms", vm("web"), "running").await;
    assert_eq!(place.ask("POST", "/v1/vms/web/stop", b"").await.0, 202);
    place.until("/v1/vms/web", |_, vm| vm["status"]["state"] == "stopped").await;
    // It cannot be defined again, and is given up.
    fakes.vm.fail_next("ensure_defined", 2, || VmError::Refused("not today".to_owned()));
    fakes.vm.behind_our_back_undefine(web);
    place.until("/v1/vms/web", |_, vm| vm["status"]["state"] == "failed").await;
    let finding = place.finding("vm/default/web").await;
    assert_eq!((&finding["sort"], finding["fix"].is_string()), (&json!("missing"), true));
    let (done, why) = place.repair("vm/default/web").await;
    assert!(!done && why.contains("not today"), "{why}");
    assert_eq!(place.repair("vm/default/web").await, (true, "it is on the host".to_owned()));
    assert!(fakes.vm.observe(web).await.expect("seen").is_some());
    assert_eq!(place.findings().await, Vec::<Value>::new());
    daemon.stop().await.expect("stopped");

    // On another host nothing of it is there.
    let fakes = Fakes::new(&Instance::new(&place.state()));
    let daemon = place.start_on(&fakes).await;
    place.until("/v1/networks/lab", |_, network| network["status"]["state"] == "ready").await;
    place.until("/v1/images/micro", |_, image| image["status"]["state"] == "failed").await;
    for (subject, by_hand) in [
        ("vm/default/web", "put back "),
        ("volume/default/data", "put back "),
        ("image/default/micro", "agentctl retry image/micro"),
    ] {
        let finding = place.finding(subject).await;
        assert!(finding["by_hand"].as_str().is_some_and(|by| by.contains(by_hand)), "{finding}");
        assert!(finding["fix"].is_null(), "{finding}");
        assert!(!place.repair(subject).await.0);
    }
    daemon.stop().await.expect("stopped");
}
