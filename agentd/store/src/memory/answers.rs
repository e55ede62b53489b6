//! Answers to requests with an idempotency key: kept for a time, and bounded in number and bytes, oldest out first.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::tx::Remembered;

/// The key, the fingerprint and what a map entry costs.
const OVERHEAD: usize = 256;

pub(crate) struct Answers {
    known: HashMap<String, (u64, Remembered)>,
    /// In the order of their times. An entry whose key was answered again is passed over.
    order: VecDeque<(u64, String)>,
    bytes: usize,
    limits: Limits,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub age: Duration,
    pub count: usize,
    pub bytes: usize,
}

impl Answers {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { known: HashMap::new(), order: VecDeque::new(), bytes: 0, limits }
    }

    pub(crate) fn get(&self, key: &str, now: u64) -> Option<&Remembered> {
        self.known.get(key).filter(|(at, _)| !self.expired(*at, now)).map(|(_, answer)| answer)
    }

    pub(crate) fn len(&self) -> usize {
        self.known.len()
    }

    pub(crate) fn rows(&self) -> impl Iterator<Item = (String, u64, Remembered)> {
        self.known.iter().map(|(key, (at, answer))| (key.clone(), *at, answer.clone()))
    }

    fn expired(&self, at: u64, now: u64) -> bool {
        u128::from(now.saturating_sub(at)) > self.limits.age.as_millis()
    }

    /// Answers must come in the order of their times.
    pub(crate) fn put(&mut self, key: String, at: u64, answer: Remembered) {
        self.bytes += cost(&answer);
        self.order.push_back((at, key.clone()));
        if let Some((_, old)) = self.known.insert(key, (at, answer)) {
            self.bytes -= cost(&old);
        }
        if self.order.len() > 2 * self.known.len() + 1024 {
            self.order.retain(|(at, key)| self.known.get(key).is_some_and(|(known, _)| known == at));
        }
    }

    /// The keys of those that have to go, which are gone from here.
    pub(crate) fn evict(&mut self, now: u64) -> Vec<String> {
        let mut gone = Vec::new();
        while let Some((at, _)) = self.order.front() {
            let over = self.known.len() > self.limits.count || self.bytes > self.limits.bytes;
            if !over && !self.expired(*at, now) {
                break;
            }
            let Some((at, key)) = self.order.pop_front() else { break };
            if self.known.get(&key).is_some_and(|(known, _)| *known == at)
                && let Some((_, old)) = self.known.remove(&key)
            {
                self.bytes -= cost(&old);
                gone.push(key);
            }
        }
        gone
    }
}

fn cost(answer: &Remembered) -> usize {
    answer.body.len() + OVERHEAD
}
