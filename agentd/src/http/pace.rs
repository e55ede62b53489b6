//! How long a connection may take over what: over the head of a request, over doing nothing, over not reading what it
//! was answered. Bodies of requests have a limit of their own, where they are read.
//!
//! ```text
//!            first byte              head complete
//!   idle ------------------> head -------------------> busy
//!    ^                                                  |
//!    +--------------------------------------------------+
//!                     answer handed over
//! ```
//! A connection that was upgraded stays so until it closes. Beside these a connection is *stalled* while the kernel takes no more of its answer.
//!
//! hyper itself refuses a head that is no HTTP or too long, with a bare answer that no service saw. Its bytes come
//! here as all others do and are known by this: nothing was being answered when the connection was last flushed, and
//! no request was begun since. What is sent in their place says what was wrong, as every other refusal does. (A peer
//! that has not yet taken an answer to an earlier request gets hyper's: the two come in one piece.)

use std::io::IoSlice;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Idle,
    Head,
    Busy,
    /// It was upgraded: HTTP is over, and so are its limits.
    Upgraded,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    pub head: Duration,
    pub idle: Duration,
    pub stalled: Duration,
}

#[derive(Debug)]
struct Now {
    phase: Phase,
    since: Instant,
    stalled: Option<Instant>,
    /// How many requests were begun.
    begun: u64,
}

/// What one connection is at. Shared by its socket, which sees bytes, and its service, which sees requests.
#[derive(Debug)]
pub(super) struct Pace {
    now: Mutex<Now>,
}

impl Pace {
    pub fn new() -> Arc<Self> {
        let now = Now { phase: Phase::Idle, since: Instant::now(), stalled: None, begun: 0 };
        Arc::new(Self { now: Mutex::new(now) })
    }

    /// A request's head is complete; it is being answered until the guard is dropped.
    pub fn begin(self: &Arc<Self>) -> Busy {
        self.enter(Phase::Busy);
        Busy(self.clone())
    }

    /// HTTP is over on it.
    pub fn upgraded(&self) {
        self.enter(Phase::Upgraded);
    }

    /// How many requests were begun, where none of them is being answered.
    fn all_answered(&self) -> Option<u64> {
        let now = self.now.lock();
        matches!(now.phase, Phase::Idle | Phase::Head).then_some(now.begun)
    }

    pub fn phase(&self) -> Phase {
        self.now.lock().phase
    }

    /// Whether nothing is being answered and nothing is left to be written.
    pub fn at_rest(&self) -> bool {
        let now = self.now.lock();
        !matches!(now.phase, Phase::Busy) && now.stalled.is_none()
    }

    /// When patience with the connection ends, as things stand.
    pub fn due(&self, patience: &Patience) -> Option<Instant> {
        let now = self.now.lock();
        let phase = match now.phase {
            Phase::Idle => Some(now.since + patience.idle),
            Phase::Head => Some(now.since + patience.head),
            Phase::Busy | Phase::Upgraded => None,
        };
        let stalled = now.stalled.map(|at| at + patience.stalled);
        match (phase, stalled) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (one, other) => one.or(other),
        }
    }

    fn enter(&self, phase: Phase) {
        let mut now = self.now.lock();
        if now.phase == Phase::Upgraded {
            return;
        }
        now.phase = phase;
        now.since = Instant::now();
        now.begun += u64::from(phase == Phase::Busy);
    }

    fn bytes_came(&self) {
        if self.phase() == Phase::Idle {
            self.enter(Phase::Head);
        }
    }

    fn stalls(&self, stalls: bool) {
        let mut now = self.now.lock();
        if !stalls {
            now.stalled = None;
        } else if now.stalled.is_none() {
            now.stalled = Some(Instant::now());
        }
    }
}

/// Held while a request is answered, its body included.
#[derive(Debug)]
pub(super) struct Busy(Arc<Pace>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.enter(Phase::Idle);
    }
}

/// What HTTP is spoken on: a Unix socket, or TLS over TCP.
pub(super) trait Wire: AsyncRead + AsyncWrite + Unpin + Send + 'static {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Wire for T {}

/// A connection's socket, which tells its pace what passes through it.
pub(super) struct PacedIo<S> {
    inner: TokioIo<S>,
    pace: Arc<Pace>,
    stalled: bool,
    /// The requests begun by the last flush, if by then all were answered.
    settled: Option<u64>,
    refusal: Refusal,
}

/// What is answered in place of hyper's own refusal of that status.
type Refusal = fn(u16) -> Vec<u8>;

impl<S: Wire> PacedIo<S> {
    pub fn new(stream: S, pace: Arc<Pace>, refusal: Refusal) -> Self {
        Self { inner: TokioIo::new(stream), pace, stalled: false, settled: Some(0), refusal }
    }

    pub fn into_stream(self) -> S {
        self.inner.into_inner()
    }

    /// Sends our own refusal where `bytes` begin hyper's; gives how many of them are done with.
    fn replaced(&mut self, bytes: &[u8]) -> Option<usize> {
        if self.settled.is_none() || self.settled != self.pace.all_answered() {
            return None;
        }
        let status =
            bytes.strip_prefix(b"HTTP/1.1 ").or_else(|| bytes.strip_prefix(b"HTTP/1.0 "))?.get(..3)?;
        let status = std::str::from_utf8(status).ok()?.parse().ok()?;
        send_last(self.inner.inner_mut(), &(self.refusal)(status));
        Some(bytes.len())
    }

    fn wrote<T>(&mut self, written: Poll<T>) -> Poll<T> {
        if written.is_pending() || self.stalled {
            self.stalled = written.is_pending();
            self.pace.stalls(self.stalled);
        }
        written
    }
}

/// Sends the last answer of a connection, which is small enough for the socket's buffer: a peer that does not read it
/// does not hold us up.
pub(super) fn send_last(stream: &mut impl Wire, answer: &[u8]) {
    // Nobody is woken once there is room: this is tried once. Over TLS what is written is sent by the flush.
    let mut cx = Context::from_waker(Waker::noop());
    let written = Pin::new(&mut *stream).poll_write(&mut cx, answer).map_ok(drop);
    let sent = [written, Pin::new(stream).poll_flush(&mut cx)];
    if let Some(Poll::Ready(Err(error))) = sent.into_iter().find(|done| matches!(done, Poll::Ready(Err(_)))) {
        tracing::debug!(%error, "a peer does not read its last answer");
    }
}

impl<S: Wire> Read for PacedIo<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        let read = Pin::new(&mut self.inner).poll_read(cx, buf);
        if read.is_ready() {
            self.pace.bytes_came();
        }
        read
    }
}

impl<S: Wire> Write for PacedIo<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        if let Some(done) = self.replaced(buf) {
            return Poll::Ready(Ok(done));
        }
        let written = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.wrote(written)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        // hyper flushes once it has nothing left to write.
        self.settled = self.pace.all_answered();
        // TLS takes more than the kernel does, and holds it until it is flushed.
        let flushed = Pin::new(&mut self.inner).poll_flush(cx);
        self.wrote(flushed)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        if let [first, ..] = bufs
            && self.replaced(first).is_some()
        {
            return Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()));
        }
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.wrote(written)
    }
}
