//! agentd killed in the middle: whatever it had begun is finished or undone by the next one.

use std::process::{Child, Stdio};
use std::time::Duration;

use agent_tests::host::{Agentd, guest, traces, virsh, wait_until};
use agent_tests::host_test;

/// Moments after a command was given at which agentd is killed: dense where its steps are short.
const MOMENTS: [u64; 9] = [0, 15, 40, 80, 130, 200, 300, 450, 700];

/// An agentctl that is ended together with its daemon: left alive, it would ask the next one again.
struct Begun(Child);

fn begin(agentd: &Agentd, arguments: &[&str]) -> Begun {
    let quiet = || Stdio::null();
    Begun(agentd.command(arguments).stdout(quiet()).stderr(quiet()).spawn().expect("agentctl starts"))
}

impl Begun {
    fn killed_with(mut self, agentd: &mut Agentd) {
        // Already ended where it was done before.
        let _ = self.0.kill();
        agentd.kill();
        self.0.wait().expect("its end");
    }
}

fn one_domain() {
    let domains = virsh(&["list", "--all", "--name"]).expect("virsh");
    assert_eq!(domains.split_whitespace().count(), 1, "{domains}");
}

host_test!(vm_create_killed_at_any_moment_converges, |host| {
    let mut agentd = host.with_agentd();
    let mut lived = 0;
    for moment in MOMENTS {
        let begun = begin(&agentd, &["vm", "run", "web", "--image", "micro", "--memory", "128MiB"]);
        std::thread::sleep(Duration::from_millis(moment));
        begun.killed_with(&mut agentd);
        agentd.start();
        if agentd.get("vm", "web").is_none() {
            // It was killed before it had answered. Then nothing may be there at all.
            assert_eq!(traces::of_vms(&agentd), Vec::<String>::new(), "killed after {moment} ms");
            continue;
        }
        lived += 1;
        agentd.wait_state("web", "running", Duration::from_secs(60));
        one_domain();
        if moment == 130 {
            guest::answers(&agentd, "web");
        }
        agentd.ok(&["vm", "rm", "web"]);
        assert_eq!(traces::of_vms(&agentd), Vec::<String>::new(), "killed after {moment} ms");
    }
    assert!(lived >= 4, "only {lived} of the creates had been accepted: the moments are wrong");
});

host_test!(vm_delete_killed_at_any_moment_converges, |host| {
    let mut agentd = host.with_agentd();
    for moment in MOMENTS {
        agentd.ok(&["vm", "run", "web", "--image", "micro", "--memory", "128MiB"]);
        let begun = begin(&agentd, &["vm", "rm", "web"]);
        std::thread::sleep(Duration::from_millis(moment));
        begun.killed_with(&mut agentd);
        agentd.start();
        if agentd.get("vm", "web").is_some_and(|vm| vm["deleting_at"].is_null()) {
            // It was killed before it was told. The VM is as it was.
            agentd.wait_state("web", "running", Duration::from_secs(30));
            one_domain();
            agentd.ok(&["vm", "rm", "web"]);
        }
        agentd.wait_gone("web", Duration::from_secs(30));
        assert_eq!(traces::of_vms(&agentd), Vec::<String>::new(), "killed after {moment} ms");
    }
});

host_test!(vm_steps_of_a_create_are_each_survived, |host| {
    // The same by the step that agentd itself says it is at, rather than by time.
    let mut agentd = host.with_agentd();
    let mut seen = std::collections::BTreeSet::new();
    for round in 0..6 {
        let begun = begin(&agentd, &["vm", "run", "web", "--image", "micro", "--memory", "128MiB"]);
        let step = wait_until("a step that was not killed in yet", Duration::from_secs(30), || {
            let Some(vm) = agentd.get("vm", "web") else { return Err("not there".to_owned()) };
            let step = vm["status"]["progress"]["step"].as_str().unwrap_or_default().to_owned();
            let over = vm["status"]["state"] == "running";
            if over || !seen.contains(&step) { Ok(step) } else { Err(step) }
        });
        println!("round {round}: killed at '{step}'");
        seen.insert(step);
        begun.killed_with(&mut agentd);
        agentd.start();
        agentd.wait_state("web", "running", Duration::from_secs(60));
        one_domain();
        agentd.ok(&["vm", "rm", "web"]);
        assert_eq!(traces::of_vms(&agentd), Vec::<String>::new());
    }
});
