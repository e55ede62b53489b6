//! Images from their wish to their end, on fakes.

use std::time::Duration;

use agentd_api::State;
use agentd_api::image::{Image, UploadSource};
use agentd_drivers::image::container::{ContainerImageDriver, contract};
use agentd_drivers::image::{ImageDriver, ImageError};
use serde_json::{Value, json};

use crate::reconcile::testing::{Host, key, wait_until};

async fn image(host: &Host, name: &str, source: Value) -> uuid::Uuid {
    host.create(&key("image", name), &["content"], json!({"source": source}), json!({})).await.id()
}

fn says(text: &'static str) -> impl Fn(&Value) -> bool {
    move |o| o["status"]["reason"].as_str().is_some_and(|r| r.contains(text))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_shows_how_far_it_is_and_ends_ready() {
    let host = Host::new();
    host.image.step_takes(Duration::from_millis(150));
    let _daemon = host.start();
    image(&host, "micro", json!({"recipe": "micro"})).await;
    let micro = key("image", "micro");
    let seen = host.until(&micro, "in progress", |o| o["status"]["progress"]["step"] == "unpacking").await;
    assert_eq!(seen["status"]["state"], "provisioning");
    host.until_state(&micro, State::Ready).await;
    let status = host.get::<Image>(&micro).status;
    assert!(status.digest.is_some() && status.direct_boot && status.common.progress.is_none());
    let writes = host.get::<Image>(&micro).meta.revision;
    assert!(writes < 12, "{writes} writes for two seconds of progress");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_goes_on_after_the_daemon_died() {
    let host = Host::new();
    host.image.faults().hang("pull");
    let daemon = host.start();
    let url = json!({"url": {"url": "http://host/a.qcow2", "sha256": "0".repeat(64)}});
    image(&host, "a", url).await;
    host.until_state(&key("image", "a"), State::Provisioning).await;
    daemon.kill();
    host.image.faults().release("pull");
    let _daemon = host.start();
    host.until_state(&key("image", "a"), State::Ready).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_is_waited_for_and_taken_in_once_it_is_there() {
    let host = Host::new();
    let daemon = host.start();
    let mut disk = b"QFI\xfb\0\0\0\x03".to_vec();
    disk.resize(1 << 16, 0);
    disk[0] = 0xeb; // not qcow2: a raw disk with a boot sector
    disk[510] = 0x55;
    disk[511] = 0xaa;
    let source = UploadSource { size: disk.len() as u64, sha256: None };
    let id = image(&host, "up", json!({"upload": {"size": source.size}})).await;
    let up = key("image", "up");
    let seen = host.until(&up, "waiting", says("0 of 65536 bytes")).await;
    assert_eq!(seen["status"]["state"], "pending");
    let received = host.image.receive(id, &source, &mut disk.as_slice()).await.expect("received");
    assert_eq!(received, source.size);
    daemon.trigger.wake(up.clone());
    host.until_state(&up, State::Ready).await;
    assert_eq!(host.get::<Image>(&up).status.source_format.as_deref(), Some("raw"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_failed_with_the_reason_and_can_be_sent_again() {
    let host = Host::new();
    let daemon = host.start();
    let source = UploadSource { size: 6, sha256: None };
    let id = image(&host, "text", json!({"upload": {"size": 6}})).await;
    let text = key("image", "text");
    host.until(&text, "waiting", says("0 of 6 bytes")).await;
    host.image.receive(id, &source, &mut b"hello\n".as_slice()).await.expect("received");
    daemon.trigger.wake(text.clone());
    let seen = host.until_state(&text, State::Failed).await;
    assert!(seen["status"]["reason"].as_str().is_some_and(|r| !r.is_empty()), "{seen}");
    assert!(seen["status"]["digest"].is_null());
    host.retry(&text).await;
    host.until(&text, "waiting again", says("0 of 6 bytes")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_that_fails_is_tried_again() {
    let host = Host::new();
    let error = || ImageError::Fetch { url: "http://host/a".to_owned(), detail: "no route".to_owned() };
    host.image.faults().fail_next("pull", 1000, error);
    let _daemon = host.start();
    image(&host, "a", json!({"url": {"url": "http://host/a", "sha256": "1".repeat(64)}})).await;
    let a = key("image", "a");
    host.until(&a, "tried once", |o| o["status"]["attempts"]["count"].as_u64() >= Some(1)).await;
    host.image.faults().fail_no_more("pull");
    host.until_state(&a, State::Ready).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_stops_when_its_image_is_deleted() {
    let host = Host::new();
    host.image.step_takes(Duration::from_secs(60));
    let _daemon = host.start();
    image(&host, "micro", json!({"recipe": "micro"})).await;
    let micro = key("image", "micro");
    host.until(&micro, "building", |o| o["status"]["progress"]["unit"] == "steps").await;
    host.delete(&micro).await;
    host.until_gone(&micro).await;
    assert!(host.image.list().await.expect("a list").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_is_built_at_a_time_and_two_are_fetched() {
    let host = Host::new();
    host.image.faults().hang("build");
    host.image.faults().hang("pull");
    let _daemon = host.start();
    for n in 0..3 {
        image(&host, &format!("b{n}"), json!({"recipe": "micro"})).await;
        let sha256 = n.to_string().repeat(64);
        image(&host, &format!("p{n}"), json!({"url": {"url": "http://host/a", "sha256": sha256}})).await;
    }
    for n in 0..3 {
        host.until_state(&key("image", &format!("b{n}")), State::Provisioning).await;
        host.until_state(&key("image", &format!("p{n}")), State::Provisioning).await;
    }
    host.until_quiet().await;
    assert_eq!((host.image.faults().calls("build"), host.image.faults().calls("pull")), (1, 2));
    host.image.faults().release("build");
    host.image.faults().release("pull");
    for n in 0..3 {
        host.until_state(&key("image", &format!("b{n}")), State::Ready).await;
        host.until_state(&key("image", &format!("p{n}")), State::Ready).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn content_goes_with_the_last_that_needs_it() {
    let host = Host::new();
    let daemon = host.start();
    host.furnish().await;
    image(&host, "twin", json!({"recipe": "micro"})).await;
    host.vm("web", 2, json!({})).await;
    let (micro, twin, web) = (key("image", "micro"), key("image", "twin"), key("vm", "web"));
    host.until_state(&web, State::Running).await;
    host.until_state(&twin, State::Ready).await;
    let digest = host.get::<Image>(&twin).status.digest.expect("a digest");
    assert_eq!(host.get::<Image>(&micro).status.digest.as_ref(), Some(&digest));
    host.delete(&twin).await;
    host.until_gone(&twin).await;
    assert!(host.image.observe(&digest).await.expect("an answer").is_some(), "micro needs it");
    host.delete(&micro).await;
    host.until_gone(&micro).await;
    assert!(host.image.observe(&digest).await.expect("an answer").is_some(), "the disk of web stands on it");
    host.delete(&web).await;
    host.until_gone(&web).await;
    assert!(host.image.observe(&digest).await.expect("an answer").is_none(), "and it was the last");
    drop(daemon);
}

#[tokio::test(flavor = "multi_thread")]
async fn content_that_vanished_is_reported_and_made_again_on_retry() {
    let host = Host::new();
    let daemon = host.start();
    image(&host, "micro", json!({"recipe": "micro"})).await;
    let micro = key("image", "micro");
    host.until_state(&micro, State::Ready).await;
    let digest = host.get::<Image>(&micro).status.digest.expect("a digest");
    host.image.lose_behind_our_back(&digest);
    daemon.trigger.wake(micro.clone());
    host.until(&micro, "known to be gone", says("gone from the disk")).await;
    host.retry(&micro).await;
    host.until_state(&micro, State::Ready).await;
    wait_until("it was built twice", || host.image.faults().calls("build") == 2).await;
}

/// A folder with a Dockerfile in it, and what is sent of it.
fn context() -> (Vec<u8>, UploadSource, Value) {
    let bytes = contract::tar(&[("Dockerfile", b"FROM scratch\nCOPY . /\n")]);
    let source = UploadSource { size: bytes.len() as u64, sha256: None };
    let build = json!({"build": {"size": source.size}});
    (bytes, source, build)
}

fn resumed(host: &Host, at: &agentd_api::ObjectKey) -> usize {
    host.verbs(at).iter().filter(|verb| *verb == "resumed").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_a_killed_daemon_cut_off_is_built_again_by_itself_and_leaves_nothing() {
    let host = Host::new();
    host.container_image.step_takes(Duration::from_secs(60));
    let daemon = host.start();
    let (bytes, source, build) = context();
    let (id, at) = (image(&host, "app", build).await, key("image", "app"));
    host.until(&at, "waiting", says("0 of 2048 bytes")).await;
    host.image.receive(id, &source, &mut bytes.as_slice()).await.expect("received");
    daemon.trigger.wake(at.clone());
    host.until(&at, "building", |o| o["status"]["progress"]["step"] == "FROM scratch").await;
    assert_eq!(host.container_image.left(), [id]);
    // What belongs to no object any more goes, but not while a build is under way.
    let gone = uuid::Uuid::now_v7();
    host.container_image.leave(gone);
    assert!(host.container_image.clear(&Default::default()).await.expect("asked").is_empty());
    daemon.kill();

    host.container_image.step_takes(Duration::from_millis(10));
    let daemon = host.start();
    host.until_state(&at, State::Ready).await;
    assert_eq!(resumed(&host, &at), 1);
    // The sweep at the start may have met the build.
    daemon.kill();
    let _daemon = host.start();
    wait_until("nothing is left", || host.container_image.left().is_empty()).await;
    assert_eq!(resumed(&host, &at), 1);
    host.until_quiet().await;
    assert!(host.image.list_incoming().await.expect("listed").is_empty(), "the context goes with the build");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_is_cut_off_while_its_image_is_deleted_and_leaves_nothing() {
    let host = Host::new();
    host.container_image.step_takes(Duration::from_secs(60));
    let daemon = host.start();
    let (bytes, source, build) = context();
    let (id, at) = (image(&host, "app", build).await, key("image", "app"));
    host.image.receive(id, &source, &mut bytes.as_slice()).await.expect("received");
    daemon.trigger.wake(at.clone());
    host.until(&at, "building", |o| o["status"]["progress"]["step"] == "FROM scratch").await;
    daemon.kill();
    host.delete(&at).await;
    let _daemon = host.start();
    host.until_gone(&at).await;
    wait_until("nothing is left", || host.container_image.left().is_empty()).await;
    assert!(host.image.list_incoming().await.expect("listed").is_empty());
    assert!(host.container_image.list().await.expect("listed").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_is_built_again_once_the_engine_is_back() {
    let host = Host::new();
    host.container_image.step_takes(Duration::from_millis(10));
    let away = || {
        let (call, detail) = ("build an image", "the connection ended".to_owned());
        agentd_drivers::engine::EngineError::Failed { call, detail }.into()
    };
    host.container_image.faults().fail_next("build", 2, away);
    let daemon = host.start();
    let (bytes, source, build) = context();
    let (id, at) = (image(&host, "app", build).await, key("image", "app"));
    host.image.receive(id, &source, &mut bytes.as_slice()).await.expect("received");
    daemon.trigger.wake(at.clone());
    host.until(&at, "tried", |o| o["status"]["attempts"]["count"].as_u64() >= Some(1)).await;
    assert_eq!(host.image.received(id).await.expect("asked"), source.size, "the context is kept");
    host.until_state(&at, State::Ready).await;
    assert!(host.container_image.left().is_empty());
    assert_eq!(resumed(&host, &at), 0);
}

fn registry(reference: &str) -> Value {
    json!({"registry": {"reference": reference}})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_containers_image_is_waited_for_pinned_and_goes_from_the_engine_with_its_object() {
    let host = Host::new();
    host.furnish().await;
    host.container_image.faults().hang("pull");
    let _daemon = host.start();
    let id = image(&host, "tool", registry("h:5000/tool:1")).await;
    let (at, user) = (key("image", "tool"), key("container", "web"));
    host.container("web", 9, json!({"image": "tool"})).await;
    host.until(&user, "waiting", says("image 'tool' is not ready yet")).await;
    host.container_image.faults().release("pull");
    let ready = host.until_state(&at, State::Ready).await;
    let status = host.get::<Image>(&at).status;
    assert!(status.registry_digest.as_deref().is_some_and(|d| d.starts_with("h:5000/tool@sha256:")));
    assert_eq!(ready["status"]["source_format"], "registry");
    let running = host.until_state(&user, State::Running).await;
    assert_eq!(running["status"]["image_digest"], json!(status.digest));

    host.container_image.unmark_behind_our_back(id);
    wait_until("the mark is back", || host.container_image.is_marked(id)).await;
    host.delete(&user).await;
    host.until_gone(&user).await;
    host.delete(&at).await;
    host.until_gone(&at).await;
    assert!(!host.container_image.is_marked(id));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_shows_its_layers_up_to_the_end_of_each() {
    let host = Host::new();
    host.container_image.step_takes(Duration::from_millis(700));
    let mut changes = host.store.watch(None).expect("a watch");
    let _daemon = host.start();
    let at = key("image", "tool");
    image(&host, "tool", registry("h:5000/tool:1")).await;
    let seen = host.until(&at, "a layer", |o| o["status"]["progress"]["layers"][0]["state"] == "done").await;
    let waiting = json!({"id": "ba9876543210", "state": "waiting", "done": 0, "total": null});
    assert_eq!(seen["status"]["progress"]["layers"][1], waiting);
    host.until_state(&at, State::Ready).await;
    assert!(host.get::<Image>(&at).status.common.progress.is_none());
    let mut last = serde_json::Value::Null;
    loop {
        let change = changes.next().await.expect("a change");
        let status = change.object.value()["status"].clone();
        match status["state"].as_str() {
            Some("ready") => break,
            _ if change.object.kind() == "image" => last = status,
            _ => {}
        }
    }
    assert_eq!(last["state"], "provisioning");
    for layer in last["progress"]["layers"].as_array().expect("layers") {
        assert_eq!((&layer["state"], &layer["done"]), (&json!("done"), &layer["total"]), "{last}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_registry_refuses_is_failed_with_the_reason_and_what_the_engine_lost_is_fetched_again() {
    let host = Host::new();
    host.container_image.refuse("h:5000/secret:1", "the registry h:5000 does not give it to us");
    let _daemon = host.start();
    image(&host, "secret", registry("h:5000/secret:1")).await;
    host.until(&key("image", "secret"), "refused", says("does not give it to us")).await;
    let at = key("image", "tool");
    image(&host, "tool", registry("h:5000/tool:1")).await;
    host.until_state(&at, State::Ready).await;
    let digest = host.get::<Image>(&at).status.digest.expect("a digest");
    host.container_image.remove_behind_our_back(&digest);
    host.until(&at, "gone", says("no more")).await;
    host.retry(&at).await;
    host.until_state(&at, State::Ready).await;
    assert_eq!(host.get::<Image>(&at).status.digest, Some(digest));
}
