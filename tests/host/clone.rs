//! Clones, by what their guests have on their disks and what they are called on the network.

use std::process::Stdio;
use std::time::Duration;

use agent_tests::host::guest::{both, read_both, write_both};
use agent_tests::host::{Agentd, guest, namespace, traces, wait_until};
use agent_tests::host_test;
use serde_json::Value;

fn run(agentd: &Agentd, name: &str) {
    agentd.ok(&["vm", "run", name, "--image", "micro", "--memory", "128MiB", "--add-disk", "256MiB"]);
    guest::answers(agentd, name);
}

fn of_page<'a>(page: &'a str, field: &str) -> &'a str {
    page.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_else(|| panic!("{page}")).trim()
}

fn inside(agentd: &Agentd, name: &str, program: &[&str]) -> String {
    let mut words = vec!["vm", "exec", name, "--"];
    words.extend(program);
    wait_until(&format!("{name} runs {program:?}"), guest::BOOT, || {
        let answer = agentd.ctl(&words);
        if answer.status == 0 { Ok(answer.stdout) } else { Err(format!("{answer:?}")) }
    })
}

/// qemu-img's word on the disk that it boots from.
fn disk(agentd: &Agentd, name: &str) -> Value {
    let id = agentd.vm(name)["id"].as_str().expect("an id").to_owned();
    let disk = agentd.state().join("vms").join(id).join("disk.qcow2");
    let text = namespace::run("/usr/bin/qemu-img", &["info", "-U", "--output=json", &disk.to_string_lossy()]);
    serde_json::from_str(&text.expect("qemu-img")).expect("JSON")
}

fn backing(agentd: &Agentd, name: &str) -> String {
    disk(agentd, name)["backing-filename"].as_str().unwrap_or_default().to_owned()
}

fn snapshots(agentd: &Agentd) -> Vec<String> {
    agentd.ok(&["snapshot", "list", "-o", "name"]).lines().map(str::to_owned).collect()
}

fn no_snapshots(agentd: &Agentd, source: &str) {
    wait_until("the snapshots that were taken for clones are gone", Duration::from_secs(30), || {
        let inside = disk(agentd, source)["snapshots"].as_array().map_or(0, Vec::len);
        let left = snapshots(agentd);
        if left.is_empty() && inside == 0 { Ok(()) } else { Err(format!("{left:?}, {inside} in the disk")) }
    });
}

host_test!(vm_cloned_while_it_runs_is_another_machine_with_the_same_disks, |host| {
    let agentd = host.with_agentd();
    run(&agentd, "web");
    write_both(&agentd, "web", "before");
    agentd.ok(&["vm", "clone", "web", "linked"]);
    agentd.ok(&["vm", "clone", "web", "full", "--full", "--memory", "144MiB"]);
    write_both(&agentd, "web", "after");
    no_snapshots(&agentd, "web");
    assert!(backing(&agentd, "linked").contains("/disk-sets/"), "{}", disk(&agentd, "linked"));
    assert_eq!(backing(&agentd, "full"), "", "it stands on nothing");

    // All three at once: the same disks as they were at the clone, and nothing else in common.
    let mut seen = std::collections::BTreeSet::new();
    for name in ["web", "linked", "full"] {
        let front = guest::answers(&agentd, name);
        assert_eq!(of_page(&front, "hostname:"), name);
        let boots = of_page(&front, "boots:");
        assert_eq!(boots, if name == "web" { "1" } else { "2" }, "{front}");
        assert!(seen.insert(of_page(&front, "address:").to_owned()), "{seen:?} has it twice: {front}");
        let mac = agentd.vm(name)["status"]["addresses"][0]["mac"].as_str().expect("a MAC").to_owned();
        let links = inside(&agentd, name, &["cat", "/sys/class/net/eth0/address"]);
        assert_eq!(links.trim(), mac);
        assert!(seen.insert(mac));
        let line = inside(&agentd, name, &["cat", "/proc/cmdline"]);
        let id = line.split_whitespace().find(|word| word.starts_with("systemd.machine_id="));
        assert_eq!(id.is_some(), name != "web", "{line}");
        assert!(id.is_none_or(|id| seen.insert(id.to_owned())), "{seen:?} has it twice: {line}");
    }
    assert_eq!(read_both(&agentd, "web"), both("after"));
    for name in ["linked", "full"] {
        assert_eq!(read_both(&agentd, name), both("before"), "{name}");
    }
    write_both(&agentd, "linked", "mine");
    assert_eq!((read_both(&agentd, "full"), read_both(&agentd, "web")), (both("before"), both("after")));
    assert_eq!(agentd.vm("web")["status"]["restarts"], Value::Null);

    // The source goes first; its clones do not need it.
    agentd.ok(&["vm", "rm", "web"]);
    agentd.ok(&["vm", "restart", "linked"]);
    assert_eq!((read_both(&agentd, "linked"), read_both(&agentd, "full")), (both("mine"), both("before")));
    agentd.ok(&["vm", "rm", "linked", "full"]);
    assert_eq!(traces::of_vms(&agentd), Vec::<String>::new());
});

