//! The listener for other machines: off unless `remote.listen` says where. Its files are read, looked at again every two
//! seconds and on SIGHUP, and what they say is taken up without a restart.
//!
//! ```text
//!   files --> Trust --> bind the port --> HttpServer::serve_remote
//!     ^         |            ^  |
//!     +- 2 s ---+            +--+ 5 s, while it is somebody else's
//! ```
//! On failure: the Unix socket is served all the same. What is amiss is in the log once, and in `doctor`, `/readyz` and
//! `/v1` while it lasts. Files that cannot be used leave those in use that were good.

mod files;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use agentd_drivers::fault;
use parking_lot::RwLock;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::RemoteConfig;
use crate::doctor::{RemoteSeen, RemoteServes};
use crate::http::{HttpServer, Trust};
use files::Look;

const EVERY: Duration = Duration::from_secs(2);

/// What is wanted of the listener and how it stands. Shared by the task that keeps it and those who ask.
#[derive(Debug)]
pub struct Remote {
    wanted: Option<(SocketAddr, std::path::PathBuf)>,
    seen: RwLock<RemoteSeen>,
    again: Notify,
}

impl Remote {
    pub fn new(config: &RemoteConfig) -> Arc<Self> {
        let wanted = config.listen.map(|listen| (listen, config.dir.clone()));
        Arc::new(Self { wanted, seen: RwLock::default(), again: Notify::new() })
    }

    /// How it stands; nothing where none is wanted.
    pub fn seen(&self) -> Option<RemoteSeen> {
        self.wanted.as_ref().map(|_| self.seen.read().clone())
    }

    /// Has the files read now.
    pub fn look_again(&self) {
        self.again.notify_one();
    }

    /// Serves until `end`. Ends at once where no listener is wanted.
    pub async fn keep(self: Arc<Self>, server: Arc<HttpServer>, end: CancellationToken) {
        let Some((listen, dir)) = self.wanted.clone() else { return };
        let served = TaskTracker::new();
        let mut keeper =
            Keeper { remote: self.clone(), listen, look: Look::at(dir), trust: None, listening: false };
        loop {
            if let Some((listener, trusted)) = keeper.round().await {
                served.spawn(server.clone().serve_remote(listener, trusted, end.clone()));
            }
            // Cancel safety: a notice that comes while nobody waits is kept for the next round.
            tokio::select! {
                () = end.cancelled() => break,
                () = tokio::time::sleep(EVERY) => {}
                () = self.again.notified() => keeper.look.forget(),
            }
        }
        served.close();
        served.wait().await;
    }
}

struct Keeper {
    remote: Arc<Remote>,
    listen: SocketAddr,
    look: Look,
    /// The last good one.
    trust: Option<watch::Sender<Arc<Trust>>>,
    listening: bool,
}

impl Keeper {
    /// Reads files that have changed, and binds the port where that is still to be done.
    async fn round(&mut self) -> Option<(TcpListener, watch::Receiver<Arc<Trust>>)> {
        let look = self.look.clone();
        let looked = tokio::task::spawn_blocking(move || look.again()).await;
        let (look, read) = looked.inspect_err(|e| tracing::error!("the files of remote.dir: {e}")).ok()?;
        self.look = look;
        match read {
            None => {}
            Some(Ok(new)) => self.take_up(new),
            Some(Err(error)) => {
                let kept = if self.trust.is_some() { "; those read before stay in use" } else { "" };
                self.amiss(Some(format!("{}{kept}", fault::chain(&error))));
            }
        }
        let trust = self.trust.as_ref().filter(|_| !self.listening)?;
        let trusted = trust.subscribe();
        match TcpListener::bind(self.listen).await {
            Ok(listener) => {
                self.listening = true;
                tracing::info!(listen = %self.listen, "serving other machines over TLS");
                let expires = trusted.borrow().expires;
                self.remote.seen.write().serves = Some(RemoteServes { listen: self.listen, expires });
                self.amiss(None);
                Some((listener, trusted))
            }
            Err(error) => {
                self.amiss(Some(unbound(self.listen, &error)));
                None
            }
        }
    }

    fn take_up(&mut self, new: Trust) {
        let expires = new.expires;
        match &self.trust {
            None => self.trust = Some(watch::channel(Arc::new(new)).0),
            Some(trust) => {
                trust.send_replace(Arc::new(new));
                tracing::info!(%expires, "the certificates for other machines were read again and hold from now on");
            }
        }
        let mut seen = self.remote.seen.write();
        if let Some(serves) = &mut seen.serves {
            serves.expires = expires;
            seen.amiss = None;
        }
    }

    /// What does not work as it is to, or nothing: told once, and shown for as long as it is so.
    fn amiss(&self, what: Option<String>) {
        let mut seen = self.remote.seen.write();
        if seen.amiss != what
            && let Some(what) = &what
        {
            tracing::error!("other machines: {what}");
        }
        seen.amiss = what;
    }
}

fn unbound(listen: SocketAddr, error: &io::Error) -> String {
    let port = listen.port();
    let why = match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("something else listens there; `ss -ltnp sport = :{port}` names it")
        }
        io::ErrorKind::PermissionDenied => {
            format!(
                "ports below 1024 are not agentd's as a service; {} is the usual one",
                agentd_api::remote::PORT
            )
        }
        io::ErrorKind::AddrNotAvailable => "this host has no such address".to_owned(),
        _ => "it is tried again".to_owned(),
    };
    format!("cannot listen on {listen} ({error}): {why}")
}
