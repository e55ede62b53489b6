//! Answers that stay open: how their messages are framed, as lines of JSON or as server-sent events.

use std::fmt::Write;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Response};

use super::body::Body;

/// As much as is put into one piece of a stream.
pub(super) const PIECE: usize = 64 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// application/x-ndjson
    Lines,
    /// text/event-stream
    Sse,
}

impl Framing {
    /// Server-sent events where they are asked for by name, lines otherwise.
    pub fn of(headers: &HeaderMap) -> Self {
        let asked = headers.get_all(ACCEPT).iter().filter_map(|v| v.to_str().ok());
        let sse = asked
            .flat_map(|v| v.split(','))
            .any(|t| t.split(';').next().is_some_and(|t| t.trim().eq_ignore_ascii_case("text/event-stream")));
        if sse { Self::Sse } else { Self::Lines }
    }

    const fn content_type(self) -> &'static str {
        match self {
            Self::Lines => "application/x-ndjson",
            Self::Sse => "text/event-stream",
        }
    }

    /// Begins a message whose data is one line of JSON. The id is where an EventSource resumes.
    pub fn begin(self, out: &mut BytesMut, name: &str, id: u64) {
        if self == Self::Sse {
            text(out, format_args!("event: {name}\nid: {id}\ndata: "));
        }
    }

    pub fn end(self, out: &mut BytesMut) {
        out.put_slice(if self == Self::Sse { b"\n\n" } else { b"\n" });
    }

    /// Says that the stream lives, where that can be said without saying anything.
    pub fn put_sign_of_life(self, out: &mut BytesMut) {
        out.put_slice(if self == Self::Sse { b":\n\n" } else { b"\n" });
    }

    pub fn answer(self, stream: impl Stream<Item = Bytes> + Send + 'static) -> Response<Body> {
        let mut answer = Response::new(Body::stream(stream.boxed()));
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type()));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        answer
    }
}

pub(super) fn text(out: &mut BytesMut, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a buffer in memory grows");
}

/// `Last-Event-ID`, with which an EventSource that lost its connection says where to go on.
pub(super) fn last_event_id(headers: &HeaderMap) -> Option<u64> {
    headers.get("last-event-id")?.to_str().ok()?.parse().ok()
}
