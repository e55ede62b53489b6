//! Other machines, as whole commands: an authority is made, a client let in, its machine joined and `--host` used; and
//! what is said to those who are not let in. All of it on loopback.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use agent_tests::host::daemon::Answer;
use agent_tests::host::wait_until;
use agent_tests::remote::OtherMachine;
use agent_tests::sim::{LIMIT, Sim, finished};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::follow::Following;

/// A host that other machines can call, and the user of such a machine.
struct Hosts {
    folder: tempfile::TempDir,
    other: OtherMachine,
    sim: Sim,
    at: String,
}

impl Hosts {
    /// It listens on that address of loopback; its authority's daemon is for `localhost`, `127.0.0.1` and `rack.test`.
    fn start(address: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let other = OtherMachine::at(folder.path());
        let (at, text) = other.let_in(address);
        let config = folder.path().join("agentd.toml");
        std::fs::write(&config, text).expect("written");
        let sim = Sim::start(&["--config", config.to_str().expect("text")]);
        let hosts = Self { folder, other, sim, at };
        hosts.listening();
        hosts
    }

    /// Waits until it can be called. The Unix socket answers before that.
    fn listening(&self) {
        wait_until("agentd listens", LIMIT, || {
            let answer = self.sim.ctl(&["info"]);
            if answer.stdout.contains("listens on ") {
                Ok(())
            } else {
                Err(format!("{answer:?}\n{}", self.sim.log()))
            }
        });
    }

    fn command(&self, arguments: &[&str]) -> Command {
        self.other.command(arguments)
    }
    fn ctl(&self, arguments: &[&str]) -> Answer {
        self.other.ctl(arguments)
    }
    #[track_caller]
    fn ok(&self, arguments: &[&str]) -> String {
        let answer = self.ctl(arguments);
        assert_eq!(answer.status, 0, "{arguments:?}: {answer:?}\n{}", self.sim.log());
        answer.stdout
    }
    /// What must be refused: with this status, these words, and one hint with those.
    #[track_caller]
    fn refused(&self, arguments: &[&str], (status, words, hint): (i32, &str, &str)) {
        let answer = self.ctl(arguments);
        assert_eq!(answer.status, status, "{arguments:?}: {answer:?}");
        assert!(answer.stderr.contains(words), "{arguments:?}: {answer:?}");
        let last = answer.stderr.lines().last().unwrap_or_default();
        assert!(last.starts_with("hint: ") && last.contains(hint), "{arguments:?}: {answer:?}");
    }
}

#[test]
fn another_machine_does_by_its_name_what_is_done_here_by_the_socket() {
    let hosts = Hosts::start("127.0.0.1");
    let mode = hosts.folder.path().join("laptop.pem").metadata().expect("a bundle").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    hosts.ok(&["remote", "join", "rack", &hosts.at, "laptop.pem"]);
    let all: Value = serde_json::from_str(&hosts.ok(&["remote", "list", "-o", "json"])).expect("JSON");
    assert_eq!(all["items"][0]["name"], "rack");
    assert_eq!(all["items"][0]["address"], hosts.at.as_str());
    assert_eq!(all["items"][0]["client"], "laptop");

    let mut command = hosts.command(&["--host", "rack", "watch", "vm", "-o", "json"]);
    let mut watch = Following::of(&mut command);
    watch.until(|line| line.contains("bookmark"));
    hosts.ok(&["--host", "rack", "vm", "run", "web", "--image", "micro"]);
    watch.until(|line| line.contains("\"state\":\"running\""));
    assert_eq!(hosts.ok(&["vm", "list", "--host", "rack", "-o", "name"]), "vm/web\n");
    let seen: Value =
        serde_json::from_str(&hosts.ok(&["--host", "rack", "get", "vm/web", "-o", "json"])).expect("JSON");
    assert_eq!(Some(seen), hosts.sim.get("vm/web"), "both ways show the same object");
    hosts.ok(&["--host", "rack", "container", "run", "tool", "--image", "tool", "--", "serve"]);
    let exec = &["--host", "rack", "container", "exec", "tool", "--", "echo", "hello"];
    let here = hosts.sim.ok(&exec[2..]);
    assert!(here.contains("hello"), "{here}");
    assert_eq!(hosts.ok(exec), here, "an upgraded connection goes over it too");
    let mut by_environment = hosts.command(&["vm", "list", "-o", "name"]);
    let answer = finished(by_environment.env("AGENTD_HOST", "rack").output().expect("agentctl runs"));
    assert_eq!((answer.status, answer.stdout.as_str()), (0, "vm/web\n"), "{answer:?}");

    let events = hosts.sim.ok(&["events", "-o", "json"]);
    assert!(events.contains("\"actor\":\"remote:laptop\""), "{events}");
    hosts.ok(&["remote", "forget", "rack"]);
    hosts.refused(
        &["--host", "rack", "vm", "list"],
        (3, "no remote 'rack' was joined", "agentctl remote list"),
    );
}

