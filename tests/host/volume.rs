//! Volumes and disks, by what guests read and write on them.

use std::time::Duration;

use agent_tests::host::{Agentd, guest, traces, virsh, wait_until};
use agent_tests::host_test;

const SOON: Duration = Duration::from_secs(30);
const MEMORY: [&str; 4] = ["--image", "micro", "--memory", "192MiB"];

/// What the guest says to `/cgi-bin/disk?QUERY`.
fn ask(agentd: &Agentd, vm: &str, query: &str) -> String {
    let path = format!("/cgi-bin/disk?{query}");
    wait_until(&format!("{vm} answers"), SOON, || guest::get(&agentd.address(vm), 80, &path))
}

/// One of the lines by which the guest tells of its disks: name, bytes, serial, ro=.
fn line(agentd: &Agentd, vm: &str, serial: &str) -> Option<String> {
    ask(agentd, vm, "").lines().find(|l| l.split(' ').nth(2) == Some(serial)).map(str::to_owned)
}

fn serial(agentd: &Agentd, volume: &str) -> String {
    let volume = agentd.get("volume", volume).expect("a volume");
    volume["status"]["serial"].as_str().unwrap_or_else(|| panic!("no serial: {volume}")).to_owned()
}

/// The guest sees that disk, as the device that agentd says.
fn sees(agentd: &Agentd, vm: &str, volume: &str) -> String {
    let serial = serial(agentd, volume);
    let found = wait_until(&format!("{vm} sees {volume}"), SOON, || {
        line(agentd, vm, &serial).ok_or_else(|| ask(agentd, vm, ""))
    });
    let device = found.split(' ').next().expect("a name").to_owned();
    let says = agentd.get("volume", volume).expect("a volume");
    assert_eq!(says["status"]["attached_to"]["device"], device.as_str(), "{says}");
    device
}

fn run(agentd: &Agentd, name: &str, more: &[&str]) {
    agentd.ok(&[&["vm", "run", name][..], &MEMORY, more].concat());
    guest::answers(agentd, name);
}

host_test!(vm_volumes_come_and_go_under_running_guests_and_keep_their_content, |host| {
    let mut agentd = host.with_agentd();
    for (name, size, format) in
        [("one", "64MiB", "qcow2"), ("two", "64MiB", "raw"), ("three", "64MiB", "qcow2")]
    {
        agentd.ok(&["volume", "create", name, "--size", size, "--format", format]);
    }
    run(&agentd, "a", &["--volume", "one", "--add-disk", "32MiB"]);
    assert_eq!(sees(&agentd, "a", "one"), "vdd", "behind the seed and the disk of its own");
    assert!(line(&agentd, "a", "disk-1").is_some_and(|l| l.starts_with("vdc 33554432")));

    // Plugged in while it runs; the daemon restarted; the middle one unplugged.
    agentd.ok(&["volume", "attach", "two", "a"]);
    agentd.ok(&["volume", "attach", "three", "a", "--read-only"]);
    assert_eq!((sees(&agentd, "a", "two"), sees(&agentd, "a", "three")), ("vde".into(), "vdf".into()));
    assert!(line(&agentd, "a", &serial(&agentd, "three")).is_some_and(|l| l.ends_with("ro=1")));
    let (two, text) = (serial(&agentd, "two"), "kept on the second");
    assert!(ask(&agentd, "a", &format!("{two}=kept%20on%20the%20second")).contains("status: 0"));
    agentd.stop();
    agentd.start();
    agentd.wait_state("a", "running", SOON);
    assert_eq!((sees(&agentd, "a", "one"), sees(&agentd, "a", "three")), ("vdd".into(), "vdf".into()));
    let refused = agentd.ctl(&["volume", "attach", "two", "a"]);
    assert_eq!(refused.status, 4, "{refused:?}");
    let refused = agentd.ctl(&["volume", "rm", "two"]);
    assert!(refused.status == 4 && refused.stderr.contains("vm/default/a"), "{refused:?}");
    agentd.ok(&["volume", "detach", "two"]);
    wait_until("the guest has let go", SOON, || match line(&agentd, "a", &two) {
        None => Ok(()),
        Some(line) => Err(line),
    });
    assert_eq!((sees(&agentd, "a", "one"), sees(&agentd, "a", "three")), ("vdd".into(), "vdf".into()));
    let vm = agentd.vm("a");
    assert!(!vm["status"]["conditions"].to_string().contains("pending_restart"), "{vm}");

    // Grown while the guest has it; shrinking is refused by name.
    agentd.ok(&["volume", "resize", "one", "96MiB"]);
    let one = serial(&agentd, "one");
    wait_until("the guest sees the new size", SOON, || {
        let line = line(&agentd, "a", &one).unwrap_or_default();
        if line.starts_with("vdd 100663296 ") { Ok(()) } else { Err(line) }
    });
    let refused = agentd.ctl(&["volume", "resize", "one", "64MiB"]);
    assert!(refused.status == 2 && refused.stderr.contains("spec.size"), "{refused:?}");

    // What one wrote another reads, after a restart too; what is attached stays so.
    agentd.ok(&["vm", "restart", "a"]);
    guest::answers(&agentd, "a");
    assert!(line(&agentd, "a", &one).is_some_and(|l| l.contains(" 100663296 ")));
    assert_eq!(sees(&agentd, "a", "three"), "vde", "a start closes the gap");
    agentd.ok(&["vm", "rm", "a"]);
    let three = agentd.get("volume", "three").expect("it outlives the VM");
    assert_eq!(three["status"]["state"], "ready", "{three}");
    run(&agentd, "b", &["--volume", "two:ro"]);
    assert!(ask(&agentd, "b", &two).starts_with(text), "{}", ask(&agentd, "b", &two));
    assert!(!ask(&agentd, "b", &format!("{two}=x")).contains("status: 0"), "it is read-only");
    let refused = agentd.ctl(&["volume", "detach", "one"]);
    assert_eq!(refused.status, 4, "{refused:?}");
    agentd.ok(&["vm", "rm", "b"]);
    agentd.ok(&["volume", "rm", "one", "two", "three"]);
    assert_eq!(traces::of_vms(&agentd), Vec::<String>::new());
    let left = std::fs::read_dir(agentd.state().join("volumes")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "files of volumes are left");
});

