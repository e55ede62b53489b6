//! Whole hosts, each a Debian in a VM of its own with an init, a journal and a kernel with all its modules. What is
//! asserted is what the host and its guests show.

mod kvm;
mod limits;
mod made;
mod service;
mod shaping;
#[path = "../host/template.rs"]
mod template;
mod volumes;

use std::time::Duration;

use agent_tests::host::{Agentd, guest, wait_until};
use agent_tests::machine_test;

/// Before the first that is booted from it, so that none waits for it.
#[test]
#[ignore = "needs the packages of packaging/host-packages: run by tests/run"]
fn root_is_made() {
    assert!(agent_tests::machine::root().join("root.img").is_file());
}

// One after the other: guests of two such hosts at once would get no time.
machine_test!(vm_and_docker_have_what_a_whole_host_gives, 1200, |host| {
    let mut agentd = host.agentd("state");
    runs_guests_under_kvm(&mut agentd);
    let line = ["vm", "run", "web", "--image", "micro", "--memory", "192MiB", "--timeout", "8m"];
    agentd.ok(&[&line[..], &["--nested", "--network", shaping::LIMITED]].concat());
    guest::answers_within(&agentd, "web", Duration::from_secs(300));
    guest::runs_programs(&agentd, "web");
    kvm::guests_of_its_own_are_for_who_asked(&agentd, "web");
    shaping::interfaces_carry_what_their_limits_let_through(&agentd);
    agentd.ok(&["vm", "rm", "web"]);
    host.start_docker_of_systemd();
    // By the engine that it finds now.
    agentd.kill();
    agentd.start();
    agentd.wait_ready();
    limits::limits_hold_by_cgroups_of_version_2(&agentd);
    volumes::volumes_grow_under_containers_that_run(&mut agentd);
});

/// This host's processor is emulated, and what it emulates of KVM's part resets a guest now and then: the daemon tries
/// anew then, as it would after a boot of the host.
fn runs_guests_under_kvm(agentd: &mut Agentd) {
    for trial in 1..=3 {
        let info = wait_until("it is known how guests run here", Duration::from_secs(120), || {
            let info: serde_json::Value = serde_json::from_str(&agentd.ok(&["info", "-o", "json"]))
                .map_err(|error| error.to_string())?;
            if info["host"]["accel"].is_string() { Ok(info) } else { Err(info.to_string()) }
        });
        if info["host"]["accel"] == "kvm" {
            return;
        }
        println!("trial {trial}: {}", info["host"]["accel_reason"]);
        agentd.kill();
        std::fs::remove_file(agentd.state().join("accel.json")).expect("the answer that it keeps");
        agentd.start();
        agentd.wait_ready();
    }
    panic!("no trial guest ran under KVM");
}
