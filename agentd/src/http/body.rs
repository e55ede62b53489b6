//! What answers are made of: bytes that are there already, lists joined from objects' own bytes, streams.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use futures_util::Stream;
use hyper::body::{Body as HttpBody, Frame, SizeHint};

use super::joined::{Joined, ListBody};
use super::pace::Busy;

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
    type Data = Piece;
    /// Cuts the connection, so that the caller sees that the answer is not whole.
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Piece>>>> {
        let next = match &mut self.content {
            Content::Done => None,
            Content::Whole(bytes) => Some(std::mem::take(bytes)).filter(|b| !b.is_empty()),
            Content::List(list) => {
                let next = list.next();
                return Poll::Ready(next.map(|joined| Ok(Frame::data(Piece::Joined(joined)))));
            }
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
        Poll::Ready(next.map(|bytes| Ok(Frame::data(Piece::Bytes(bytes)))))
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Done => true,
            Content::Whole(bytes) => bytes.is_empty(),
            Content::List(list) => list.left() == 0,
            Content::Stream(_) | Content::Pieces(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Done => SizeHint::with_exact(0),
            Content::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::List(list) => SizeHint::with_exact(list.left()),
            Content::Stream(_) | Content::Pieces(_) => SizeHint::default(),
        }
    }
}

/// What a body gives at a time.
pub(super) enum Piece {
    Bytes(Bytes),
    Joined(Joined),
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.remaining(),
            Self::Joined(joined) => joined.remaining(),
        }
    }
    fn chunk(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes.chunk(),
            Self::Joined(joined) => joined.chunk(),
        }
    }
    fn chunks_vectored<'a>(&'a self, to: &mut [IoSlice<'a>]) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.chunks_vectored(to),
            Self::Joined(joined) => joined.chunks_vectored(to),
        }
    }
    fn advance(&mut self, count: usize) {
        match self {
            Self::Bytes(bytes) => bytes.advance(count),
            Self::Joined(joined) => joined.advance(count),
        }
    }
}
