//! The whole daemon on fake drivers, asked over its own socket.

mod adopt;
mod archives;
mod backups;
mod sides;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::*;
use crate::sim::Fakes;

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a folder") }
    }
    fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }
    fn socket(&self) -> PathBuf {
        self.dir.path().join("run/agentd.sock")
    }
    fn config(&self) -> Config {
        let mut config = Config::default();
        config.daemon.state_dir = self.state();
        config.daemon.socket = self.socket();
        config.daemon.group = "no-such-group-here".to_owned();
        config
    }
    async fn start(&self) -> (Daemon, Fakes) {
        let mut fakes = None;
        let made = Daemon::start(self.config(), unlogged(), |_, instance| {
            Ok(fakes.insert(Fakes::new(instance)).drivers())
        });
        let daemon = made.await.expect("started");
        (daemon, fakes.expect("the drivers were made"))
    }
    async fn ask(&self, method: &str, path: &str, body: &[u8]) -> (u16, Value) {
        ask(&self.socket(), method, path, body).await
    }
    /// Asks until the answer is as wanted, and shows the last one where it never is.
    async fn until(&self, path: &str, wanted: impl Fn(u16, &Value) -> bool) -> Value {
        let mut last = (0, Value::Null);
        for _ in 0..500 {
            last = self.ask("GET", path, b"").await;
            if wanted(last.0, &last.1) {
                return last.1;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{path} never became as wanted: {last:?}");
    }
}

fn unlogged() -> Reload {
    Reload::without_log(crate::config::Flags::default())
}

async fn ask(socket: &Path, method: &str, path: &str, body: &[u8]) -> (u16, Value) {
    let mut stream = UnixStream::connect(socket).await.expect("the socket answers");
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: agentd\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.expect("sent");
    // A server that refuses early may close before it has read all.
    let _ = stream.write_all(body).await;
    let mut answer = Vec::new();
    // The same goes for the end of what it says: a reset after the whole answer is an end too.
    let _ = stream.read_to_end(&mut answer).await;
    let text = String::from_utf8_lossy(&answer);
    let (head, body) = text.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
    (status, serde_json::from_str(body).unwrap_or_else(|_| json!(body)))
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_serves_stops_quickly_and_starts_again_with_what_it_knew() {
    let place = Place::new();
    let (daemon, _fakes) = place.start().await;
    let (status, network) = place.ask("GET", "/v1/networks/default", b"").await;
    assert_eq!((status, &network["spec"]["cidr"]), (200, &json!("10.77.0.0/24")));
    let vm = json!({"name": "web", "spec": {"image": "micro", "memory": "64MiB"}}).to_string();
    assert_eq!(place.ask("POST", "/v1/vms", vm.as_bytes()).await.0, 201);
    place.until("/v1/vms/web", |_, vm| vm["status"]["state"] == "running").await;
    assert_eq!((mode(&place.state()), mode(&place.state().join("agentd.db"))), (0o711, 0o600));
    assert_eq!(mode(&place.socket()), 0o600, "there is no such group");

    let from = Instant::now();
    daemon.stop().await.expect("stopped");
    assert!(from.elapsed() < Duration::from_secs(1), "it took {:?}", from.elapsed());
    assert!(!place.socket().exists());

    let (daemon, _fakes) = place.start().await;
    let (status, vm) = place.ask("GET", "/v1/vms/web", b"").await;
    assert_eq!((status, &vm["spec"]["image"]), (200, &json!("micro")));
    daemon.stop().await.expect("stopped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_daemons_share_neither_state_nor_socket_but_a_host() {
    let (one, two) = (Place::new(), Place::new());
    let (daemon, _) = one.start().await;
    let refused = |config: Config| async {
        let started =
            Daemon::start(config, unlogged(), |_, instance| Ok(Fakes::new(instance).drivers())).await;
        format!("{:#}", started.err().expect("refused"))
    };
    let same_state = Config {
        daemon: crate::config::DaemonConfig { socket: two.socket(), ..one.config().daemon },
        ..one.config()
    };
    let why = refused(same_state).await;
    assert!(why.contains("in use by another agentd") && why.contains("--state-dir"), "{why}");
    let same_socket = Config {
        daemon: crate::config::DaemonConfig { socket: one.socket(), ..two.config().daemon },
        ..two.config()
    };
    let why = refused(same_socket).await;
    assert!(why.contains("another agentd serves") && why.contains("--socket"), "{why}");

    let (other, _) = two.start().await;
    let tag = |info: &Value| info["instance"].as_str().map(str::to_owned);
    let (a, b) = (one.ask("GET", "/v1", b"").await.1, two.ask("GET", "/v1", b"").await.1);
    assert!(tag(&a).is_some() && tag(&a) != tag(&b));
    other.stop().await.expect("stopped");
    daemon.stop().await.expect("stopped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_libvirt_it_serves_and_says_so() {
    let place = Place::new();
    let (daemon, fakes) = place.start().await;
    fakes.vm.set_available(false);
    let (_, report) = place.ask("GET", "/v1/doctor", b"").await;
    let checks = report["checks"].as_array().expect("checks");
    let libvirt = checks.iter().find(|c| c["name"] == "libvirt").expect("libvirt is checked");
    assert_eq!(libvirt["verdict"], "fail");
    assert!(libvirt["fix"].is_string());
    let ready = place.until("/readyz", |status, _| status == 503).await;
    assert!(ready["detail"].as_str().is_some_and(|d| d.contains("libvirt")), "{ready}");
    let info = place.ask("GET", "/v1", b"").await.1;
    let backend =
        info["backends"].as_array().and_then(|b| b.iter().find(|b| b["name"] == "libvirt")).cloned();
    assert_eq!(backend.expect("a backend")["available"], false);
    let vm = json!({"name": "web", "spec": {"image": "micro", "memory": "64MiB"}}).to_string();
    assert_eq!(place.ask("POST", "/v1/vms", vm.as_bytes()).await.0, 201);
    let says_so = |vm: &Value| vm["status"].to_string().contains("libvirt");
    place.until("/v1/vms/web", |_, vm| says_so(vm)).await;
    fakes.vm.set_available(true);
    place.until("/v1/vms/web", |_, vm| vm["status"]["state"] == "running").await;
    daemon.stop().await.expect("stopped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pass_that_hangs_does_not_hold_up_the_end_for_ever() {
    let place = Place::new();
    let (daemon, fakes) = place.start().await;
    fakes.vm.hang("start");
    let vm = json!({"name": "web", "spec": {"image": "micro", "memory": "64MiB"}}).to_string();
    assert_eq!(place.ask("POST", "/v1/vms", vm.as_bytes()).await.0, 201);
    for _ in 0..500 {
        if fakes.vm.calls("start") > 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(fakes.vm.calls("start"), 1, "it hangs");
    assert_eq!(place.ask("GET", "/v1/vms/web", b"").await.0, 200, "the others are served on");
    let from = Instant::now();
    daemon.stop().await.expect("stopped");
    assert!(from.elapsed() < PASSES_PATIENCE + Duration::from_secs(2), "it took {:?}", from.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_is_taken_when_it_is_what_was_announced() {
    let place = Place::new();
    let (daemon, _) = place.start().await;
    // A qcow2 head: magic, version 3, no backing file, 1 GiB.
    let mut content = vec![0u8; 4096];
    content[..4].copy_from_slice(b"QFI\xfb");
    content[7] = 3;
    content[23] = 16;
    content[24..32].copy_from_slice(&(1u64 << 30).to_be_bytes());
    content[103] = 104;
    let image = json!({"name": "mine", "spec": {"source": {"upload": {"size": content.len()}}}}).to_string();
    assert_eq!(place.ask("POST", "/v1/images", image.as_bytes()).await.0, 201);
    let path = "/v1/images/mine/content";
    let (status, problem) = place.ask("PUT", path, &content[..100]).await;
    assert_eq!((status, &problem["code"]), (400, &json!("invalid")), "{problem}");
    assert_eq!(place.ask("PUT", "/v1/images/none/content", &content).await.0, 404);
    let (status, taken) = place.ask("PUT", path, &content).await;
    assert_eq!((status, &taken["status"]["received"]), (202, &json!(content.len())), "{taken}");
    let ready = place.until("/v1/images/mine", |_, i| i["status"]["state"] == "ready").await;
    assert_eq!(ready["status"]["source_format"], "qcow2", "{ready}");
    let (status, problem) = place.ask("PUT", path, &content).await;
    assert_eq!((status, &problem["code"]), (409, &json!("conflict")), "{problem}");
    daemon.stop().await.expect("stopped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn preloaded_vms_settle_and_again_makes_no_more() {
    let place = Place::new();
    let (daemon, _) = place.start().await;
    for _ in 0..2 {
        crate::sim::preload(daemon.intents(), 30).await.expect("preloaded");
    }
    let list = place
        .until("/v1/vms?fields=state=running", |_, list| {
            list["items"].as_array().is_some_and(|i| i.len() == 30)
        })
        .await;
    let ips: std::collections::BTreeSet<_> = list["items"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|vm| vm["status"]["addresses"][0]["ip"].to_string())
        .collect();
    assert_eq!(ips.len(), 30);
    daemon.stop().await.expect("stopped");
}
