//! Figures of guests, beside what the guests and the host's kernel say of the same.

use std::time::Duration;

use agent_tests::host::{Agentd, guest, traces, wait_until};
use agent_tests::host_test;
use serde_json::Value;

fn figures(agentd: &Agentd, name: &str) -> Value {
    let text = agentd.ok(&["vm", "stats", name, "-o", "json"]);
    let list: Value = serde_json::from_str(&text).expect("JSON");
    list["items"][0].clone()
}

fn number(value: &Value, path: &str) -> u64 {
    value.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("no {path} in {value}"))
}

/// What the kernel says that the only guest's emulator has used of CPUs, in nanoseconds.
fn emulator_cpu() -> u64 {
    let processes = traces::processes("qemu-system-x86");
    assert_eq!(processes.len(), 1, "{processes:?}");
    let pid = processes[0].split(' ').next().expect("a pid");
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
    let after_name = stat.rsplit(')').next().expect("fields");
    let ticks = |n: usize| -> u64 {
        after_name.split_whitespace().nth(n).and_then(|t| t.parse().ok()).expect("ticks")
    };
    // utime and stime, in hundredths of a second.
    (ticks(11) + ticks(12)) * 10_000_000
}

host_test!(vm_figures_are_what_guest_and_kernel_say, |host| {
    let agentd = host.with_agentd();
    agentd.ok(&["vm", "run", "web", "--image", "micro", "--memory", "192MiB", "--disk", "1GiB"]);
    let page = guest::answers(&agentd, "web");
    let said = |name: &str| -> u64 {
        let line = page.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
        line.and_then(|text| text.trim().parse().ok()).unwrap_or_else(|| panic!("no {name} in {page}"))
    };

    let (least, first, most) = (emulator_cpu(), figures(&agentd, "web"), emulator_cpu());
    let cpu = number(&first, "/cpu/nanoseconds");
    // The kernel counts its own part of it in ticks of 10 ms for each of the emulator's threads.
    let slack = 500_000_000;
    assert!(cpu + slack >= least && cpu <= most + slack, "{least} <= {cpu} <= {most}");
    assert_eq!(number(&first, "/memory/given_bytes"), 192 << 20);
    assert_eq!(number(&first, "/disks/0/capacity_bytes"), said("disk_bytes"));
    assert_eq!(first["networks"][0]["network"], "default", "{first}");

    let total = wait_until("the guest's balloon tells its memory", Duration::from_secs(60), || {
        let now = figures(&agentd, "web");
        now["memory"]["guest"]["total_bytes"].as_u64().filter(|n| *n > 0).ok_or_else(|| now.to_string())
    });
    assert_eq!(total, said("memory_kib") << 10, "{page}");

    let mut bytes = 0;
    for _ in 0..40 {
        bytes += guest::get(&agentd.address("web"), 80, "/").expect("it answers").len() as u64;
    }
    guest::get(&agentd.address("web"), 80, "/cgi-bin/write?text").expect("written");
    let second = figures(&agentd, "web");
    let grown = |path: &str| number(&second, path) - number(&first, path);
    assert!(grown("/networks/0/sent_bytes") > bytes, "{bytes} bytes of pages: {first} then {second}");
    assert!(grown("/networks/0/received_bytes") > 40 * 40, "{first} then {second}");
    assert!(grown("/disks/0/written_bytes") > 0, "{first} then {second}");
    assert!(grown("/cpu/nanoseconds") > 0, "{first} then {second}");

    let metrics = agentd.raw("/metrics");
    let line = metrics.lines().find(|l| l.starts_with("agentd_guest_cpu_seconds_total{")).expect("a line");
    let seconds: f64 = line.rsplit(' ').next().and_then(|n| n.parse().ok()).expect("seconds");
    let before = number(&second, "/cpu/nanoseconds") as f64 / 1e9;
    assert!(seconds >= before && seconds < before + 60.0, "{line} after {before}");
    let table = agentd.ok(&["top"]);
    assert!(table.contains("vm/web"), "{table}");
});

host_test!(vm_twenty_at_once_all_come_up, |host| {
    const MANY: usize = 20;
    let agentd = host.with_agentd();
    for n in 0..MANY {
        agentd.ok(&["vm", "run", &format!("m{n}"), "--image", "micro", "--memory", "96MiB", "--no-wait"]);
    }
    for n in 0..MANY {
        let name = format!("m{n}");
        agentd.wait_state(&name, "running", Duration::from_secs(240));
        // All of them boot on this host's few processors, and none is done much sooner than the others.
        let page = guest::answers_within(&agentd, &name, Duration::from_secs(300));
        assert!(page.contains(&format!("hostname: {name}\n")), "{page}");
        assert!(page.contains("boots: 1"), "none was started twice: {page}");
    }
    // None needed a second try, then or before: a failed one would have been told of.
    for n in 0..MANY {
        let vm = agentd.vm(&format!("m{n}"));
        assert!(vm["status"]["attempts"].is_null() && vm["status"]["state"] == "running", "{vm}");
        let told = agentd.ok(&["events", &format!("vm/m{n}"), "-o", "json"]);
        assert!(told.contains("\"started\"") && !told.contains("\"failed\""), "{told}");
    }
    let log = agentd.log_text();
    assert!(!log.contains("a pass failed"), "{log}");
    let list: Value = serde_json::from_str(&agentd.ok(&["vm", "stats", "-o", "json"])).expect("JSON");
    assert_eq!(list["items"].as_array().map(Vec::len), Some(MANY));
});
