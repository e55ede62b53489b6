//! The bare limit: the unavoidable part of the work and nothing else.

use std::path::Path;
use std::process::{Child, Command};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use axum::Router;
use axum::routing::get;
use bytes::Bytes;

/// As a process of its own: axum answering the bytes of a file on a Unix socket, whatever is asked.
pub fn serve(socket: &Path, body: &Path) -> Result<()> {
    let body = Bytes::from(std::fs::read(body)?);
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let listener = tokio::net::UnixListener::bind(socket)?;
        let answer = move || {
            let body = body.clone();
            async move { ([("content-type", "application/json")], body) }
        };
        let router = Router::new().fallback(get(answer));
        axum::serve(listener, router).await.context("the limit's server")
    })
}

/// That process, for as long as this lives.
pub struct Limit(Child);

impl Limit {
    #[expect(clippy::disallowed_methods, reason = "the rule is for the daemon")]
    pub fn start(socket: &Path, body: &Path) -> Result<Self> {
        let child = Command::new(std::env::current_exe()?).arg("limit-http").arg(socket).arg(body).spawn()?;
        let from = Instant::now();
        while std::os::unix::net::UnixStream::connect(socket).is_err() {
            anyhow::ensure!(from.elapsed() < Duration::from_secs(10), "the limit's server did not start");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(Self(child))
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// SQLite committing prepared rows of `size` bytes, `callers` to a commit, each waiting for its own: rows a second.
pub fn commits(file: &Path, callers: usize, size: usize, span: Duration) -> Result<f64> {
    let connection = rusqlite::Connection::open(file)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.execute_batch("CREATE TABLE row (key INTEGER PRIMARY KEY, body BLOB NOT NULL)")?;
    let (to, from) = mpsc::channel::<mpsc::Sender<()>>();
    for _ in 0..callers {
        let to = to.clone();
        std::thread::spawn(move || {
            let (done, wait) = mpsc::channel();
            while to.send(done.clone()).is_ok() && wait.recv().is_ok() {}
        });
    }
    drop(to);
    let body = vec![b'x'; size];
    let start = Instant::now();
    let mut rows = 0u64;
    while start.elapsed() < span {
        let mut batch = vec![from.recv()?];
        while batch.len() < callers {
            match from.try_recv() {
                Ok(next) => batch.push(next),
                Err(_) => break,
            }
        }
        connection.execute_batch("BEGIN IMMEDIATE")?;
        for _ in &batch {
            rows += 1;
            connection
                .prepare_cached("INSERT INTO row (key, body) VALUES (?1, ?2)")?
                .execute((rows as i64, &body))?;
        }
        connection.execute_batch("COMMIT")?;
        for done in batch {
            let _ = done.send(());
        }
    }
    Ok(rows as f64 / start.elapsed().as_secs_f64())
}
