//! Archives of VMs, by what their guests have on their disks, and by what is left of those that are refused.

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use agent_tests::host::guest::{both, read_both, write_both};
use agent_tests::host::{Agentd, guest, traces, wait_or_tell, wait_until};
use agent_tests::host_test;

fn run(agentd: &Agentd) {
    agentd.ok(&["vm", "run", "web", "--image", "micro", "--memory", "128MiB", "--add-disk", "128MiB"]);
    guest::answers(agentd, "web");
    write_both(agentd, "web", "packed");
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}

/// What an export or import leaves in the daemon's folders beside objects.
fn left(agentd: &Agentd) -> Vec<String> {
    let of = |folder: &str| names(&agentd.state().join(folder));
    let mut left = of("incoming");
    left.extend(of("disk-sets"));
    left.extend(agentd.ok(&["snapshot", "list", "-o", "name"]).lines().map(str::to_owned));
    left
}

fn nothing_left(agentd: &Agentd) {
    wait_until("nothing is left beside objects", Duration::from_secs(30), || {
        let left = left(agentd);
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    });
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// A copy in which one byte is another.
fn flipped(archive: &Path, at: u64) -> PathBuf {
    let copy = archive.with_extension("flipped");
    std::fs::copy(archive, &copy).expect("a copy");
    let mut file = std::fs::OpenOptions::new().read(true).write(true).open(&copy).expect("a file");
    let mut byte = [0u8; 1];
    file.seek(SeekFrom::Start(at)).and_then(|_| file.read_exact(&mut byte)).expect("a byte");
    byte[0] ^= 0x20;
    file.seek(SeekFrom::Start(at)).and_then(|_| file.write_all(&byte)).expect("written");
    copy
}

fn cut(archive: &Path, length: u64) -> PathBuf {
    let copy = archive.with_extension("cut");
    std::fs::copy(archive, &copy).expect("a copy");
    std::fs::OpenOptions::new().write(true).open(&copy).expect("a file").set_len(length).expect("cut");
    copy
}

fn refused(agentd: &Agentd, archive: &Path, why: &str) {
    let answer = agentd.ctl(&["vm", "import", &text(archive), "--name", "bad"]);
    assert_eq!(answer.status, 2, "{answer:?}");
    assert!(answer.stderr.contains(why), "'{why}' in {answer:?}");
    assert!(agentd.get("vm", "bad").is_none());
    nothing_left(agentd);
}

host_test!(vm_exported_while_it_runs_is_imported_on_another_host, |host| {
    let agentd = host.with_agentd();
    run(&agentd);
    let archive = host.scratch().join("web.tar");
    agentd.ok(&["vm", "export", "web", &text(&archive)]);
    write_both(&agentd, "web", "later");
    nothing_left(&agentd);
    let size = archive.metadata().expect("a file").len();
    println!("an archive of {size} bytes");
    let listed = agent_tests::host::namespace::run("/usr/bin/tar", &["-tf", &text(&archive)]).expect("tar");
    assert!(listed.starts_with("manifest.json\n") && listed.contains("disk-1.qcow2\n"), "{listed}");

    // Beside its origin: another identity, the same disks; and no image is needed.
    agentd.ok(&["vm", "import", &text(&archive), "--name", "copy"]);
    assert_eq!(read_both(&agentd, "copy"), both("packed"));
    assert_ne!(agentd.address("copy"), agentd.address("web"));
    assert_eq!(read_both(&agentd, "web"), both("later"));
    let taken = agentd.ctl(&["vm", "import", &text(&archive)]);
    assert_eq!(taken.status, 4, "the name is in use: {taken:?}");
    agentd.ok(&["vm", "clone", "copy", "clone"]);
    assert_eq!(read_both(&agentd, "clone"), both("packed"));
    agentd.ok(&["vm", "rm", "copy", "clone", "web"]);
    agentd.ok(&["image", "rm", "micro"]);

    // Another daemon, which never had the image.
    let mut other = Agentd::new(&host.scratch().join("other"), &host.scratch().join("other.sock"));
    other.start();
    other.wait_ready();
    other.ok(&["vm", "import", &text(&archive)]);
    assert_eq!(read_both(&other, "web"), both("packed"));
    assert!(other.get("image", "micro").is_none(), "none was built for it");
    other.ok(&["vm", "restart", "web"]);
    assert_eq!(read_both(&other, "web"), both("packed"));
    other.ok(&["vm", "rm", "web"]);
    assert_eq!(traces::of_vms(&other), Vec::<String>::new());
    let contents = names(&other.state().join("images"));
    assert_eq!(contents, Vec::<String>::new(), "what its disk stood on is gone with it");
});

host_test!(vm_archive_that_is_cut_or_altered_is_refused_before_anything_is_made, |host| {
    let agentd = host.with_agentd();
    run(&agentd);
    agentd.ok(&["vm", "stop", "web"]);
    let archive = host.scratch().join("web.tar");
    agentd.ok(&["vm", "export", "web", &text(&archive)]);
    let size = archive.metadata().expect("a file").len();
    let bytes = std::fs::read(&archive).expect("it can be read");
    let at = |name: &str| {
        let found = (0..bytes.len() / 512).find(|n| bytes[n * 512..].starts_with(name.as_bytes()));
        found.unwrap_or_else(|| panic!("no {name}")) as u64 * 512
    };
    refused(&agentd, &flipped(&archive, 5), "no archive");
    refused(&agentd, &flipped(&archive, 600), "manifest.json was altered");
    refused(&agentd, &flipped(&archive, at("disk.qcow2\0") + 100), "disk.qcow2 begins");
    refused(
        &agentd,
        &flipped(&archive, at("disk.qcow2\0") + 512 + 40_000),
        "disk.qcow2 in the archive was altered",
    );
    refused(
        &agentd,
        &flipped(&archive, at("disk-1.qcow2\0") + 512 + 9),
        "disk-1.qcow2 in the archive was altered",
    );
    refused(&agentd, &flipped(&archive, at("initrd\0") + 512 + 70_000), "initrd in the archive was altered");
    refused(&agentd, &flipped(&archive, at("archive.sha256\0") + 512), "the archive was altered");
    refused(&agentd, &flipped(&archive, size - 1), "end was altered");
    for length in [0, 100, 700, at("disk.qcow2\0") + 3000, size / 2, size - 1024, size - 1] {
        refused(&agentd, &cut(&archive, length), "the archive ends after");
    }
    // What it names and this host has not is told, and can be left out.
    agentd.ok(&["vm", "import", &text(&archive), "--name", "good", "--no-start"]);
    assert_eq!(agentd.vm("good")["status"]["state"], "stopped");
    agentd.ok(&["vm", "start", "good"]);
    assert_eq!(read_both(&agentd, "good"), both("packed"));
    agentd.ok(&["vm", "rm", "good"]);
    let answer = agentd.ctl(&["vm", "import", &text(&archive), "--name", "bad", "--network", "nowhere"]);
    assert_eq!(answer.status, 2, "{answer:?}");
    assert!(answer.stderr.contains("nowhere"), "{answer:?}");
    nothing_left(&agentd);
    agentd.ok(&["vm", "start", "web"]);
    assert_eq!(read_both(&agentd, "web"), both("packed"));
});

host_test!(vm_export_and_import_killed_at_any_moment_leave_nothing, |host| {
    let mut agentd = host.with_agentd();
    run(&agentd);
    // Enough that it takes a while.
    let fill = [
        "vm",
        "exec",
        "web",
        "--",
        "sh",
        "-c",
        "dd if=/dev/urandom of=/dev/vdc bs=1M count=64 seek=1 && sync",
    ];
    wait_until("its agent answers", guest::BOOT, || {
        let answer = agentd.ctl(&fill);
        if answer.status == 0 { Ok(()) } else { Err(format!("{answer:?}")) }
    });
    let (archive, whole) = (host.scratch().join("half.tar"), host.scratch().join("whole.tar"));
    agentd.ok(&["vm", "export", "web", &text(&whole)]);
    let killed = |agentd: &mut Agentd, arguments: &[&str], moment: u64, daemon: bool| {
        let quiet = || Stdio::null();
        let begun = agentd.command(arguments).stdout(quiet()).stderr(quiet()).spawn();
        let mut begun = begun.expect("agentctl starts");
        std::thread::sleep(Duration::from_millis(moment));
        if daemon {
            agentd.kill();
            agentd.start();
            // One whose archive was taken waits for its VM, also while the daemon is away.
            return begun.wait().expect("an end").success();
        }
        agent_tests::host::signal(begun.id(), nix::sys::signal::Signal::SIGINT);
        begun.wait().expect("an end").success()
    };
    let contents = names(&agentd.state().join("images"));
    let mut cut_off = 0;
    for daemon in [true, false] {
        for moment in [20, 200, 600, 1500] {
            let arguments = ["vm", "export", "web", &text(&archive)];
            let done = killed(&mut agentd, &arguments, moment, daemon);
            assert_eq!(archive.exists(), done, "killed after {moment} ms");
            assert!(!archive.with_extension("tar.part").exists(), "half a file, after {moment} ms");
            cut_off += usize::from(!done);
            nothing_left(&agentd);
            let _ = std::fs::remove_file(&archive);
            let arguments = ["vm", "import", &text(&whole), "--name", "new"];
            killed(&mut agentd, &arguments, moment, daemon);
            // An archive that had come whole becomes a VM, also after its caller has gone.
            nothing_left(&agentd);
            wait_until("it is there or not", Duration::from_secs(60), || {
                let Some(vm) = agentd.get("vm", "new") else { return Ok(()) };
                if vm["status"]["state"] == "running" { Ok(()) } else { Err(vm["status"].to_string()) }
            });
            if agentd.get("vm", "new").is_some() {
                assert_eq!(read_both(&agentd, "new"), both("packed"));
                agentd.ok(&["vm", "rm", "new"]);
            }
            nothing_left(&agentd);
        }
    }
    assert!(cut_off >= 3, "only {cut_off} of the exports had been cut off: the moments are wrong");
    assert_eq!(read_both(&agentd, "web"), both("packed"));
    // What was stored and is nobody's any more goes with the next sweep, which a start begins with.
    agentd.stop();
    agentd.start();
    let only_the_images = || {
        let left = names(&agentd.state().join("images"));
        if left == contents { Ok(()) } else { Err(format!("{left:?}")) }
    };
    let said = || format!("{}\n{}", agentd.ok(&["vm", "list"]), agentd.log_text());
    wait_or_tell("only the image's content is left", Duration::from_secs(30), only_the_images, said);
    agentd.ok(&["vm", "rm", "web"]);
    assert_eq!(traces::of_vms(&agentd), Vec::<String>::new());
});
