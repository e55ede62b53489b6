//! VMs into archives and out of them, over the socket: what is kept, what is refused, and that nothing is left of that.

use agentd_drivers::archive::ArchiveError;
use agentd_drivers::volume::VolumeDriver;
use agentd_drivers::volume::sets::DiskSets;

use super::*;

/// The answer's body as it is; HTTP/1.0 has no chunks in it.
pub(super) async fn fetch(place: &Place, path: &str) -> (u16, Vec<u8>) {
    let mut stream = UnixStream::connect(place.socket()).await.expect("the socket answers");
    stream.write_all(format!("GET {path} HTTP/1.0\r\nhost: agentd\r\n\r\n").as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("an answer");
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
    (status, answer[end + 4..].to_vec())
}

pub(super) async fn running(place: &Place, name: &str) -> Value {
    place.until(&format!("/v1/vms/{name}"), |_, vm| vm["status"]["state"] == "running").await
}

/// Nothing is anywhere but what objects have.
async fn nothing_left(place: &Place, fakes: &Fakes) {
    place.until("/v1/snapshots", |_, list| list["items"].as_array().is_some_and(Vec::is_empty)).await;
    for _ in 0..500 {
        if fakes.archive.scratch().is_empty() && fakes.volume.list_sets().await.expect("sets").is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{:?} {:?}", fakes.archive.scratch(), fakes.volume.list_sets().await);
}

/// A daemon with the VM `web`, and the archive of that.
async fn exported(place: &Place) -> (Daemon, Fakes, Vec<u8>) {
    let (daemon, fakes) = place.start().await;
    let spec = json!({"image": "micro", "memory": "64MiB", "disks": [{"size": "64MiB"}],
        "networks": [{"network": "default", "ip": "10.77.0.50"}], "publish": [{"host": 8080, "guest": 80}]});
    let vm = json!({"name": "web", "spec": spec}).to_string();
    assert_eq!(place.ask("POST", "/v1/vms", vm.as_bytes()).await.0, 201);
    running(place, "web").await;
    let (status, archive) = fetch(place, "/v1/vms/web/export").await;
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&archive));
    nothing_left(place, &fakes).await;
    (daemon, fakes, archive)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vm_comes_back_out_of_its_archive_with_an_identity_of_its_own() {
    let place = Place::new();
    let (daemon, fakes, archive) = exported(&place).await;
    let web = place.ask("GET", "/v1/vms/web", b"").await.1;
    let copy = "/v1/archives?name=copy&spec=%7B%22publish%22%3Anull%7D";
    let (status, made) = place.ask("POST", copy, &archive).await;
    assert_eq!(status, 201, "{made}");
    let made = running(&place, "copy").await;
    let (is, was) = (&made["status"]["addresses"][0], &web["status"]["addresses"][0]);
    assert!(is["ip"] != was["ip"] && is["mac"] != was["mac"], "the address is taken here: {made}");
    assert_eq!(made["status"]["origin"]["vm_id"], web["id"]);
    assert_eq!(made["status"]["origin"]["disks_made"], true);
    let id = made["id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
    let seen = fakes.volume.observe(id).await.expect("seen");
    assert!(seen.disk.is_some() && seen.further.len() == 1, "{seen:?}");
    nothing_left(&place, &fakes).await;
    // Where its address is free it has it again.
    for name in ["web", "copy"] {
        assert_eq!(place.ask("DELETE", &format!("/v1/vms/{name}"), b"").await.0, 202);
        place.until(&format!("/v1/vms/{name}"), |status, _| status == 404).await;
    }
    assert_eq!(place.ask("POST", "/v1/archives", &archive).await.0, 201);
    let again = running(&place, "web").await;
    assert_eq!(again["status"]["addresses"][0]["ip"], "10.77.0.50");
    daemon.stop().await.expect("stopped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_is_named_and_leaves_nothing() {
    let place = Place::new();
    let (daemon, fakes, archive) = exported(&place).await;
    let refused = async |query: &str, bytes: &[u8]| {
        let (status, problem) = place.ask("POST", &format!("/v1/archives{query}"), bytes).await;
        nothing_left(&place, &fakes).await;
        (status, problem)
    };
    let (status, problem) = refused("", &archive).await;
    assert_eq!((status, &problem["code"]), (409, &json!("already_exists")), "{problem}");
    let (status, problem) = refused("?name=copy", &archive).await;
    assert_eq!((status, &problem["errors"][0]["field"]), (409, &json!("spec.publish[0].host")), "{problem}");
    let lab =
        "?name=copy&spec=%7B%22publish%22%3Anull,%22networks%22%3A%5B%7B%22network%22%3A%22lab%22%7D%5D%7D";
    let (status, problem) = refused(lab, &archive).await;
    assert_eq!(
        (status, &problem["errors"][0]["field"]),
        (400, &json!("spec.networks[0].network")),
        "{problem}"
    );
    let flavor = "?name=copy&spec=%7B%22flavor%22%3A%22none%22%7D";
    assert_eq!(refused(flavor, &archive).await.1["errors"][0]["field"], "spec.flavor");
    let good = "?name=copy&spec=%7B%22publish%22%3Anull%7D";
    assert_eq!(refused("?name=copy&spec=7", &archive).await.1["errors"][0]["field"], "spec");
    assert_eq!(refused(&format!("{good}&dry_run=true"), &archive).await.0, 200);
    let mut altered = archive.clone();
    let middle = altered.len() / 2;
    altered[middle] ^= 1;
    for (bytes, why) in
        [(&altered[..], "altered"), (&archive[..middle], "ends after"), (b"no tar", "ends after")]
    {
        let (status, problem) = refused(good, bytes).await;
        assert_eq!((status, &problem["code"]), (400, &json!("invalid")), "{problem}");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains(why)), "{why}: {problem}");
    }
    for method in ["receive", "store"] {
        fakes.archive.faults().fail_next(method, 1, || ArchiveError::Capacity("no space left".to_owned()));
        assert_eq!(refused(good, &archive).await.0, 507, "{method}");
    }
    assert_eq!(place.ask("GET", "/v1/vms/copy", b"").await.0, 404);

    // Nor of an export.
    fakes.archive.faults().fail_next("pack", 1, || ArchiveError::Capacity("no space left".to_owned()));
    assert_eq!(fetch(&place, "/v1/vms/web/export").await.0, 507);
    nothing_left(&place, &fakes).await;
    let vm = json!({"name": "off", "spec": {"image": "micro", "desired": "stopped"}}).to_string();
    assert_eq!(place.ask("POST", "/v1/vms", vm.as_bytes()).await.0, 201);
    assert_eq!(fetch(&place, "/v1/vms/off/export").await.0, 409, "it has no disk");
    daemon.stop().await.expect("stopped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_who_goes_away_leaves_nothing_and_a_vm_stays_while_its_disks_are_copied() {
    let place = Place::new();
    let (daemon, fakes, archive) = exported(&place).await;
    fakes.archive.faults().hang("pack");
    let gone = tokio::time::timeout(Duration::from_millis(300), fetch(&place, "/v1/vms/web/export"));
    let (gone, deleted) = tokio::join!(gone, async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        place.ask("DELETE", "/v1/vms/web?cascade=true", b"").await
    });
    gone.expect_err("it hangs");
    assert_eq!((deleted.0, &deleted.1["code"]), (409, &json!("in_use")), "{}", deleted.1);
    fakes.archive.faults().release("pack");
    nothing_left(&place, &fakes).await;
    // One that stops in the middle of what it sends.
    let mut stream = UnixStream::connect(place.socket()).await.expect("the socket answers");
    let head = format!(
        "POST /v1/archives?name=copy&spec=%7B%22publish%22%3Anull%7D HTTP/1.1\r\nhost: agentd\r\ncontent-length: {}\r\n\r\n",
        archive.len()
    );
    stream.write_all(head.as_bytes()).await.expect("sent");
    stream.write_all(&archive[..archive.len() - 3000]).await.expect("sent");
    tokio::time::sleep(Duration::from_millis(100)).await;
    drop(stream);
    nothing_left(&place, &fakes).await;
    assert_eq!(place.ask("GET", "/v1/vms/copy", b"").await.0, 404);
    daemon.stop().await.expect("stopped");
}
