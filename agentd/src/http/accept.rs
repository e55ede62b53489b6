//! The socket's door: takes connections, finds out who they are from, bounds how many there are, and sees them out. Those
//! of other machines (`remote`) come into the same lanes once they are past their handshake.
//!
//! Three lanes, each bounded: callers who may call, strangers (each request answered 403), and callers beyond the
//! first lane's bound (each answered 429). Past the bound of its lane a connection is closed unanswered.
//!
//! Stop order: no more connections are taken; watches end; connections that rest are closed; what is being answered
//! gets [`Limits::grace`]. Accepting that fails (no file descriptors left) is tried again, never given up.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use agentd_api::{ErrorCode, Problem};
use hyper::server::conn::http1;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::pace::{Pace, PacedIo, Patience, Phase, Wire, send_last};
use super::service::{Access, Berth, End, Session};
use super::{App, Limits, PeerRules, error};
use crate::intent::{Peer, Principal};

const SIDE_LANE: usize = 64;
pub(super) const HEAD_BYTES_MAX: usize = 32 << 10;
/// How long a connection is waited for that is only there to be refused.
const REFUSED_IDLE: Duration = Duration::from_secs(5);
/// How long what still comes is taken on a connection that is over, once its last answer is out.
const LINGER: Duration = Duration::from_secs(5);

/// Whether one may call and as whom, and its place in a lane.
pub(super) type Admitted = (Access, OwnedSemaphorePermit);

/// The API's server. It is given its sockets and its end.
pub struct HttpServer {
    app: Arc<App>,
    peers: Arc<PeerRules>,
    lanes: Lanes,
}

struct Lanes {
    callers: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
    overflow: Arc<Semaphore>,
}

impl HttpServer {
    pub fn new(app: Arc<App>, peers: PeerRules) -> Self {
        let lanes = Lanes {
            callers: Arc::new(Semaphore::new(app.limits.connections)),
            strangers: Arc::new(Semaphore::new(SIDE_LANE)),
            overflow: Arc::new(Semaphore::new(SIDE_LANE)),
        };
        Self { app, peers: Arc::new(peers), lanes }
    }

    /// Serves the Unix socket until `cancel`, and returns once its last connection is closed, at most
    /// [`Limits::grace`] later.
    pub async fn serve(self: Arc<Self>, listener: UnixListener, cancel: CancellationToken) {
        let accept = move |cx: &mut Context<'_>| listener.poll_accept(cx).map_ok(|(stream, _)| stream);
        take_all(accept, &cancel, |stream, tasks| {
            let (this, cancel) = (self.clone(), cancel.clone());
            async move {
                let Some(admitted) = this.admit(&stream).await else { return };
                this.converse(stream, admitted, None, (cancel, tasks)).await;
            }
        })
        .await;
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.app.limits
    }

    /// Answers what is asked on a connection until it ends. `leash` is dropped with it, also where it was upgraded.
    pub(super) async fn converse(
        &self,
        stream: impl Wire,
        (access, place): Admitted,
        leash: Option<AbortOnDropHandle<()>>,
        (stop, tasks): (CancellationToken, TaskTracker),
    ) {
        let limits = &self.app.limits;
        let idle = if access.is_ok() { limits.idle } else { REFUSED_IDLE };
        let patience = Patience { head: limits.head, idle, stalled: limits.stalled };
        let pace = Pace::new();
        let berth = Arc::new(Berth { _place: place, _leash: leash });
        let end = End { stop: stop.clone(), tasks, berth, pace: pace.clone() };
        let session = Session::new(self.app.clone(), access, end);
        drive(stream, session, &pace, patience, limits, stop).await;
    }

    /// Who is at the other end, and a place in a lane; nothing where there is no place.
    async fn admit(&self, stream: &UnixStream) -> Option<Admitted> {
        let cred = match stream.peer_cred() {
            Ok(cred) => cred,
            Err(error) => {
                tracing::warn!(%error, "refused: the kernel does not say who the peer is");
                return None;
            }
        };
        let peer = Peer { uid: cred.uid(), gid: cred.gid(), pid: cred.pid() };
        let admitted = match self.peers.known(&peer) {
            Some(known) => known,
            None => {
                let (rules, peer) = (self.peers.clone(), peer.clone());
                // A look-up that panicked lets nobody in.
                tokio::task::spawn_blocking(move || rules.admits(&peer)).await.unwrap_or(false)
            }
        };
        if admitted { self.place(Principal::Local(peer)) } else { self.side_place(self.peers.refusal(&peer)) }
    }

    /// A place for a stranger, to be told why it is one.
    pub(super) fn side_place(&self, refusal: Problem) -> Option<Admitted> {
        let place = self.lanes.strangers.clone().try_acquire_owned().ok()?;
        Some((Err(refusal), place))
    }

