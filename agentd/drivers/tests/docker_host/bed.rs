//! A dockerd of the test's own, an image made of busybox, and what others do to containers.

#![expect(clippy::disallowed_methods, reason = "a harness starts programs; the rule is for the daemon")]

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use agentd_api::{ByteSize, ObjectName};
use agentd_drivers::Instance;
use agentd_drivers::container::contract::{self, Does};
use agentd_drivers::container::docker::EngineContainers;
use agentd_drivers::container::{
    ContainerDef, ContainerDriver, ContainerLook, ContainerSeen, ContainerStreams, EngineNetwork,
    EngineVolume, ForeignDef,
};
use agentd_drivers::engine::{Engine, EngineOptions};
use agentd_drivers::vm::DiskFormat;
use agentd_drivers::vm::guest::{ExecWish, Said};
use agentd_drivers::volume::pool::dir::DirPool;
use agentd_drivers::volume::pool::{Content, PoolDriver, PoolVolume};
use async_trait::async_trait;
use bollard::Docker;
use bollard::models::{ContainerCreateBody, HostConfig, NetworkDisconnectRequest};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, CreateImageOptionsBuilder, RemoveContainerOptionsBuilder,
    StopContainerOptionsBuilder,
};
use futures_util::StreamExt;
use uuid::Uuid;

use crate::netns::{ok, wait_until};

const SOCKET: &str = "/run/docker.sock";
const PODMAN_SOCKET: &str = "/run/podman/podman.sock";
const IMAGE: &str = "box:1";
/// What Podman's service knows of registries: one on loopback speaks no TLS. dockerd takes all of loopback for such.
const REGISTRIES: &str = "registries.conf";
const PLAIN_REGISTRY: &str = "[[registry]]\nlocation = \"127.0.0.1:5000\"\ninsecure = true\n";
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs a test with an engine, and takes away what is left of it.
pub async fn inside(body: impl AsyncFnOnce(&Bed)) {
    with(Kind::Docker(Vec::new()), body).await;
}

/// As `inside`, of an engine of that kind.
pub async fn with(kind: Kind, body: impl AsyncFnOnce(&Bed)) {
    let mut bed = Bed::new(kind).await;
    body(&bed).await;
    bed.finish().await;
}

/// Which engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// dockerd, with these arguments beside the usual.
    Docker(Vec<String>),
    /// Podman's service.
    Podman,
}

impl Kind {
    fn socket(&self) -> &'static str {
        match self {
            Self::Docker(_) => SOCKET,
            Self::Podman => PODMAN_SOCKET,
        }
    }
}

pub struct Bed {
    pub driver: EngineContainers,
    /// Somebody else's client.
    pub other: Docker,
    pub scratch: tempfile::TempDir,
    /// For volumes.
    pub pool: Arc<DirPool>,
    kind: Kind,
    /// The engine's own.
    version: String,
    dockerd: parking_lot::Mutex<Option<Child>>,
}

impl Bed {
    async fn new(kind: Kind) -> Self {
        // On a disk: layers are overlays.
        let scratch =
            tempfile::Builder::new().prefix("agentd-docker-").tempdir_in("/var/tmp").expect("a folder");
        // Also for a root that is not the host's.
        std::fs::set_permissions(scratch.path(), std::fs::Permissions::from_mode(0o711))
            .expect("a folder of ours");
        std::fs::write(scratch.path().join(REGISTRIES), PLAIN_REGISTRY).expect("written");
        let dockerd = parking_lot::Mutex::new(Some(start(&kind, scratch.path())));
        answers(&kind, scratch.path()).await;
        let other =
            Docker::connect_with_unix(kind.socket(), 120, bollard::API_DEFAULT_VERSION).expect("a client");
        // Found by itself: there is but one of them.
        let engine = Engine::new(EngineOptions::default());
        let driver = EngineContainers::new(engine, instance());
        import(&kind, &other, scratch.path()).await;
        let version = other.version().await.expect("it answers").version.unwrap_or_default();
        let pool = DirPool::new(state(scratch.path()));
        Self { driver, other, scratch, pool, kind, version, dockerd }
    }

    pub fn socket(&self) -> PathBuf {
        PathBuf::from(self.kind.socket())
    }

    /// Somebody's own `podman`, on what the service has, as a shell's line begins with it.
    pub fn podman(&self) -> String {
        let command = podman(self.scratch.path(), &[]);
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let words: Vec<_> = words.map(|word| word.to_string_lossy().into_owned()).collect();
        words.join(" ")
    }

