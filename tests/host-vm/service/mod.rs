//! agentd as administrators have it: its package on a host whose init is systemd.

mod morning;
mod package;
mod power;
mod schemas;

use std::path::Path;
use std::time::Duration;

use agent_tests::host::daemon::{binary, clock};
use agent_tests::host::{Agentd, namespace, wait_until};

const STATE: &str = "/var/lib/agentd";
const SOCKET: &str = "/run/agentd/agentd.sock";

/// Out here: makes `agentd-REVISION.SORT`, of the programs that the other tests run.
fn pack(payload: &Path, sort: &str, revision: &str) {
    let out = payload.to_string_lossy();
    let line = [sort, "--profile", "dev", "--as-built", "--revision", revision, "--out", &out];
    let made = namespace::run(&binary("xtask").to_string_lossy(), &line).expect("a package");
    std::fs::rename(made.trim(), payload.join(format!("agentd-{revision}.{sort}"))).expect("the package");
}

/// Out here: a package, and what the test calls.
fn furnish(payload: &Path) {
    pack(payload, "deb", "1");
    std::os::unix::fs::symlink("/usr/bin/agentctl", payload.join("debug/agentctl")).expect("a link");
    std::fs::write(payload.join("orderly"), "").expect("a mark");
}

fn sh(script: &str) -> Result<String, String> {
    let script = format!("set -e\nexport DEBIAN_FRONTEND=noninteractive\n{script}");
    namespace::run("/bin/sh", &["-c", &script])
        .map(|text| text.trim().to_owned())
        .map_err(|e| format!("{e:#}"))
}

fn ok(script: &str) -> String {
    clock(script.lines().next().unwrap_or_default());
    sh(script).unwrap_or_else(|error| panic!("{error}"))
}

fn main_pid() -> String {
    ok("systemctl show --value -p MainPID agentd.service")
}

/// The process of the container box.
fn container() -> String {
    ok("docker inspect -f '{{.State.Pid}}' $(docker ps -q --filter name=box)")
}

fn install(revision: u32) {
    ok(&format!("dpkg -i --force-confdef /payload/agentd-{revision}.deb 2>&1"));
}

/// The state that tests begin with, in the place of the package's own, which is empty.
fn begin_with_images() {
    ok(&format!("rmdir {STATE} && cp -a /payload/template {STATE}"));
}

fn agentd() -> Agentd {
    Agentd::new(Path::new(STATE), Path::new(SOCKET))
}

/// Asked of systemd and not at the socket: asking there would start it.
fn started_by_the_boot() {
    let more = "systemctl list-jobs; systemctl status agentd.service agentd.socket; journalctl -q -b -u agentd.service";
    let script = format!("systemctl is-active agentd.service || {{ ( {more} ) >&2; false; }}");
    wait_until("agentd is started by the boot", Duration::from_secs(120), || sh(&script));
}

/// Tried before this host is kept busy: one that is gives no guest its time, and then KVM is not told from one that hangs.
fn known_how_guests_run() {
    let script = format!("grep -q \"$(cat /proc/sys/kernel/random/boot_id)\" {STATE}/accel.json");
    wait_until("it is known how guests run here", Duration::from_secs(120), || sh(&script));
}
