//! Lists: objects' own bytes, which have a comma behind them, given to the connection as they lie in memory. No copy is
//! made: what a list costs is the sending of its bytes.

use std::io::IoSlice;
use std::sync::Arc;

use agentd_store::Stored;
use bytes::{Buf, Bytes};

/// Objects that are handed on at a time. A connection that can only be given bytes in a row has them copied so far ahead.
const AT_ONCE: usize = 128;
const HEAD: &[u8] = b"{\"items\":[";

/// `{"items":[...],"revision":N,"continue":...}`, in parts.
pub(super) struct ListBody {
    items: std::vec::IntoIter<Arc<Stored>>,
    lead: &'static [u8],
    tail: Bytes,
    /// How many bytes are still to come.
    left: u64,
}

impl ListBody {
    pub fn new(items: Vec<Arc<Stored>>, revision: u64, next: Option<&str>) -> Self {
        let next = next.map_or_else(|| "null".to_owned(), |n| serde_json::Value::from(n).to_string());
        let tail = Bytes::from(format!("],\"revision\":{revision},\"continue\":{next}}}"));
        let left = (HEAD.len() + length(&items, true) + tail.len()) as u64;
        Self { items: items.into_iter(), lead: HEAD, tail, left }
    }

    pub fn left(&self) -> u64 {
        self.left
    }

    /// The next part; none after the last.
    pub fn next(&mut self) -> Option<Joined> {
        if self.left == 0 {
            return None;
        }
        let items: Vec<_> = self.items.by_ref().take(AT_ONCE).collect();
        let lead = std::mem::take(&mut self.lead);
        let last = self.items.len() == 0;
        let tail = if last { std::mem::take(&mut self.tail) } else { Bytes::new() };
        let joined = Joined::new(lead, (items, last), tail);
        self.left = self.left.saturating_sub(joined.left as u64);
        Some(joined)
    }
}

/// Of the objects with the comma behind each, but for that of the last of all.
fn length(items: &[Arc<Stored>], last: bool) -> usize {
    let all: usize = items.iter().map(|item| item.json_and_comma().len()).sum();
    all - usize::from(last && !items.is_empty())
}

/// What leads, the objects, each with its comma but the last of all, and what follows: segments, numbered in this order.
pub(super) struct Joined {
    lead: &'static [u8],
    items: Vec<Arc<Stored>>,
    /// Whether the last of these is the last of all.
    last: bool,
    tail: Bytes,
    /// The segment that is read next, and how much of it was read.
    at: usize,
    offset: usize,
    left: usize,
}

impl Joined {
    fn new(lead: &'static [u8], (items, last): (Vec<Arc<Stored>>, bool), tail: Bytes) -> Self {
        let left = lead.len() + length(&items, last) + tail.len();
        // A part that is read has no empty segment but behind its end.
        let at = usize::from(lead.is_empty());
        Self { lead, items, last, tail, at, offset: 0, left }
    }

    fn segments(&self) -> usize {
        self.items.len() + 2
    }

    fn segment(&self, at: usize) -> &[u8] {
        let Some(of) = at.checked_sub(1) else { return self.lead };
        match self.items.get(of).map(|item| item.json_and_comma()) {
            Some(json) if self.last && of + 1 == self.items.len() => &json[..json.len() - 1],
            Some(json) => json,
            None if of == self.items.len() => &self.tail,
            None => &[],
        }
    }
}

impl Buf for Joined {
    fn remaining(&self) -> usize {
        self.left
    }

    fn chunk(&self) -> &[u8] {
        // `advance` stops at no segment that was read, and of those only the tail can be empty.
        &self.segment(self.at)[self.offset..]
    }

    fn chunks_vectored<'a>(&'a self, to: &mut [IoSlice<'a>]) -> usize {
        let mut count = 0;
        let mut offset = self.offset;
        for at in self.at..self.segments() {
            let Some(slot) = to.get_mut(count) else { break };
            let rest = &self.segment(at)[offset..];
            offset = 0;
            if !rest.is_empty() {
                *slot = IoSlice::new(rest);
                count += 1;
            }
        }
        count
    }

    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.left, "no more than there is");
        self.left -= count;
        while self.at < self.segments() {
            let rest = self.segment(self.at).len() - self.offset;
            if count < rest {
                self.offset += count;
                return;
            }
            count -= rest;
            self.at += 1;
            self.offset = 0;
        }
    }
}
