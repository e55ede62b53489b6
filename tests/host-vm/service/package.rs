//! The package on a host whose init is systemd: installed, started by the first who asks, watched, ended, upgraded,
//! removed, gone through a boot of the host and purged, while guests run. What is asserted is what systemd, dpkg, the journal and the guests show.

use std::path::Path;
use std::time::{Duration, Instant};

use agent_tests::boots_test;
use agent_tests::host::engine::{self, IMAGE, STAY};
use agent_tests::host::{Agentd, guest, wait_until};
use agent_tests::machine::whole;

use super::morning::the_next_morning;
use super::{
    SOCKET, agentd, begin_with_images, container, furnish, install, known_how_guests_run, main_pid, ok, pack,
    sh,
};

/// The guests' emulator, dnsmasq and containers: what must be the same processes whatever happens to agentd.
fn guests() -> String {
    let pids = ok("pgrep -f '^/usr/bin/qemu-system' ; pgrep -x dnsmasq ; \
                   pgrep -P \"$(pgrep -d, -f '^/usr/bin/containerd-shim')\"");
    assert_eq!(pids.lines().count(), 4, "{pids}");
    pids
}

/// On an emulated host libvirt may have no time for a daemon that has only just begun.
fn answers(agentd: &Agentd) {
    wait_until("the guest's program answers", Duration::from_secs(90), || {
        let answer = agentd.ctl(&["vm", "exec", "web", "--", "echo", "alive"]);
        if answer.stdout.trim() == "alive" { Ok(()) } else { Err(format!("{answer:?}")) }
    });
}

/// Nothing runs before somebody asks; whoever asks is answered.
fn is_installed_and_started_by_the_first_who_asks() {
    install(1);
    assert_eq!(ok("systemctl is-active agentd.service || true"), "inactive");
    assert_eq!(ok("systemctl is-active agentd.socket"), "active");
    assert_eq!(ok("systemctl is-active agentd-guests.service"), "active");
    let units = "agentd.service agentd.socket agentd-guests.service";
    assert_eq!(ok(&format!("systemctl is-enabled {units}")), "enabled\nenabled\nenabled");
    assert_eq!(ok(&format!("stat -c '%a %U %G' {SOCKET}")), "660 root agentd");
    assert_eq!(ok("cat /proc/sys/net/ipv4/ip_forward"), "1");
    begin_with_images();
    agentd().ok(&["version"]);
    assert_eq!(ok("systemctl is-active agentd.service"), "active");
    assert_eq!(ok(&format!("stat -c '%a %U %G' {SOCKET}")), "660 root agentd", "the socket is systemd's");
    known_how_guests_run();
}

fn systemd_finds_nothing_to_say_of_the_units() {
    let units = "agentd.service agentd.socket agentd-guests.service agentd-dnsmasq@var-lib-x.service \
                 agentd-mac@run-x.service";
    assert_eq!(ok(&format!("systemd-analyze verify --man=no {units} 2>&1")), "");
    println!("{}", ok("systemd-analyze security --no-pager --threshold=39 agentd.service | tail -n 1"));
    ok("systemd-analyze security --no-pager --threshold=39 agentd.service >/dev/null");
}

/// More where Podman is the one engine there is, and only there.
fn the_unit_has_more_where_it_needs_more() {
    let set = "systemctl show -p CapabilityBoundingSet agentd.service";
    assert!(!ok(set).contains("cap_sys_ptrace"));
    ok(
        "mv /usr/sbin/dockerd /usr/sbin/no-dockerd; install -m 0755 /bin/true /usr/bin/podman; systemctl daemon-reload",
    );
    assert!(ok(set).contains("cap_sys_ptrace"));
    ok("mv /usr/sbin/no-dockerd /usr/sbin/dockerd; rm /usr/bin/podman; systemctl daemon-reload");
    assert!(!ok(set).contains("cap_sys_ptrace"));
}

