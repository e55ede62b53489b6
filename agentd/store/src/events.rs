//! What happened, bounded in number, oldest out first. Served from memory, kept in the engine.

use std::collections::{HashMap, VecDeque};

use agentd_api::event::{Event, EventList};
use bytes::Bytes;
use uuid::Uuid;

/// Events that answer to all of this.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventQuery {
    /// Only those after this number, the earliest first. Where absent, the last ones.
    pub since: Option<u64>,
    pub kind: Option<String>,
    pub project: Option<String>,
    pub name: Option<String>,
    pub id: Option<Uuid>,
    pub request_id: Option<String>,
    pub limit: Option<usize>,
}

impl EventQuery {
    pub fn matches(&self, event: &Event) -> bool {
        fn is<T: PartialEq>(wanted: &Option<T>, value: &T) -> bool {
            wanted.as_ref().is_none_or(|wanted| wanted == value)
        }
        is(&self.kind, &event.kind)
            && is(&self.project, &event.project)
            && is(&self.name, &event.name)
            && is(&self.id, &event.id)
            && (self.request_id.is_none() || self.request_id == event.request_id)
    }
}

pub(crate) struct EventLog {
    kept: VecDeque<Kept>,
    /// The last event of each object that has one among those kept: what became of one object is found without looking
    /// through what became of all.
    latest: HashMap<Uuid, u64>,
    max: usize,
    /// Of the last event there was.
    last: u64,
}

/// As it is on disk: read when somebody asks for it. Ten thousand events in their types would be a good part of what a
/// small host's daemon has in memory.
struct Kept {
    seq: u64,
    id: Uuid,
    /// The same object's event before; it may no longer be kept. Zero where there was none.
    previous: u64,
    json: Bytes,
}

impl Kept {
    fn event(&self) -> Event {
        serde_json::from_slice(&self.json).expect("it was written as an event, or read as one at the start")
    }
}

impl EventLog {
    pub(crate) fn new(max: usize, last: u64) -> Self {
        Self { kept: VecDeque::new(), latest: HashMap::new(), max, last }
    }

    /// Events come in the order of their numbers. `json` is one of this number, of the object with this id.
    pub(crate) fn push(&mut self, seq: u64, id: Uuid, json: Bytes) {
        self.last = seq;
        let previous = self.latest.insert(id, seq).unwrap_or(0);
        self.kept.push_back(Kept { seq, id, previous, json });
        while self.kept.len() > self.max {
            let Some(gone) = self.kept.pop_front() else { break };
            if self.latest.get(&gone.id) == Some(&gone.seq) {
                self.latest.remove(&gone.id);
            }
        }
    }

    /// The number before the first that is kept.
    pub(crate) fn forgotten(&self) -> u64 {
        self.kept.front().map_or(self.last, |first| first.seq - 1)
    }

    /// The events of one object, the last one first.
    fn of(&self, id: Uuid) -> impl Iterator<Item = Event> {
        let mut next = self.latest.get(&id).copied().unwrap_or(0);
        std::iter::from_fn(move || {
            let at = self.kept.partition_point(|kept| kept.seq < next);
            let found = self.kept.get(at).filter(|kept| kept.seq == next)?;
            next = found.previous;
            Some(found.event())
        })
    }

    /// All that are kept, as they are on disk.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (u64, Bytes)> {
        self.kept.iter().map(|kept| (kept.seq, kept.json.clone()))
    }

    pub(crate) fn len(&self) -> usize {
        self.kept.len()
    }

    pub(crate) fn list(&self, query: &EventQuery) -> EventList {
        let limit = query.limit.unwrap_or(usize::MAX);
        let Some(since) = query.since else {
            let last = |events: &mut dyn Iterator<Item = Event>| -> Vec<Event> {
                events.filter(|event| query.matches(event)).take(limit).collect()
            };
            let mut items = match query.id {
                Some(id) => last(&mut self.of(id)),
                None => last(&mut self.kept.iter().rev().map(Kept::event)),
            };
            items.reverse();
            return EventList { items, next: self.last };
        };
        let from = self.kept.partition_point(|kept| kept.seq <= since);
        let mut found = self.kept.range(from..).map(Kept::event).filter(|event| query.matches(event));
        let items: Vec<_> = found.by_ref().take(limit).collect();
        // A page that is full goes on behind its last event; one that is not has looked at all there are.
        let more = found.next().is_some();
        let next = if more { items.last().map_or(since, |last| last.seq) } else { self.last.max(since) };
        EventList { items, next }
    }
}
