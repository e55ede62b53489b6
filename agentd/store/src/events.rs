//! What happened, bounded in number, oldest out first. Served from memory, kept in the engine.

use std::collections::VecDeque;

use agentd_api::event::{Event, EventList};
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
    kept: VecDeque<Event>,
    max: usize,
    /// Of the last event there was.
    last: u64,
}

impl EventLog {
    pub(crate) fn new(max: usize, last: u64) -> Self {
        Self { kept: VecDeque::new(), max, last }
    }

    /// Events come in the order of their numbers.
    pub(crate) fn push(&mut self, event: Event) {
        self.last = event.seq;
        self.kept.push_back(event);
        while self.kept.len() > self.max {
            self.kept.pop_front();
        }
    }

    /// The number before the first that is kept.
    pub(crate) fn forgotten(&self) -> u64 {
        self.kept.front().map_or(self.last, |first| first.seq - 1)
    }

    pub(crate) fn len(&self) -> usize {
        self.kept.len()
    }

    pub(crate) fn list(&self, query: &EventQuery) -> EventList {
        let limit = query.limit.unwrap_or(usize::MAX);
        let Some(since) = query.since else {
            let mut items: Vec<_> =
                self.kept.iter().rev().filter(|event| query.matches(event)).take(limit).cloned().collect();
            items.reverse();
            return EventList { items, next: self.last };
        };
        let from = self.kept.partition_point(|event| event.seq <= since);
        let mut found = self.kept.range(from..).filter(|event| query.matches(event));
        let items: Vec<_> = found.by_ref().take(limit).cloned().collect();
        // A page that is full goes on behind its last event; one that is not has looked at all there are.
        let more = found.next().is_some();
        let next = if more { items.last().map_or(since, |last| last.seq) } else { self.last.max(since) };
        EventList { items, next }
    }
}
