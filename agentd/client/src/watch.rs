//! Watches: changes as lines of JSON over a connection that stays open.
//!
//! A watch ends with `None` when the daemon closes it (it stops, or the connection is lost in an orderly way) and with
//! an error when it breaks or the daemon says why it cannot go on: `revision_compacted` means to list again. Nothing
//! here reconnects; that is the informer's.

use std::marker::PhantomData;

use agentd_api::list::{WatchEvent, WatchKind};
use agentd_api::{Kind, Object, Problem};
use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::client::Client;
use crate::error::ClientError;
use crate::options::ListOptions;
use crate::transport::{Call, decode};
use crate::untyped::KindClient;

/// A line longer than this is no object of ours (bodies end at 1 MiB).
const LINE_MAX: usize = 16 << 20;

/// The lines of an answer that stays open.
pub struct WatchLines {
    client: Client,
    call: Call,
    body: Incoming,
    buffer: BytesMut,
    scanned: usize,
}

/// A change with its object as `T`.
#[derive(Debug, Clone, Deserialize)]
#[serde(bound = "T: DeserializeOwned")]
pub struct WatchLine<T> {
    pub event: WatchKind,
    pub revision: u64,
    #[serde(default = "Option::default")]
    pub object: Option<T>,
}

/// How a daemon that cannot go on says so within the stream.
#[derive(Deserialize)]
#[serde(untagged)]
enum Ending {
    Plain(Problem),
    Wrapped {
        #[serde(alias = "error", alias = "object")]
        problem: Problem,
    },
}

impl WatchLines {
    pub(crate) async fn open(client: &Client, call: Call) -> Result<Self, ClientError> {
        let body = client.open(&call).await?;
        Ok(Self { client: client.clone(), call, body, buffer: BytesMut::new(), scanned: 0 })
    }

    /// The next line, without its end. Cancel-safe: what has arrived stays in the buffer.
    pub async fn next(&mut self) -> Option<Result<Bytes, ClientError>> {
        loop {
            if let Some(at) = self.buffer[self.scanned..].iter().position(|b| *b == b'\n') {
                let line = self.buffer.split_to(self.scanned + at + 1).freeze();
                self.scanned = 0;
                let line = line.slice(..line.len() - 1);
                if line.trim_ascii().is_empty() {
                    continue;
                }
                return Some(self.checked(line));
            }
            self.scanned = self.buffer.len();
            if self.buffer.len() > LINE_MAX {
                let why = format!("a line of the answer is longer than {LINE_MAX} bytes");
                return Some(Err(ClientError::Unsendable { request: self.call.name(), why }));
            }
            match self.body.frame().await? {
                Ok(frame) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
                Err(error) => return Some(Err(self.client.broken(&self.call, Box::new(error)))),
            }
        }
    }

    fn checked(&self, line: Bytes) -> Result<Bytes, ClientError> {
        // Changes begin with their event, so this looks only at what is none.
        if line.starts_with(br#"{"event":""#) && !line.starts_with(br#"{"event":"error""#) {
            return Ok(line);
        }
        match serde_json::from_slice::<Ending>(&line) {
            Ok(Ending::Plain(problem) | Ending::Wrapped { problem }) => Err(problem.into()),
            Err(_) => Ok(line),
        }
    }

    pub(crate) fn name(&self) -> String {
        self.call.name()
    }
}

/// A watch of a kind that is known when the program is compiled.
pub struct Watch<K: Kind> {
    lines: WatchLines,
    kind: PhantomData<fn() -> K>,
}

impl<K: Kind> Watch<K> {
    /// Cancel-safe.
    pub async fn next(&mut self) -> Option<Result<WatchEvent<K>, ClientError>> {
        let line = self.lines.next().await?;
        Some(line.and_then(|line| {
            let line: WatchLine<Object<K>> = decode(&self.lines.name(), &line)?;
            Ok(WatchEvent { event: line.event, revision: line.revision, object: line.object })
        }))
    }

    /// Ends after the first error.
    pub fn into_stream(self) -> impl Stream<Item = Result<WatchEvent<K>, ClientError>> + Send {
        futures_util::stream::unfold(Some(self), |watch| async move {
            let mut watch = watch?;
            let next = watch.next().await?;
            let rest = next.is_ok().then_some(watch);
            Some((next, rest))
        })
    }
}

impl Client {
    /// Changes after revision `since`; without one first what there is, each as `added`, then a bookmark, then changes.
    /// `options.limit` has no meaning here.
    pub async fn watch<K: Kind>(
        &self,
        since: Option<u64>,
        options: &ListOptions,
    ) -> Result<Watch<K>, ClientError> {
        Ok(Watch { lines: self.kind(K::DEF).watch(since, options).await?, kind: PhantomData })
    }
}

impl KindClient<'_> {
    /// The lines as the daemon sends them.
    pub async fn watch(&self, since: Option<u64>, options: &ListOptions) -> Result<WatchLines, ClientError> {
        WatchLines::open(self.client, self.watch_call(since, options)).await
    }
}
