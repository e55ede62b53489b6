//! One agentd of a test, and agentctl spoken to it.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use super::namespace::run;
use super::{signal, wait_until};
use crate::door;

/// What agentctl did.
#[derive(Debug)]
pub struct Answer {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
}

pub struct Agentd {
    state: PathBuf,
    socket: PathBuf,
    /// What it is started by; nothing for plainly itself.
    by: Vec<String>,
    /// A socket that it is passed and does not make.
    passed: Option<OwnedFd>,
    child: Option<Child>,
}

/// A line of the test's own log: when, since the first such line, what began.
pub fn clock(what: &str) {
    static BEGIN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    println!("[{:7.2} s] {what}", BEGIN.get_or_init(Instant::now).elapsed().as_secs_f64());
}

/// A binary of this build: beside this program, or beside the folder of tests that it is in.
pub fn binary(name: &str) -> PathBuf {
    let exe = std::env::current_exe().expect("this program's own path");
    let own = exe.parent().expect("target/<profile>");
    let folder = if own.ends_with("deps") { own.parent().expect("target/<profile>/deps") } else { own };
    let path = folder.join(name);
    assert!(path.is_file(), "{} is not built: tests/run build", path.display());
    path
}

impl Agentd {
    pub fn new(state: &Path, socket: &Path) -> Self {
        Self { state: state.to_owned(), socket: socket.to_owned(), by: Vec::new(), passed: None, child: None }
    }

    /// Started as its unit starts it, of what that takes from it: a mount namespace of its own that others' mounts come into
    /// and its own do not leave, and no more than its capabilities.
    pub fn confined(mut self) -> Self {
        // Its dnsmasq, which is another unit there, is its own child here.
        let units = ["agentd.service", "agentd-podman.conf", "agentd-dnsmasq@.service"].map(|name| {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd");
            std::fs::read_to_string(folder.join(name)).expect("the unit")
        });
        let kept: Vec<String> = units
            .iter()
            .flat_map(|unit| unit.lines())
            .filter_map(|line| line.strip_prefix("CapabilityBoundingSet="))
            .flat_map(|names| names.split(' '))
            .map(|name| name.trim_start_matches("CAP_").to_lowercase())
            .collect();
        let all = run("/usr/bin/setpriv", &["--list-caps"]).expect("setpriv (util-linux)");
        let lost: Vec<String> = all
            .lines()
            .filter(|name| !kept.contains(&(*name).to_owned()))
            .map(|name| format!("-{name}"))
            .collect();
        let set = format!("--bounding-set={}", lost.join(","));
        let words = [
            "/usr/bin/unshare",
            "--mount",
            "--propagation",
            "slave",
            "/usr/bin/setpriv",
            &set,
            "--no-new-privs",
        ];
        self.by = words.map(ToOwned::to_owned).to_vec();
        self
    }

    /// Passed its socket, as by `agentd.socket`: who connects while it is away waits for the next one.
    pub fn activated(mut self) -> Self {
        self.passed = Some(UnixListener::bind(&self.socket).expect("a socket").into());
        // It comes as the standard input, and goes where systemd puts it.
        let script = r#"exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" "$@""#;
        self.by = ["/bin/sh", "-c", script].map(ToOwned::to_owned).to_vec();
        self
    }

