//! A watch that outlives its connection and its daemon: what the informer and whoever else follows objects stand on.
//!
//! ```text
//! since --watch--> line --> line ...
//!   ^                | connection lost: the same again from the last revision, after a pause that grows
//!   +-- none <-------+ revision_compacted: whoever follows reads anew, and says since when it knows
//! ```
//! A daemon that goes away is told of once and then waited for without end: how long is the caller's to say. An error
//! that waiting cannot mend is returned.

use std::time::Duration;

use agentd_api::{ErrorCode, KindDef};
use bytes::Bytes;
use serde::de::DeserializeOwned;

use crate::client::Client;
use crate::error::ClientError;
use crate::options::ListOptions;
use crate::transport::decode;
use crate::watch::{WatchLine, WatchLines};

const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

pub struct ResumedWatch {
    client: Client,
    def: &'static KindDef,
    options: ListOptions,
    since: Option<u64>,
    lines: Option<WatchLines>,
    pause: Duration,
    away: bool,
}

impl ResumedWatch {
    /// Of all changes after `since`; without one whoever follows reads first and calls [`begin`](Self::begin), or is
    /// brought all objects first.
    pub fn new(client: &Client, def: &'static KindDef, options: ListOptions, since: Option<u64>) -> Self {
        let client = client.clone();
        Self { client, def, options, since, lines: None, pause: PAUSE_MIN, away: false }
    }

    /// The revision up to which everything was told.
    pub fn since(&self) -> Option<u64> {
        self.since
    }

    /// Goes on after `since`, up to which everything is known.
    pub fn begin(&mut self, since: u64) {
        self.lines = None;
        self.since = Some(since);
    }

    /// The next line, as it came and read. None where there was something else to do first, such as to open the watch:
    /// call again. Every error goes to [`mended`](Self::mended). Cancel-safe.
    pub async fn step<T: DeserializeOwned>(&mut self) -> Result<Option<(Bytes, WatchLine<T>)>, ClientError> {
        let Some(lines) = &mut self.lines else {
            self.lines = Some(self.client.kind(self.def).watch(self.since, &self.options).await?);
            return Ok(None);
        };
        match lines.next().await {
            // The daemon closed it in good order, as one that stops does: the next step opens another.
            None => {
                self.lines = None;
                tokio::time::sleep(PAUSE_MIN).await;
                Ok(None)
            }
            Some(line) => {
                let line = line?;
                let read: WatchLine<T> = decode(&lines.name(), &line)?;
                self.since = self.since.max(Some(read.revision));
                Ok(Some((line, read)))
            }
        }
    }

    /// What a step came to, one of this watch or of reading anew: Ok(Some) tells, once, that the daemon is away; Ok(None)
    /// is to step again; Err is what waiting does not mend.
    pub async fn mended(
        &mut self,
        step: Result<(), ClientError>,
    ) -> Result<Option<ClientError>, ClientError> {
        match step {
            Ok(()) => {
                self.away = false;
                self.pause = PAUSE_MIN;
                Ok(None)
            }
            Err(error) if error.code() == Some(ErrorCode::RevisionCompacted) => {
                self.lines = None;
                self.since = None;
                Ok(None)
            }
            Err(error) if error.passes() => {
                self.lines = None;
                if !std::mem::replace(&mut self.away, true) {
                    return Ok(Some(error));
                }
                let pause = self.pause;
                self.pause = (pause * 2).min(PAUSE_MAX);
                tokio::time::sleep(pause).await;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}