/// What mmdebstrap, lvm and the rest need is let, and what nothing of agentd's needs is not: the unit as it is shipped,
/// with another program in agentd's place.
fn the_unit_lets_its_programs_work() {
    let script = r#"#!/bin/sh
set -ex
unshare --mount --pid --fork --kill-child --mount-proc -- sh -ec '
  cd /var/lib/agentd && mkdir probe && mount -t tmpfs none probe && mkdir -p probe/bin probe/proc probe/dev
  cp /bin/busybox probe/bin/ && chown 1000:1000 probe/bin && chmod 4755 probe/bin/busybox
  mount -t proc none probe/proc && mount --bind /dev probe/dev
  chroot probe /bin/busybox sh -c "echo x >/dev/null && /bin/busybox ls /proc/1" >/dev/null
  setpriv --reuid 65534 --regid 65534 --clear-groups true
'
rmdir /var/lib/agentd/probe
cd /var/lib/agentd
truncate -s 64M probe.img
loop=$(losetup --show -f probe.img)
mkfs.ext4 -q "$loop"
wipefs -aq "$loop"
pvcreate -q "$loop"
vgcreate -q probe "$loop"
lvcreate -n one -L 8M probe
mkfs.ext4 -q /dev/probe/one
vgremove -qf probe
pvremove -q "$loop"
losetup -d "$loop"
rm probe.img
qemu-img create -q -f qcow2 probe.qcow2 1G
rm probe.qcow2
nft list tables
ip link add probe0 type bridge
ip link delete probe0
echo 1 >/proc/sys/net/ipv4/ip_forward
! sh -c 'echo 1 >/proc/sys/kernel/sysrq'
! touch /usr/probe
! touch /etc/probe
test -z "$(ls -A /root)"
"#;
    std::fs::write("/usr/local/bin/probe", script).expect("a script");
    ok("chmod 0755 /usr/local/bin/probe; touch /root/secret
        sed -e 's|^ExecStart=.*|ExecStart=/usr/local/bin/probe|' -e 's|^Type=.*|Type=oneshot|' \
            -e '/^Restart=/d' -e '/^Watchdog/d' -e '/^NotifyAccess/d' -e '/^ExecReload/d' \
            /usr/lib/systemd/system/agentd.service >/run/systemd/system/agentd-probe.service
        systemctl daemon-reload");
    let done = sh("systemctl start agentd-probe.service");
    let said = ok("journalctl -q -u agentd-probe.service -o cat --no-pager | tail -n 40");
    assert!(done.is_ok(), "{done:?}\n{said}");
    ok("rm /run/systemd/system/agentd-probe.service && systemctl daemon-reload");
}

fn guests_run_outside_of_the_unit(agentd: &Agentd) {
    ok("systemctl start docker.service");
    engine::import(Path::new("/tmp"));
    // What the next boot looks for: one that is started first and thus is stopped last, and one that no boot starts.
    for (name, autostart) in [("box", &["--autostart-order", "1"][..]), ("idle", &["--autostart=false"][..])]
    {
        let line = ["container", "run", name, "--image", IMAGE, "--timeout", "5m"];
        agentd.ok(&[&line[..], autostart, &["--", "sh", "-c", STAY]].concat());
    }
    agentd.ok(&["vm", "run", "web", "--image", "micro", "--memory", "192MiB", "--timeout", "8m"]);
    guest::answers_within(agentd, "web", Duration::from_secs(300));
    guest::runs_programs(agentd, "web");
    // What it runs for a moment is there for a moment.
    wait_until("agentd is alone in its group", Duration::from_secs(30), || {
        let inside = ok("cat /sys/fs/cgroup/system.slice/agentd.service/cgroup.procs");
        if inside == main_pid() { Ok(()) } else { Err(inside) }
    });
    let group = ok("cat /proc/$(pgrep -x dnsmasq)/cgroup");
    assert!(group.contains("agentd-dnsmasq@") || group.contains("agentd\\x2ddnsmasq"), "{group}");
    let group = ok("cat /proc/$(pgrep -f '^/usr/bin/qemu-system')/cgroup");
    assert!(group.contains("machine.slice"), "{group}");
}

fn the_journal_tells_its_story() {
    let story = ok("journalctl -q --no-pager -o cat AGENTD_NAME=web");
    println!("{story}");
    for part in ["vm/web: created:", "vm/web: started:"] {
        assert!(story.contains(part), "{part}: {story}");
    }
    let fields = "journalctl -q --no-pager -o cat --output-fields=AGENTD_REQUEST_ID AGENTD_NAME=web AGENTD_KIND=vm \
                  AGENTD_PROJECT=default AGENTD_VERB=created";
    let request = ok(fields);
    let story = ok(&format!("journalctl -q --no-pager -o cat AGENTD_REQUEST_ID={request}"));
    assert!(story.contains("vm/web: created:") && !story.contains("container/box"), "{story}");
}

fn the_log_level_changes_while_it_runs(agentd: &Agentd) {
    let (before, debug) =
        (main_pid(), "journalctl -q --no-pager -o cat PRIORITY=7 _COMM=agentd | grep -c answered || true");
    agentd.ok(&["vm", "list"]);
    assert_eq!(ok(debug), "0");
    ok("printf '[daemon]\\nlog = \"debug\"\\ngroup = \"adm\"\\n' >/etc/agentd/conf.d/50-log.toml
        systemctl reload agentd.service");
    wait_until("what it answers is logged", Duration::from_secs(20), || {
        agentd.ok(&["vm", "list"]);
        if ok(debug) == "0" { Err("nothing".to_owned()) } else { Ok(()) }
    });
    let waiting = "journalctl -q --no-pager -o cat -u agentd.service | grep 'waiting for a restart'";
    assert!(ok(waiting).contains("daemon.group"));
    ok(
        "printf '[daemon]\\nlgo = \"info\"\\n' >/etc/agentd/conf.d/50-log.toml; systemctl reload agentd.service",
    );
    let refused = "journalctl -q --no-pager -o cat -u agentd.service | grep '50-log.toml:2:1: unknown field'";
    wait_until("the file is refused by its place", Duration::from_secs(20), || sh(refused));
    assert!(sh("agentd check-config").expect_err("refused").contains("50-log.toml:2:1"));
    ok("rm /etc/agentd/conf.d/50-log.toml; systemctl reload agentd.service; agentd check-config");
    assert_eq!(main_pid(), before);
}

fn a_hung_daemon_is_ended_and_started_anew(agentd: &Agentd) {
    ok("mkdir -p /etc/systemd/system/agentd.service.d
        printf '[Service]\\nWatchdogSec=9s\\n' >/etc/systemd/system/agentd.service.d/soon.conf
        systemctl daemon-reload; systemctl restart agentd.service");
    let (before, hung) = (guests(), main_pid());
    // Fed, it lives on past its limit.
    std::thread::sleep(Duration::from_secs(15));
    assert_eq!(main_pid(), hung);
    ok(&format!("kill -STOP {hung}"));
    wait_until("another agentd", Duration::from_secs(90), || {
        let now = main_pid();
        if now != hung && now != "0" { Ok(()) } else { Err(now) }
    });
    ok("journalctl -q --no-pager -o cat -u agentd.service | grep -i 'watchdog timeout'");
    answers(agentd);
    assert_eq!(guests(), before);
    ok("rm -r /etc/systemd/system/agentd.service.d; systemctl daemon-reload");
}

/// Who asks while it is away waits at the socket.
fn a_restart_stops_nothing_and_refuses_nobody(agentd: &Agentd) {
    let before = guests();
    let asks = std::thread::spawn(|| {
        (0..40).map(|_| agentd_list()).filter(|status| *status != 0).collect::<Vec<i32>>()
    });
    ok("systemctl restart agentd.service");
    assert_eq!(asks.join().expect("the asker"), Vec::<i32>::new());
    answers(agentd);
    assert_eq!(guests(), before);
}

/// systemd starts another Docker, behind the socket that it holds for it, while there is no agentd.
fn what_went_with_docker_while_agentd_was_away_is_started_again(agentd: &Agentd) {
    let running = "docker ps -q --filter name=box";
    ok("systemctl stop agentd.socket agentd.service
        systemctl kill --kill-who=main --signal=KILL docker.service");
    wait_until("another Docker, which has ended the container", Duration::from_secs(120), || {
        match sh(running) {
            Ok(none) if none.is_empty() => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    ok("systemctl start agentd.socket agentd.service");
    wait_until("the container", Duration::from_secs(60), || sh(&format!("{running} | grep .")));
    let container = agentd.get("container", "box").expect("there");
    assert_eq!(container["status"]["last_stop"]["how"], "host_down", "{container}");
    answers(agentd);
}

/// It is not let into a container's namespace: what it has to mend there, a unit does.
fn a_containers_mac_is_mended_from_outside_of_the_unit() {
    let inside = format!("nsenter --net --target {}", container());
    let mac = || ok(&format!("{inside} ip -oneline link show eth0 | grep -o 'ether [0-9a-f:]*'"));
    let was = mac();
    ok(&format!("{inside} ip link set eth0 address 02:00:00:00:00:01"));
    assert_eq!(mac(), "ether 02:00:00:00:00:01");
    // Nobody tells of it. It is seen as soon as the container is looked at, here since it has to be resumed.
    ok("docker pause $(docker ps -q --filter name=box)");
    wait_until("the container has its MAC", Duration::from_secs(60), || match mac() {
        now if now == was => Ok(()),
        now => Err(now),
    });
    ok("journalctl -q --no-pager -b -u 'agentd-mac@*' | grep Finished");
    assert_eq!(ok("systemctl list-units --failed --no-legend 'agentd*'"), "");
}

fn agentd_list() -> i32 {
    agentd().ctl(&["get", "vm"]).status
}

fn removal_keeps_guests_state_and_configuration(agentd: &Agentd) {
    let before = guests();
    ok("echo '# mine' >>/etc/agentd/agentd.toml");
    ok("dpkg -r agentd 2>&1");
    assert!(sh("pgrep -x agentd").is_err(), "it has ended");
    assert!(!Path::new(SOCKET).exists());
    assert_eq!(guests(), before);
    let page = guest_page();
    assert!(!page.is_empty());
    install(1);
    assert_eq!(ok("tail -n 1 /etc/agentd/agentd.toml"), "# mine");
    answers(agentd);
    assert_eq!(guests(), before);
}

/// A new version in the place of the old one, and the old one in that of the new.
fn an_upgrade_and_a_downgrade_stop_nothing(agentd: &Agentd) {
    for revision in [2, 1] {
        let (before, was) = (guests(), main_pid());
        let done = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let asks = std::thread::spawn({
            let done = done.clone();
            move || {
                let mut longest = Duration::ZERO;
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    let from = Instant::now();
                    assert_eq!(agentd_list(), 0, "refused while the package is exchanged");
                    longest = longest.max(from.elapsed());
                    // An emulated host has more to do.
                    std::thread::sleep(Duration::from_millis(200));
                }
                longest
            }
        });
        install(revision);
        assert_eq!(ok("dpkg-query -W -f '${Version}' agentd"), format!("0.1.0-{revision}"));
        assert_ne!(main_pid(), was, "the new one runs");
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        println!("the longest answer while revision {revision} came: {:?}", asks.join().expect("the asker"));
        answers(agentd);
        assert_eq!(guests(), before);
        assert_eq!(ok("tail -n 1 /etc/agentd/agentd.toml"), "# mine");
    }
}

/// The guest's web server, asked without agentd.
fn guest_page() -> String {
    ok("curl -sf --retry 3 http://$(cat /tmp/web.address)/")
}

/// Out here: a package of either sort, and the one after it.
fn furnish_with_all(payload: &Path) {
    furnish(payload);
    for (sort, revision) in [("deb", "2"), ("rpm", "1"), ("rpm", "2")] {
        pack(payload, sort, revision);
    }
}

fn an_administrators_day() {
    let agentd = agentd();
    is_installed_and_started_by_the_first_who_asks();
    systemd_finds_nothing_to_say_of_the_units();
    the_unit_has_more_where_it_needs_more();
    the_unit_lets_its_programs_work();
    guests_run_outside_of_the_unit(&agentd);
    crate::kvm::kvm_is_found_by_running_a_guest_and_used(&agentd, "web");
    std::fs::write("/tmp/web.address", agentd.address("web")).expect("noted");
    the_journal_tells_its_story();
    a_containers_mac_is_mended_from_outside_of_the_unit();
    the_log_level_changes_while_it_runs(&agentd);
    a_hung_daemon_is_ended_and_started_anew(&agentd);
    a_restart_stops_nothing_and_refuses_nobody(&agentd);
    what_went_with_docker_while_agentd_was_away_is_started_again(&agentd);
    removal_keeps_guests_state_and_configuration(&agentd);
    an_upgrade_and_a_downgrade_stop_nothing(&agentd);
}

boots_test!(
    vm_package_from_installation_to_its_purge,
    1200,
    furnish_with_all,
    [whole(an_administrators_day), whole(the_next_morning)]
);
