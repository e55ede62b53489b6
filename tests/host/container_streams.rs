//! What goes to containers of a real dockerd and comes from them: exec, attach, logs.

use std::io::{Read, Write};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use agent_tests::host::engine::{IMAGE, docker};
use agent_tests::host::{Agentd, Answer, signal, wait_until};
use agent_tests::host_test;
use nix::sys::signal::Signal;

use crate::console::Person;
use crate::container::{container, engine_name, until};
use crate::exec::{GROWTH_KIB, fed, resident_kib};

const SOON: Duration = Duration::from_secs(20);
const GIB: u64 = 1 << 30;
/// What is sat at goes into the engine's log too, which takes its time.
const SAT_AT: u64 = 256 << 20;
/// Most of what agentd may grow by meanwhile.
const SAT_AT_GROWTH_KIB: u64 = 32 << 10;

fn start(agentd: &Agentd, name: &str, flags: &[&str], script: &str) {
    let line = [&["container", "run", name, "--image", IMAGE], flags, &["--", "sh", "-c", script]].concat();
    agentd.ok(&line);
}

fn exec(agentd: &Agentd, name: &str, command: &[&str]) -> Answer {
    agentd.ctl(&[&["container", "exec", name, "--"], command].concat())
}

fn logs(agentd: &Agentd, flags: &[&str]) -> Answer {
    agentd.ctl(&[&["container", "logs"], flags].concat())
}

fn no_program(agentd: &Agentd, line: &str) {
    wait_until(&format!("no '{line}' runs"), SOON, || {
        let all = agentd.ok(&["container", "top", "web"]);
        if all.contains(line) { Err(all) } else { Ok(()) }
    });
}

