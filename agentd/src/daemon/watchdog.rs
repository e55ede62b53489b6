//! Tells systemd's watchdog that agentd works, after having looked.
//!
//! ```text
//!   every third of WatchdogSec:  a transaction of nothing -> the store's writer has answered
//!                                GET /healthz             -> the API has answered, over its own socket
//!                                WATCHDOG=1
//! ```
//!
//! Any answer counts, also one that says that the store cannot be written or that all connections are taken: what is
//! looked for is a daemon that hangs, which a new one mends, and not a full disk, which it does not. A look that gets no
//! answer is logged and not told, and after three of them systemd ends the process and starts it anew. Guests go on.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use agentd_store::Store;
use sd_notify::NotifyState;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;

/// The part of the limit in which one look is made.
const LOOKS: u32 = 3;

/// Where a look goes.
pub struct Watched {
    pub store: Store,
    pub socket: PathBuf,
}

/// Feeds the watchdog until `end`, where systemd has one for us.
pub async fn feed(watched: Watched, end: CancellationToken) {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    let every = limit / LOOKS;
    loop {
        match watched.look(every).await {
            // A manager that does not hear it ends us, which is all that could be done about it here.
            Ok(()) => drop(sd_notify::notify(&[NotifyState::Watchdog])),
            Err(what) => tracing::error!("the watchdog is not fed: {what}"),
        }
        // Cancel safety: neither arm holds anything.
        tokio::select! {
            () = end.cancelled() => return,
            () = tokio::time::sleep(every) => {}
        }
    }
}

impl Watched {
    /// Whether both answer within that time, and what did not.
    pub(super) async fn look(&self, limit: Duration) -> Result<(), String> {
        let writer = self.store.transact(|_| Ok::<(), agentd_store::TxError>(()));
        let late = |what: &str| format!("{what} has not answered for {} s", limit.as_secs_f32());
        // What it answered does not matter: see above.
        drop(tokio::time::timeout(limit, writer).await.map_err(|_| late("the store's writer"))?);
        match tokio::time::timeout(limit, self.ask()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(format!("the API cannot be asked: {error}")),
            Err(_) => Err(late("the API")),
        }
    }

    async fn ask(&self) -> io::Result<()> {
        let mut stream = UnixStream::connect(&self.socket).await?;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: agentd\r\nconnection: close\r\n\r\n").await?;
        let mut begin = [0; 5];
        stream.read_exact(&mut begin).await?;
        if &begin == b"HTTP/" { Ok(()) } else { Err(io::Error::other("this is no HTTP")) }
    }
}

#[cfg(test)]
mod tests {
    use agentd_store::{Options, Store};
    use tokio::net::UnixListener;

    use super::*;

    const SHORT: Duration = Duration::from_millis(300);

    #[tokio::test]
    async fn an_api_that_does_not_answer_is_named_and_one_that_does_is_enough() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::open(&dir.path().join("agentd.db"), Options::default()).expect("a store");
        let watched = Watched { store: store.clone(), socket: dir.path().join("socket") };
        let why = watched.look(SHORT).await.expect_err("nobody there");
        assert!(why.starts_with("the API cannot be asked"), "{why}");
        // The kernel takes the connection, and nobody reads it: a loop that hangs.
        let listener = UnixListener::bind(&watched.socket).expect("bound");
        let why = watched.look(SHORT).await.expect_err("no answer");
        assert!(why.starts_with("the API has not answered"), "{why}");
        drop(listener);
        std::fs::remove_file(&watched.socket).expect("gone");
        let listener = UnixListener::bind(&watched.socket).expect("bound");
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                stream.write_all(b"HTTP/1.1 503 Service Unavailable\r\n\r\n").await.expect("answered");
            }
        });
        let before = store.revision();
        watched.look(SHORT).await.expect("both answer");
        assert_eq!(store.revision(), before, "a look writes nothing");
        store.close().await.expect("closed");
        // A store that is closed answers that it is.
        watched.look(SHORT).await.expect("an answer");
    }
}
