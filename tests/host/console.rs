//! What is typed into a guest and what it says: on its serial console.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use agent_tests::host::{Agentd, guest, signal, wait_until};
use agent_tests::host_test;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{Winsize, openpty};
use nix::sys::signal::Signal;
use nix::sys::termios::{LocalFlags, tcgetattr};

const SOON: Duration = Duration::from_secs(30);

/// A person at a terminal, on which agentctl runs.
pub struct Person {
    terminal: File,
    /// The other side of the terminal, to look at its settings.
    side: File,
    child: Child,
    seen: String,
}

impl Person {
    pub fn runs(agentd: &Agentd, arguments: &[&str]) -> Self {
        Self::on(agentd.command(arguments))
    }

    pub fn on(mut command: Command) -> Self {
        let size = Winsize { ws_row: 40, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
        let pair = openpty(Some(&size), None).expect("a terminal");
        let side = File::from(pair.slave);
        let of = || Stdio::from(side.try_clone().expect("its side"));
        let child = command.stdin(of()).stdout(of()).stderr(of()).spawn().expect("agentctl starts");
        Self { terminal: File::from(pair.master), side, child, seen: String::new() }
    }

    fn is_raw(&self) -> bool {
        !tcgetattr(&self.side).expect("its settings").local_flags.contains(LocalFlags::ICANON)
    }

    /// Makes the window that size. agentctl is told as a shell's program would be.
    pub fn resizes(&self, rows: u16, columns: u16) {
        let name = nix::unistd::ttyname(&self.side).expect("a name");
        let (rows, columns) = (rows.to_string(), columns.to_string());
        let arguments = ["-F", &name.to_string_lossy(), "rows", &rows, "cols", &columns];
        agent_tests::host::namespace::run("/bin/stty", &arguments).expect("another size");
        signal(self.child.id(), Signal::SIGWINCH);
    }

    pub fn types(&mut self, text: &str) {
        self.terminal.write_all(text.as_bytes()).expect("typed");
    }

    fn look(&mut self) {
        let mut ready = [PollFd::new(self.terminal.as_fd(), PollFlags::POLLIN)];
        if poll(&mut ready, PollTimeout::from(20u8)).expect("polled") > 0 {
            let mut buffer = [0; 4096];
            let read = self.terminal.read(&mut buffer).unwrap_or(0);
            self.seen.push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
    }

    /// Waits until the terminal shows that, past what was waited for before.
    pub fn sees(&mut self, wanted: &str) {
        wait_until(&format!("{wanted:?} is seen"), SOON, || {
            self.look();
            match self.seen.find(wanted) {
                Some(at) => {
                    self.seen.drain(..at + wanted.len());
                    Ok(())
                }
                None => Err(self.seen.clone()),
            }
        });
    }

    pub fn ends(&mut self) -> i32 {
        let status = wait_until("agentctl ends", SOON, || {
            self.look();
            let ended = self.child.try_wait().expect("a child");
            ended.map(|status| status.code().unwrap_or(-1)).ok_or_else(|| self.seen.clone())
        });
        // What it said last may still be on its way.
        let mut before = usize::MAX;
        while std::mem::replace(&mut before, self.seen.len()) != self.seen.len() {
            self.look();
        }
        status
    }
}

impl Drop for Person {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `first`, `first + 1`, ... in lines of their own among what else a guest says, each once and none missing.
fn whole(text: &str, last: u32) -> Result<(), String> {
    let numbers: Vec<u32> =
        text.lines().filter_map(|line| line.trim_end().strip_prefix("n=")?.parse().ok()).collect();
    let wanted: Vec<u32> = (1..=last).collect();
    if numbers == wanted {
        Ok(())
    } else {
        Err(format!("{} of {last} lines: {numbers:.200?}", numbers.len()))
    }
}

/// Prints numbered lines on the guest's console. In two parts, so that what is typed is no such line itself.
fn count(to: u32) -> String {
    format!("i=0; while [ $i -lt {to} ]; do i=$((i+1)); echo n''=$i; done; echo done''-{to}\r")
}

fn log_folder(agentd: &Agentd) -> std::path::PathBuf {
    let vm = agentd.vm("web");
    Path::new(vm["status"]["console_log"].as_str().expect("a log")).parent().expect("a folder").to_owned()
}

fn log_bytes(folder: &Path) -> u64 {
    let files = std::fs::read_dir(folder).expect("its folder").filter_map(Result::ok);
    let logs = files.filter(|file| file.file_name().to_string_lossy().starts_with("console.log"));
    logs.map(|file| file.metadata().map_or(0, |m| m.len())).sum()
}

host_test!(vm_console_is_typed_into_watched_and_taken_over, |host| {
    let agentd = host.with_agentd();
    agentd.ok(&["vm", "run", "web", "--image", "micro", "--memory", "128MiB"]);
    guest::answers(&agentd, "web");

    let mut one = Person::runs(&agentd, &["vm", "console", "web"]);
    one.sees("micro: boot 1");
    assert!(one.is_raw());
    one.types("\recho sum''=$((40 + 2))\r");
    one.sees("sum=42");

    let mut two = Person::runs(&agentd, &["vm", "console", "web"]);
    two.sees("sum=42");
    two.sees("types here");
    two.types("echo not''-me\r");
    two.sees("you watch");
    one.types("echo for''-both\r");
    one.sees("for-both");
    two.sees("for-both");
    let mut three = Person::runs(&agentd, &["vm", "console", "web", "--force", "--escape", "^T"]);
    one.sees("taken over");
    three.types("echo from''-three\r");
    two.sees("from-three");
    assert!(!guest::console(&agentd, "web").contains("not-me"), "a watcher's keys reach no guest");

    // Each end puts the terminal back.
    three.types("\x14");
    assert_eq!((three.ends(), three.is_raw()), (0, false));
    two.sees("nobody types");
    one.types("\x1d");
    assert_eq!((one.ends(), one.is_raw()), (0, false));
    signal(two.child.id(), Signal::SIGTERM);
    assert_eq!((two.ends(), two.is_raw()), (128 + 15, false));

    // What is typed in the last moment is typed, also by one who has only just come.
    for n in 0..6 {
        let mut short = Person::runs(&agentd, &["vm", "console", "web"]);
        wait_until("it may type", SOON, || {
            short.look();
            if short.is_raw() { Ok(()) } else { Err(short.seen.clone()) }
        });
        short.types(&format!("\recho last''-words=$(({n} + 100))\r\x1d"));
        assert_eq!(short.ends(), 0);
        drop(short);
        let wanted = format!("last-words={}", n + 100);
        wait_until("the guest has heard it", SOON, || {
            let log = guest::console(&agentd, "web");
            if log.contains(&wanted) { Ok(()) } else { Err(log) }
        });
    }

    // A hundred at once: so many as there are seats, the others are told, and the API serves.
    let mut all: Vec<Child> = (0..100)
        .map(|_| {
            let mut command = agentd.command(&["vm", "console", "web", "--watch"]);
            command
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("agentctl")
        })
        .collect();
    wait_until("those without a seat are told", SOON, || {
        let mut ended = 0;
        for child in &mut all {
            ended += usize::from(matches!(child.try_wait(), Ok(Some(s)) if s.code() == Some(1)));
        }
        if ended == 36 { Ok(()) } else { Err(format!("{ended} of 36 were refused")) }
    });
    agentd.ok(&["vm", "list"]);
    all.iter_mut().for_each(|child| {
        let _ = child.kill();
        child.wait().expect("its end");
    });
    wait_until("the seats are free again", SOON, || {
        let mut person = Person::runs(&agentd, &["vm", "console", "web"]);
        std::thread::sleep(Duration::from_millis(200));
        person.look();
        if person.is_raw() { Ok(()) } else { Err(person.seen.clone()) }
    });
    // What has no screen says so, and what helps.
    let answer = agentd.ctl(&["vm", "screenshot", "web", "/nowhere/a.png"]);
    assert_eq!(answer.status, 5, "{answer:?}");
    assert!(answer.stderr.contains("hint:") && answer.stderr.contains("--graphics"), "{answer:?}");
    assert_eq!(agentd.ctl(&["vm", "vnc", "web"]).status, 5);
});

host_test!(vm_console_outlives_a_killed_agentd_and_loses_no_byte, |host| {
    let mut agentd = host.with_agentd();
    agentd.ok(&["vm", "run", "web", "--image", "micro", "--memory", "128MiB"]);
    guest::answers(&agentd, "web");
    let mut person = Person::runs(&agentd, &["vm", "console", "web"]);
    person.sees("micro: boot 1");
    person.types(&format!("\r{}", count(4000)));
    person.sees("n=300\r\n");
    agentd.kill();
    assert_eq!((person.ends(), person.is_raw()), (1, false), "{}", person.seen);
    assert!(person.seen.contains("the daemon went away"), "{}", person.seen);
    agentd.start();
    let mut watcher = Person::runs(&agentd, &["vm", "console", "web", "--watch"]);
    watcher.sees("done-4000");
    let mut person = Person::runs(&agentd, &["vm", "console", "web"]);
    person.sees("done-4000");
    person.types("echo still''-here\r");
    person.sees("still-here");
    whole(&agentd.ok(&["vm", "logs", "web"]), 4000).expect("each line once");

    // What is said later than a time, to the second.
    std::thread::sleep(Duration::from_millis(2500));
    let before = Instant::now();
    person.types("echo the''-last\r");
    person.sees("the-last");
    let since = format!("{}ms", before.elapsed().as_millis() + 200);
    let late = agentd.ok(&["vm", "logs", "web", "--since", &since]);
    assert!(late.contains("the-last") && !late.contains("still-here"), "{late}");
    let last = agentd.ok(&["vm", "logs", "web", "--tail", "2"]);
    assert!(last.lines().count() <= 2 && last.contains("the-last"), "{last}");
    let vm = agentd.vm("web");
    let started = vm["status"]["started_at"].as_str().expect("a time");
    assert!(agentd.ok(&["vm", "logs", "web", "--since", started]).contains("micro: boot 1"));
});

host_test!(vm_console_log_is_bounded_and_followed_over_its_rotation, |host| {
    // Smaller than libvirt's own, so that the test turns it over in seconds.
    let conf = Path::new("/etc/libvirt/virtlogd.conf");
    let small = host.scratch().join("virtlogd.conf");
    std::fs::write(&small, "max_size = 32768\nmax_backups = 2\n").expect("a configuration");
    agent_tests::host::namespace::run(
        "/bin/mount",
        &["--bind", &small.to_string_lossy(), &conf.to_string_lossy()],
    )
    .expect("virtlogd's configuration");
    let agentd = host.with_agentd();
    agentd.ok(&["vm", "run", "web", "--image", "micro", "--memory", "128MiB"]);
    guest::answers(&agentd, "web");
    let out = host.scratch().join("followed");
    let mut follower = agentd
        .command(&["vm", "logs", "web", "--follow"])
        .stdout(File::create(&out).expect("a file"))
        .spawn()
        .expect("agentctl starts");
    let mut person = Person::runs(&agentd, &["vm", "console", "web"]);
    person.sees("micro: boot 1");
    let rounds = 20_000;
    // Nobody sits there while it counts: only then is the log exact however busy this host is.
    person.types(&format!("\rsleep 3; {}", count(rounds)));
    person.sees("sleep 3");
    person.types("\x1d");
    assert_eq!(person.ends(), 0);
    let mut person = Person::runs(&agentd, &["vm", "console", "web", "--watch"]);
    let followed = || String::from_utf8_lossy(&std::fs::read(&out).unwrap_or_default()).into_owned();
    wait_until("all of it is followed", Duration::from_secs(120), || {
        let text = followed();
        if text.contains(&format!("done-{rounds}")) { Ok(()) } else { Err(format!("{} bytes", text.len())) }
    });
    whole(&followed(), rounds).expect("each line once");
    person.sees(&format!("done-{rounds}"));
    let kept = log_bytes(&log_folder(&agentd));
    assert!(kept <= 3 * 32_768, "{kept} bytes are kept");
    assert!(agentd.ok(&["vm", "logs", "web"]).len() as u64 <= kept);
    agentd.ok(&["vm", "rm", "web"]);
    wait_until("the follower ends with the VM", SOON, || match follower.try_wait().expect("a child") {
        Some(status) if status.success() => Ok(()),
        other => Err(format!("{other:?}")),
    });
    assert_eq!(person.ends(), 0, "the VM is gone: {}", person.seen);
});
