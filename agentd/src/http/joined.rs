//! Lists: objects' own bytes with commas between them, given to the connection as they lie in memory. No copy is made:
//! what a list costs is the sending of its bytes.

use std::io::IoSlice;
use std::sync::Arc;

use agentd_store::Stored;
use bytes::{Buf, Bytes};

/// Objects that are handed on at a time. A connection that can only be given bytes in a row has them copied so far ahead.
const AT_ONCE: usize = 128;
const HEAD: &[u8] = b"{\"items\":[";
const COMMA: &[u8] = b",";

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
        let left = (HEAD.len() + length(&items) + tail.len()) as u64;
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
        let lead = std::mem::replace(&mut self.lead, COMMA);
        let tail = if self.items.len() == 0 { std::mem::take(&mut self.tail) } else { Bytes::new() };
        let joined = Joined::new(lead, items, tail);
        self.left = self.left.saturating_sub(joined.left as u64);
        Some(joined)
    }
}

/// Of the objects and the commas between them.
fn length(items: &[Arc<Stored>]) -> usize {
    items.iter().map(|item| item.json().len()).sum::<usize>() + items.len().saturating_sub(1)
}

/// What leads, the objects and the commas between them, and what follows: segments, numbered in this order.
pub(super) struct Joined {
    lead: &'static [u8],
    items: Vec<Arc<Stored>>,
    tail: Bytes,
    /// The segment that is read next, and how much of it was read.
    at: usize,
    offset: usize,
    left: usize,
}

impl Joined {
    fn new(lead: &'static [u8], items: Vec<Arc<Stored>>, tail: Bytes) -> Self {
        let left = lead.len() + length(&items) + tail.len();
        Self { lead, items, tail, at: 0, offset: 0, left }
    }

    fn segments(&self) -> usize {
        2 + (2 * self.items.len()).saturating_sub(1)
    }

    fn segment(&self, at: usize) -> &[u8] {
        match at {
            0 => self.lead,
            _ if at >= self.segments() => &[],
            _ if at + 1 == self.segments() => &self.tail,
            _ if at.is_multiple_of(2) => COMMA,
            _ => self.items.get(at / 2).map_or(&[], |item| item.json()),
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