host_test!(vm_that_cannot_let_go_of_a_volume_keeps_it_until_it_can, |host| {
    let agentd = host.with_agentd();
    agentd.ok(&["volume", "create", "data", "--size", "32MiB"]);
    run(&agentd, "a", &["--volume", "data"]);
    sees(&agentd, "a", "data");
    // A guest whose CPUs stand still lets go of nothing.
    agentd.ok(&["vm", "pause", "a"]);
    let late = agentd.ctl(&["volume", "detach", "data", "--timeout", "3s"]);
    assert_eq!(late.status, 8, "{late:?}");
    let volume = wait_until("that is shown", SOON, || {
        let volume = agentd.get("volume", "data").expect("a volume");
        if volume["status"]["attached_to"]["detaching"] == true {
            Ok(volume)
        } else {
            Err(volume.to_string())
        }
    });
    assert_eq!(volume["status"]["state"], "attached", "{volume}");
    let vm = wait_until("the VM says why", SOON, || {
        let vm = agentd.vm("a");
        let said = vm["status"]["conditions"].to_string().contains("has not let go of volume 'data'");
        if said { Ok(vm) } else { Err(vm["status"].to_string()) }
    });
    assert_eq!(vm["status"]["state"], "paused");
    assert_eq!(agentd.ctl(&["volume", "rm", "data"]).status, 4);
    agentd.ok(&["vm", "resume", "a"]);
    wait_until("it is free", SOON, || {
        let volume = agentd.get("volume", "data").expect("a volume");
        if volume["status"]["state"] == "ready" { Ok(()) } else { Err(volume["status"].to_string()) }
    });
    assert!(!ask(&agentd, "a", "").contains(&serial(&agentd, "data")));
    agentd.ok(&["volume", "rm", "data"]);
});

