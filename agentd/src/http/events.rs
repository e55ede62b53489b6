//! Events: what happened, and what became of a request. A list, or a stream that stays open.
//!
//! The events that are kept are bounded, so a follower that was away for long begins at the earliest kept. `seq` shows
//! it the gap.

use std::time::Duration;

use agentd_api::event::{Event, EventList};
use agentd_api::{ErrorCode, ObjectName, Problem, registry};
use agentd_store::{EventQuery, Store};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream;
use http::Response;
use http::header::CONTENT_TYPE;
use http::request::Parts;
use tokio::sync::watch::Receiver;
use tokio_util::sync::CancellationToken;

use super::body::Body;
use super::objects::JSON_TYPE;
use super::request::{Params, shown};
use super::service::{Answer, Call};
use super::stream::{Framing, last_event_id};

const PARAMETERS: [&str; 7] = ["kind", "project", "name", "request_id", "since", "limit", "follow"];
/// As many events as are read at a time for a follower.
const PAGE: usize = 256;

pub(super) fn get(call: &Call, head: &Parts) -> Answer {
    let params = Params::parse(head.uri.query(), &PARAMETERS)?;
    let query = query(&params)?;
    if params.flag("follow")? {
        return Ok(follow(call, head, query));
    }
    let list = call.app.store.events(&query);
    let mut answer = Response::new(Body::whole(written(&list)?));
    answer.headers_mut().insert(CONTENT_TYPE, JSON_TYPE);
    Ok(answer)
}

fn query(params: &Params<'_>) -> Result<EventQuery, Problem> {
    let kind = params.get("kind").map(|kind| match registry::by_kind(kind) {
        Some(def) => Ok(def.kind.to_owned()),
        None => Err(Problem::field("kind", format!("'{}' is no kind", shown(kind)))),
    });
    let name = |field: &'static str| {
        let parsed = params.get(field).filter(|text| *text != "*").map(ObjectName::parse).transpose();
        parsed.map(|name| name.map(|n| n.to_string())).map_err(|e| Problem::field(field, e.to_string()))
    };
    Ok(EventQuery {
        since: params.number("since", 0)?,
        kind: kind.transpose()?,
        project: name("project")?,
        name: name("name")?,
        id: None,
        request_id: params.get("request_id").map(str::to_owned),
        limit: params.number("limit", 1)?.map(|n| usize::try_from(n).unwrap_or(usize::MAX)),
    })
}

fn written(list: &EventList) -> Result<Vec<u8>, Problem> {
    serde_json::to_vec(list)
        .map_err(|e| Problem::new(ErrorCode::Internal, format!("the events cannot be written as JSON: {e}")))
}

fn follow(call: &Call, head: &Parts, mut query: EventQuery) -> Response<Body> {
    let framing = Framing::of(&head.headers);
    query.since = query.since.or_else(|| last_event_id(&head.headers));
    let follower = Follower {
        // Subscribed before the first look, so that nothing comes between the two.
        news: call.app.store.watch_events(),
        store: call.app.store.clone(),
        query,
        framing,
        every: call.app.limits.bookmark,
        stop: call.end.stop.clone(),
    };
    framing.answer(stream::unfold(follower, |mut follower| async move {
        let piece = follower.next().await?;
        Some((piece, follower))
    }))
}

struct Follower {
    store: Store,
    news: Receiver<u64>,
    query: EventQuery,
    framing: Framing,
    every: Duration,
    stop: CancellationToken,
}

impl Follower {
    async fn next(&mut self) -> Option<Bytes> {
        let mut out = BytesMut::new();
        loop {
            self.news.mark_unchanged();
            let list = self.store.events(&self.query);
            for event in &list.items {
                self.put(event, &mut out);
            }
            self.query.since = Some(list.next);
            self.query.limit = Some(PAGE);
            if !out.is_empty() {
                return Some(out.freeze());
            }
            // Cancel-safe: what is missed here is read from the list above.
            tokio::select! {
                () = self.stop.cancelled() => return None,
                news = self.news.changed() => news.ok()?,
                () = tokio::time::sleep(self.every) => {
                    self.framing.put_sign_of_life(&mut out);
                    return Some(out.freeze());
                }
            }
        }
    }

    fn put(&self, event: &Event, out: &mut BytesMut) {
        match serde_json::to_vec(event) {
            Ok(json) => {
                self.framing.begin(out, "event", event.seq);
                out.put_slice(&json);
                self.framing.end(out);
            }
            Err(error) => tracing::error!(seq = event.seq, %error, "an event cannot be written as JSON"),
        }
    }
}