    /// As `systemctl kill --signal=KILL docker`.
    pub fn kill_dockerd(&self) {
        let mut child = self.dockerd.lock().take().expect("it runs");
        if self.kind == Kind::Podman {
            child.kill().expect("a process of ours");
            child.wait().expect("a process of ours");
            return;
        }
        let containerd =
            std::fs::read_to_string("/run/docker/containerd/containerd.pid").expect("its own containerd");
        child.kill().expect("a process of ours");
        child.wait().expect("a process of ours");
        // It dies with dockerd, and is this process's to bury: a host's init would.
        let pid = nix::unistd::Pid::from_raw(containerd.trim().parse().expect("a pid"));
        nix::sys::wait::waitpid(pid, None).expect("an orphan of ours");
    }

    /// As `systemctl stop docker`.
    pub fn stop_dockerd(&self) {
        let mut child = self.dockerd.lock().take().expect("it runs");
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("a process of ours");
        child.wait().expect("a process of ours");
    }

    pub async fn start_dockerd(&self) {
        *self.dockerd.lock() = Some(start(&self.kind, self.scratch.path()));
        answers(&self.kind, self.scratch.path()).await;
    }

    async fn finish(&mut self) {
        let curl = format!("curl -s --unix-socket {}", self.kind.socket());
        ok(&format!("for c in $({curl} 'http://d/v1.41/containers/json?all=1' | grep -o '\"Id\":\"[0-9a-f]*' | cut -d'\"' -f4); do {curl} -X DELETE \"http://d/v1.41/containers/$c?force=1\"; done")).await;
        if self.dockerd.lock().is_some() {
            self.stop_dockerd();
        }
        for id in self.pool.attached().await.expect("listed") {
            self.pool.detach(id).await.expect("detached");
        }
        let data = self.scratch.path().join("docker");
        ok(&format!("umount {0}/overlay2/*/merged {0}/overlay/*/merged {0}/*/overlay2/*/merged {0}/overlay 2>/dev/null; umount {0} 2>/dev/null; find /sys/fs/cgroup -depth -type d -path '*{1}*' -exec rmdir {{}} + 2>/dev/null; true", data.display(), cgroup(self.scratch.path()))).await;
    }

    /// For volumes and images.
    pub fn state(&self) -> Instance {
        state(self.scratch.path())
    }

    /// A new file system of that size, with its device.
    pub async fn file_system(&self, size: ByteSize) -> EngineVolume {
        let id = Uuid::now_v7();
        let volume = PoolVolume { id, size, format: DiskFormat::Raw, content: Content::FileSystem };
        self.pool.ensure(&volume).await.expect("made");
        EngineVolume { id, device: self.pool.attach(id).await.expect("attached") }
    }

    /// A program of the image, to its end: what it said, and its status.
    pub async fn exec(&self, id: Uuid, line: &str) -> (String, i32) {
        let argv = ["sh", "-c", line].map(ToOwned::to_owned).to_vec();
        let (_input, mut out) =
            self.driver.exec(id, ExecWish { argv, ..ExecWish::default() }).await.expect("it runs");
        let mut said = Vec::new();
        loop {
            match out.next().await.expect("it ends") {
                Said::Out(bytes) | Said::Err(bytes) => said.extend(bytes),
                Said::Exit(status) => return (String::from_utf8_lossy(&said).trim().to_owned(), status),
                Said::Done { .. } => panic!("a program is no copy"),
            }
        }
    }

    /// As `exec`, of what succeeds.
    pub async fn says(&self, id: Uuid, line: &str) -> String {
        let (said, status) = self.exec(id, line).await;
        assert_eq!(status, 0, "{line}: {said}");
        said
    }
}

pub fn instance() -> Instance {
    Instance::new(Path::new("/run/one"))
}

fn state(scratch: &Path) -> Instance {
    Instance::new(&scratch.join("state"))
}

fn cgroup(scratch: &Path) -> String {
    format!("/{}", scratch.file_name().expect("a name").to_string_lossy())
}

fn start(kind: &Kind, scratch: &Path) -> Child {
    let log =
        std::fs::File::options().append(true).create(true).open(scratch.join("dockerd.log")).expect("a log");
    let mut command = match kind {
        Kind::Docker(more) => dockerd(scratch, more),
        Kind::Podman => {
            podman(scratch, &["system", "service", "--time", "0", &format!("unix://{PODMAN_SOCKET}")])
        }
    };
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a log"))
        .stderr(log)
        .spawn()
        .expect("dockerd, of docker.io, and podman (packaging/host-packages test)")
}

