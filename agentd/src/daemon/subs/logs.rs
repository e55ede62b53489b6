//! `vms/{name}/logs`: what the guest said on its serial console.

use std::path::PathBuf;

use agentd_api::vm::Vm;
use agentd_api::{ErrorCode, Object, Problem};
use agentd_drivers::console::{Piece, Reader, Snapshot};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;

use super::Opener;
use crate::http::{Pieces, SubCall, SubReply};

const PIECE: usize = 64 << 10;

pub struct Logs;

#[async_trait]
impl Opener for Logs {
    async fn open(&self, call: SubCall) -> Result<SubReply, Problem> {
        let log = console_log(&call)?;
        let tail = call.number("tail");
        let (reader, length) = blocking(move || {
            let snapshot = Snapshot::take(&log)?;
            let from = tail.map_or(Ok(0), |lines| snapshot.last_lines(lines))?;
            let length = snapshot.length() - from;
            Ok((Reader::new(snapshot, from), length))
        })
        .await
        .map_err(|error| unreadable(&error))?;
        Ok(SubReply::Content(pieces(reader, length)))
    }
}

/// Where the VM's console is logged. Refused where it was never started.
pub(super) fn console_log(call: &SubCall) -> Result<PathBuf, Problem> {
    let vm: Object<Vm> =
        call.object.object().map_err(|e| Problem::new(ErrorCode::Internal, e.to_string()))?;
    let none = || {
        Problem::new(ErrorCode::Conflict, "it has said nothing: it was not started yet")
            .hint(format!("`agentctl vm start {}` starts it", vm.meta.name))
    };
    vm.status.console_log.clone().map(PathBuf::from).ok_or_else(none)
}

pub(super) fn unreadable(error: &std::io::Error) -> Problem {
    Problem::new(ErrorCode::Internal, format!("its console's log cannot be read: {error}"))
}

/// As much as there was when it was asked for: a guest that goes on talking does not make it endless.
fn pieces(reader: Reader, length: u64) -> Pieces {
    futures_util::stream::unfold((Some(reader), length), |(reader, left)| async move {
        let mut reader = reader.filter(|_| left > 0)?;
        let most = usize::try_from(left).map_or(PIECE, |left| left.min(PIECE));
        let read = blocking(move || {
            let mut buffer = vec![0; most];
            let piece = reader.read(&mut buffer)?;
            Ok((reader, piece, buffer))
        });
        match read.await {
            Ok((reader, Piece::Data(read), mut buffer)) => {
                buffer.truncate(read);
                Some((Ok(Bytes::from(buffer)), (Some(reader), left - read as u64)))
            }
            Ok((_, Piece::Gap | Piece::Nothing, _)) => None,
            Err(error) => Some((Err(error), (None, 0))),
        }
    })
    .boxed()
}

/// Runs what blocks on a thread for that.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other)?
}
