//! A VM changed while it runs, by what its guest shows.

use std::process::Stdio;
use std::time::Duration;

use agent_tests::host::{Agentd, guest, traces, virsh, wait_until};
use agent_tests::host_test;
use serde_json::{Value, json};

/// For what a guest has to take into use or let go of, on a busy machine without KVM.
const COMPLY: Duration = Duration::from_secs(60);

/// A line of the guest's page about itself, as a number.
fn number(page: &str, what: &str) -> u64 {
    let line = page.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(": "));
    line.and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("no {what} in {page}"))
}

/// Waits until the guest says so of itself.
fn shows(agentd: &Agentd, what: &str, is: impl Fn(&str) -> bool) -> String {
    let address = agentd.address("web");
    wait_until(&format!("the guest shows {what}"), COMPLY, || {
        let page = guest::get(&address, 80, "/")?;
        if is(&page) { Ok(page) } else { Err(format!("{page}\n{}", agentd.vm("web")["status"])) }
    })
}

fn condition(vm: &Value, kind: &str) -> Option<String> {
    let all = vm["status"]["conditions"].as_array()?;
    let found = all.iter().find(|c| c["type"] == kind && c["status"] == true)?;
    found["reason"].as_str().map(ToOwned::to_owned)
}

fn refused(agentd: &Agentd, arguments: &[&str], status: i32, words: &str) {
    let answer = agentd.ctl(arguments);
    assert_eq!(answer.status, status, "{arguments:?}: {answer:?}");
    assert!(answer.stderr.contains(words), "{arguments:?} does not say {words}: {answer:?}");
}

/// The address on `lab`, where the VM has one.
fn on_lab(vm: &Value) -> Option<String> {
    let all = vm["status"]["addresses"].as_array().expect("a list");
    all.iter().find(|a| a["network"] == "lab")?["ip"].as_str().map(ToOwned::to_owned)
}

fn lab(agentd: &Agentd) {
    agentd.post("/v1/networks", &json!({"name": "lab", "spec": {"cidr": "10.78.0.0/24"}}));
    wait_until("the network lab is ready", Duration::from_secs(30), || {
        let network = agentd.get("network", "lab").ok_or("there is none")?;
        if network["status"]["state"] == "ready" { Ok(()) } else { Err(network["status"].to_string()) }
    });
}

host_test!(vm_cpus_memory_disk_and_ports_change_while_it_runs, |host| {
    let agentd = host.with_agentd();
    let size = ["--cpus-max", "2", "--memory", "192MiB", "--memory-max", "320MiB"];
    agentd.ok(&[&["vm", "run", "web", "--image", "micro"][..], &size].concat());
    let page = guest::answers(&agentd, "web");
    assert_eq!(number(&page, "cpus"), 1, "{page}");
    shows(&agentd, "that its balloon holds what is over", |page| number(page, "memory_kib") < 192 << 10);

    agentd.ok(&["vm", "resize", "web", "--cpus", "2"]);
    shows(&agentd, "two CPUs", |page| number(page, "cpus") == 2);

    agentd.ok(&["vm", "resize", "web", "--memory", "128MiB"]);
    shows(&agentd, "less memory", |page| number(page, "memory_kib") < 128 << 10);
    agentd.ok(&["vm", "resize", "web", "--memory", "320MiB"]);
    shows(&agentd, "more memory", |page| number(page, "memory_kib") > 240 << 10);

    let was = number(&page, "disk_bytes");
    refused(&agentd, &["vm", "resize", "web", "--disk", "32MiB"], 2, "spec.disk");
    agentd.ok(&["vm", "resize", "web", "--disk", "200MiB"]);
    shows(&agentd, "the larger disk", |page| number(page, "disk_bytes") == 200 << 20 && was < 200 << 20);
    refused(&agentd, &["vm", "resize", "web", "--disk", "100MiB"], 2, "spec.disk");

    agentd.ok(&["vm", "publish", "web", "8081:80"]);
    let published = || guest::get("127.0.0.1", 8081, "/");
    wait_until("the published port answers", Duration::from_secs(10), published);
    agentd.ok(&["vm", "unpublish", "web", "8081:80"]);
    assert!(published().is_err(), "the port is closed");

    // What cannot be is refused by name, and what needs a restart says so and is so after it.
    refused(&agentd, &["vm", "patch", "web", "image=other"], 2, "spec.image");
    refused(&agentd, &["vm", "patch", "web", "memory=100000001B"], 2, "spec.memory");
    refused(
        &agentd,
        &["vm", "resize", "web", "--memory", "900TiB", "--memory-max", "900TiB"],
        1,
        "spec.memory",
    );
    refused(&agentd, &["vm", "resize", "web", "--cpus", "3"], 2, "spec.cpus_max");
    let answer = agentd.ctl(&["vm", "resize", "web", "--memory", "384MiB", "--memory-max", "384MiB"]);
    let waits = "memory 320MiB -> 384MiB waits for a restart: it was started with room for 320MiB";
    assert!(answer.status == 0 && answer.stderr.contains(waits), "{answer:?}");
    let why = condition(&agentd.vm("web"), "pending_restart").expect("it is pending");
    assert!(why.contains(waits), "{why}");
    // The guest stops using it at once; whether it gives it back before its restart is told as it is.
    agentd.ok(&["vm", "resize", "web", "--cpus", "1", "--no-wait"]);
    shows(&agentd, "one CPU", |page| number(page, "cpus") == 1);
    let page = shows(&agentd, "what it had", |_| true);
    assert!(page.contains("boots: 1"), "all that in one boot: {page}");
    agentd.ok(&["vm", "restart", "web"]);
    shows(&agentd, "all memory after the restart", |page| {
        page.contains("boots: 2")
            && number(page, "cpus") == 1
            && number(page, "memory_kib") > 300 << 10
            && number(page, "disk_bytes") == 200 << 20
    });
    assert_eq!(condition(&agentd.vm("web"), "pending_restart"), None);
});

