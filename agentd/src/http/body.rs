//! What answers are made of: bytes that are there already, lists joined from objects' own bytes, streams.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use agentd_store::Stored;
use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use hyper::body::{Body as HttpBody, Frame, SizeHint};

use super::pace::Busy;

/// As much of a list as is joined at a time: what a slow reader of a long list makes us hold beside the objects. Small
/// enough for the allocator to use the same memory again rather than to map new pages for each.
const CHUNK: usize = 60 << 10;

/// What can break off.
pub type Pieces = Pin<Box<dyn Stream<Item = io::Result<Bytes>> + Send>>;

pub(super) type ByteStream = Pin<Box<dyn Stream<Item = Bytes> + Send>>;

enum Content {
    Whole(Bytes),
    List(ListBody),
    Stream(ByteStream),
    Pieces(Pieces),
    Done,
}

/// The body of an answer. Its length is announced unless it is a stream.
pub(super) struct Body {
    content: Content,
    /// The connection is busy for as long as its answer's body is there.
    busy: Option<Busy>,
}

impl Body {
    pub fn whole(bytes: impl Into<Bytes>) -> Self {
        Self { content: Content::Whole(bytes.into()), busy: None }
    }
    pub fn empty() -> Self {
        Self { content: Content::Done, busy: None }
    }
    pub fn list(list: ListBody) -> Self {
        Self { content: Content::List(list), busy: None }
    }
    pub fn stream(stream: ByteStream) -> Self {
        Self { content: Content::Stream(stream), busy: None }
    }
    pub fn pieces(pieces: Pieces) -> Self {
        Self { content: Content::Pieces(pieces), busy: None }
    }
    pub fn while_busy(mut self, busy: Busy) -> Self {
        self.busy = Some(busy);
        self
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    /// Cuts the connection, so that the caller sees that the answer is not whole.
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let next = match &mut self.content {
            Content::Done => None,
            Content::Whole(bytes) => Some(std::mem::take(bytes)).filter(|b| !b.is_empty()),
            Content::List(list) => list.chunk(),
            Content::Stream(stream) => match stream.as_mut().poll_next(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(next) => next,
            },
            Content::Pieces(pieces) => match pieces.as_mut().poll_next(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Err(error))) => {
                    self.content = Content::Done;
                    return Poll::Ready(Some(Err(error)));
                }
                Poll::Ready(next) => next.and_then(Result::ok),
            },
        };
        if next.is_none() || matches!(self.content, Content::Whole(_)) {
            self.content = Content::Done;
        }
        Poll::Ready(next.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Done => true,
            Content::Whole(bytes) => bytes.is_empty(),
            Content::List(list) => list.left == 0,
            Content::Stream(_) | Content::Pieces(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Done => SizeHint::with_exact(0),
            Content::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::List(list) => SizeHint::with_exact(list.left),
            Content::Stream(_) | Content::Pieces(_) => SizeHint::default(),
        }
    }
}

/// `{"items":[...],"revision":N,"continue":...}`, of the objects' own bytes, joined as they are sent.
pub(super) struct ListBody {
    items: Vec<Arc<Stored>>,
    next: usize,
    begun: bool,
    tail: Bytes,
    /// How many bytes are still to come.
    left: u64,
}

const HEAD: &[u8] = b"{\"items\":[";

impl ListBody {
    pub fn new(items: Vec<Arc<Stored>>, revision: u64, next: Option<&str>) -> Self {
        let next = next.map_or_else(|| "null".to_owned(), |n| serde_json::Value::from(n).to_string());
        let tail = Bytes::from(format!("],\"revision\":{revision},\"continue\":{next}}}"));
        let objects: usize = items.iter().map(|i| i.json().len()).sum();
        let commas = items.len().saturating_sub(1);
        let left = (HEAD.len() + objects + commas + tail.len()) as u64;
        Self { items, next: 0, begun: false, tail, left }
    }

    fn chunk(&mut self) -> Option<Bytes> {
        if self.left == 0 {
            return None;
        }
        let room = usize::try_from(self.left).unwrap_or(usize::MAX).min(CHUNK);
        let mut chunk = BytesMut::with_capacity(room);
        if !self.begun {
            self.begun = true;
            chunk.extend_from_slice(HEAD);
        }
        while let Some(item) = self.items.get(self.next) {
            let json = item.json();
            let comma = usize::from(self.next > 0);
            if !chunk.is_empty() && chunk.len() + comma + json.len() > CHUNK {
                break;
            }
            if comma == 1 {
                chunk.extend_from_slice(b",");
            }
            chunk.extend_from_slice(json);
            self.next += 1;
        }
        if self.next == self.items.len() {
            chunk.extend_from_slice(&self.tail);
            // Sent for the most part: the objects need not be held until the last byte is read.
            self.items = Vec::new();
            self.next = 0;
            self.left = chunk.len() as u64;
        }
        self.left = self.left.saturating_sub(chunk.len() as u64);
        Some(chunk.freeze())
    }
}
