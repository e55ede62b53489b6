//! `backup` as a whole command. What is restored of one is the daemon's own matter, and the host's tests'.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use agent_tests::host::signal;
use agent_tests::sim::{Sim, agentctl, finished};
use agentd_api::backup::Header;
use nix::sys::signal::Signal;

fn header(bytes: &[u8]) -> Header {
    let end = bytes.iter().position(|byte| *byte == b'\n').expect("a line");
    Header::parse(&bytes[..end]).expect("a header")
}

#[test]
fn a_backup_is_whole_for_its_owner_alone_and_replaces_nothing_unasked() {
    let sim = Sim::start(&[]);
    sim.ok(&["image", "build", "micro"]);
    let file = sim.path("agentd.backup").to_string_lossy().into_owned();
    let made = sim.ctl(&["backup", &file]);
    assert_eq!(made.status, 0, "{made:?}\n{}", sim.log());
    assert!(
        made.stderr.contains(" objects at revision ") && made.stderr.contains("is not in it"),
        "{made:?}"
    );
    let bytes = std::fs::read(&file).expect("a file");
    let head = header(&bytes);
    assert_eq!(bytes.len() as u64, head.line().len() as u64 + head.bytes);
    let mode = std::fs::metadata(&file).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "it holds what the store does");
    let refused = sim.ctl(&["backup", &file]);
    assert_eq!(refused.status, 4, "{refused:?}");
    assert!(refused.stderr.contains("is there already") && refused.stderr.contains("--force"), "{refused:?}");
    assert_eq!(std::fs::read(&file).expect("a file"), bytes);
    sim.ok(&["flavor", "create", "tiny", "--cpus", "1", "--memory", "256MiB"]);
    sim.ok(&["backup", &file, "--force"]);
    assert!(header(&std::fs::read(&file).expect("a file")).objects > head.objects);
    // And as bytes for another program.
    let output = sim.command(&["backup", "-"]).output().expect("agentctl runs");
    assert!(output.status.success(), "{output:?}");
    let head = header(&output.stdout);
    assert_eq!(output.stdout.len() as u64, head.line().len() as u64 + head.bytes);
    assert!(!sim.path("agentd.backup.partial").exists());
}

#[test]
fn where_none_can_be_made_or_kept_nothing_is_left() {
    let mut sim = Sim::start(&[]);
    let into_none = sim.path("none/agentd.backup").to_string_lossy().into_owned();
    let failed = sim.ctl(&["backup", &into_none]);
    assert_eq!(failed.status, 1, "{failed:?}");
    assert!(failed.stderr.contains("cannot write"), "{failed:?}");
    sim.stop();
    let file = sim.path("agentd.backup").to_string_lossy().into_owned();
    let failed = sim.ctl(&["backup", &file]);
    assert_eq!(failed.status, 7, "{failed:?}");
    assert!(!sim.path("agentd.backup").exists() && !sim.path("agentd.backup.partial").exists());
}

/// A daemon that sends the beginning of a backup and no more, for as long as what it gives is kept.
fn half_a_daemon(socket: &Path) -> std::thread::JoinHandle<UnixStream> {
    let listener = UnixListener::bind(socket).expect("a socket");
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a caller");
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("a request");
            asked.push(byte[0]);
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\nagentd").expect("a beginning");
        stream
    })
}

#[test]
fn what_is_cut_off_leaves_no_file_and_the_one_that_was_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("agentd.backup"), "an older one").expect("written");
    let file = at("agentd.backup").to_string_lossy().into_owned();
    for (name, interrupted) in [("interrupted.sock", true), ("killed.sock", false)] {
        let daemon = half_a_daemon(&at(name));
        let mut command = agentctl(&at(name), &["backup", &file, "--force"]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("agentctl runs");
        let stream = daemon.join().expect("it was asked");
        let from = Instant::now();
        while std::fs::metadata(at("agentd.backup.partial")).map_or(0, |part| part.len()) == 0 {
            assert!(from.elapsed() < Duration::from_secs(30), "nothing is written");
            std::thread::sleep(Duration::from_millis(10));
        }
        let mut stream = Some(stream);
        if interrupted {
            signal(child.id(), Signal::SIGINT);
        } else {
            stream = None;
        }
        let ended = finished(child.wait_with_output().expect("its end"));
        drop(stream);
        let (status, word) = if interrupted { (130, "no file was made") } else { (1, "") };
        assert!(ended.status == status && ended.stderr.contains(word), "{ended:?}");
        assert!(!at("agentd.backup.partial").exists(), "{ended:?}");
        assert_eq!(std::fs::read_to_string(&file).expect("read"), "an older one");
    }
}