host_test!(vm_what_it_has_from_its_start_waits_for_a_restart_by_name, |host| {
    let agentd = host.with_agentd();
    let script = host.scratch().join("first");
    std::fs::write(&script, "#!/bin/sh\necho first words\n").expect("a file");
    let user_data = script.to_string_lossy().into_owned();
    let small = ["--image", "micro", "--memory", "128MiB"];
    agentd.ok(&[&["vm", "run", "web"][..], &small, &["--user-data", &user_data]].concat());
    guest::answers(&agentd, "web");
    wait_until("its user-data is run", COMPLY, || {
        let said = guest::console(&agentd, "web");
        if said.contains("user-data: first words") { Ok(()) } else { Err(said) }
    });
    let has_watchdog = || {
        let xml = virsh(&["dumpxml", agentd.vm("web")["id"].as_str().expect("an id")]).expect("virsh");
        xml.contains("<watchdog model='i6300esb' action='none'")
    };
    agentd.ok(&["vm", "set", "web", "--watchdog", "record"]);
    agentd.ok(&["vm", "patch", "web", "user_data=#!/bin/sh\necho second words\n"]);
    agentd.post("/v1/ssh-keys", &json!({"name": "me", "spec": {"public_key": KEY}}));
    agentd.ok(&["vm", "patch", "web", "ssh_keys=[\"me\"]"]);
    for words in
        ["watchdog off -> record", "user_data waits for a restart", "ssh_keys waits", "first boot only"]
    {
        wait_until(&format!("it says '{words}'"), Duration::from_secs(10), || {
            let vm = agentd.vm("web");
            let why = condition(&vm, "pending_restart").unwrap_or_default();
            if why.contains(words) { Ok(()) } else { Err(vm["status"].to_string()) }
        });
    }
    assert!(!has_watchdog() && !guest::console(&agentd, "web").contains("second words"));
    let page = guest::answers(&agentd, "web");
    assert!(page.contains("boots: 1"), "{page}");
    agentd.ok(&["vm", "restart", "web"]);
    // The image micro runs the seed's script at each boot, which is how it shows what the seed has.
    wait_until("its new user-data is run", COMPLY, || {
        let said = guest::console(&agentd, "web");
        if said.contains("user-data: second words") { Ok(()) } else { Err(said) }
    });
    assert!(has_watchdog());
    assert_eq!(condition(&agentd.vm("web"), "pending_restart"), None);

    // Nesting is KVM's: under emulation it is refused by its field, whatever QEMU's own processor shows, and not promised
    // for the next start.
    let emulated = agentd.vm("web")["status"]["accel"] == "tcg";
    let look = "grep -m1 -wo -e svm -e vmx /proc/cpuinfo";
    let flag = agentd.ctl(&["vm", "exec", "web", "--", "sh", "-c", look]).stdout;
    println!("emulated: {emulated}; of vmx and svm the guest's processor shows: {:?}", flag.trim());
    if emulated {
        refused(&agentd, &["vm", "set", "web", "--nested"], 5, "spec.nested");
    }
});

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGO7ZmKVEt1Lrmcyv7pRhj6P5XZXVbahNiKGqpSVTtCx me@here";

