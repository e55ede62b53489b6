//! What a test can tell a fake driver to do wrong: fail the next calls of a method, hang, be slow.
//!
//! Every method of a fake passes here first, under its name in the trait. A call that hangs does so until it is
//! released or dropped; nothing here ends by itself.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

pub struct Faults<E> {
    known: &'static [&'static str],
    told: Mutex<Told<E>>,
    hung: watch::Sender<BTreeSet<&'static str>>,
}

struct Told<E> {
    failures: BTreeMap<&'static str, VecDeque<E>>,
    delays: BTreeMap<&'static str, Duration>,
    calls: BTreeMap<&'static str, u64>,
}

impl<E> fmt::Debug for Faults<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told = self.told.lock();
        f.debug_struct("Faults")
            .field("calls", &told.calls)
            .field("hung", &*self.hung.borrow())
            .finish_non_exhaustive()
    }
}

/// Methods are named as in the fake's trait; a name that is none is a mistake in the test and ends it.
impl<E> Faults<E> {
    pub fn new(known: &'static [&'static str]) -> Self {
        let told = Told { failures: BTreeMap::new(), delays: BTreeMap::new(), calls: BTreeMap::new() };
        Self { known, told: Mutex::new(told), hung: watch::Sender::new(BTreeSet::new()) }
    }

    fn known(&self, method: &str) -> &'static str {
        let known = self.known.iter().find(|known| **known == method);
        known.unwrap_or_else(|| panic!("there is no method '{method}': {:?}", self.known))
    }

    /// The next `times` calls of `method` fail, each with what `error` makes.
    pub fn fail_next(&self, method: &str, times: usize, error: impl Fn() -> E) {
        let mut told = self.told.lock();
        told.failures.entry(self.known(method)).or_default().extend((0..times).map(|_| error()));
    }
    /// What [`fail_next`](Self::fail_next) was told of `method` is over.
    pub fn fail_no_more(&self, method: &str) {
        self.told.lock().failures.remove(self.known(method));
    }
    /// Calls of `method` do not return until `release`.
    pub fn hang(&self, method: &str) {
        self.hung.send_modify(|hung| {
            hung.insert(self.known(method));
        });
    }
    pub fn release(&self, method: &str) {
        self.hung.send_modify(|hung| {
            hung.remove(self.known(method));
        });
    }
    /// Calls of `method` take this much longer.
    pub fn slow(&self, method: &str, by: Duration) {
        self.told.lock().delays.insert(self.known(method), by);
    }
    /// How often `method` was called.
    pub fn calls(&self, method: &str) -> u64 {
        self.told.lock().calls.get(self.known(method)).copied().unwrap_or(0)
    }

    /// Counts a call, lets it wait as long as it was told to, and fails it where it was told to.
    pub(crate) async fn pass(&self, method: &str) -> Result<(), E> {
        let method = self.known(method);
        let delay = {
            let mut told = self.told.lock();
            *told.calls.entry(method).or_default() += 1;
            told.delays.get(method).copied()
        };
        if let Some(delay) = delay {
            tokio::time::sleep(delay).await;
        }
        // The sender lives in self, so this waits for the release and for nothing else.
        let _ = self.hung.subscribe().wait_for(|hung| !hung.contains(method)).await;
        match self.told.lock().failures.get_mut(method).and_then(VecDeque::pop_front) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_call_fails_as_often_as_it_was_told_to() {
        let faults = Faults::new(&["list", "observe"]);
        faults.fail_next("list", 2, || "no");
        assert_eq!(faults.pass("list").await, Err("no"));
        assert_eq!(faults.pass("observe").await, Ok(()));
        assert_eq!(faults.pass("list").await, Err("no"));
        assert_eq!(faults.pass("list").await, Ok(()));
        assert_eq!(faults.calls("list"), 3);
    }

    #[tokio::test]
    async fn a_call_hangs_until_it_is_released() {
        let faults = std::sync::Arc::new(Faults::<()>::new(&["list"]));
        faults.hang("list");
        let call = tokio::spawn({
            let faults = faults.clone();
            async move { faults.pass("list").await }
        });
        while faults.calls("list") == 0 {
            tokio::task::yield_now().await;
        }
        assert!(!call.is_finished());
        faults.release("list");
        assert_eq!(call.await.expect("joined"), Ok(()));
    }
}
