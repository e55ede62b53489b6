//! The door for other machines: TCP, and TLS with certificates on both sides.
//!
//! ```text
//!   accept --> the lane of handshakes --> TLS: who is it? --> the lanes of the Unix socket's callers
//! ```
//! Nobody gets past the handshake without a certificate of ours that holds. Handshakes have a lane of their own, in which
//! the one that has taken longest makes room for the next: a thousand callers who say nothing hold up none who do, and
//! cost what the lane costs.
//!
//! A connection keeps to what its caller showed: whenever the certificates are replaced, and every hour, that is looked
//! at again, and where it would be refused now the connection ends as if the server stopped.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use agentd_api::{ErrorCode, Problem};
use nix::sys::socket::{setsockopt, sockopt};
use parking_lot::Mutex;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::accept::{HttpServer, take_all};
use super::trust::{Trust, name_of};
use crate::intent::Principal;

/// Handshakes at a time.
const HANDSHAKES: usize = 256;
/// How often it is looked whether a certificate has expired under its connection.
const LOOK_AGAIN: Duration = Duration::from_secs(3600);
/// A peer that is gone without a word is found out within two minutes.
const KEEPALIVE: (u32, u32, u32) = (60, 15, 4);
/// How long, and for how many bytes, one that was refused is listened to, so that it hears why.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: u64 = 64 << 10;

/// The certificates that hold. Replaced as a whole.
pub type Trusted = watch::Receiver<Arc<Trust>>;

impl HttpServer {
    /// Serves other machines until `cancel`, and returns once the last connection is closed.
    pub async fn serve_remote(
        self: Arc<Self>,
        listener: TcpListener,
        trusted: Trusted,
        cancel: CancellationToken,
    ) {
        let handshakes = Arc::new(Handshakes::default());
        let accept =
            move |cx: &mut std::task::Context<'_>| listener.poll_accept(cx).map_ok(|(stream, _)| stream);
        take_all(accept, &cancel, |stream, tasks| {
            let arrival =
                Arrival { entry: handshakes.enter(), trusted: trusted.clone(), stop: cancel.clone() };
            arrival.go_on(self.clone(), stream, tasks)
        })
        .await;
    }
}

/// One that has connected, and has not yet said who it is.
struct Arrival {
    entry: Entry,
    trusted: Trusted,
    stop: CancellationToken,
}

impl Arrival {
    async fn go_on(mut self, server: Arc<HttpServer>, stream: TcpStream, tasks: TaskTracker) {
        let from = stream.peer_addr().map_or_else(|_| "nowhere".to_owned(), |at| at.to_string());
        let trust = self.trusted.borrow_and_update().clone();
        let given_up = |why| Err(io::Error::new(io::ErrorKind::TimedOut, why));
        // Cancel safety: what is dropped is a connection on which nothing has been asked.
        let shaken = tokio::select! {
            () = self.stop.cancelled() => return,
            () = self.entry.evicted.cancelled() => given_up("it made room for others"),
            shaken = tokio::time::timeout(server.limits().head, shake_hands(stream, &trust)) => {
                shaken.unwrap_or_else(|_| given_up("it took too long"))
            }
        };
        let stream = match shaken {
            Ok(stream) => stream,
            Err(error) => return tell(&from, &error),
        };
        let Self { entry, trusted, stop } = self;
        drop(entry);
        let shown = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let chain: Vec<_> = shown.iter().map(|part| part.clone().into_owned()).collect();
        let Some(admitted) = server.admit_remote(chain.first().and_then(name_of)) else { return };
        let stop = stop.child_token();
        let leash = tokio::spawn(hold_to(chain, trusted, (from, stop.clone())));
        server.converse(stream, admitted, Some(AbortOnDropHandle::new(leash)), (stop, tasks)).await;
    }
}

impl HttpServer {
    fn admit_remote(&self, name: Option<String>) -> Option<super::accept::Admitted> {
        match name {
            Some(name) => self.place(Principal::Remote { name }),
            None => {
                let detail = "the certificate is of nobody: it has not one common name of up to 64 printable characters";
                self.side_place(
                    Problem::new(ErrorCode::Forbidden, detail).hint("`agentctl remote add-client` makes one"),
                )
            }
        }
    }
}

/// One whose certificate is refused is worth a word; on the way to that are all who try any port.
fn tell(from: &str, error: &io::Error) {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref());
    if matches!(tls, Some(rustls::Error::InvalidCertificate(_))) {
        tracing::info!(from, "a remote caller was not let in: {error}");
    } else {
        tracing::debug!(from, "a remote caller did not come to its name: {error}");
    }
}

async fn shake_hands(stream: TcpStream, trust: &Trust) -> io::Result<TlsStream<TcpStream>> {
    stream.set_nodelay(true)?;
    keep_alive(&stream)?;
    match TlsAcceptor::from(trust.config.clone()).accept(stream).into_fallible().await {
        Ok(stream) => Ok(stream),
        Err((error, stream)) => {
            hear_out(stream).await;
            Err(error)
        }
    }
}

/// Lets a peer read why it was refused: a connection that is closed with something unread is reset, and what was sent
/// on it is lost. A client has sent its request by then, since it is done with the handshake before we are.
async fn hear_out(mut stream: TcpStream) {
    let reading = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut (&mut stream).take(LINGER_BYTES), &mut tokio::io::sink()).await
    };
    // Whatever comes of it, the connection is over.
    let _ = tokio::time::timeout(LINGER, reading).await;
}

fn keep_alive(stream: &TcpStream) -> io::Result<()> {
    let (idle, between, times) = KEEPALIVE;
    setsockopt(stream, sockopt::KeepAlive, &true)?;
    setsockopt(stream, sockopt::TcpKeepIdle, &idle)?;
    setsockopt(stream, sockopt::TcpKeepInterval, &between)?;
    setsockopt(stream, sockopt::TcpKeepCount, &times)?;
    Ok(())
}

/// Ends a connection once what its caller showed would be refused. Is dropped with the connection.
async fn hold_to(
    chain: Vec<CertificateDer<'static>>,
    mut trusted: Trusted,
    (from, stop): (String, CancellationToken),
) {
    loop {
        // Cancel safety: neither arm holds anything.
        tokio::select! {
            changed = trusted.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(LOOK_AGAIN) => {}
        }
        let trust = trusted.borrow_and_update().clone();
        if let Err(error) = trust.admits(&chain) {
            let name = chain.first().and_then(name_of).unwrap_or_default();
            tracing::info!(from, name, "a remote caller's connection was ended: {error}");
            return stop.cancel();
        }
    }
}

/// Those that have connected and are not through, in the order in which they came.
#[derive(Debug, Default)]
struct Handshakes {
    open: Mutex<(u64, BTreeMap<u64, CancellationToken>)>,
}

/// A place among them, until it is dropped.
struct Entry {
    number: u64,
    evicted: CancellationToken,
    of: Arc<Handshakes>,
}

impl Handshakes {
    fn enter(self: &Arc<Self>) -> Entry {
        let evicted = CancellationToken::new();
        let mut open = self.open.lock();
        let (next, waiting) = &mut *open;
        if waiting.len() >= HANDSHAKES
            && let Some((_, longest)) = waiting.pop_first()
        {
            longest.cancel();
        }
        let number = *next;
        *next += 1;
        waiting.insert(number, evicted.clone());
        Entry { number, evicted, of: self.clone() }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.of.open.lock().1.remove(&self.number);
    }
}
