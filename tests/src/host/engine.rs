//! A dockerd of the test's own, or Podman's service in its place, with an image made of this host's busybox, and what somebody else does to containers.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;

use super::namespace::run;
use super::{Host, signal, wait_until};

/// What the engine has from its start.
pub const IMAGE: &str = "box:1";
/// What stays until it is asked to end.
pub const STAY: &str = "trap 'exit 0' TERM; while :; do sleep 1000 & wait $!; done";
const APPLETS: &str =
    "sh sleep echo cat env ls id ip nslookup wget httpd hostname true kill mkdir touch head yes ps df rm";

const PODMAN: &str = "/run/podman/podman.sock";

pub struct Dockerd {
    scratch: PathBuf,
    podman: bool,
    child: Option<Child>,
}

impl Host {
    /// Starts dockerd at its usual place, and gives it the image `box:1`.
    pub fn start_docker(&self) -> Dockerd {
        self.start_engine(false)
    }

    /// Starts Podman's service at its usual place, and gives it the image `box:1`.
    pub fn start_podman(&self) -> Dockerd {
        self.start_engine(true)
    }

    fn start_engine(&self, podman: bool) -> Dockerd {
        let mut dockerd = Dockerd { scratch: self.scratch().to_owned(), podman, child: None };
        dockerd.start();
        import(&dockerd.scratch);
        dockerd
    }

    /// Has systemd start Docker, and gives it the image `box:1`.
    pub fn start_docker_of_systemd(&self) {
        run("systemctl", &["start", "docker"]).expect("Docker");
        wait_until("dockerd answers", Duration::from_secs(120), || docker(&["version"]));
        import(self.scratch());
    }
}

impl Dockerd {
    pub fn start(&mut self) {
        super::daemon::clock("the engine starts");
        let log = std::fs::File::options()
            .append(true)
            .create(true)
            .open(self.scratch.join("dockerd.log"))
            .expect("a log");
        let mut command = if self.podman { self.podman_service() } else { self.dockerd() };
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("dockerd, of docker.io, and podman (packaging/host-packages test)");
        self.child = Some(child);
        wait_until("the engine answers", Duration::from_secs(30), || {
            docker(&["version"]).map_err(|e| format!("{e}\n{}", self.log_text()))
        });
    }

    #[expect(clippy::disallowed_methods, reason = "a harness starts programs; the rule is for the daemon")]
    fn dockerd(&self) -> Command {
        let mut command = Command::new("/usr/sbin/dockerd");
        command
            .arg("--data-root")
            .arg(self.scratch.join("docker"))
            .args(["--host", "unix:///run/docker.sock", "--exec-root", "/run/docker"])
            .args(["--pidfile", "/run/docker.pid", "--exec-opt", "native.cgroupdriver=cgroupfs"])
            .args(["--cgroup-parent", &self.cgroup()]);
        command
    }

    #[expect(clippy::disallowed_methods, reason = "a harness starts programs; the rule is for the daemon")]
    fn podman_service(&self) -> Command {
        std::fs::create_dir_all("/run/podman").expect("a folder");
        let mut command = Command::new("/usr/bin/podman");
        command
            .arg("--root")
            .arg(self.scratch.join("docker"))
            .args(["--runroot", "/run/containers/storage", "--cgroup-manager", "cgroupfs"])
            .args(["system", "service", "--time", "0"])
            .arg(format!("unix://{PODMAN}"));
        command
    }

    pub fn log_text(&self) -> String {
        std::fs::read_to_string(self.scratch.join("dockerd.log")).unwrap_or_default()
    }

    /// SIGKILL, and it is gone when this returns.
    pub fn kill(&mut self) {
        self.end(Signal::SIGKILL);
    }

    /// SIGTERM, as `systemctl stop docker` has it: it takes its containers with it.
    pub fn stop(&mut self) {
        self.end(Signal::SIGTERM);
    }

    fn end(&mut self, by: Signal) {
        let mut child = self.child.take().expect("dockerd runs");
        signal(child.id(), by);
        child.wait().expect("an end");
    }

    fn cgroup(&self) -> String {
        format!("/{}", self.scratch.file_name().expect("a name").to_string_lossy())
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        for container in docker(&["ps", "-aq"]).unwrap_or_default().lines() {
            let _ = docker(&["rm", "-f", container]);
        }
        if let Some(mut child) = self.child.take() {
            signal(child.id(), Signal::SIGTERM);
            let _ = child.wait();
        }
        // Podman's storage stays mounted without its service.
        let _ = run("umount", &["-l", &self.scratch.join("docker/overlay").to_string_lossy()]);
        // Loop devices are the whole machine's: a test that failed leaves none either.
        let below = self.scratch.display();
        let script = format!(
            "losetup -n -O NAME,BACK-FILE | grep -F ' {below}/' | while read d _; do losetup -d $d; done; true"
        );
        let _ = run("/bin/sh", &["-c", &script]);
        let parent = Path::new("/sys/fs/cgroup");
        let script = format!(
            "find {} -depth -type d -path '*{}*' -exec rmdir {{}} + 2>/dev/null; true",
            parent.display(),
            self.cgroup()
        );
        let _ = run("/bin/sh", &["-c", &script]);
    }
}

/// Gives the engine the image `box:1`.
pub fn import(scratch: &Path) {
    let root = scratch.join("box");
    let script = format!(
        "mkdir -p {0}/bin {0}/etc {0}/tmp {0}/www {0}/proc {0}/sys {0}/dev && cp /bin/busybox {0}/bin/ && \
         for a in {APPLETS}; do ln -sf busybox {0}/bin/$a; done && \
         echo root:x:0:0:root:/:/bin/sh > {0}/etc/passwd && echo root:x:0: > {0}/etc/group && \
         tar -C {0} -c . | docker {1} import - {IMAGE}",
        root.display(),
        host().join(" ")
    );
    run("/bin/sh", &["-c", &script]).expect("an image");
}

/// Where docker finds an engine that is not at its own usual place.
fn host() -> Vec<&'static str> {
    if Path::new(PODMAN).exists() { vec!["--host", "unix:///run/podman/podman.sock"] } else { Vec::new() }
}

/// Somebody else's docker.
pub fn docker(arguments: &[&str]) -> Result<String, String> {
    run("docker", &[&host()[..], arguments].concat()).map_err(|e| format!("{e:#}"))
}

/// The names of all containers of the engine.
pub fn containers() -> Vec<String> {
    let text = docker(&["ps", "-a", "--format", "{{.Names}}"]).expect("docker ps");
    text.lines().map(str::to_owned).collect()
}