host_test!(vm_volumes_begin_as_an_image_and_fit_into_the_pool, |host| {
    let agentd = host.with_agentd();
    let file = host.scratch().join("words.raw");
    // Text, and behind it the mark of a disk of LVM's, by which it is known for one.
    let (hello, mut disk) = ("hello from an image", vec![0; 1 << 20]);
    disk[..hello.len()].copy_from_slice(hello.as_bytes());
    disk[512..520].copy_from_slice(b"LABELONE");
    std::fs::write(&file, disk).expect("a file");
    agentd.ok(&["image", "import", &file.to_string_lossy(), "--name", "words"]);
    for (name, format) in [("one", "qcow2"), ("two", "raw")] {
        agentd.ok(&["volume", "create", name, "--size", "32MiB", "--image", "words", "--format", format]);
    }
    run(&agentd, "a", &["--volume", "one", "--volume", "two"]);
    for name in ["one", "two"] {
        let serial = serial(&agentd, name);
        let line = line(&agentd, "a", &serial).unwrap_or_default();
        assert!(
            line.contains(&format!(" {} ", 32 << 20)),
            "as large as the volume, not as the image: {line}"
        );
        assert!(ask(&agentd, "a", &serial).contains(hello), "{}", ask(&agentd, "a", &serial));
    }
    // Each has a copy of its own: what is written to one is neither in the image nor in what is made of it later.
    assert!(ask(&agentd, "a", &format!("{}=mine", serial(&agentd, "one"))).contains("status: 0"));
    agentd.ok(&["volume", "create", "three", "--size", "32MiB", "--image", "words"]);
    agentd.ok(&["volume", "attach", "three", "a"]);
    sees(&agentd, "a", "three");
    assert!(ask(&agentd, "a", &serial(&agentd, "three")).contains(hello));
    assert!(ask(&agentd, "a", &serial(&agentd, "two")).contains(hello));
    assert!(ask(&agentd, "a", &serial(&agentd, "one")).starts_with("mine"));

    let refused = agentd.ctl(&["volume", "create", "no", "--size", "32MiB", "--image", "nothing"]);
    assert!(refused.status == 2 && refused.stderr.contains("spec.image"), "{refused:?}");
    // What the pool has no room for is refused before anything is made, and when it is grown too.
    let pool = nix::sys::statvfs::statvfs(agentd.state()).expect("the pool");
    let free = pool.blocks_available() * pool.fragment_size();
    let much = format!("{}MiB", (free >> 20) + (100 << 10));
    let body = serde_json::json!({"name": "much", "spec": {"size": much}});
    let answer = agentd.answer_to_post("/v1/volumes", &body);
    assert!(answer.lines().next().is_some_and(|line| line.contains(" 507 ")), "{answer}");
    assert!(answer.contains("insufficient_capacity") && answer.contains("spec.size"), "{answer}");
    let refused = agentd.ctl(&["volume", "create", "much", "--size", &much]);
    assert!(refused.status == 1 && refused.stderr.contains("MiB free"), "{refused:?}");
    let refused = agentd.ctl(&["volume", "resize", "two", &much]);
    assert!(refused.status == 1 && refused.stderr.contains("spec.size"), "{refused:?}");
    assert!(agentd.get("volume", "much").is_none());
    assert_eq!(agentd.get("volume", "two").expect("it stays")["status"]["size"], "32MiB");
});

host_test!(vm_has_at_most_64_volumes_and_sees_them_all, |host| {
    const MOST: usize = 64;
    let agentd = host.with_agentd();
    let name = |n: usize| format!("v{n:02}");
    for n in 0..=MOST {
        agentd.ok(&["volume", "create", &name(n), "--size", "16MiB", "--no-wait"]);
    }
    agentd.ok(&["vm", "create", "a", "--image", "micro", "--memory", "192MiB"]);
    for n in 0..MOST {
        agentd.ok(&["volume", "attach", &name(n), "a", "--no-wait"]);
    }
    let refused = agentd.ctl(&["volume", "attach", &name(MOST), "a"]);
    assert!(refused.status == 2 && refused.stderr.contains("spec.volumes"), "{refused:?}");
    assert!(refused.stderr.contains("64"), "the limit is told: {refused:?}");
    agentd.ok(&["vm", "start", "a"]);
    guest::answers(&agentd, "a");
    let all = ask(&agentd, "a", "");
    for n in 0..MOST {
        assert!(all.contains(&serial(&agentd, &name(n))), "{} is missing: {all}", name(n));
    }
    assert!(!all.contains(&serial(&agentd, &name(MOST))), "{all}");
    // One goes, and there is room for another, while it runs.
    agentd.ok(&["volume", "detach", &name(7)]);
    agentd.ok(&["volume", "attach", &name(MOST), "a"]);
    sees(&agentd, "a", &name(MOST));
});

host_test!(vm_lets_go_of_a_volume_that_a_program_holds_open, |host| {
    let agentd = host.with_agentd();
    agentd.ok(&["volume", "create", "data", "--size", "32MiB"]);
    run(&agentd, "a", &["--volume", "data"]);
    let (device, serial) = (sees(&agentd, "a", "data"), serial(&agentd, "data"));
    assert!(ask(&agentd, "a", &format!("{serial}=kept")).contains("status: 0"));
    let exec = |script: &str| {
        wait_until(script, guest::BOOT, || {
            let answer = agentd.ctl(&["vm", "exec", "a", "--", "sh", "-c", script]);
            if answer.status == 0 { Ok(answer.stdout) } else { Err(format!("{answer:?}")) }
        })
    };
    // A program that has it open, and writes to it when it is told to.
    exec(&format!(
        "(exec 3<>/dev/{device}; echo open >/tmp/held; until [ -e /tmp/go ]; do usleep 100000; done; \
         dd if=/dev/zero bs=512 count=1 conv=fsync >&3 2>/dev/null; echo $? >/tmp/wrote) </dev/null >/dev/null 2>&1 &"
    ));
    exec("grep open /tmp/held");
    // Linux lets go of a disk whoever has it open: the program has nothing any more, and nobody is kept waiting.
    agentd.ok(&["volume", "detach", "data"]);
    assert!(line(&agentd, "a", &serial).is_none());
    assert_eq!(agentd.get("volume", "data").expect("a volume")["status"]["state"], "ready");
    exec("touch /tmp/go");
    assert_ne!(exec("cat /tmp/wrote").trim(), "0", "what it wrote went nowhere");
    assert!(guest::answers(&agentd, "a").contains("boots: 1"));
    // What was written before is there, for whoever has it next.
    run(&agentd, "b", &["--volume", "data"]);
    assert!(ask(&agentd, "b", &serial).starts_with("kept"), "{}", ask(&agentd, "b", &serial));
});

