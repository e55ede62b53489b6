//! README's first command, in a namespace of its own: from nothing to a Debian guest that answers, and back.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use agent_tests::door;
use agent_tests::host::{daemon::binary, namespace, traces, wait_until};

const TEST: &str = "vm_quickstart_ends_with_a_debian_that_answers";
const LIMIT: Duration = Duration::from_secs(900);
/// What quickstart may take after the build. Written down in the README.
const PROMISED: Duration = Duration::from_secs(300);

#[test]
#[ignore = "needs a host of its own: run by tests/run"]
fn vm_quickstart_ends_with_a_debian_that_answers() {
    let Some(scratch) = namespace::inside() else {
        return namespace::run_inside(TEST, LIMIT);
    };
    namespace::furnish(&scratch).expect("a furnished namespace");
    let state = scratch.join("state");
    let keys = scratch.join("home/.ssh");
    std::fs::create_dir_all(&keys).expect("a home");
    let key = keys.join("id_ed25519").to_string_lossy().into_owned();
    namespace::run("/usr/bin/ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &key]).expect("a key");
    let (status, said, took) = quickstart(&[], &state);
    println!("{said}\nquickstart took {} s", took.as_secs());
    assert!(status, "{said}");
    assert!(said.contains("answers: SSH-2.0"), "a Debian's sshd greeted: {said}");
    assert!(said.contains("debian-12") && said.contains("running"), "{said}");
    assert!(said.contains("hello login:"), "its console has a login prompt: {said}");
    assert!(took < PROMISED, "{took:?}");

    guest_is_as_promised(&state);
    guest_does_what_it_is_told(&scratch);
    guest_goes_on_from_a_warm_memory(&scratch);
    clone_is_another_machine(&scratch);

    let (status, said, again) = quickstart(&[], &state);
    assert!(status, "a second time is harmless: {said}");
    assert!(again < took, "nothing was built anew");

    let (status, said, _) = quickstart(&["--down"], &state);
    assert!(status, "{said}");
    assert!(!state.exists(), "the state is gone");
    assert_eq!(traces::of_networks(), Vec::<String>::new());
    for program in ["agentd", "libvirtd", "virtlogd", "qemu-system-x86"] {
        assert_eq!(traces::processes(program), Vec::<String>::new(), "{said}");
    }
}

/// By what its console says: the disk has grown, no other data source and no time server was asked.
fn guest_is_as_promised(state: &std::path::Path) {
    let folder = std::fs::read_dir(state.join("vms"))
        .expect("vms")
        .next()
        .expect("one VM")
        .expect("its folder")
        .path();
    let console =
        String::from_utf8_lossy(&std::fs::read(folder.join("console.log")).expect("a console")).into_owned();
    assert!(!console.contains("169.254.169.254"), "a metadata server was asked:\n{console}");
    let seeds: Vec<_> = std::fs::read_dir(&folder)
        .expect("its files")
        .filter_map(Result::ok)
        .filter(|e| e.file_name().to_string_lossy().starts_with("seed"))
        .collect();
    assert_eq!(seeds.len(), 1);
    let mode = std::os::unix::fs::MetadataExt::mode(&seeds[0].metadata().expect("its mode"));
    assert_eq!(mode & 0o777, 0o600, "the seed holds secrets");
}

/// By its agent and over ssh, with the key that quickstart found.
fn guest_does_what_it_is_told(scratch: &std::path::Path) {
    let said = wait_until("its agent answers", Duration::from_secs(60), || {
        ctl(scratch, &["vm", "exec", "hello", "--", "cat", "/etc/debian_version"])
    });
    assert!(said.starts_with("12."), "{said}");
    let said = ctl(scratch, &["vm", "exec", "hello", "--user", "debian", "--", "sh", "-c", "id -nG; pwd"]);
    assert!(said.as_ref().is_ok_and(|s| s.contains("sudo") && s.ends_with("/home/debian\n")), "{said:?}");
    let facts = wait_until("its facts are known", Duration::from_secs(60), || {
        let vm = ctl(scratch, &["get", "vm/hello", "-o", "json"])?;
        let vm: serde_json::Value = serde_json::from_str(&vm).map_err(|e| e.to_string())?;
        if vm["status"]["guest"].is_null() {
            Err(vm["status"].to_string())
        } else {
            Ok(vm["status"]["guest"].clone())
        }
    });
    assert_eq!((&facts["os"]["id"], &facts["hostname"]), (&"debian".into(), &"hello".into()), "{facts}");
    // cloud-init puts the key in at its own time.
    let said = wait_until("ssh lets us in", Duration::from_secs(120), || {
        ctl(scratch, &["vm", "ssh", "hello", "--", "whoami; hostname"])
    });
    assert_eq!(said, "debian\nhello\n");
}

/// A start from a memory that was kept is a small part of a boot: until a program that runs in the guest answers, until
/// the guest takes a connection to its sshd, and until that has greeted. Without KVM the greeting is slow for once, since
/// sshd is begun anew for each connection and all that it does is translated anew.
fn guest_goes_on_from_a_warm_memory(scratch: &std::path::Path) {
    let ok = |arguments: &[&str]| ctl(scratch, arguments).unwrap_or_else(|e| panic!("{arguments:?}: {e}"));
    let began = |arguments: &[&str]| {
        ok(&["vm", "stop", "hello"]);
        let began = Instant::now();
        ok(arguments);
        began
    };
    let agent_after = |began: Instant| {
        wait_until("its agent answers", Duration::from_secs(240), || {
            ctl(scratch, &["vm", "exec", "hello", "--", "cat", "/etc/hostname"])
        });
        began.elapsed()
    };
    let sshd_after = |began: Instant| {
        let connected = sshd_answers(scratch, "hello");
        (connected - began, began.elapsed())
    };
    // A boot takes so long that one tells of both.
    let cold = began(&["vm", "start", "hello", "--no-wait"]);
    let (agent, (taken, greeted)) = std::thread::scope(|scope| {
        let agent = scope.spawn(|| agent_after(cold));
        let sshd = sshd_after(cold);
        (agent.join().expect("its agent's time"), sshd)
    });
    ok(&["snapshot", "create", "hello", "warm", "--memory"]);
    // By the better of two: what else the machine does in these moments is not the snapshot's. The agent's answer was seen
    // after 0.042 to 0.046 of a cold boot; a fifteenth leaves room for a busy machine.
    let warm = || began(&["snapshot", "restore", "warm", "--no-wait"]);
    let by_agent = agent_after(warm()).min(agent_after(warm()));
    let (first, second) = (sshd_after(warm()), sshd_after(warm()));
    let (by_connection, by_greeting) = (first.0.min(second.0), first.1.min(second.1));
    let parts = [
        ("its agent answers", by_agent, agent, 15),
        ("sshd takes a connection", by_connection, taken, 20),
        ("sshd greets", by_greeting, greeted, 10),
    ];
    for (what, warm, cold, _) in parts {
        let ratio = warm.as_secs_f64() / cold.as_secs_f64();
        println!("{what}: cold after {cold:?}, from a warm memory after {warm:?}: {ratio:.3}");
    }
    for (what, warm, cold, part) in parts {
        assert!(warm * part <= cold, "{what}: {warm:?} is more than a part in {part} of {cold:?}");
    }
    ok(&["snapshot", "rm", "warm"]);
}

/// By what its guest has: a name, a machine id and host keys of its own.
fn clone_is_another_machine(scratch: &std::path::Path) {
    let identity = |name: &str| {
        let keys = "hostname; cat /etc/machine-id; cut -d' ' -f2 /etc/ssh/ssh_host_ed25519_key.pub";
        let ask = format!("cloud-init status --wait >/dev/null; {keys}");
        let said = wait_until(&format!("{name} says who it is"), Duration::from_secs(180), || {
            ctl(scratch, &["vm", "exec", name, "--", "sh", "-c", &ask])
        });
        said.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let before = identity("hello");
    let cloned = ctl(scratch, &["vm", "clone", "hello", "twin"]);
    assert!(cloned.is_ok(), "{cloned:?}");
    sshd_answers(scratch, "twin");
    let (twin, hello) = (identity("twin"), identity("hello"));
    assert_eq!((twin.len(), hello.len(), &twin[0][..], &hello[0][..]), (3, 3, "twin", "hello"));
    assert_eq!(hello, before, "the source stays who it is");
    for n in 1..3 {
        assert!(twin[n].len() >= 32 && twin[n] != hello[n], "{twin:?} {hello:?}");
    }
    let removed = ctl(scratch, &["vm", "rm", "twin"]);
    assert!(removed.is_ok(), "{removed:?}");
}

/// Waits until its sshd greets; gives when the connection was taken on which it did. One is begun anew rather than waited
/// for: a packet that came before the guest did is sent again only after seconds.
fn sshd_answers(scratch: &std::path::Path, name: &str) -> Instant {
    let vm = ctl(scratch, &["get", &format!("vm/{name}"), "-o", "json"]).expect("it is there");
    let vm: serde_json::Value = serde_json::from_str(&vm).expect("JSON");
    let to = format!("{}:22", vm["status"]["addresses"][0]["ip"].as_str().expect("an address"));
    let to: SocketAddr = to.parse().expect("a socket's address");
    wait_until(&format!("{name} greets at {to}"), Duration::from_secs(240), || {
        let mut stream =
            TcpStream::connect_timeout(&to, Duration::from_millis(150)).map_err(|e| e.to_string())?;
        let taken = Instant::now();
        stream.set_read_timeout(Some(Duration::from_secs(10))).map_err(|e| e.to_string())?;
        let mut greeting = [0; 4];
        stream.read_exact(&mut greeting).map_err(|e| e.to_string())?;
        if &greeting == b"SSH-" { Ok(taken) } else { Err(format!("{greeting:?}")) }
    })
}

#[expect(clippy::disallowed_methods, reason = "a harness starts programs; the rule is for the daemon")]
fn ctl(scratch: &std::path::Path, arguments: &[&str]) -> Result<String, String> {
    let mut command = Command::new(binary("agentctl"));
    command.args(arguments).env("HOME", scratch.join("home")).stdin(Stdio::null());
    let output = command.output().expect("agentctl runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() { Ok(said) } else { Err(format!("{output:?}")) }
}

#[expect(clippy::disallowed_methods, reason = "a harness starts programs; the rule is for the daemon")]
fn quickstart(arguments: &[&str], state: &std::path::Path) -> (bool, String, Duration) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/quickstart");
    let agentd = binary("agentd");
    let from = Instant::now();
    let output = Command::new("/bin/bash")
        .arg(script)
        .args(arguments)
        .env("AGENTD_BIN_DIR", agentd.parent().expect("a folder"))
        .env("AGENTD_STATE_DIR", state)
        .env("HOME", state.with_file_name("home"))
        .env("http_proxy", door::PROXY)
        .stdin(Stdio::null())
        .output()
        .expect("quickstart runs");
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.success(), said, from.elapsed())
}
