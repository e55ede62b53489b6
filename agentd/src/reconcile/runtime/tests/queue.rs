//! The queue by itself, on a clock that the test turns.

use std::time::Duration;

use agentd_api::ObjectKey;

use super::super::queue::{Finish, Queue, Urgency};
use crate::reconcile::testing::key;

fn a() -> ObjectKey {
    key("ssh-key", "a")
}

fn drain(queue: &Queue) -> usize {
    std::iter::from_fn(|| queue.pop().inspect(|k| queue.finish(k, &Finish::default()))).count()
}

#[tokio::test]
async fn a_key_woken_often_runs_once() {
    let queue = Queue::default();
    for _ in 0..100 {
        queue.wake(&a(), Urgency::Now);
        queue.wake(&key("ssh-key", "b"), Urgency::Event);
    }
    assert_eq!(drain(&queue), 2);
}

#[tokio::test]
async fn a_key_does_not_run_twice_at_a_time_and_runs_again_when_woken_meanwhile() {
    let queue = Queue::default();
    queue.wake(&a(), Urgency::Now);
    assert_eq!(queue.pop(), Some(a()));
    for _ in 0..10 {
        queue.wake(&a(), Urgency::Now);
    }
    assert_eq!(queue.pop(), None, "it runs already");
    queue.finish(&a(), &Finish::default());
    assert_eq!(drain(&queue), 1, "once more, not ten times");
}

#[tokio::test]
async fn a_pass_is_not_woken_by_its_own_write_whenever_the_watch_tells() {
    let queue = Queue::default();
    let end = Finish { read: 5, wrote: vec![6, 8], ..Finish::default() };
    // The watch is ahead of the pass's end, behind it, and in between.
    for early in 0..=2 {
        queue.wake(&a(), Urgency::Now);
        queue.pop();
        [6, 8].iter().take(early).for_each(|r| queue.object_changed(&a(), *r));
        queue.finish(&a(), &end);
        [6, 8].iter().skip(early).for_each(|r| queue.object_changed(&a(), *r));
        assert_eq!(queue.pop(), None, "{early} told before the end");
    }
}

#[tokio::test]
async fn a_pass_is_woken_by_what_others_write_whenever_the_watch_tells() {
    let queue = Queue::default();
    let end = Finish { read: 5, wrote: vec![6, 8], ..Finish::default() };
    for early in 0..=3 {
        queue.wake(&a(), Urgency::Now);
        queue.pop();
        [6, 7, 8].iter().take(early).for_each(|r| queue.object_changed(&a(), *r));
        queue.finish(&a(), &end);
        [6, 7, 8].iter().skip(early).for_each(|r| queue.object_changed(&a(), *r));
        assert_eq!(drain(&queue), 1, "{early} told before the end");
    }
}

#[tokio::test]
async fn what_the_pass_has_read_already_does_not_wake_it() {
    let queue = Queue::default();
    queue.wake(&a(), Urgency::Now);
    queue.pop();
    queue.object_changed(&a(), 4);
    queue.finish(&a(), &Finish { read: 5, ..Finish::default() });
    assert_eq!(queue.pop(), None);
}

#[tokio::test(start_paused = true)]
async fn a_delay_is_kept_and_the_next_pass_replaces_it() {
    let queue = Queue::default();
    queue.wake(&a(), Urgency::Now);
    queue.pop();
    queue.finish(&a(), &Finish { again: Some(Duration::from_secs(5)), ..Finish::default() });
    tokio::time::advance(Duration::from_secs(4)).await;
    assert_eq!(queue.pop(), None);
    queue.wake(&a(), Urgency::Now);
    assert_eq!(drain(&queue), 1);
    tokio::time::advance(Duration::from_secs(10)).await;
    assert_eq!(queue.pop(), None, "the pass in between did not ask for it again");
}

#[tokio::test(start_paused = true)]
async fn a_delay_asked_for_from_outside_outlives_a_pass_and_the_earliest_counts() {
    let queue = Queue::default();
    queue.wake_after(&a(), Duration::from_secs(60));
    queue.wake_after(&a(), Duration::from_secs(5));
    queue.wake_after(&a(), Duration::from_secs(30));
    queue.wake(&a(), Urgency::Now);
    assert_eq!(drain(&queue), 1);
    let started = tokio::time::Instant::now();
    queue.wait().await; // a notification may be left over from the wakes above
    while queue.pop().is_none() {
        queue.wait().await;
    }
    assert_eq!(started.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn events_do_not_hasten_a_try_that_is_held_back_and_people_do() {
    let queue = Queue::default();
    let held = Finish { again: Some(Duration::from_secs(30)), held: true, ..Finish::default() };
    queue.wake(&a(), Urgency::Now);
    queue.pop();
    queue.wake(&a(), Urgency::Event);
    queue.finish(&a(), &held);
    queue.wake(&a(), Urgency::Event);
    assert_eq!(queue.pop(), None);
    queue.wake(&a(), Urgency::Now);
    assert_eq!(queue.pop(), Some(a()));
    queue.finish(&a(), &held);
    tokio::time::advance(Duration::from_secs(31)).await;
    assert_eq!(queue.pop(), Some(a()), "its time has come");
}

#[tokio::test(start_paused = true)]
async fn an_event_of_the_pass_itself_is_looked_into_after_a_breath() {
    let queue = Queue::default();
    queue.wake(&a(), Urgency::Event);
    queue.pop();
    queue.wake(&a(), Urgency::Event);
    queue.finish(&a(), &Finish::default());
    assert_eq!(queue.pop(), None);
    tokio::time::advance(Duration::from_millis(101)).await;
    assert_eq!(queue.pop(), Some(a()));
}