fn dockerd(scratch: &Path, more: &[String]) -> Command {
    let mut command = Command::new("/usr/sbin/dockerd");
    command
        .arg("--data-root")
        .arg(scratch.join("docker"))
        .args(["--host", "unix:///run/docker.sock", "--exec-root", "/run/docker"])
        .args(["--pidfile", "/run/docker.pid"])
        .args(["--exec-opt", "native.cgroupdriver=cgroupfs", "--cgroup-parent", &cgroup(scratch)])
        .args(more);
    command
}

fn podman(scratch: &Path, line: &[&str]) -> Command {
    std::fs::create_dir_all("/run/podman").expect("a folder");
    let mut command = Command::new("/usr/bin/podman");
    command
        .arg("--root")
        .arg(scratch.join("docker"))
        .args(["--runroot", "/run/containers/storage", "--cgroup-manager", "cgroupfs"])
        .args(line)
        .env("CONTAINERS_REGISTRIES_CONF", scratch.join(REGISTRIES));
    command
}

async fn answers(kind: &Kind, scratch: &Path) {
    wait_until("the engine answers", PATIENCE, async || {
        let ping = format!("curl -sf --unix-socket {} http://d/_ping", kind.socket());
        let asked = crate::netns::run(&ping).await;
        let said = || std::fs::read_to_string(scratch.join("dockerd.log")).unwrap_or_default();
        let end = |said: String| said.lines().rev().take(5).collect::<Vec<_>>().join("\n");
        asked.map(drop).map_err(|error| format!("{error}: {}", end(said())))
    })
    .await;
}

async fn import(kind: &Kind, docker: &Docker, scratch: &Path) {
    let applets = "sh sleep echo cat env ls id ip nslookup wget dd yes head true kill mkdir ln touch grep test mount nc ps df rm sync";
    ok(&format!(
        "cd {} && mkdir -p img/bin img/etc img/tmp img/proc img/sys img/dev && cp /bin/busybox img/bin/ && \
         for a in {applets}; do ln -sf busybox img/bin/$a; done && echo root:x:0:0:root:/:/bin/sh > img/etc/passwd && \
         echo root:x:0: > img/etc/group && tar -C img -cf img.tar .",
        scratch.display()
    ))
    .await;
    if *kind == Kind::Podman {
        let archive = scratch.join("img.tar");
        let line = ["import", archive.to_str().expect("UTF-8"), "docker.io/library/box:1"];
        let done = podman(scratch, &line).output().expect("podman");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        return;
    }
    let tar = std::fs::read(scratch.join("img.tar")).expect("an archive");
    let options = CreateImageOptionsBuilder::default().from_src("-").repo("box").tag("1").build();
    let mut told = docker.create_image(Some(options), Some(bollard::body_full(tar.into())), None);
    while let Some(step) = told.next().await {
        step.expect("the image is taken");
    }
}

pub fn shell(line: &str) -> Vec<String> {
    ["sh", "-c", line].map(ToOwned::to_owned).to_vec()
}

/// Stays until it is asked to stop; `first` comes first.
pub fn staying(first: &str) -> Vec<String> {
    shell(&format!("trap 'exit 0' TERM; {first} touch /tmp/ready; while :; do sleep 1000 & wait $!; done"))
}

pub fn def(name: &str, command: Vec<String>) -> ContainerDef {
    let parse = |text| ObjectName::parse(text).expect("a name");
    let def = ContainerDef::new(Uuid::now_v7(), (parse("default"), parse(name)), IMAGE);
    ContainerDef { command: Some(command), ..def }
}

impl Bed {
    /// Makes and starts it, and waits until it stays.
    pub async fn up(&self, def: &ContainerDef) {
        use agentd_drivers::container::ContainerLife;
        self.driver.ensure_created(def).await.expect("made");
        self.driver.start(def.id).await.expect("started");
        self.ready(def.id).await;
    }

    /// A container that somebody else makes and does not start: the engine's id of it.
    async fn theirs(&self, name: &str, command: Vec<String>, host: Option<HostConfig>) -> String {
        let body = ContainerCreateBody {
            image: Some(IMAGE.to_owned()),
            cmd: Some(command),
            labels: Some(HashMap::from([("theirs".to_owned(), "yes".to_owned())])),
            host_config: host,
            ..ContainerCreateBody::default()
        };
        let options = CreateContainerOptionsBuilder::default().name(name).build();
        self.other.create_container(Some(options), body).await.expect("made").id
    }

