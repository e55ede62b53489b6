//! What happened: lists of events, and events as they come.

use agentd_api::event::{Event, EventList};
use agentd_api::{ObjectName, paths};

use crate::client::Client;
use crate::error::ClientError;
use crate::path::Path;
use crate::transport::{Call, decode};
use crate::watch::WatchLines;

/// Which events. Everything absent leaves that open.
#[derive(Debug, Clone, Default)]
pub struct EventQuery {
    pub project: Option<ObjectName>,
    /// Singular: "vm".
    pub kind: Option<String>,
    pub name: Option<String>,
    /// Events of this request only.
    pub request_id: Option<String>,
    /// Events with a greater `seq` only.
    pub since: Option<u64>,
    pub limit: Option<usize>,
}

impl EventQuery {
    fn path(&self) -> Path {
        let number = |n: Option<u64>| n.map(|n| n.to_string());
        Path::fixed(paths::EVENTS)
            .maybe("project", self.project.as_ref().map(ObjectName::as_str))
            .maybe("kind", self.kind.as_deref())
            .maybe("name", self.name.as_deref())
            .maybe("request_id", self.request_id.as_deref())
            .maybe("since", number(self.since).as_deref())
            .maybe("limit", number(self.limit.map(|n| n as u64)).as_deref())
    }
}

/// Events as they come. Ends with `None` when the daemon closes it.
pub struct EventFollow {
    lines: WatchLines,
}

impl EventFollow {
    /// Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<Event, ClientError>> {
        let line = self.lines.next().await?;
        Some(line.and_then(|line| decode(&self.lines.name(), &line)))
    }
}

impl Client {
    pub async fn events(&self, query: &EventQuery) -> Result<EventList, ClientError> {
        let call = Call::get(query.path());
        let name = call.name();
        decode(&name, &self.call(call).await?)
    }

    /// Every event after `query.since`, then those that come.
    pub async fn follow_events(&self, query: &EventQuery) -> Result<EventFollow, ClientError> {
        let mut call = Call::get(query.path().with("follow", "true"));
        call.accept = "application/x-ndjson";
        Ok(EventFollow { lines: WatchLines::open(self, call).await? })
    }
}