    /// A place for one who may call.
    pub(super) fn place(&self, principal: Principal) -> Option<Admitted> {
        if let Ok(place) = self.lanes.callers.clone().try_acquire_owned() {
            return Some((Ok(Arc::new(principal)), place));
        }
        let place = self.lanes.overflow.clone().try_acquire_owned().ok()?;
        let full = format!("all {} connections are taken", self.app.limits.connections);
        Some((Err(Problem::new(ErrorCode::TooManyRequests, full)), place))
    }
}

/// Takes connections until `cancel`, sees to each in a task of its own, and waits for the last of them.
pub(super) async fn take_all<S, F>(
    mut accept: impl FnMut(&mut Context<'_>) -> Poll<io::Result<S>>,
    cancel: &CancellationToken,
    see_to: impl Fn(S, TaskTracker) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let tasks = TaskTracker::new();
    loop {
        // Cancel-safe: a connection is taken only in the poll that returns it.
        let accepted = tokio::select! {
            () = cancel.cancelled() => break,
            accepted = poll_fn(&mut accept) => accepted,
        };
        match accepted {
            Ok(stream) => drop(tasks.spawn(see_to(stream, tasks.clone()))),
            Err(error) => {
                tracing::warn!(%error, "cannot take a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    // The listener is closed with it.
    drop(accept);
    tasks.close();
    tasks.wait().await;
}

#[expect(clippy::too_many_arguments, reason = "one call site; a struct would name the same six things twice")]
async fn drive(
    stream: impl Wire,
    session: Session,
    pace: &Arc<Pace>,
    patience: Patience,
    limits: &Limits,
    stop: CancellationToken,
) {
    let io = PacedIo::new(stream, pace.clone(), error::refused_head);
    let mut conn = http1::Builder::new()
        .header_read_timeout(None)
        .max_header_size(HEAD_BYTES_MAX)
        .serve_connection(io, session)
        .with_upgrades();
    let mut stopped = pin!(stop.cancelled());
    let mut stopping: Option<Instant> = None;
    let far = || tokio::time::Instant::now() + patience.idle;
    let mut alarm = pin!(tokio::time::sleep_until(far()));
    let ended = poll_fn(|cx| {
        if stopping.is_none() && stopped.as_mut().poll(cx).is_ready() {
            stopping = Some(Instant::now() + limits.grace);
            Pin::new(&mut conn).graceful_shutdown();
        }
        if let Poll::Ready(ended) = Pin::new(&mut conn).poll(cx) {
            return Poll::Ready(Ended::of(ended));
        }
        if stopping.is_some() && pace.at_rest() {
            return Poll::Ready(Ended::Stopped);
        }
        loop {
            let due = [pace.due(&patience), stopping].into_iter().flatten().min();
            match due {
                // The alarm is moved only to be earlier, or once it has rung: a busy connection sets none.
                Some(due) if due <= Instant::now() => return Poll::Ready(Ended::Late),
                Some(due) if tokio::time::Instant::from_std(due) < alarm.deadline() => {
                    alarm.as_mut().reset(due.into());
                }
                _ => {}
            }
            if alarm.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            alarm.as_mut().reset(due.map_or_else(far, Into::into));
        }
    })
    .await;
    // None once it is upgraded: then it is another's.
    let Some(parts) = conn.into_parts() else { return };
    let mut stream = parts.io.into_stream();
    match ended {
        Ended::Late if pace.phase() == Phase::Head => {
            send_last(&mut stream, &error::late_head(patience.head))
        }
        Ended::Late | Ended::Stopped => {}
        Ended::Http2 => {
            send_last(&mut stream, &error::refused_head(505));
            linger(stream, &stop).await;
        }
        Ended::Served => linger(stream, &stop).await,
    }
}

/// Takes what a peer still sends that was answered before it had sent all: an upload that was refused, say. A peer
/// whose sending fails may never come to read why.
async fn linger(mut stream: impl Wire, stop: &CancellationToken) {
    let taken = async {
        // What goes wrong here is the connection's end, which is what is waited for.
        let _ = stream.shutdown().await;
        let mut unread = [0; 4096];
        while stream.read(&mut unread).await.is_ok_and(|count| count > 0) {}
    };
    tokio::select! {
        () = stop.cancelled() => {}
        _ = tokio::time::timeout(LINGER, taken) => {}
    }
}

/// How serving a connection ended.
enum Ended {
    Served,
    /// The server stops, and nothing was being answered.
    Stopped,
    /// Patience with it was over.
    Late,
    /// It was spoken HTTP/2 on, which hyper leaves without an answer.
    Http2,
}

impl Ended {
    fn of(ended: hyper::Result<()>) -> Self {
        match ended {
            Err(error) if error.is_parse_version_h2() => Self::Http2,
            Err(error) => {
                tracing::debug!(%error, "a connection ended");
                Self::Served
            }
            Ok(()) => Self::Served,
        }
    }
}