host_test!(vm_interfaces_are_plugged_in_and_out_also_when_agentd_is_killed, |host| {
    let mut agentd = host.with_agentd();
    lab(&agentd);
    agentd.ok(&["vm", "run", "web", "--image", "micro", "--memory", "192MiB"]);
    guest::answers(&agentd, "web");

    agentd.ok(&["vm", "network", "attach", "web", "lab,ip=10.78.0.20"]);
    let both =
        wait_until("the guest answers on the new interface", COMPLY, || guest::get("10.78.0.20", 80, "/"));
    assert!(both.contains(&agentd.address("web")) && both.contains("10.78.0.20/24"), "{both}");
    // Its name is answered on the new network too, by that network's server.
    let named =
        guest::get("10.78.0.20", 80, "/cgi-bin/resolve?web.lab.internal").expect("the guest resolves");
    println!("{named}");
    refused(&agentd, &["vm", "network", "detach", "web", "nowhere"], 3, "nowhere");

    // A guest that cannot let go of it keeps its address, until it has.
    let claim = ["vm", "create", "next", "--image", "micro", "--network", "lab,ip=10.78.0.20", "--dry-run"];
    agentd.ok(&["vm", "pause", "web"]);
    agentd.ok(&["vm", "network", "detach", "web", "lab", "--no-wait"]);
    wait_until("it is waited for", Duration::from_secs(10), || {
        let vm = agentd.vm("web");
        condition(&vm, "pending_guest").map(|_| ()).ok_or_else(|| vm["status"].to_string())
    });
    refused(&agentd, &claim, 4, "spec.networks[0].ip");
    agentd.ok(&["vm", "resume", "web"]);
    wait_until("the guest has let go", COMPLY, || {
        let vm = agentd.vm("web");
        if vm["status"]["leaving"].is_null() { Ok(()) } else { Err(vm["status"].to_string()) }
    });
    agentd.ok(&claim);
    let page = guest::answers(&agentd, "web");
    assert!(!page.contains("10.78.0.20") && page.contains("boots: 1"), "{page}");

    // Killed in the middle, both ways.
    for (moment, verb) in [(0, "attach"), (40, "attach"), (0, "detach"), (120, "attach"), (60, "detach")] {
        let quiet = || Stdio::null();
        let mut begun = agentd.command(&["vm", "network", verb, "web", "lab"]);
        let mut begun = begun.stdout(quiet()).stderr(quiet()).spawn().expect("agentctl starts");
        std::thread::sleep(Duration::from_millis(moment));
        let _ = begun.kill();
        agentd.kill();
        begun.wait().expect("its end");
        agentd.start();
        settled(&agentd, &format!("{verb} killed after {moment} ms"));
    }
    let domains = virsh(&["list", "--all", "--name"]).expect("virsh");
    assert_eq!(domains.split_whitespace().count(), 1, "{domains}");
    let page = guest::answers(&agentd, "web");
    assert!(page.contains("boots: 1"), "{page}");
    agentd.ok(&["vm", "rm", "web"]);
    assert_eq!(traces::of_vms(&agentd), Vec::<String>::new());
});

/// Waits until the guest has the interface on `lab` if and only if the store says so.
fn settled(agentd: &Agentd, what: &str) {
    wait_until(what, COMPLY, || {
        let vm = agentd.vm("web");
        let page = guest::get(&agentd.address("web"), 80, "/")?;
        let shown = match on_lab(&vm) {
            Some(ip) => page.contains(&ip),
            None => vm["status"]["leaving"].is_null() && !page.contains("10.78.0."),
        };
        if shown { Ok(()) } else { Err(format!("{page}\n{}", vm["status"])) }
    });
}
