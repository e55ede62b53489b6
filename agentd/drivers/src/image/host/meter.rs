//! Looks at how far a program is while it runs, from what it has written so far.

use std::future::Future;
use std::time::Duration;

const EVERY: Duration = Duration::from_millis(250);

/// Runs `work` to its end and calls `look` beside it. `look` may stat files; it must not do more.
pub(super) async fn beside<T>(work: impl Future<Output = T>, mut look: impl FnMut()) -> T {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    tokio::pin!(work);
    loop {
        // Cancel safety: `work` is pinned outside and goes on where it was; a tick holds nothing.
        tokio::select! {
            done = &mut work => return done,
            _ = tick.tick() => look(),
        }
    }
}
