//! Programs in guests and copies, by what the guest's programs say and its files hold.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use agent_tests::host::{Agentd, Host, guest, namespace, wait_until};
use agent_tests::host_test;

use crate::console::Person;
use nix::sys::signal::Signal;

/// Most of what agentd may grow by, however much goes through it.
pub const GROWTH_KIB: u64 = 64 << 10;

fn run(agentd: &Agentd, name: &str, command: &[&str]) -> agent_tests::host::Answer {
    let mut arguments = vec!["vm", "exec", name, "--"];
    arguments.extend(command);
    agentd.ctl(&arguments)
}

/// The stdout of what must succeed in the guest.
fn said(agentd: &Agentd, name: &str, script: &str) -> String {
    let answer = run(agentd, name, &["sh", "-c", script]);
    assert_eq!(answer.status, 0, "{script}: {answer:?}\n{}", agentd.log_text());
    answer.stdout
}

fn with_guest(host: &mut Host, memory: &str) -> Agentd {
    let agentd = host.with_agentd();
    agentd.ok(&["vm", "run", "web", "--image", "micro", "--memory", memory]);
    wait_until("its agent answers", guest::BOOT, || {
        let answer = run(&agentd, "web", &["true"]);
        if answer.status == 0 {
            Ok(())
        } else {
            Err(format!("{answer:?}\n{}", guest::console(&agentd, "web")))
        }
    });
    agentd
}

/// agentctl with that stdin.
pub fn fed(agentd: &Agentd, arguments: &[&str], stdin: &[u8]) -> Output {
    let mut command = agentd.command(arguments);
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("agentctl starts");
    let mut to = child.stdin.take().expect("its stdin");
    let stdin = stdin.to_vec();
    let feeder = std::thread::spawn(move || drop(to.write_all(&stdin)));
    let output = child.wait_with_output().expect("its end");
    feeder.join().expect("fed");
    output
}

pub fn resident_kib(pid: u32) -> u64 {
    memory_kib(pid, "VmRSS:")
}

/// The most that was ever resident.
pub fn peak_kib(pid: u32) -> u64 {
    memory_kib(pid, "VmHWM:")
}

fn memory_kib(pid: u32, what: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a status");
    let line = status.lines().find(|line| line.starts_with(what)).expect("its memory");
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number")
}