host_test!(vm_clones_of_a_snapshot_share_what_it_held_and_go_in_any_order, |host| {
    let agentd = host.with_agentd();
    run(&agentd, "web");
    write_both(&agentd, "web", "golden");
    agentd.ok(&["snapshot", "create", "web", "golden"]);
    write_both(&agentd, "web", "later");
    agentd.ok(&["vm", "stop", "web"]);
    agentd.ok(&["vm", "clone", "web", "one", "--snapshot", "golden", "--no-start"]);
    assert_eq!(agentd.vm("one")["status"]["state"], "stopped");
    agentd.ok(&["vm", "clone", "web", "two", "--snapshot", "golden"]);
    assert_eq!(backing(&agentd, "one"), backing(&agentd, "two"));
    // Of one that is off, as it is now; and a clone of a clone.
    agentd.ok(&["vm", "clone", "web", "now", "--no-start"]);
    assert_eq!(read_both(&agentd, "two"), both("golden"));
    write_both(&agentd, "two", "third");
    agentd.ok(&["vm", "clone", "two", "deep"]);
    assert_eq!(read_both(&agentd, "deep"), both("third"));
    assert_eq!(snapshots(&agentd), ["snapshot/golden"]);

    // What they stand on is theirs: the source goes back, the snapshot goes, clones go in the middle.
    agentd.ok(&["snapshot", "restore", "golden"]);
    agentd.ok(&["snapshot", "rm", "golden"]);
    agentd.ok(&["vm", "rm", "two"]);
    agentd.ok(&["vm", "start", "one", "now"]);
    assert_eq!((read_both(&agentd, "one"), read_both(&agentd, "now")), (both("golden"), both("later")));
    agentd.ok(&["vm", "restart", "deep"]);
    assert_eq!(read_both(&agentd, "deep"), both("third"));
    for name in ["web", "deep", "one", "now"] {
        agentd.ok(&["vm", "rm", name]);
    }
    assert_eq!(traces::of_vms(&agentd), Vec::<String>::new());

    agentd.ok(&["vm", "create", "off", "--image", "micro"]);
    let answer = agentd.ctl(&["vm", "clone", "off", "never"]);
    assert_eq!(answer.status, 4, "{answer:?}");
    assert!(answer.stderr.contains("agentctl vm start off"), "{answer:?}");
    agentd.ok(&["vm", "rm", "off"]);
});

host_test!(vm_clone_killed_at_any_moment_is_made_and_its_source_untouched, |host| {
    let mut agentd = host.with_agentd();
    run(&agentd, "web");
    write_both(&agentd, "web", "kept");
    // Enough that its copy takes a while.
    inside(&agentd, "web", &["sh", "-c", "dd if=/dev/urandom of=/dev/vdc bs=1M count=96 seek=1 && sync"]);
    let mut lived = 0;
    for (n, moment) in [0, 30, 80, 150, 300, 600, 1000].into_iter().enumerate() {
        let mut arguments = vec!["vm", "clone", "web", "new"];
        arguments.extend((n % 2 == 1).then_some("--full"));
        let quiet = || Stdio::null();
        let begun = agentd.command(&arguments).stdout(quiet()).stderr(quiet()).spawn();
        let mut begun = begun.expect("agentctl starts");
        std::thread::sleep(Duration::from_millis(moment));
        let _ = begun.kill();
        agentd.kill();
        begun.wait().expect("its end");
        agentd.start();
        if agentd.get("vm", "new").is_some() {
            lived += 1;
            agentd.wait_state("new", "running", Duration::from_secs(90));
            if moment == 150 || moment == 600 {
                assert_eq!(read_both(&agentd, "new"), both("kept"), "killed after {moment} ms");
            }
            no_snapshots(&agentd, "web");
            agentd.ok(&["vm", "rm", "new"]);
        }
        no_snapshots(&agentd, "web");
        let others = traces::of_vms(&agentd).into_iter().filter(|trace| trace.starts_with("set of disks"));
        assert_eq!(others.collect::<Vec<_>>(), Vec::<String>::new(), "killed after {moment} ms");
    }
    assert!(lived >= 3, "only {lived} of the clones had been accepted: the moments are wrong");
    // Deleted on its way, it leaves nothing either.
    agentd.ok(&["vm", "clone", "web", "new", "--no-wait"]);
    let refused = agentd.ctl(&["vm", "rm", "web"]);
    println!("the source while its clone is made: {refused:?}");
    agentd.ok(&["vm", "rm", "new"]);
    if refused.status != 0 {
        assert!(refused.stderr.contains("vm/default/new"), "{refused:?}");
        assert_eq!(read_both(&agentd, "web"), both("kept"));
        no_snapshots(&agentd, "web");
        agentd.ok(&["vm", "rm", "web"]);
    }
    assert_eq!(traces::of_vms(&agentd), Vec::<String>::new());
});