#[test]
fn a_daemon_that_dies_and_comes_back_is_found_again() {
    let mut hosts = Hosts::start("127.0.0.1");
    hosts.ok(&["remote", "join", "rack", &hosts.at, "laptop.pem"]);
    let mut command = hosts.command(&["--host", "rack", "watch", "vm", "-o", "json"]);
    let mut watch = Following::of(&mut command);
    watch.until(|line| line.contains("bookmark"));
    hosts.sim.kill();
    let port = hosts.at.rsplit(':').next().expect("a port").to_owned();
    hosts.refused(
        &["--host", "rack", "vm", "list"],
        (7, "no daemon answers on 127.0.0.1:", &format!("port {port}")),
    );
    hosts.refused(&["--host", "rack", "doctor"], (7, "no daemon answers on ", "[remote] listen"));
    hosts.sim.again();
    hosts.listening();
    hosts.ok(&["--host", "rack", "vm", "run", "web", "--image", "micro"]);
    watch.until(|line| line.contains("\"state\":\"running\""));
}

#[test]
fn a_bundle_can_go_from_one_command_into_the_other() {
    let hosts = Hosts::start("127.0.0.1");
    let made =
        hosts.command(&["remote", "add-client", "ci", "--dir", "authority"]).output().expect("agentctl runs");
    assert!(made.status.success() && made.stderr.is_empty(), "{made:?}");
    let mut join = hosts.command(&["remote", "join", "rack", &hosts.at, "-"]);
    let mut child = join.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("agentctl runs");
    std::io::Write::write_all(&mut child.stdin.take().expect("stdin"), &made.stdout).expect("sent");
    let answer = finished(child.wait_with_output().expect("it ends"));
    assert_eq!(answer.status, 0, "{answer:?}");
    assert_eq!(hosts.ok(&["--host", "rack", "vm", "list", "-o", "name"]), "");
}

#[test]
fn what_is_there_is_not_made_again_and_two_daemons_are_not_one() {
    let hosts = Hosts::start("127.0.0.1");
    hosts.refused(&["remote", "init", "--dir", "authority"], (4, "has an authority already", "--renew"));
    let add = ["remote", "add-client", "laptop", "--dir", "authority", "--out", "more.pem"];
    hosts.refused(&add, (4, "client 'laptop' has a certificate until", "remote revoke laptop"));
    hosts.refused(
        &["remote", "revoke", "nobody", "--dir", "authority"],
        (3, "no client 'nobody'", "list-clients"),
    );
    hosts.refused(&["remote", "list-clients", "--dir", "none"], (3, "there is no none/", "remote init"));
    hosts.ok(&["remote", "join", "rack", &hosts.at, "laptop.pem", "--offline"]);
    hosts.refused(
        &["remote", "join", "rack", &hosts.at, "laptop.pem"],
        (4, "was joined already", "remote forget rack"),
    );
    let both = hosts.ctl(&["--host", "rack", "--socket", "/run/x.sock", "vm", "list"]);
    assert_eq!(both.status, 2, "{both:?}");
    // What is typed wins over the environment.
    let mut typed = hosts.command(&["--host", "rack", "vm", "list"]);
    let answer = finished(typed.env("AGENTD_SOCKET", "/run/none.sock").output().expect("agentctl runs"));
    assert_eq!(answer.status, 0, "{answer:?}");
    let socket = hosts.sim.socket();
    let mut typed = hosts.command(&["--socket", socket.to_str().expect("text"), "vm", "list"]);
    let answer = finished(typed.env("AGENTD_HOST", "nobody").output().expect("agentctl runs"));
    assert_eq!(answer.status, 0, "{answer:?}");
}