host_test!(docker_exec_is_as_if_the_program_ran_here, |host| {
    let _dockerd = host.start_docker();
    let agentd = host.bare_agentd("state");
    agentd.wait_ready();
    start(&agentd, "web", &["--env", "OWN=1"], "trap 'exit 0' TERM; while :; do sleep 1000 & wait $!; done");
    let answer = exec(&agentd, "web", &["sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!((answer.status, answer.stdout.as_str(), answer.stderr.as_str()), (7, "out\n", "err\n"));
    let answer = exec(&agentd, "web", &["no-such-program"]);
    assert_eq!(answer.status, 127, "{answer:?}");
    assert!((answer.stdout + &answer.stderr).contains("no-such-program"));
    assert_eq!(exec(&agentd, "web", &["/etc/passwd"]).status, 126);
    assert_eq!(exec(&agentd, "web", &["sh", "-c", "kill -9 $$"]).status, 128 + 9);
    let flags = ["--env", "A=b c", "--cwd", "/tmp", "--user", "65534"];
    let line = [&["container", "exec", "web"], &flags[..], &["--", "sh", "-c", "echo [$A][$OWN] $PWD; id"]];
    let said = agentd.ok(&line.concat());
    assert!(said.starts_with("[b c][1] /tmp\nuid=65534"), "{said}");
    let answer = agentd.ctl(&["container", "exec", "web", "--user", "nobody-at-all", "--", "true"]);
    assert_eq!(answer.status, 3, "{answer:?}");
    assert!(answer.stderr.contains("nobody-at-all"), "{answer:?}");

    // Input comes as it is, ends, and can be much; one that reads nothing, or not to the end, holds up nobody.
    let much: Vec<u8> = (0..20_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let output = fed(&agentd, &["container", "exec", "-i", "web", "--", "cat"], &much);
    assert!(output.stdout == much, "{} bytes came back: {:?}", output.stdout.len(), output.status);
    let output = fed(&agentd, &["container", "exec", "-i", "web", "--", "head", "-c", "5"], &much);
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(0), &much[..5]));
    assert_eq!(exec(&agentd, "web", &["cat"]).stdout, "", "without -i there is no input");

    a_terminal(&agentd);
    what_is_not_heard_ends(&agentd);
    a_gibibyte_costs_no_memory(&agentd);
    agentd.ok(&["container", "pause", "web"]);
    let answer = exec(&agentd, "web", &["true"]);
    assert_eq!(answer.status, 4, "{answer:?}");
    agentd.ok(&["container", "stop", "web"]);
    let answer = exec(&agentd, "web", &["true"]);
    assert_eq!(answer.status, 4, "{answer:?}");
    assert!(answer.stderr.contains("does not run") && answer.stderr.contains("hint: "), "{answer:?}");
});

fn a_terminal(agentd: &Agentd) {
    let size = "busybox stty size";
    // Engines before 23 give it its size only once it runs.
    let script =
        format!("[ -t 0 ] && echo tty; sleep 1; {size}; trap '{size}' WINCH; while :; do sleep 1; done");
    let mut person = Person::runs(agentd, &["container", "exec", "-it", "web", "--", "sh", "-c", &script]);
    person.sees("tty\r\n");
    person.sees("40 120\r\n");
    person.resizes(33, 101);
    person.sees("33 101\r\n");
    person.types("\x03");
    assert_eq!(person.ends(), 128 + 2);
}

/// A signal is passed on; a caller that is killed takes its program with it.
fn what_is_not_heard_ends(agentd: &Agentd) {
    let begin = |script: &str| {
        let mut command = agentd.command(&["container", "exec", "web", "--", "sh", "-c", script]);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("agentctl starts");
        let mut word = [0; 6];
        child.stdout.as_mut().expect("its stdout").read_exact(&mut word).expect("it runs");
        child
    };
    let mut child = begin("trap 'echo caught; exit 5' INT; echo begun; while :; do sleep 1; done");
    signal(child.id(), Signal::SIGINT);
    let mut rest = String::new();
    child.stdout.as_mut().expect("its stdout").read_to_string(&mut rest).expect("text");
    assert_eq!((child.wait().expect("its end").code(), rest.as_str()), (Some(5), "caught\n"));
    let mut child = begin("echo begun; exec sleep 4711");
    child.kill().expect("killed");
    child.wait().expect("its end");
    no_program(agentd, "sleep 4711");
}

fn a_gibibyte_costs_no_memory(agentd: &Agentd) {
    let before = resident_kib(agentd.pid());
    let flood = format!("busybox dd if=/dev/zero bs=65536 count={} 2>/dev/null", GIB / 65536);
    let mut command = agentd.command(&["container", "exec", "web", "--", "sh", "-c", &flood]);
    let from = Instant::now();
    let mut child = command.stdout(Stdio::piped()).spawn().expect("agentctl starts");
    // Nobody reads yet: it waits, and others do not.
    assert_eq!(exec(agentd, "web", &["echo", "here"]).stdout, "here\n");
    let (total, most) = drained(agentd, &mut child);
    assert_eq!(child.wait().expect("its end").code(), Some(0));
    assert_eq!(total, GIB);
    println!("{total} bytes in {:?}; agentd grew from {before} to {most} KiB", from.elapsed());
    assert!(most < before + GROWTH_KIB, "agentd grew from {before} to {most} KiB");
}

/// Reads what it says to the end, which are zeros: how many, and what agentd took at most meanwhile, in KiB.
fn drained(agentd: &Agentd, child: &mut Child) -> (u64, u64) {
    let mut out = child.stdout.take().expect("its stdout");
    let (mut total, mut most, mut buffer) = (0, 0, vec![0_u8; 1 << 20]);
    while let Ok(count @ 1..) = out.read(&mut buffer) {
        assert!(buffer[..count].iter().all(|b| *b == 0));
        total += count as u64;
        most = most.max(resident_kib(agentd.pid()));
    }
    (total, most)
}

fn what_is_sat_at_costs_no_memory(agentd: &Agentd) {
    let flood =
        format!("read go; busybox dd if=/dev/zero bs=65536 count={} 2>/dev/null; exit 7", SAT_AT / 65536);
    start(agentd, "flood", &["-i", "--detach"], &flood);
    let before = resident_kib(agentd.pid());
    let mut command = agentd.command(&["container", "attach", "flood"]);
    let from = Instant::now();
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("agentctl starts");
    // It begins only once it is sat at.
    child.stdin.take().expect("its stdin").write_all(b"go\n").expect("typed");
    let (total, most) = drained(agentd, &mut child);
    assert_eq!(child.wait().expect("its end").code(), Some(7));
    assert_eq!(total, SAT_AT);
    println!("{total} bytes in {:?}; agentd grew from {before} to {most} KiB", from.elapsed());
    assert!(most < before + SAT_AT_GROWTH_KIB, "agentd grew from {before} to {most} KiB");
}

host_test!(docker_logs_are_what_it_said_on_both_streams, |host| {
    let _dockerd = host.start_docker();
    let agentd = host.bare_agentd("state");
    agentd.wait_ready();
    let script = "echo one; echo oh >&2; sleep 0.5; echo two; while [ ! -e /go ]; do sleep 0.1; done; echo late; exit 3";
    start(&agentd, "says", &[], script);
    let answer = wait_until("it has spoken", SOON, || {
        let answer = logs(&agentd, &["says"]);
        if answer.stdout.contains("two") { Ok(answer) } else { Err(format!("{answer:?}")) }
    });
    assert_eq!((answer.stdout.as_str(), answer.stderr.as_str()), ("one\ntwo\n", "oh\n"));
    let answer = logs(&agentd, &["says", "--tail", "1"]);
    assert_eq!((answer.stdout.as_str(), answer.stderr.as_str()), ("two\n", ""));
    let stamped = logs(&agentd, &["says", "--timestamps", "--tail", "1"]).stdout;
    assert!(stamped.starts_with("20") && stamped.trim_end().ends_with("Z two"), "{stamped}");

    // What comes after a moment, and nothing of before: engines tell times by the second.
    std::thread::sleep(Duration::from_millis(2100));
    let mut follower = agentd.command(&["container", "logs", "says", "--follow", "--since", "1s"]);
    let follower = follower.stdout(Stdio::piped()).spawn().expect("agentctl starts");
    let mut watcher = agentd.command(&["container", "attach", "--watch", "says"]);
    let watcher = watcher.stdout(Stdio::piped()).spawn().expect("agentctl starts");
    std::thread::sleep(Duration::from_millis(500));
    // It may end before this does, which is then killed with it.
    let touched = agentd.ctl(&["container", "exec", "says", "--", "touch", "/go"]);
    assert!([0, 128 + 9].contains(&touched.status), "{touched:?}");
    let followed = follower.wait_with_output().expect("its end");
    assert_eq!((followed.status.code(), &followed.stdout[..]), (Some(0), &b"late\n"[..]), "ends with it");
    let watched = watcher.wait_with_output().expect("its end");
    assert_eq!((watched.status.code(), &watched.stdout[..]), (Some(3), &b"late\n"[..]), "its own status");
    let off = until(&agentd, "says", "off", SOON, |c| c["status"]["state"] == "stopped");
    assert_eq!(off["status"]["exit_code"], 3);
    assert_eq!(logs(&agentd, &["says"]).stdout, "one\ntwo\nlate\n", "also of one that is off");

    a_line_of_100_mb(&agentd);
});

fn a_line_of_100_mb(agentd: &Agentd) {
    const LENGTH: usize = 100_000_000;
    let before = resident_kib(agentd.pid());
    start(
        agentd,
        "long",
        &[],
        &format!("head -c {LENGTH} /dev/zero | busybox tr '\\0' x; echo; echo end; sleep 1000"),
    );
    wait_until("the engine has all of it", Duration::from_secs(60), || {
        let last = logs(agentd, &["long", "--tail", "1"]);
        if last.stdout == "end\n" { Ok(()) } else { Err(format!("{:.200?}", last)) }
    });
    let said = logs(agentd, &["long"]).stdout;
    // The engine keeps so much of a log, and drops the oldest of it; what it kept comes whole.
    let own = docker(&["logs", &engine_name(agentd, "long")]).expect("docker logs");
    assert!(said == own && own.len() > 10_000_000, "{} of {} bytes", said.len(), own.len());
    let after = resident_kib(agentd.pid());
    assert!(after < before + GROWTH_KIB, "agentd grew from {before} to {after} KiB");
}

host_test!(docker_attach_sits_at_its_input_and_output, |host| {
    let _dockerd = host.start_docker();
    let agentd = host.bare_agentd("state");
    agentd.wait_ready();
    start(&agentd, "sum", &["-i", "--detach"], "busybox md5sum; exit 4");
    let output = fed(&agentd, &["container", "attach", "sum"], b"hello\n");
    assert_eq!(output.status.code(), Some(4), "{output:?}");
    assert!(output.stdout.starts_with(b"b1946ac92492d2347c6235b4d2611184"), "{output:?}");

    start(&agentd, "shell", &["-it", "--detach"], "while read line; do echo \"[$line]\"; done; exit 6");
    let mut person = Person::runs(&agentd, &["container", "attach", "shell"]);
    std::thread::sleep(Duration::from_millis(500));
    person.types("hello\n");
    person.sees("[hello]\r\n");
    // Leaving leaves it.
    person.types("\x10\x11");
    assert_eq!(person.ends(), 0);
    assert_eq!(container(&agentd, "shell")["status"]["state"], "running");
    let mut person = Person::runs(&agentd, &["container", "attach", "shell"]);
    std::thread::sleep(Duration::from_millis(500));
    person.types("again\n");
    person.sees("[again]\r\n");
    person.types("\x04");
    assert_eq!(person.ends(), 6);

    // From its first word on, however short it lives.
    fn line<'a>(name: &'a str, flags: &[&'a str], script: &'a str) -> Vec<&'a str> {
        [&["container", "run", name, "--image", IMAGE], flags, &["--", "sh", "-c", script]].concat()
    }
    for n in 0..5 {
        let name = format!("quick{n}");
        let output = fed(&agentd, &line(&name, &["-i", "--rm"], "echo first; cat; exit 8"), b"second\n");
        assert_eq!(
            (output.status.code(), &output.stdout[..]),
            (Some(8), &b"first\nsecond\n"[..]),
            "{output:?}"
        );
        wait_until("it is gone", SOON, || match agentd.get("container", &name) {
            None => Ok(()),
            Some(still) => Err(still["status"].to_string()),
        });
    }
    let mut person =
        Person::runs(&agentd, &line("sat", &["-it"], "echo first; read line; echo [$line]; exit 5"));
    person.sees("first\r\n");
    person.types("hi\n");
    person.sees("[hi]\r\n");
    assert_eq!(person.ends(), 5);
    let answer = agentd.ctl(&["container", "run", "bad", "-i", "--image", IMAGE, "--", "no-such-program"]);
    assert_eq!(answer.status, 1, "{answer:?}");
    assert!(answer.stderr.contains("no-such-program"), "{answer:?}");

    what_is_sat_at_costs_no_memory(&agentd);
});
