//! Guests whose memory is in huge pages, by how many of the host's they take.

use std::time::Duration;

use agent_tests::host::{guest, namespace, wait_until};
use agent_tests::host_test;

/// Huge pages of this host, which all namespaces share: what was reserved before is put back when this is dropped.
struct Reserved {
    before: String,
}

const HUGE_PAGES: &str = "/proc/sys/vm/nr_hugepages";

impl Reserved {
    /// None where this host cannot give as many, which is said aloud.
    fn pages(more: u64) -> Option<Self> {
        let before = std::fs::read_to_string(HUGE_PAGES).ok()?.trim().to_owned();
        let wanted = before.parse::<u64>().ok()? + more;
        let reserved = Self { before };
        std::fs::write(HUGE_PAGES, wanted.to_string()).ok()?;
        let has = std::fs::read_to_string(HUGE_PAGES).ok()?.trim().parse::<u64>().ok()?;
        (has == wanted).then_some(reserved)
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        let _ = std::fs::write(HUGE_PAGES, &self.before);
    }
}

fn free_pages() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").expect("its memory");
    let line = text.lines().find_map(|line| line.strip_prefix("HugePages_Free:"));
    line.and_then(|n| n.trim().parse().ok()).expect("this kernel has huge pages")
}

host_test!(vm_has_its_memory_in_huge_pages, |host| {
    let Some(_reserved) = Reserved::pages(64) else {
        println!(
            "NOT SHOWN: this host cannot reserve 64 huge pages; that a guest runs in them was not tested"
        );
        panic!(
            "this host cannot reserve 64 huge pages ({HUGE_PAGES}): free some memory, or leave this test out by name"
        );
    };
    std::fs::create_dir_all("/dev/hugepages").expect("a folder");
    namespace::run("/bin/mount", &["-t", "hugetlbfs", "hugetlbfs", "/dev/hugepages"]).expect("huge pages");
    let agentd = host.with_agentd();
    let report = agentd.ctl(&["doctor"]).stdout;
    assert!(report.contains("huge pages") && report.contains("are reserved"), "{report}");
    let before = free_pages();
    let small = ["--image", "micro", "--memory", "96MiB"];
    let refused = agentd.ctl(&["vm", "run", "big", "--image", "micro", "--memory", "900GiB", "--huge-pages"]);
    assert!(refused.status != 0 && refused.stderr.contains("spec."), "{refused:?}");
    agentd.ok(&[&["vm", "run", "web", "--huge-pages"], &small[..]].concat());
    let page = guest::answers(&agentd, "web");
    assert!(page.contains("boots: 1"), "{page}");
    let taken = before - free_pages();
    assert!(taken >= 48, "96 MiB are 48 pages; {taken} were taken of {before}");
    agentd.ok(&["vm", "rm", "web"]);
    wait_until("its pages are given back", Duration::from_secs(20), || {
        let now = free_pages();
        if now == before { Ok(()) } else { Err(format!("{now} of {before}")) }
    });
});
