//! Output without end: it is handed on, and this process does not grow by it.

use agentd_drivers::container::{ContainerStreams, Logs};
use agentd_drivers::vm::guest::{ExecWish, GuestOut, Said};

use crate::bed::{Bed, def, inside, shell, staying};
use crate::netns;

/// What of this process is in memory, in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a status");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("what is resident");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") << 10
}

/// How much it says to its end, and how much this process grew at most meanwhile.
async fn drained(mut out: GuestOut) -> (u64, u64) {
    let (before, mut most, mut all, mut pieces) = (resident(), 0, 0, 0_u64);
    loop {
        match out.next().await.expect("it says how it ends") {
            Said::Out(bytes) | Said::Err(bytes) => all += bytes.len() as u64,
            Said::Exit(_) | Said::Done { .. } => return (all, most),
        }
        pieces += 1;
        if pieces.is_multiple_of(100) {
            most = most.max(resident().saturating_sub(before));
        }
    }
}

#[test]
#[ignore = "needs the test host: run by tests/run"]
fn docker_output_of_gigabytes_and_lines_without_end_are_not_kept() {
    netns::inside(async || {
        inside(async |bed: &Bed| {
            const MIB: u64 = 1 << 20;
            let def_quiet = def("quiet", staying(""));
            bed.up(&def_quiet).await;
            for (terminal, count) in [(None, 2048), (Some((80, 24)), 256)] {
                let argv = shell(&format!("dd if=/dev/zero bs=1M count={count} 2>/dev/null"));
                let wish = ExecWish { argv, terminal, ..ExecWish::default() };
                let (_input, out) = bed.driver.exec(def_quiet.id, wish).await.expect("it runs");
                let (all, grown) = drained(out).await;
                assert_eq!(all, count * MIB);
                assert!(grown < 16 * MIB, "grew by {grown} bytes");
                println!("{count} MiB, terminal {}: grew by {} KiB", terminal.is_some(), grown >> 10);
            }
            for terminal in [false, true] {
                let line = "dd if=/dev/zero bs=1M count=100 2>/dev/null;";
                let mut loud = def(if terminal { "loud-tty" } else { "loud" }, staying(line));
                (loud.terminal, loud.log.size) = (terminal, agentd_api::ByteSize::gib(1));
                bed.up(&loud).await;
                let logs = Logs { out: true, err: true, ..Logs::default() };
                let (all, grown) = drained(bed.driver.logs(loud.id, logs).await.expect("a log")).await;
                assert_eq!(all, 100 * MIB);
                assert!(grown < 16 * MIB, "grew by {grown} bytes");
                println!("a line of 100 MiB, terminal {terminal}: grew by {} KiB", grown >> 10);
            }
        })
        .await;
    });
}

#[test]
#[ignore = "needs the test host: run by tests/run"]
fn docker_a_session_that_is_dropped_ends_its_program_and_a_terminal_has_its_size() {
    netns::inside(async || {
        inside(async |bed: &Bed| {
            let quiet = def("quiet", staying(""));
            bed.up(&quiet).await;
            let argv = shell("while :; do sleep 7777; done");
            let session =
                bed.driver.exec(quiet.id, ExecWish { argv, ..ExecWish::default() }).await.expect("it runs");
            let running = "ps | grep -v grep | grep -q 'sleep 777[7]'";
            netns::wait_until("it runs", std::time::Duration::from_secs(10), async || {
                let (said, status) = bed.exec(quiet.id, running).await;
                if status == 0 { Ok(()) } else { Err(said) }
            })
            .await;
            drop(session);
            let shells = "ps | grep -v grep | grep -q 'while :; do sleep 777[7]'";
            netns::wait_until("it ends", std::time::Duration::from_secs(10), async || {
                let (said, status) = bed.exec(quiet.id, shells).await;
                if status == 0 { Err(said) } else { Ok(()) }
            })
            .await;

            let argv = shell("read x; busybox stty size; read y; busybox stty size");
            let wish = ExecWish { argv, terminal: Some((91, 31)), input: true, ..ExecWish::default() };
            let (mut input, mut out) = bed.driver.exec(quiet.id, wish).await.expect("it runs");
            input.data(b"\n").await.expect("typed");
            let mut said = String::new();
            while !said.contains("31 91") {
                match out.next().await.expect("it says") {
                    Said::Out(bytes) => said.push_str(&String::from_utf8_lossy(&bytes)),
                    other => panic!("{other:?} after {said:?}"),
                }
            }
            input.resize(77, 22).await.expect("sized");
            input.data(b"\n").await.expect("typed");
            while let Said::Out(bytes) = out.next().await.expect("it says") {
                said.push_str(&String::from_utf8_lossy(&bytes));
            }
            assert!(said.contains("22 77"), "{said:?}");
        })
        .await;
    });
}