host_test!(vm_exec_is_as_if_the_program_ran_here, |host| {
    let agentd = with_guest(host, "192MiB");
    let answer = run(&agentd, "web", &["sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!((answer.status, answer.stdout.as_str(), answer.stderr.as_str()), (7, "out\n", "err\n"));
    let answer = run(&agentd, "web", &["no-such-program"]);
    assert_eq!(answer.status, 127, "{answer:?}");
    assert!(answer.stderr.contains("no-such-program"), "{answer:?}");
    assert_eq!(run(&agentd, "web", &["sh", "-c", "kill -9 $$"]).status, 128 + 9);

    // Its environment, folder and user.
    let flags = ["--env", "A=b c", "--env", "B=", "--cwd", "/tmp", "--user", "65534"];
    let mut arguments = vec!["vm", "exec", "web"];
    arguments.extend(flags);
    arguments.extend(["--", "sh", "-c", "echo \"[$A][$B] $(pwd) $(id -u)\""]);
    assert_eq!(agentd.ok(&arguments), "[b c][] /tmp 65534\n");
    let answer = agentd.ctl(&["vm", "exec", "web", "--user", "nobody-at-all", "--", "true"]);
    assert_eq!(answer.status, 3, "{answer:?}");
    assert!(answer.stderr.contains("nobody-at-all"), "{answer:?}");

    // Input comes as it is typed, ends, and can be much.
    let sum = |bytes: &[u8]| fed(&agentd, &["vm", "exec", "web", "-i", "--", "md5sum"], bytes);
    let output = sum(b"hello\n");
    assert!(output.stdout.starts_with(b"b1946ac92492d2347c6235b4d2611184"), "{output:?}");
    let much: Vec<u8> = (0..20_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let here = host.scratch().join("much");
    fs::write(&here, &much).expect("a file");
    let wanted = namespace::run("/usr/bin/md5sum", &[&here.to_string_lossy()]).expect("md5sum");
    let output = sum(&much);
    assert_eq!(String::from_utf8_lossy(&output.stdout)[..32], wanted[..32], "{output:?}");
    // A program that reads nothing, and one that writes what it reads, hold up nobody.
    let output = fed(&agentd, &["vm", "exec", "web", "-i", "--", "true"], &much[..1_000_000]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let output = fed(&agentd, &["vm", "exec", "web", "-i", "--", "cat"], &much[..5_000_000]);
    assert!(output.stdout == much[..5_000_000], "{} bytes came back", output.stdout.len());

    a_flood_costs_no_memory(&agentd);
    what_is_not_heard_ends(&agentd);
    a_window_is_resized(&agentd);
    refusals(&agentd);
    facts(&agentd);
});

/// 200 MB through, while another session answers as ever.
fn a_flood_costs_no_memory(agentd: &Agentd) {
    let before = resident_kib(agentd.pid());
    let flood = "dd if=/dev/zero bs=65536 count=3200 2>/dev/null";
    let mut command = agentd.command(&["vm", "exec", "web", "--", "sh", "-c", flood]);
    let from = Instant::now();
    let mut child = command.stdout(Stdio::piped()).spawn().expect("agentctl starts");
    let mut out = child.stdout.take().expect("its stdout");
    // Nobody reads yet: it waits, and others do not.
    let other = Instant::now();
    assert_eq!(said(agentd, "web", "echo here"), "here\n");
    println!("beside a session that nobody reads: {:?}", other.elapsed());
    let (mut total, mut most, mut buffer) = (0_u64, 0, vec![0; 1 << 20]);
    while let Ok(count @ 1..) = out.read(&mut buffer) {
        assert!(buffer[..count].iter().all(|b| *b == 0));
        total += count as u64;
        most = most.max(resident_kib(agentd.pid()));
    }
    assert_eq!(child.wait().expect("its end").code(), Some(0));
    assert_eq!(total, 3200 * 65536);
    println!("{total} bytes in {:?}; agentd grew from {before} to {most} KiB", from.elapsed());
    assert!(most < before + GROWTH_KIB, "agentd grew from {before} to {most} KiB");
}

/// Ctrl-C is passed on; a caller that is killed takes its program with it.
fn what_is_not_heard_ends(agentd: &Agentd) {
    let begin = |script: &str| {
        let child = agentd.command(&["vm", "exec", "web", "--", "sh", "-c", script]);
        let mut child = { child }.stdout(Stdio::piped()).spawn().expect("agentctl starts");
        let mut word = [0; 6];
        child.stdout.as_mut().expect("its stdout").read_exact(&mut word).expect("it runs");
        child
    };
    let mut child = begin("trap 'echo caught; exit 5' INT; echo begun; while :; do sleep 1; done");
    agent_tests::host::signal(child.id(), Signal::SIGINT);
    let mut rest = String::new();
    child.stdout.as_mut().expect("its stdout").read_to_string(&mut rest).expect("text");
    assert_eq!((child.wait().expect("its end").code(), rest.as_str()), (Some(5), "caught\n"));

    let mut child = begin("echo begun; exec sleep 4711");
    child.kill().expect("killed");
    child.wait().expect("its end");
    program_is_gone(agentd, "sleep 4711");
}

/// The program's terminal is as large as the person's, from its start on and when that changes, which it is told.
fn a_window_is_resized(agentd: &Agentd) {
    let script = "trap 'echo heard: $(stty size)' WINCH; echo first: $(stty size); while :; do sleep 1; done";
    let mut person = Person::runs(agentd, &["vm", "exec", "-it", "web", "--", "sh", "-c", script]);
    person.sees("first: 40 120\r\n");
    person.resizes(33, 101);
    person.sees("heard: 33 101\r\n");
    person.types("\x03");
    assert_eq!(person.ends(), 128 + 2);
}

fn program_is_gone(agentd: &Agentd, line: &str) {
    let look = format!("ps | grep -v grep | grep -c '{line}' || true");
    wait_until(&format!("no '{line}' runs in the guest"), Duration::from_secs(30), || {
        let count = said(agentd, "web", &look);
        if count.trim() == "0" { Ok(()) } else { Err(count) }
    });
}

fn refusals(agentd: &Agentd) {
    let long = "x".repeat(100_000);
    let mut arguments = vec!["vm", "exec", "web", "--", "echo"];
    arguments.extend([long.as_str(); 11]);
    let answer = agentd.ctl(&arguments);
    assert_eq!(answer.status, 2, "{}", answer.stderr);
    assert!(answer.stderr.contains("argv: has 1100"), "{}", answer.stderr);

    for (from, to) in
        [("/etc/hosts", "web:/tmp/../etc/x"), ("web:/tmp/../etc/hosts", "/tmp/x"), ("/etc/hosts", "web:x")]
    {
        let answer = agentd.ctl(&["vm", "cp", from, to]);
        assert_eq!(answer.status, 2, "{from} {to}: {answer:?}");
        assert!(answer.stderr.contains("path: must "), "{from} {to}: {answer:?}");
    }
    let answer = agentd.ctl(&["vm", "cp", "web:/no/such", "/tmp/x"]);
    assert_eq!(answer.status, 3, "{answer:?}");
    let answer = agentd.ctl(&["vm", "cp", "/etc/hosts", "web:/no/such/file"]);
    assert_eq!(answer.status, 3, "{answer:?}");
}

/// The guest's own view, in the VM's status.
fn facts(agentd: &Agentd) {
    let vm = wait_until("its facts are known", Duration::from_secs(40), || {
        let vm = agentd.vm("web");
        let text = vm["status"]["guest"].to_string();
        if text.contains(&agentd.address("web")) && text.contains("/data") { Ok(vm) } else { Err(text) }
    });
    let guest = &vm["status"]["guest"];
    assert_eq!(guest["hostname"], said(agentd, "web", "hostname").trim());
    assert_eq!(guest["kernel"], said(agentd, "web", "uname -r").trim());
    let data = guest["filesystems"].as_array().and_then(|all| all.iter().find(|one| one["path"] == "/data"));
    assert_eq!(data.expect("its disk")["type"], "ext4", "{guest}");
    // Nothing is written while nothing changes.
    let revision = vm["revision"].clone();
    std::thread::sleep(Duration::from_secs(5));
    assert_eq!(agentd.vm("web")["revision"], revision);
}

/// All below a folder, as what each is.
pub fn listing(top: &Path) -> Vec<String> {
    let (mut found, mut todo) = (Vec::new(), vec![top.to_owned()]);
    while let Some(path) = todo.pop() {
        let meta = fs::symlink_metadata(&path).expect("it is there");
        let name = path.strip_prefix(top).expect("below").display().to_string();
        let what = if meta.is_dir() {
            todo.extend(fs::read_dir(&path).expect("a folder").map(|e| e.expect("an entry").path()));
            "folder".to_owned()
        } else if meta.is_symlink() {
            format!("to {}", fs::read_link(&path).expect("a link").display())
        } else {
            let bytes = fs::read(&path).expect("a file");
            let sum = bytes.iter().fold(0_u64, |sum, b| sum.wrapping_mul(31).wrapping_add(u64::from(*b)));
            format!("{} bytes {sum:x}", bytes.len())
        };
        let mode = if meta.is_symlink() { 0 } else { meta.mode() & 0o777 };
        found.push(format!("{name} {mode:o} {}.{} {what}", meta.mtime(), meta.mtime_nsec()));
    }
    found.sort();
    found
}

host_test!(vm_cp_brings_trees_there_and_back_as_they_are, |host| {
    // Its root is in memory: the big file twice, and the system.
    let mut agentd = with_guest(host, "640MiB");
    let tree = host.scratch().join("tree");
    for n in 0..1000 {
        let folder = tree.join(format!("{}", n % 20));
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join(format!("file {n}")), format!("{n}").repeat(n % 50)).expect("a file");
    }
    let big: Vec<u8> = (0..100_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    fs::write(tree.join("big"), &big).expect("a file");
    fs::set_permissions(tree.join("big"), fs::Permissions::from_mode(0o640)).expect("a mode");
    symlink("../outside", tree.join("link")).expect("a link");
    let (here, from) = (tree.to_string_lossy().into_owned(), Instant::now());
    let answer = agentd.ctl(&["vm", "cp", &here, "web:/tmp"]);
    assert_eq!(answer.status, 0, "{answer:?}\n{}", agentd.log_text());
    assert!(answer.stderr.contains("sending") && answer.stderr.contains("100 %"), "no progress: {answer:?}");
    println!("100 MB and 1,000 files into the guest in {:?}", from.elapsed());
    let wanted = namespace::run("/usr/bin/md5sum", &[&tree.join("big").to_string_lossy()]).expect("md5sum");
    assert_eq!(said(&agentd, "web", "md5sum </tmp/tree/big")[..32], wanted[..32]);
    assert_eq!(said(&agentd, "web", "find /tmp/tree -type f | wc -l").trim(), "1001");
    assert_eq!(
        said(&agentd, "web", "readlink /tmp/tree/link; stat -c %a /tmp/tree/big"),
        "../outside\n640\n"
    );
    let (back, from) = (host.scratch().join("back"), Instant::now());
    agentd.ok(&["vm", "cp", "web:/tmp/tree", &back.to_string_lossy()]);
    println!("and back in {:?}", from.elapsed());
    assert!(listing(&back) == listing(&tree), "what came back differs");

    a_full_disk(&agentd, &tree.join("big"));
    killed_in_the_middle(host, &mut agentd);
    without_an_agent(&agentd);
});

/// What a PUT of a file is answered, which need not be taken to its end for that.
fn put(agentd: &Agentd, path: &str, file: &Path) -> String {
    let mut stream = UnixStream::connect(agentd.socket()).expect("the socket");
    let mut file = fs::File::open(file).expect("a file");
    let size = file.metadata().expect("its size").len();
    let head = "Host: agentd\r\nContent-Type: application/octet-stream\r\nConnection: close";
    write!(stream, "PUT {path} HTTP/1.1\r\n{head}\r\nContent-Length: {size}\r\n\r\n").expect("a request");
    let _ = std::io::copy(&mut file, &mut stream);
    let mut told = vec![0; 4096];
    let read = stream.read(&mut told).expect("an answer");
    String::from_utf8_lossy(&told[..read]).into_owned()
}

/// What has no room in the guest is said so, by its path, and nothing half is left there; what has room goes on.
fn a_full_disk(agentd: &Agentd, big: &Path) {
    // The micro guest's own disk holds 64 MiB, which is less than the file.
    let free = || said(agentd, "web", "df -k /data | tail -n 1 | awk '{ print $4 }'");
    let (before, big) = (free(), big.to_string_lossy().into_owned());
    let answer = agentd.ctl(&["vm", "cp", &big, "web:/data/full"]);
    assert_eq!(answer.status, 1, "{answer:?}");
    for word in ["/data/full", "no room", "No space left on device", "hint: "] {
        assert!(answer.stderr.contains(word), "no '{word}': {answer:?}");
    }
    let archive = format!("{big}.tar");
    let (folder, name) = (Path::new(&big).parent().expect("a folder"), "big");
    namespace::run("/bin/tar", &["-cf", &archive, "-C", &folder.to_string_lossy(), name]).expect("tar");
    let told = put(agentd, "/v1/vms/web/files?path=/data/full", Path::new(&archive));
    assert!(told.starts_with("HTTP/1.1 507 ") && told.contains("insufficient_capacity"), "{told}");
    fs::remove_file(&archive).expect("removed");
    assert_eq!(said(agentd, "web", "ls -A /data | grep full || true"), "");
    wait_until("the room is free again", Duration::from_secs(20), || {
        let now = free();
        if now == before { Ok(()) } else { Err(format!("{now} of {before}")) }
    });
    agentd.ok(&["vm", "cp", "/etc/hosts", "web:/data/full"]);
}

/// Nothing half-written has a final name, and programs end with the daemon that began them.
fn killed_in_the_middle(host: &Host, agentd: &mut Agentd) {
    let big = host.scratch().join("tree/big").to_string_lossy().into_owned();
    let out = host.scratch().join("half");
    let mut sleeper =
        agentd.command(&["vm", "exec", "web", "--", "sleep", "4712"]).spawn().expect("agentctl");
    let mut copies = [
        agentd.command(&["vm", "cp", "-q", &big, "web:/tmp/half"]).spawn().expect("agentctl"),
        agentd
            .command(&["vm", "cp", "-q", "web:/tmp/tree/big", &out.to_string_lossy()])
            .spawn()
            .expect("agentctl"),
    ];
    wait_until("all of it is under way", Duration::from_secs(20), || {
        let there = said(agentd, "web", "ls -A /tmp; ps | grep -c 'sleep 471[2]'");
        let here = fs::read_dir(host.scratch()).expect("scratch").filter_map(Result::ok);
        let here = here.filter(|e| e.file_name().to_string_lossy().starts_with(".half.agentd-part")).count();
        if there.contains(".half.agentd-part") && there.ends_with("\n1\n") && here == 1 {
            Ok(())
        } else {
            Err(there)
        }
    });
    agentd.kill();
    for copy in &mut copies {
        assert_ne!(copy.wait().expect("its end").code(), Some(0));
    }
    assert_ne!(sleeper.wait().expect("its end").code(), Some(0));
    assert!(!out.exists(), "half a file has its final name");
    let left = fs::read_dir(host.scratch()).expect("scratch").filter_map(Result::ok);
    let left: Vec<_> = left.map(|e| e.file_name()).filter(|n| n.to_string_lossy().contains("half")).collect();
    assert!(left.is_empty(), "{left:?}");
    agentd.start();
    program_is_gone(agentd, "sleep 4712");
    wait_until("nothing half-written is left", Duration::from_secs(20), || {
        let there = said(agentd, "web", "ls -A /tmp");
        if there.contains("half") { Err(there) } else { Ok(()) }
    });
}

/// A guest that is off, and one that has no agent: told of at once, and never a hang.
fn without_an_agent(agentd: &Agentd) {
    let from = Instant::now();
    // Its agent dies with a program of its own still running: the caller is told.
    let cut = run(
        agentd,
        "web",
        &["sh", "-c", "sed -i /agentd-guest/d /etc/inittab; kill -HUP 1; killall -9 agentd-guest; sleep 99"],
    );
    assert_ne!(cut.status, 0, "{cut:?}");
    assert!(from.elapsed() < Duration::from_secs(60), "{:?}", from.elapsed());
    let from = Instant::now();
    let answer = run(agentd, "web", &["true"]);
    assert_eq!(answer.status, 5, "{answer:?}");
    assert!(answer.stderr.contains("no agent answers") && answer.stderr.contains("hint: "), "{answer:?}");
    assert!(from.elapsed() < Duration::from_secs(10), "{:?}", from.elapsed());
    agentd.ok(&["vm", "stop", "web"]);
    let answer = run(agentd, "web", &["true"]);
    assert_eq!(answer.status, 4, "{answer:?}");
    assert!(answer.stderr.contains("does not run"), "{answer:?}");
}
