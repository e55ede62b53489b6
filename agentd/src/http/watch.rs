//! Watches: changes of a kind's objects as they are committed.
//!
//! ```text
//!   no since:  added (one an object, oldest revision first) ... bookmark ... changes
//!   since=N:   changes after N, from the history ...                         changes
//! ```
//! A stream that was cut can be resumed from the last revision that it brought, at any place, without a gap: even the
//! objects of its beginning come in the order of their revisions. A selector looks at an object before and after a
//! change: one that begins to match is `added`, one that ceases to is `deleted`.
//!
//! Nothing is buffered for a watcher that does not read: it waits in its socket, the store's history goes on without
//! it, and once that has forgotten what it needs next it is told `revision_compacted` in a last line
//! `{"event":"error","revision":N,"problem":{...}}`.

use std::sync::Arc;
use std::time::Duration;

use agentd_api::Problem;
use agentd_api::list::WatchKind;
use agentd_store::{Change, Compacted, Query, Stored, Watch};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::stream;
use http::HeaderValue;
use http::request::Parts;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::App;
use super::lines::{Piece, put};
use super::request::Params;
use super::route::Found;
use super::service::{Answer, Call};
use super::stream::{Framing, PIECE, last_event_id, text};
use super::{error, list, request};

/// As many changes as are looked at before others have a turn.
const TURN: usize = 512;

pub(super) fn asked_for(head: &Parts) -> bool {
    let mut pairs = head.uri.query().unwrap_or_default().split('&');
    pairs.any(|pair| pair == "watch=true")
}

pub(super) fn open(call: &Call, found: &Found<'_>, head: &Parts) -> Answer {
    let [a, b, c] = list::SELECTION;
    let params = Params::parse(head.uri.query(), &[a, b, c, "watch", "since"])?;
    params.flag("watch")?;
    let query = list::query(found, &params)?;
    let since = params.number("since", 0)?.or_else(|| last_event_id(&head.headers));
    let store = &call.app.store;
    let (initial, from) = match since {
        Some(since) => (Vec::new(), since),
        None => {
            let listing = store.list(&query);
            let mut items = listing.items;
            items.sort_unstable_by_key(|item| item.revision());
            (items, listing.revision)
        }
    };
    let watch = store.watch(Some(from)).map_err(|e| error::compacted(&e))?;
    let framing = Framing::of(&head.headers);
    let feed = Feed {
        bookmark: since.is_none().then_some(from),
        app: call.app.clone(),
        initial: initial.into_iter(),
        watch,
        query,
        framing,
        every: call.app.limits.bookmark,
        stop: call.end.stop.clone(),
        request_id: call.request_id.clone(),
        over: false,
    };
    Ok(framing.answer(stream::unfold(feed, |mut feed| async move {
        let piece = feed.next().await?;
        Some((piece, feed))
    })))
}

struct Feed {
    app: Arc<App>,
    initial: std::vec::IntoIter<Arc<Stored>>,
    /// A bookmark that is due as soon as the beginning is through.
    bookmark: Option<u64>,
    watch: Watch,
    query: Query,
    framing: Framing,
    every: Duration,
    stop: CancellationToken,
    request_id: HeaderValue,
    over: bool,
}

impl Feed {
    async fn next(&mut self) -> Option<Bytes> {
        if self.over {
            return None;
        }
        let mut out = BytesMut::new();
        for item in self.initial.by_ref() {
            put(self.framing, &mut out, WatchKind::Added, item.revision(), Some(&item.json()));
            if out.len() >= PIECE {
                return Some(out.freeze());
            }
        }
        if let Some(revision) = self.bookmark.take() {
            put(self.framing, &mut out, WatchKind::Bookmark, revision, None);
            return Some(out.freeze());
        }
        let mut out = Piece::default();
        let due = Instant::now() + self.every;
        while out.len() == 0 {
            // Cancel-safe: the store's watch loses no change when its next() is dropped.
            let change = tokio::select! {
                biased;
                () = self.stop.cancelled() => return None,
                change = timeout_at(due, self.watch.next()) => change,
            };
            match change {
                Err(_) => {
                    put(self.framing, out.joined(), WatchKind::Bookmark, self.watch.position(), None);
                }
                Ok(change) => self.take_turn(change, &mut out),
            }
        }
        Some(out.finish())
    }

    /// Takes a change, and what else is there already.
    fn take_turn(&mut self, first: Result<Arc<Change>, Compacted>, out: &mut Piece) {
        let mut next = Some(first);
        let mut taken = 0;
        while let Some(change) = next {
            match change {
                Ok(change) => self.take(&change, out),
                Err(compacted) => {
                    self.end(&error::compacted(&compacted), out.joined());
                    return;
                }
            }
            taken += 1;
            if taken >= TURN || out.len() >= PIECE {
                return;
            }
            next = self.watch.try_next();
        }
    }

    fn take(&mut self, change: &Change, out: &mut Piece) {
        if let Some(kind) = seen_as(&self.query, change) {
            out.push(self.app.lines.of(change, kind, self.framing));
        }
    }

    fn end(&mut self, problem: &Problem, out: &mut BytesMut) {
        self.over = true;
        let mut problem = problem.clone();
        request::id_text(&self.request_id).clone_into(&mut problem.request_id);
        let revision = self.watch.position();
        self.framing.begin(out, "error", revision);
        text(out, format_args!("{{\"event\":\"error\",\"revision\":{revision},\"problem\":"));
        out.put_slice(&error::text(&problem));
        out.put_u8(b'}');
        self.framing.end(out);
    }
}

/// How a watcher with this selection sees a change; nothing where it does not see it.
fn seen_as(query: &Query, change: &Change) -> Option<WatchKind> {
    let matches = query.matches(&change.object);
    match change.what {
        WatchKind::Modified => {
            // Where the history has lost what was before, the watcher may have known the object.
            let matched = change.before.as_ref().map(|before| query.matches(before));
            match (matched, matches) {
                (Some(false), true) => Some(WatchKind::Added),
                (Some(true) | None, true) => Some(WatchKind::Modified),
                (Some(true), false) => Some(WatchKind::Deleted),
                (None, false) if of_its_kind(query, &change.object) => Some(WatchKind::Deleted),
                (Some(false) | None, false) => None,
            }
        }
        WatchKind::Deleted => {
            let matched = change.before.as_ref().is_some_and(|before| query.matches(before));
            (matches || matched).then_some(WatchKind::Deleted)
        }
        WatchKind::Added => matches.then_some(WatchKind::Added),
        WatchKind::Bookmark => None,
    }
}

fn of_its_kind(query: &Query, object: &Stored) -> bool {
    query.kind == object.kind() && query.project.as_ref().is_none_or(|project| project == object.project())
}