    pub async fn ready(&self, id: Uuid) {
        let until = tokio::time::Instant::now() + PATIENCE;
        loop {
            match self.driver.observe(id).await.expect("observed") {
                Some(seen) if !seen.state.is_on() => panic!("it ended: {seen:?}"),
                _ => {}
            }
            let (said, status) = self.exec(id, "test -e /tmp/ready").await;
            if status == 0 {
                return;
            }
            assert!(tokio::time::Instant::now() < until, "its program has not begun: {status} {said}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Bed {
    /// Loop devices are the whole host's: a test that failed leaves none either.
    fn drop(&mut self) {
        let line = "losetup -n -O NAME,BACK-FILE | grep -F \"$0\" | while read d _; do losetup -d $d; done";
        let _ = Command::new("sh").args(["-c", line]).arg(self.scratch.path()).status();
    }
}

#[async_trait]
impl contract::Bed for Bed {
    fn driver(&self) -> &dyn ContainerDriver {
        &self.driver
    }
    fn def(&self, name: &str, does: Does) -> ContainerDef {
        def(
            name,
            match does {
                Does::Stays => staying(""),
                Does::StaysDeaf => shell("trap '' TERM; touch /tmp/ready; while :; do sleep 1; done"),
                Does::Exits(code) => shell(&format!("exit {code}")),
                Does::Says => staying("echo to out; echo to err >&2;"),
            },
        )
    }
    async fn begun(&self, def: &ContainerDef, does: Does) {
        if !matches!(does, Does::Exits(_)) {
            self.ready(def.id).await;
        }
    }
    fn exits(&self, code: u8) -> Vec<String> {
        shell(&format!("exit {code}"))
    }
    fn says_to_err(&self, text: &str) -> Vec<String> {
        shell(&format!("echo {text} >&2"))
    }
    async fn network(&self, number: u8) -> EngineNetwork {
        let (bridge, gateway) = (format!("agb{number}"), Ipv4Addr::new(10, 231, number, 1));
        ok(&format!(
            "ip link add {bridge} type bridge && ip addr add {gateway}/24 dev {bridge} && ip link set {bridge} up"
        ))
        .await;
        let cidr = format!("10.231.{number}.0/24").parse().expect("a network");
        EngineNetwork { id: Uuid::now_v7(), bridge, cidr, gateway }
    }
    async fn device(&self) -> PathBuf {
        self.file_system(ByteSize::mib(16)).await.device
    }
    /// Podman's service can since 4.5.
    fn changes_limits(&self) -> bool {
        let version = |text: &str| text.split('.').map(|n| n.parse::<u32>().unwrap_or(0)).collect::<Vec<_>>();
        self.kind != Kind::Podman || version(&self.version) >= vec![4, 5]
    }
    async fn remove_behind(&self, seen: &ContainerSeen) {
        let options = RemoveContainerOptionsBuilder::default().force(true).build();
        self.other.remove_container(&seen.engine_id, Some(options)).await.expect("removed");
    }
    async fn stop_behind(&self, seen: &ContainerSeen) {
        let options = StopContainerOptionsBuilder::default().t(1).build();
        self.other.stop_container(&seen.engine_id, Some(options)).await.expect("stopped");
    }
    async fn disconnect_behind(&self, seen: &ContainerSeen, network: Uuid) {
        if self.kind == Kind::Podman {
            // Podman knows of no network there.
            return self.unlink_behind(seen, network).await;
        }
        let request = NetworkDisconnectRequest { container: seen.engine_id.clone(), force: Some(true) };
        let name = format!("agentd-{}.{network}", instance().tag());
        self.other.disconnect_network(&name, request).await.expect("disconnected");
    }
    async fn unlink_behind(&self, seen: &ContainerSeen, network: Uuid) {
        let mark = format!("agentd-plug {} {} {network} ", instance().tag(), seen.id);
        let link = ok(&format!("ip -o link | grep '{mark}' | cut -d' ' -f2 | cut -d@ -f1")).await;
        ok(&format!("ip link del {}", link.trim())).await;
    }
    async fn foreign(&self, name: &str) -> ForeignDef {
        let command = staying("");
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        let mut def = ForeignDef::plain(name, IMAGE, &words);
        let id = self.theirs(name, command.clone(), None).await;
        self.other.start_container(&id, None).await.expect("started");
        def.seen.engine_id = id;
        def
    }
    async fn foreign_privileged(&self, name: &str) -> String {
        let host = HostConfig { privileged: Some(true), ..HostConfig::default() };
        self.theirs(name, staying(""), Some(host)).await
    }
}
