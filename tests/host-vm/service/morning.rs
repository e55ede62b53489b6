//! The package's host after a boot: its guests were stopped in order and are back, another machine calls it, and the package
//! goes, comes as an rpm, goes with all that it had, and comes over the state of another time.

use std::path::Path;
use std::time::Duration;

use agent_tests::host::{Agentd, guest, wait_until};
use serde_json::Value;

use super::{SOCKET, STATE, agentd, container, install, main_pid, ok, sh, started_by_the_boot};

/// The events of those, oldest first, as `NAME VERB MESSAGE`.
fn told(agentd: &Agentd) -> Vec<String> {
    let said = agentd.ok(&["events", "-o", "json"]);
    let events = said.lines().map(|line| serde_json::from_str::<Value>(line).expect("an event"));
    let words = |event: &Value| {
        ["name", "verb", "message"].map(|key| event[key].as_str().unwrap_or_default().to_owned())
    };
    events.map(|event| words(&event).join(" ")).collect()
}

fn state(agentd: &Agentd, what: &str) -> String {
    let (kind, name) = what.split_once('/').expect("KIND/NAME");
    let object = agentd.get(kind, name).unwrap_or_else(|| panic!("there is no {what}"));
    object["status"]["state"].as_str().expect("a state").to_owned()
}

/// Not ended with the power: each was asked to, and the last to start was the first to stop.
fn guests_were_stopped_in_order_with_the_host(agentd: &Agentd) {
    let told = told(agentd);
    println!("{}", told.join("\n"));
    let last = |start: &str| {
        let at = told.iter().rposition(|line| line.starts_with(start));
        at.unwrap_or_else(|| panic!("no '{start}' in {told:#?}"))
    };
    let (web, container) = (last("web stopped "), last("box stopped "));
    assert!(web < container, "{told:#?}");
    assert!(!told[web].contains("forced"), "{}", told[web]);
    assert!(last("idle stopped ") < container, "{told:#?}");
}

fn guests_come_back_by_their_policy(agentd: &Agentd) {
    guest::answers_within(agentd, "web", Duration::from_secs(300));
    assert_eq!(state(agentd, "vm/web"), "running");
    wait_until("the container runs", Duration::from_secs(60), || {
        let seen = ok("docker ps --format '{{.Names}}'");
        if seen.contains("box") { Ok(()) } else { Err(seen) }
    });
    assert_eq!(state(agentd, "container/box"), "running");
    assert_eq!(state(agentd, "container/idle"), "stopped");
    assert!(!ok("docker ps --format '{{.Names}}'").contains("idle"));
}

/// By the authority that `remote init` makes where the package has its configuration, and within what the unit lets.
fn another_machine_calls_it_until_it_is_revoked() {
    ok("agentctl remote init --name 127.0.0.1
        printf '[remote]\nlisten = \"127.0.0.1:7443\"\n' >/etc/agentd/conf.d/60-remote.toml
        systemctl restart agentd.service
        agentctl remote add-client laptop --out /tmp/laptop.pem");
    let laptop = |line: &str| format!("export XDG_CONFIG_HOME=/tmp/laptop\nagentctl {line}");
    let join = laptop("remote join rack 127.0.0.1 /tmp/laptop.pem");
    wait_until("the other machine has joined", Duration::from_secs(60), || sh(&join));
    let list = laptop("--host rack get container -o name");
    assert!(ok(&list).contains("container/box"), "{}", ok(&list));
    ok("agentctl remote revoke laptop");
    wait_until("it is refused", Duration::from_secs(30), || match sh(&list) {
        Ok(said) => Err(said),
        Err(said) if said.contains("revoked") => Ok(()),
        Err(other) => Err(other),
    });
    agentd().ok(&["version"]);
}

/// Never from under what has something of it.
fn a_purge_leaves_the_state_while_it_is_in_use() {
    ok(&format!("mkdir {STATE}/used && mount -t tmpfs none {STATE}/used"));
    let said = ok("dpkg -P agentd 2>&1");
    assert!(said.contains("guests run from /var/lib/agentd, so it stays"), "{said}");
    assert!(Path::new(STATE).join("agentd.db").exists(), "what they run from is there");
    ok(&format!("umount {STATE}/used && rmdir {STATE}/used"));
}

/// The other sort of package, on the state that is there.
fn an_rpm_is_installed_upgraded_and_removed(agentd: &Agentd) {
    // Debian's own rpm knows of no installed library, and wants to be sure that it is meant.
    let rpm = |what: &str| ok(&format!("rpm --force-debian {what} 2>&1"));
    rpm("-i --nodeps /payload/agentd-1.rpm");
    assert_eq!(rpm("-V --nodeps agentd"), "", "all is there as it was packed");
    ok("systemctl start agentd.socket");
    assert_eq!(ok(&format!("stat -c '%a %U %G' {SOCKET}")), "660 root agentd");
    assert_eq!(state(agentd, "container/box"), "running");
    let (before, was) = (container(), main_pid());
    ok("echo '# mine' >>/etc/agentd/agentd.toml");
    rpm("-U --nodeps /payload/agentd-2.rpm");
    assert_eq!(rpm("-q --qf '%{VERSION}-%{RELEASE}' agentd"), "0.1.0-2");
    assert_eq!(ok("tail -n 1 /etc/agentd/agentd.toml"), "# mine");
    assert_eq!(state(agentd, "container/box"), "running");
    assert_ne!(main_pid(), was, "the new one runs");
    rpm("-e --nodeps agentd");
    assert!(sh("pgrep -x agentd").is_err(), "it has ended");
    assert_eq!(container(), before);
    assert!(Path::new(STATE).join("agentd.db").exists(), "the state stays");
    assert!(!Path::new("/usr/bin/agentd").exists());
    ok("mv /etc/agentd/agentd.toml.rpmsave /tmp/kept && grep -q '^# mine' /tmp/kept");
}

fn a_purge_removes_all_of_it(agentd: &Agentd) {
    install(1);
    agentd.ok(&["delete", "container/box", "container/idle", "--timeout", "5m"]);
    ok("dpkg -P agentd 2>&1");
    let left = "ls -d /var/lib/agentd /etc/agentd /run/agentd /usr/lib/agentd 2>/dev/null || true";
    assert_eq!(ok(left), "");
    assert_eq!(ok("ip -o link | grep -c ' agb' || true"), "0", "no bridge is left");
    assert!(!ok("nft list tables").contains("agentd"));
    assert!(sh("pgrep -x dnsmasq").is_err() && sh("pgrep -x agentd").is_err());
    assert_eq!(ok("systemctl list-unit-files 'agentd*' --no-legend | wc -l"), "0");
}

pub(super) fn the_next_morning() {
    started_by_the_boot();
    let agentd = agentd();
    agentd.wait_ready();
    guests_were_stopped_in_order_with_the_host(&agentd);
    guests_come_back_by_their_policy(&agentd);
    // An emulated guest takes half of this host.
    agentd.ok(&["delete", "vm/web", "--timeout", "5m"]);
    another_machine_calls_it_until_it_is_revoked();
    a_purge_leaves_the_state_while_it_is_in_use();
    an_rpm_is_installed_upgraded_and_removed(&agentd);
    a_purge_removes_all_of_it(&agentd);
    super::schemas::the_state_of_another_time(&agentd);
}