    pub fn state(&self) -> &Path {
        &self.state
    }
    pub fn socket(&self) -> &Path {
        &self.socket
    }
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("agentd runs").id()
    }
    pub fn log(&self) -> PathBuf {
        self.state.with_extension("log")
    }

    #[expect(clippy::disallowed_methods, reason = "a harness starts programs; the rule is for the daemon")]
    pub fn start(&mut self) {
        assert!(self.child.is_none(), "agentd runs already");
        clock("agentd starts");
        let log = OpenOptions::new().create(true).append(true).open(self.log()).expect("a log");
        // A configuration beside the state directory is its own.
        let config = self.state.with_extension("toml");
        let program = binary("agentd").display().to_string();
        let words: Vec<&String> = self.by.iter().chain([&program]).collect();
        let passed = self.passed.as_ref().map(|passed| passed.try_clone().expect("a copy").into());
        let child = Command::new(words[0])
            .args(&words[1..])
            .args(
                config.is_file().then(|| [OsStr::new("--config"), config.as_os_str()]).into_iter().flatten(),
            )
            .arg("--state-dir")
            .arg(&self.state)
            .arg("--socket")
            .arg(&self.socket)
            .env("http_proxy", door::PROXY)
            .env("no_proxy", "127.0.0.1,localhost")
            .env("RUST_BACKTRACE", "1")
            .stdin(passed.unwrap_or_else(Stdio::null))
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("agentd starts");
        self.child = Some(child);
        wait_until("agentd answers", Duration::from_secs(30), || {
            let ended = self.child.as_mut().and_then(|c| c.try_wait().ok().flatten());
            assert!(ended.is_none(), "agentd ended ({ended:?}):\n{}", self.log_text());
            let answer = self.ctl(&["version"]);
            if answer.status == 0 { Ok(()) } else { Err(format!("{answer:?}\n{}", self.log_text())) }
        });
    }

    pub fn log_text(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// SIGKILL, and it is gone when this returns.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("agentd runs");
        child.kill().expect("a kill");
        child.wait().expect("an end");
    }

    /// SIGTERM; gives how long its end took.
    pub fn stop(&mut self) -> Duration {
        let mut child = self.child.take().expect("agentd runs");
        let from = Instant::now();
        signal(child.id(), Signal::SIGTERM);
        wait_until("agentd ends", Duration::from_secs(20), || match child.try_wait() {
            Ok(Some(status)) if status.success() => Ok(()),
            other => Err(format!("{other:?}")),
        });
        from.elapsed()
    }

    #[expect(clippy::disallowed_methods, reason = "a harness starts programs; the rule is for the daemon")]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary("agentctl"));
        command.arg("--socket").arg(&self.socket).args(arguments).stdin(Stdio::null());
        command
    }

    pub fn ctl(&self, arguments: &[&str]) -> Answer {
        if !matches!(arguments, ["get", ..] | ["version"]) {
            clock(&format!("agentctl {}", arguments.join(" ").chars().take(120).collect::<String>()));
        }
        let output = self.command(arguments).output().expect("agentctl runs");
        Answer {
            status: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// agentctl that must succeed; gives its stdout.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let answer = self.ctl(arguments);
        assert_eq!(answer.status, 0, "agentctl {arguments:?}: {answer:?}\nagentd said:\n{}", self.log_text());
        answer.stdout
    }

    /// Posts to a path of the API what must be taken.
    pub fn post(&self, path: &str, body: &Value) {
        let text = self.answer_to_post(path, body);
        assert!(text.lines().next().is_some_and(|line| line.contains(" 20")), "{text}");
    }

    /// What a post to a path of the API is answered, head and body.
    pub fn answer_to_post(&self, path: &str, body: &Value) -> String {
        let mut stream = UnixStream::connect(self.socket()).expect("the socket");
        let body = body.to_string();
        let head = format!("POST {path} HTTP/1.0\r\nHost: agentd\r\nContent-Type: application/json");
        write!(stream, "{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).expect("a request");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        text
    }

    /// The body of a path of the API, as it comes.
    pub fn raw(&self, path: &str) -> String {
        let mut stream = UnixStream::connect(self.socket()).expect("the socket");
        write!(stream, "GET {path} HTTP/1.0\r\nHost: agentd\r\n\r\n").expect("a request");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        assert!(head.contains(" 200 "), "{head}");
        body.to_owned()
    }

    /// One object, or None where there is none.
    pub fn get(&self, kind: &str, name: &str) -> Option<Value> {
        let answer = self.ctl(&["get", &format!("{kind}/{name}"), "-o", "json"]);
        match answer.status {
            0 => Some(serde_json::from_str(&answer.stdout).unwrap_or_else(|e| panic!("{e}: {answer:?}"))),
            3 => None,
            _ => panic!("get {kind}/{name}: {answer:?}\n{}", self.log_text()),
        }
    }

    pub fn vm(&self, name: &str) -> Value {
        self.get("vm", name).unwrap_or_else(|| panic!("no VM {name}"))
    }

    pub fn address(&self, name: &str) -> String {
        let vm = self.vm(name);
        vm["status"]["addresses"][0]["ip"]
            .as_str()
            .unwrap_or_else(|| panic!("{name} has no address: {vm}"))
            .to_owned()
    }

    /// Waits until the VM's state is `state`, and gives the VM.
    pub fn wait_state(&self, name: &str, state: &str, limit: Duration) -> Value {
        wait_until(&format!("{name} is {state}"), limit, || {
            let vm = self.vm(name);
            if vm["status"]["state"] == state {
                Ok(vm)
            } else {
                Err(format!("{}\n{}", vm["status"], self.log_text()))
            }
        })
    }

    /// Waits until its network is there.
    /// Until it says so and its name server takes connections: a daemon that has just begun says what was.
    pub fn wait_ready(&self) {
        wait_until("the network is ready", Duration::from_secs(30), || {
            let network = self.get("network", "default").ok_or("there is none")?;
            let status = &network["status"];
            let gateway = status["gateway"].as_str().ok_or("no gateway yet")?;
            TcpStream::connect((gateway, 53)).map_err(|error| format!("{gateway}: {error}"))?;
            if status["state"] == "ready" { Ok(()) } else { Err(status.to_string()) }
        });
    }

    pub fn wait_gone(&self, name: &str, limit: Duration) {
        wait_until(&format!("{name} is gone"), limit, || match self.get("vm", name) {
            None => Ok(()),
            Some(vm) => Err(vm["status"].to_string()),
        });
    }
}

impl Drop for Agentd {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
