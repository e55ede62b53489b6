//! The console on the fake driver, whose guests echo what is typed.

use std::time::Duration;

use agentd_api::ErrorCode;
use agentd_api::frame::Frame;
use agentd_drivers::vm::VmDriver;

use crate::daemon::subs::testing::Bed;

#[tokio::test]
async fn what_was_said_comes_first_then_what_comes() {
    let bed = Bed::new(false, true, "before\n").await;
    let mut stream = bed.stream("console", &[]).await;
    assert_eq!(stream.until("before\n").await, "before\n");
    stream.types("typed\r").await;
    stream.until("typed\r").await;
    bed.fakes.vm.guest_says(bed.id, "later\n");
    stream.until("later\n").await;

    let mut tail = bed.stream("console", &[("tail", "1"), ("watch", "true")]).await;
    assert_eq!(tail.until("later\n").await, "typed\rlater\n");
    let long = "0123456789\n".repeat(10_000);
    bed.fakes.vm.guest_says(bed.id, &long);
    bed.fakes.vm.guest_says(bed.id, "end");
    let mut bounded = bed.stream("console", &[("watch", "true")]).await;
    let said = bounded.until("end").await;
    assert!(said.len() <= 65 << 10 && said.starts_with("0123"), "{} bytes", said.len());
}

#[tokio::test]
async fn one_types_and_others_watch_and_are_told() {
    let bed = Bed::new(false, true, "").await;
    let mut first = bed.stream("console", &[]).await;
    first.types("one ").await;
    first.until("one ").await;
    let mut second = bed.stream("console", &[]).await;
    assert!(second.note().await.contains("uid:7 types here"));
    second.types("not me ").await;
    assert!(second.note().await.contains("you watch"));
    let mut third = bed.stream("console", &[("force", "true")]).await;
    assert!(first.note().await.contains("taken over"));
    third.types("three ").await;
    for stream in [&mut first, &mut second, &mut third] {
        assert!(!stream.until("three ").await.contains("not me"));
    }
    drop(third);
    assert!(second.note().await.contains("nobody types"));
    second.types("now me").await;
    second.until("now me").await;
    let refused = bed.refusal("console", &[("watch", "true"), ("force", "true")]).await;
    assert_eq!(refused.code, ErrorCode::Invalid);
}

#[tokio::test]
async fn a_guest_that_is_off_is_told_of_and_typed_into_once_it_runs() {
    let bed = Bed::new(false, true, "").await;
    let mut stream = bed.stream("console", &[]).await;
    stream.types("a").await;
    stream.until("a").await;
    bed.fakes.vm.destroy(bed.id).await.expect("off");
    // Between its end and its hanging up, what is typed is lost in silence.
    let told = loop {
        stream.types("nothing").await;
        if let Ok(note) = tokio::time::timeout(Duration::from_millis(50), stream.note()).await {
            break note;
        }
    };
    // One that is typed to as it ends is said to have ended.
    assert!(told.contains("does not run") || told.contains("has ended"), "{told}");
    bed.fakes.vm.start(bed.id).await.expect("on");
    stream.types("again").await;
    assert!(!stream.until("again").await.contains("nothing"));
}

#[tokio::test]
async fn the_size_reaches_a_guest_that_has_an_agent() {
    let bed = Bed::new(false, true, "").await;
    let mut stream = bed.stream("console", &[]).await;
    // Without an agent it is no failure.
    stream.to.send(&Frame::Resize { columns: 80, rows: 25 }).await.expect("sent");
    bed.fakes.vm.set_agent(bed.id, true);
    let told = async {
        while bed.fakes.vm.console_size(bed.id) != Some((132, 43)) {
            stream.to.send(&Frame::Resize { columns: 132, rows: 43 }).await.expect("sent");
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::daemon::subs::testing::LIMIT, told).await.expect("told");
}

#[tokio::test]
async fn each_end_says_which_it_is() {
    let bed = Bed::new(false, true, "").await;
    let mut stream = bed.stream("console", &[]).await;
    bed.remove_vm().await;
    assert_eq!(stream.next().await, Some(Frame::End), "the VM is gone");

    let bed = Bed::new(false, true, "").await;
    let mut stream = bed.stream("console", &[]).await;
    bed.stop.cancel();
    assert!(matches!(stream.next().await, Some(Frame::Failed(why)) if why.contains("agentd stops")));
    assert_eq!(stream.next().await, None);

    let bed = Bed::new(false, true, "").await;
    let mut stream = bed.stream("console", &[]).await;
    stream.to.send(&Frame::Exit(0)).await.expect("sent");
    assert!(matches!(stream.next().await, Some(Frame::Failed(why)) if why.contains("no such frame")));
}
