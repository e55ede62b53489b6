//! A backup over the socket, and another host's daemon on what was restored of it.

use agentd_api::backup::{FORMAT, Header, VERSION};
use agentd_drivers::vm::VmDriver;
use agentd_drivers::volume::VolumeDriver;
use sha2::{Digest, Sha256};

use super::archives::{fetch, running};
use super::*;

const KINDS: [&str; 6] = ["networks", "flavors", "images", "volumes", "vms", "ssh-keys"];
/// Of the first schema, as its daemon wrote it.
const OLD: &[u8] = include_bytes!("../../../store/tests/store/schemas/1.db");

impl Place {
    fn backup(&self, content: &[u8]) -> PathBuf {
        let file = self.dir.path().join("agentd.backup");
        std::fs::write(&file, content).expect("written");
        file
    }

    /// What a restore says of a file that it has to refuse. Nothing is left of it.
    async fn refused(&self, content: &[u8]) -> String {
        let error = restore(&self.backup(content), &self.state()).await.map(drop).expect_err("it is refused");
        assert!(!self.state().exists(), "a file that is refused leaves nothing: {error:#}");
        format!("{error:#}")
    }

    /// What each object is told by, whatever is seen of it on a host.
    async fn objects(&self) -> Vec<Value> {
        let mut all = Vec::new();
        for kind in KINDS {
            let list = self.ask("GET", &format!("/v1/{kind}"), b"").await.1;
            let told = |object: &Value| {
                let fields = ["kind", "project", "name", "id", "generation", "created_at", "labels", "spec"];
                fields.map(|field| object[field].clone())
            };
            all.extend(list["items"].as_array().expect("a list").iter().map(|object| json!(told(object))));
        }
        all
    }
}

/// A daemon with something of each kind, and its backup.
async fn backed_up(place: &Place) -> (Daemon, Fakes, Vec<u8>) {
    let (daemon, fakes) = place.start().await;
    let post = async |path: &str, body: Value| {
        let (status, answer) = place.ask("POST", path, body.to_string().as_bytes()).await;
        assert_eq!(status, 201, "{answer}");
    };
    post("/v1/networks", json!({"name": "lab", "spec": {"cidr": "10.99.0.0/24"}})).await;
    post("/v1/volumes", json!({"name": "data", "spec": {"size": "64MiB"}})).await;
    post(
        "/v1/vms",
        json!({"name": "web", "labels": {"a": "b"}, "spec": {"image": "micro", "memory": "64MiB"}}),
    )
    .await;
    post(
        "/v1/vms",
        json!({"name": "off", "spec": {"image": "micro", "memory": "64MiB", "desired": "stopped"}}),
    )
    .await;
    running(place, "web").await;
    place.until("/v1/vms/off", |_, vm| vm["status"]["state"] == "stopped").await;
    place.until("/v1/volumes/data", |_, volume| volume["status"]["state"] == "ready").await;
    assert_eq!(place.ask("DELETE", "/v1/flavors/small", b"").await.0, 202);
    place.until("/v1/flavors/small", |status, _| status == 404).await;
    let (status, backup) = fetch(place, "/v1/backup").await;
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&backup));
    (daemon, fakes, backup)
}

fn header(backup: &[u8]) -> (Header, &[u8]) {
    let end = backup.iter().position(|byte| *byte == b'\n').expect("a line") + 1;
    (Header::parse(&backup[..end]).expect("a header"), &backup[end..])
}

/// As one that is whole would be.
fn sealed(mut header: Header, content: &[u8]) -> Vec<u8> {
    header.bytes = content.len() as u64;
    let sum = Sha256::new().chain_update(header.covered()).chain_update(content).finalize();
    header.sha256 = hex::encode(sum);
    [&header.line()[..], content].concat()
}

