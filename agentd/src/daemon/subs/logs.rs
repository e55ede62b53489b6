//! `vms/{name}/logs`: what the guest said on its serial console.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use agentd_api::{Problem, Timestamp};
use agentd_drivers::console::{Marks, Piece, Reader, Snapshot, Watched, Watches};
use agentd_store::Store;
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Opener;
use super::log::{blocking, console_log, read_piece, unreadable};
use crate::http::{Pieces, SubCall, SubReply};

/// How often it is looked whether the VM is still there. That is a look into memory.
const LOOK: Duration = Duration::from_secs(1);

pub struct Logs {
    pub store: Store,
    pub watches: Arc<Watches>,
}

/// What goes on being sent.
struct Follow {
    store: Store,
    vm: Uuid,
    watched: Watched,
    stop: CancellationToken,
}

/// What is still to be sent.
struct Rest {
    reader: Reader,
    /// Of what was there when it was asked for: a guest that goes on talking does not make it endless.
    left: u64,
    follow: Option<Follow>,
}

#[async_trait]
impl Opener for Logs {
    async fn open(&self, call: SubCall) -> Result<SubReply, Problem> {
        let log = console_log(&call)?;
        let (tail, since) = (call.number("tail"), since(&call)?);
        let follow = call.flag("follow").then(|| Follow {
            store: self.store.clone(),
            vm: call.object.id(),
            watched: self.watches.on(&log),
            stop: call.stop.clone(),
        });
        let read = blocking(move || {
            let snapshot = Snapshot::take(&log)?;
            let mut from = tail.map_or(Ok(0), |lines| snapshot.last_lines(lines))?;
            if let Some(since) = since {
                from = from.max(Marks::read(&log)?.since(&snapshot, since)?);
            }
            let left = snapshot.length() - from;
            Ok((Reader::new(snapshot, from), left))
        });
        let (reader, left) = read.await.map_err(|error| unreadable(&error))?;
        Ok(SubReply::Content(pieces(Rest { reader, left, follow })))
    }
}

fn since(call: &SubCall) -> Result<Option<Timestamp>, Problem> {
    let parse = |text: &str| text.parse().map_err(|e| Problem::field("since", format!("{e}")));
    call.text("since").map(parse).transpose()
}

fn pieces(rest: Rest) -> Pieces {
    futures_util::stream::unfold(Some(rest), |rest| async move {
        let Rest { mut reader, left, mut follow } = rest?;
        let most = if follow.is_some() { u64::MAX } else { left };
        if most == 0 {
            return None;
        }
        loop {
            let (back, piece) = match read_piece(reader, most).await {
                Ok(read) => read,
                Err(error) => return Some((Err(error), None)),
            };
            reader = back;
            match piece {
                (Piece::Data(read), bytes) => {
                    let left = left.saturating_sub(read as u64);
                    return Some((Ok(Bytes::from(bytes)), Some(Rest { reader, left, follow })));
                }
                (Piece::Gap, _) => {
                    let text = "the guest said more than is kept before it was read";
                    return Some((Err(io::Error::other(text)), None));
                }
                (Piece::Nothing, _) => follow.as_mut()?.more().await?,
            }
        }
    })
    .boxed()
}

impl Follow {
    /// Waits until there may be more; nothing where there will be no more.
    async fn more(&mut self) -> Option<()> {
        loop {
            // Cancel safety: each arm loses nothing when another is taken.
            tokio::select! {
                () = self.watched.changed() => return Some(()),
                () = self.stop.cancelled() => return None,
                () = tokio::time::sleep(LOOK) => {
                    self.store.by_id(self.vm)?;
                }
            }
        }
    }
}
