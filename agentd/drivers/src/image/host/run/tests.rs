use std::time::{Duration, Instant};

use uuid::Uuid;

use super::*;

/// The processes of which an argument is `mark`, but for those that are still to become the program: one that is left by
/// its daemon in that moment does not hear of it.
fn processes(mark: &str) -> usize {
    let all = std::fs::read_dir("/proc").expect("/proc").filter_map(Result::ok);
    let lines = all.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    let becoming =
        |line: &[u8]| line.split(|b| *b == 0).next().is_some_and(|first| first.ends_with(b"setpriv"));
    lines
        .filter(|line| !becoming(line))
        .filter(|line| line.split(|b| *b == 0).any(|argument| argument == mark.as_bytes()))
        .count()
}

fn wait_until(what: &str, mark: &str, done: impl Fn(usize) -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !done(processes(mark)) {
        assert!(Instant::now() < until, "{what}: {} processes", processes(mark));
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Starts a program from a thread that then ends as a killed daemon does: without a word to anybody.
fn started_and_left(make: impl FnOnce(&Work) -> Program + Send + 'static, mark: &str, expected: usize) {
    let seen = mark.to_owned();
    let daemon = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let work = Work::detached(Uuid::now_v7());
        let mut run = Box::pin(make(&work).deadline(Duration::from_secs(60)).run());
        runtime.block_on(async {
            let all = async {
                while processes(&seen) < expected {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            tokio::select! {
                ended = &mut run => panic!("it ended by itself: {ended:?}"),
                () = all => {}
            }
        });
        // No destructor runs in a process that was killed.
        std::mem::forget((run, runtime));
    });
    daemon.join().expect("it started what it should");
    wait_until("all have ended", mark, |n| n == 0);
}

#[test]
fn a_program_ends_with_the_daemon_that_started_it() {
    let mark = "7.0001";
    started_and_left(|work| program("sleep", work).expect("found").arg("600").arg("7.0001"), mark, 1);
}

#[test]
fn what_a_contained_program_started_ends_with_it() {
    let mark = "contained-mark";
    let script = "sh -c 'sleep 600; true' contained-mark & sh -c 'sleep 600; true' contained-mark";
    let make = move |work: &Work| contained("sh", work).expect("found").args(["-c", script]);
    started_and_left(make, mark, 2);
}