fn names_what_is_lost(restored: &Restored) {
    let lacking = restored.lacking.join("\n");
    for named in ["image/micro", "volume/data", "vm/web"] {
        assert!(lacking.contains(named), "{named} in {lacking}");
    }
    assert!(!lacking.contains("vm/off"), "one that never ran has lost nothing: {lacking}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fresh_host_has_what_the_backup_had_and_says_what_it_lacks() {
    let (old, fresh) = (Place::new(), Place::new());
    let (daemon, _fakes, backup) = backed_up(&old).await;
    let (known, was) = (old.objects().await, old.ask("GET", "/v1/vms/web", b"").await.1);
    assert!(
        !old.state().join("backups-being-made").read_dir().expect("a folder").any(|_| true),
        "nothing is left"
    );
    daemon.stop().await.expect("stopped");
    let (head, _) = header(&backup);
    let file = fresh.backup(&backup);
    let restored = restore(&file, &fresh.state()).await.expect("restored");
    assert_eq!(restored.header, head);
    names_what_is_lost(&restored);
    assert_eq!(mode(&fresh.state().join("agentd.db")), 0o600);
    assert!(!fresh.state().join("restore-under-way").exists());

    let (daemon, fakes) = fresh.start().await;
    let (_, server) = fresh.ask("GET", "/v1", b"").await;
    assert!(server["revision"].as_u64() >= Some(head.revision), "revisions go on: {server}");
    assert_eq!(fresh.objects().await, known);
    assert_eq!(fresh.ask("GET", "/v1/flavors/small", b"").await.0, 404, "what was deleted stays so");
    for network in ["default", "lab"] {
        fresh.until(&format!("/v1/networks/{network}"), |_, n| n["status"]["state"] == "ready").await;
    }
    // The truth about what is lost, also when it is tried again.
    let gone = |what: &'static str| {
        move |_: u16, object: &Value| {
            let reason = object["status"]["reason"].as_str().unwrap_or_default();
            object["status"]["state"] == "failed" && reason.contains(what)
        }
    };
    fresh.until("/v1/vms/web", gone("its disk is gone")).await;
    fresh.until("/v1/volumes/data", gone("content is gone")).await;
    fresh.until("/v1/images/micro", gone("is gone from the disk")).await;
    assert_eq!(fresh.ask("POST", "/v1/images/micro/retry", b"").await.0, 202);
    fresh.until("/v1/images/micro", |_, image| image["status"]["state"] == "ready").await;
    assert_eq!(fresh.ask("POST", "/v1/vms/web/retry", b"").await.0, 202);
    let web = fresh.until("/v1/vms/web", gone("its disk is gone")).await;
    assert!(
        web["status"]["reason"].as_str().is_some_and(|why| why.contains("agentctl retry vm/web")),
        "{web}"
    );
    let id = web["id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
    assert_eq!(
        fakes.volume.observe(id).await.expect("seen").disk,
        None,
        "no other disk is made in its place"
    );
    assert!(fakes.vm.observe(id).await.expect("seen").is_none());
    // Who comes new gets what nobody has, and one that never ran is made.
    let new = json!({"name": "new", "spec": {"image": "micro", "memory": "64MiB"}}).to_string();
    assert_eq!(fresh.ask("POST", "/v1/vms", new.as_bytes()).await.0, 201);
    let new = running(&fresh, "new").await;
    assert_eq!(web["status"]["addresses"], was["status"]["addresses"]);
    assert_ne!(new["status"]["addresses"][0]["ip"], was["status"]["addresses"][0]["ip"]);
    fresh.until("/v1/vms/off", |_, vm| vm["status"]["state"] == "stopped").await;
    // What is lost can be let go of.
    for gone in ["/v1/vms/web", "/v1/volumes/data"] {
        assert_eq!(fresh.ask("DELETE", gone, b"").await.0, 202);
        fresh.until(gone, |status, _| status == 404).await;
    }
    daemon.stop().await.expect("stopped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_is_not_as_it_was_made_is_refused_and_leaves_nothing() {
    let (old, fresh) = (Place::new(), Place::new());
    let (daemon, _fakes, backup) = backed_up(&old).await;
    daemon.stop().await.expect("stopped");
    let (head, content) = header(&backup);
    let line = head.line().len();
    // Each byte of the line, and bytes all over the rest; a bit of each.
    for at in (0..line).chain((line..backup.len()).step_by(1_499)).chain([backup.len() - 1]) {
        let mut altered = backup.clone();
        altered[at] ^= 1 << (at % 8);
        fresh.refused(&altered).await;
    }
    for to in (0..line + 2).step_by(7).chain((line..backup.len()).step_by(4_096)).chain([backup.len() - 1]) {
        fresh.refused(&backup[..to]).await;
    }
    assert!(fresh.refused(&backup[..backup.len() - 1]).await.contains("cut off"));
    assert!(fresh.refused(&[&backup[..], b"more"].concat()).await.contains("something was added"));
    assert!(fresh.refused(content).await.contains("does not begin as a backup"));
    // One that has its checksum, and is of a later agentd.
    let newer = sealed(Header { schema: 99, agentd: "9.1.0".to_owned(), ..head.clone() }, content);
    let why = fresh.refused(&newer).await;
    assert!(
        why.contains("newer agentd, 9.1.0 (schema 99") && why.contains("restore it with that one"),
        "{why}"
    );
    let format = String::from_utf8_lossy(&backup[..line]).replacen("\"version\":1", "\"version\":2", 1);
    assert!(fresh.refused(format.as_bytes()).await.contains("format 2"));
    // And one whose line does not fit the store in it.
    let unlike = sealed(Header { objects: head.objects + 1, ..head }, content);
    let error = restore(&fresh.backup(&unlike), &fresh.state()).await.map(drop).expect_err("refused");
    assert!(error.to_string().contains("not what its first line says"), "{error:#}");
    let left: Vec<_> = std::fs::read_dir(fresh.state()).expect("made by then").flatten().collect();
    assert!(left.iter().all(|entry| entry.file_name() == "agentd.db.lock"), "{left:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_restored_over_a_store_or_under_a_daemon() {
    let place = Place::new();
    let (daemon, _fakes, backup) = backed_up(&place).await;
    let file = place.backup(&backup);
    let refused =
        async || format!("{:#}", restore(&file, &place.state()).await.map(drop).expect_err("refused"));
    let why = refused().await;
    assert!(why.contains("in use by another agentd"), "{why}");
    daemon.stop().await.expect("stopped");
    let before = std::fs::read(place.state().join("agentd.db")).expect("read");
    let why = refused().await;
    assert!(why.contains("agentd.db is there already") && why.contains("move it away"), "{why}");
    assert_eq!(std::fs::read(place.state().join("agentd.db")).expect("read"), before);
    // A store that was lost comes back beside the disks that it had.
    std::fs::remove_file(place.state().join("agentd.db")).expect("removed");
    std::fs::create_dir_all(place.state().join("restore-under-way/of-one-that-was-killed")).expect("made");
    restore(&file, &place.state()).await.map(drop).expect("restored");
    let (daemon, _fakes) = place.start().await;
    assert_eq!(place.ask("GET", "/v1/vms/web", b"").await.0, 200);
    daemon.stop().await.expect("stopped");
}

#[tokio::test]
async fn one_of_an_old_schema_is_brought_up() {
    let place = Place::new();
    let header = Header {
        format: FORMAT.to_owned(),
        version: VERSION,
        schema: 1,
        revision: 6,
        objects: 3,
        bytes: 0,
        agentd: "0.0.9".to_owned(),
        created_at: agentd_api::Timestamp::now(),
        sha256: String::new(),
    };
    restore(&place.backup(&sealed(header, OLD)), &place.state()).await.map(drop).expect("restored");
    let store = Store::open(&place.state().join("agentd.db"), Options::default()).expect("opened");
    assert_eq!((store.revision(), store.stats().objects), (6, 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_goes_away_and_who_is_killed_leaves_nothing_of_a_backup() {
    let place = Place::new();
    let left = place.state().join("backups-being-made");
    std::fs::create_dir_all(left.join("0197/half")).expect("as one that was killed leaves it");
    let (daemon, _fakes) = place.start().await;
    assert!(!left.exists());
    for _ in 0..5 {
        let mut stream = UnixStream::connect(place.socket()).await.expect("the socket answers");
        stream.write_all(b"GET /v1/backup HTTP/1.1\r\nhost: agentd\r\n\r\n").await.expect("sent");
        drop(stream);
    }
    assert_eq!(fetch(&place, "/v1/backup").await.0, 200);
    let empty = || left.read_dir().expect("a folder").next().is_none();
    for _ in 0..500 {
        if empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(empty());
    assert_eq!(place.ask("HEAD", "/v1/backup", b"").await.0, 405);
    daemon.stop().await.expect("stopped");
}