/// The disc of these bytes at its beginning, with what makes it one behind them.
fn disc(text: &str) -> Vec<u8> {
    let mut disc = vec![0u8; 1 << 20];
    disc[..text.len()].copy_from_slice(text.as_bytes());
    disc[16 * 2048] = 1;
    disc[16 * 2048 + 1..][..6].copy_from_slice(b"CD001\x01");
    disc[17 * 2048] = 255;
    disc[17 * 2048 + 1..][..6].copy_from_slice(b"CD001\x01");
    disc
}

host_test!(vm_reads_an_iso_and_its_disc_is_changed_while_it_runs, |host| {
    let agentd = host.with_agentd();
    for name in ["first", "second"] {
        let file = host.scratch().join(format!("{name}.iso"));
        std::fs::write(&file, disc(&format!("the {name} disc\n"))).expect("a file");
        agentd.ok(&["image", "import", &file.to_string_lossy(), "--name", name]);
        assert_eq!(agentd.get("image", name).expect("an image")["status"]["source_format"], "iso");
    }
    run(&agentd, "a", &["--iso", "first"]);
    let reads = |what: &str| {
        wait_until(&format!("the guest reads {what}"), SOON, || {
            let text = ask(&agentd, "a", "sr0");
            if text.starts_with(what) { Ok(()) } else { Err(text + &ask(&agentd, "a", "")) }
        });
    };
    reads("the first disc");
    agentd.ok(&["vm", "iso", "a", "second"]);
    reads("the second disc");
    agentd.ok(&["vm", "iso", "a", "--eject"]);
    wait_until("the drive is empty", SOON, || {
        let xml = virsh(&["dumpxml", agentd.vm("a")["id"].as_str().expect("an id")]).expect("virsh");
        if xml.contains("second") || !xml.contains("device='cdrom'") { Err(xml) } else { Ok(()) }
    });
    let vm = agentd.vm("a");
    assert!(!vm["status"]["conditions"].to_string().contains("pending_restart"), "{vm}");
    // What is no disk is no disk to start as.
    let refused = agentd.ctl(&["vm", "run", "b", "--image", "first", "--timeout", "30s"]);
    assert!(refused.status == 1 && refused.stderr.contains("ISO"), "{refused:?}");
});

host_test!(vm_hot_plug_killed_at_any_moment_converges, |host| {
    let mut agentd = host.with_agentd();
    agentd.ok(&["volume", "create", "data", "--size", "32MiB"]);
    run(&agentd, "a", &[]);
    let serial = serial(&agentd, "data");
    let mut text = String::new();
    for (n, moment) in [0u64, 20, 60, 120, 250].into_iter().enumerate() {
        for (verb, there) in [("attach", true), ("detach", false)] {
            let arguments =
                if there { vec!["volume", verb, "data", "a"] } else { vec!["volume", verb, "data"] };
            let mut begun = agentd.command(&arguments).spawn().expect("agentctl starts");
            std::thread::sleep(Duration::from_millis(moment));
            let _ = begun.kill();
            agentd.kill();
            begun.wait().expect("its end");
            agentd.start();
            // Killed before it was written down: it is asked for again. The answer to what is so already is a conflict.
            let again = agentd.ctl(&arguments);
            assert!(matches!(again.status, 0 | 4), "{again:?}");
            wait_until("the guest has it or has it not", SOON, || {
                let all = ask(&agentd, "a", "");
                let shown = agentd.get("volume", "data").expect("a volume")["status"]["state"] == "attached";
                if all.contains(&serial) == there && shown == there { Ok(()) } else { Err(all) }
            });
            if there {
                // The original data is untouched by all of that.
                assert!(ask(&agentd, "a", &serial).starts_with(&text));
                text = format!("written in round {n}\n");
                let words = text.trim().replace(' ', "%20");
                assert!(ask(&agentd, "a", &format!("{serial}={words}")).contains("status: 0"));
            }
        }
        let domains = virsh(&["list", "--name"]).expect("virsh");
        assert_eq!(domains.split_whitespace().count(), 1, "{domains}");
    }
    agentd.ok(&["volume", "rm", "data"]);
    agentd.ok(&["vm", "rm", "a"]);
    assert_eq!(traces::of_vms(&agentd), Vec::<String>::new());
});