#[test]
fn who_was_revoked_is_let_in_no_more_and_what_it_had_open_is_closed() {
    let hosts = Hosts::start("127.0.0.1");
    hosts.ok(&["remote", "join", "rack", &hosts.at, "laptop.pem"]);
    let watch = hosts
        .command(&["--host", "rack", "watch", "vm"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let watch = watch.expect("agentctl runs");
    hosts.ok(&["--host", "rack", "vm", "list"]);
    hosts.ok(&["remote", "revoke", "laptop", "--dir", "authority"]);
    let listed = hosts.ok(&["remote", "list-clients", "--dir", "authority", "-o", "json"]);
    assert!(listed.contains("\"state\":\"revoked\""), "{listed}");
    wait_until("the client is refused", LIMIT, || {
        let answer = hosts.ctl(&["--host", "rack", "vm", "list"]);
        if answer.status == 6 { Ok(()) } else { Err(format!("{answer:?}")) }
    });
    let refusal = (6, "does not let this client in: the certificate was revoked", "remote add-client");
    hosts.refused(&["--host", "rack", "vm", "list"], refusal);
    let ended = finished(watch.wait_with_output().expect("it ends"));
    assert_eq!(ended.status, 6, "{ended:?}");
    // A new one may have the name, and the socket was never asked for one.
    hosts.ok(&["remote", "add-client", "laptop", "--dir", "authority", "--out", "new.pem"]);
    hosts.ok(&["remote", "join", "again", &hosts.at, "new.pem"]);
    hosts.sim.ok(&["vm", "list"]);
}

#[test]
fn what_answers_by_another_name_or_of_another_authority_is_not_trusted() {
    let hosts = Hosts::start("127.0.0.2");
    let join = ["remote", "join", "rack", &hosts.at, "laptop.pem"];
    let hint = "agentctl remote init --renew --name 127.0.0.2";
    hosts.refused(&join, (1, "its certificate is not for that name", hint));
    hosts.ok(&["remote", "init", "--dir", "authority", "--renew", "--name", "127.0.0.2"]);
    // agentd takes the new certificate up by itself.
    wait_until("the new certificate holds", LIMIT, || {
        let answer = hosts.ctl(&join);
        if answer.status == 0 { Ok(()) } else { Err(format!("{answer:?}")) }
    });
    hosts.ok(&["remote", "init", "--dir", "other"]);
    hosts.ok(&["remote", "add-client", "laptop", "--dir", "other", "--out", "other.pem"]);
    let strange = ["remote", "join", "strange", &hosts.at, "other.pem"];
    hosts.refused(&strange, (1, "its certificate is not of the authority that is known here", "made anew"));
    hosts.refused(
        &["remote", "join", "no", &hosts.at, "agentd.toml"],
        (2, "agentd.toml has not a client's certificate", "remote add-client"),
    );
}

#[test]
fn without_files_or_a_port_the_socket_is_served_and_what_is_missing_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = taken.local_addr().expect("an address");
    let dir = folder.path().join("authority");
    let config = folder.path().join("agentd.toml");
    std::fs::write(&config, format!("[remote]\nlisten = \"{at}\"\ndir = \"{}\"\n", dir.display()))
        .expect("written");
    let sim = Sim::start(&["--config", config.to_str().expect("text")]);
    let told = |what: &str| {
        wait_until(what, LIMIT, || {
            let answer = sim.ctl(&["doctor"]);
            if answer.stdout.contains(what) { Ok(()) } else { Err(format!("{answer:?}\n{}", sim.log())) }
        });
    };
    told("`agentctl remote init` makes it");
    OtherMachine::at(folder.path()).ok(&["remote", "init", "--dir", "authority"]);
    told(&format!("`ss -ltnp sport = :{}` names it", at.port()));
    drop(taken);
    told(&format!("listens on {at} with a certificate until "));
}

#[test]
fn a_host_is_called_by_an_address_of_ipv6() {
    let hosts = Hosts::start("::1");
    assert!(hosts.at.starts_with("[::1]:"), "{}", hosts.at);
    hosts.ok(&["remote", "join", "rack", &hosts.at, "laptop.pem"]);
    hosts.ok(&["--host", "rack", "vm", "run", "web", "--image", "micro"]);
    assert_eq!(hosts.sim.state("vm/web"), "running");
}

#[test]
fn files_are_read_at_once_when_it_is_told_to() {
    let hosts = Hosts::start("127.0.0.1");
    let read = "the certificates for other machines were read again";
    // Files that are as they were are looked at and not read.
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert!(!hosts.sim.log().contains(read), "{}", hosts.sim.log());
    hosts.sim.signal(Signal::SIGHUP);
    wait_until("they are read", LIMIT, || {
        let log = hosts.sim.log();
        if log.contains(read) { Ok(()) } else { Err(log) }
    });
    hosts.ok(&["remote", "join", "rack", &hosts.at, "laptop.pem"]);
}
