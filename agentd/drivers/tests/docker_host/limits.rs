//! Limits, as the container itself sees them.

use agentd_api::ByteSize;
use agentd_drivers::container::{ContainerError, ContainerLife, ContainerLimits, Limits, Restraints, Ulimit};
use uuid::Uuid;

use crate::bed::{Bed, def, inside, staying};
use crate::netns;

/// What its own cgroup says, by the name of the file in either version.
async fn cgroup(bed: &Bed, id: Uuid, one: &str, two: &str) -> String {
    bed.says(id, &format!("cat /sys/fs/cgroup/{one} 2>/dev/null || cat /sys/fs/cgroup/{two}")).await
}

async fn holds(bed: &Bed, id: Uuid, (memory, swap): (u64, u64), (quota, pids): (u64, u64)) {
    assert_eq!(cgroup(bed, id, "memory/memory.limit_in_bytes", "memory.max").await, memory.to_string());
    let both = bed.exec(id, "cat /sys/fs/cgroup/memory/memory.memsw.limit_in_bytes").await;
    match both {
        (both, 0) => assert_eq!(both, (memory + swap).to_string()),
        _ => assert_eq!(bed.says(id, "cat /sys/fs/cgroup/memory.swap.max").await, swap.to_string()),
    }
    let cpu = cgroup(bed, id, "cpu/cpu.cfs_quota_us", "cpu.max").await;
    assert_eq!(cpu.split(' ').next(), Some(quota.to_string().as_str()), "of 100 ms");
    assert_eq!(cgroup(bed, id, "pids/pids.max", "pids.max").await, pids.to_string());
}

#[test]
#[ignore = "needs the test host: run by tests/run"]
fn docker_limits_hold_and_are_changed_while_it_runs() {
    netns::inside(async || {
        inside(async |bed: &Bed| {
            let mut def = def("limited", staying(""));
            def.limits = Limits {
                nanocpus: Some(500_000_000),
                memory: Some(ByteSize::mib(64)),
                swap: Some(ByteSize::mib(16)),
                pids: Some(30),
                cpu_shares: Some(512),
                cpuset: Some("0".to_owned()),
                ..Limits::default()
            };
            let nofile = Ulimit { name: "nofile".to_owned(), soft: 100, hard: 200 };
            def.restraints =
                Restraints { ulimits: vec![nofile], shm: Some(ByteSize::mib(8)), io: Vec::new() };
            bed.up(&def).await;
            let id = def.id;
            holds(bed, id, (64 << 20, 16 << 20), (50_000, 30)).await;
            // Of its own program: what is run beside it may be let have as much as the hard limit by some runtimes.
            let files = bed.says(id, "grep '^Max open files' /proc/1/limits").await;
            assert_eq!(files.split_whitespace().collect::<Vec<_>>()[3..5], ["100", "200"], "{files}");
            assert_eq!(bed.says(id, "ulimit -H -n").await, "200");
            assert_eq!(bed.says(id, "df /dev/shm | grep shm").await.split_whitespace().nth(1), Some("8192"));
            assert_eq!(
                bed.says(id, "grep Cpus_allowed_list /proc/self/status").await,
                "Cpus_allowed_list:\t0"
            );

            let more = Limits {
                nanocpus: Some(1_500_000_000),
                memory: Some(ByteSize::mib(96)),
                swap: Some(ByteSize(0)),
                pids: Some(40),
                ..def.limits.clone()
            };
            bed.driver.update(id, &more).await.expect("changed");
            holds(bed, id, (96 << 20, 0), (150_000, 40)).await;
            let (said, status) = bed.exec(id, "for i in $(yes | head -n 60); do sleep 0.5 & done").await;
            assert!(status != 0 && said.contains("fork"), "more processes than allowed: {status} {said}");

            netns::wait_until("they have ended", std::time::Duration::from_secs(10), async || {
                let (said, status) = bed.exec(id, "ls /sys | head -n 1").await;
                if status == 0 { Ok(()) } else { Err(said) }
            })
            .await;

            let unlimited = bed.driver.update(id, &Limits::default()).await.expect_err("they stay");
            assert!(matches!(unlimited, ContainerError::Unsupported(_)), "{unlimited:?}");
            let odd = Limits { cpuset: Some("4000".to_owned()), ..more.clone() };
            let odd = bed.driver.update(id, &odd).await.expect_err("there is no such processor");
            assert!(matches!(odd, ContainerError::Refused(_)), "{odd:?}");
            holds(bed, id, (96 << 20, 0), (150_000, 40)).await;
        })
        .await;
    });
}

#[test]
#[ignore = "needs the test host: run by tests/run"]
fn docker_a_program_that_wants_more_memory_is_killed_and_that_is_told() {
    netns::inside(async || {
        inside(async |bed: &Bed| {
            use agentd_drivers::container::{ContainerLook, ContainerStreams};
            let eats = "x=0123456789abcdef; while :; do x=$x$x; done";
            let mut def = def("hungry", ["sh", "-c", eats].map(ToOwned::to_owned).to_vec());
            def.limits =
                Limits { memory: Some(ByteSize::mib(16)), swap: Some(ByteSize(0)), ..Limits::default() };
            bed.driver.ensure_created(&def).await.expect("made");
            bed.driver.start(def.id).await.expect("started");
            let exit = bed.driver.wait(def.id).await.expect("it ends");
            assert!(exit.oom && exit.code == 137, "{exit:?}");
            let seen = bed.driver.observe(def.id).await.expect("observed").expect("there");
            assert_eq!(seen.exit, Some(exit));
        })
        .await;
    });
}
