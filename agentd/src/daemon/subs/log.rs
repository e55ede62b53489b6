//! A VM's console log, for those that send it.

use std::io;
use std::path::PathBuf;

use agentd_api::vm::Vm;
use agentd_api::{ErrorCode, Object, Problem};
use agentd_drivers::console::{Piece, Reader};

use crate::http::SubCall;

/// As much as is read at a time.
const PIECE: usize = 32 << 10;

/// Where the VM's console is logged. Refused where it was never started.
pub fn console_log(call: &SubCall) -> Result<PathBuf, Problem> {
    let vm: Object<Vm> =
        call.object.object().map_err(|e| Problem::new(ErrorCode::Internal, e.to_string()))?;
    let none = || {
        Problem::new(ErrorCode::Conflict, "it has no console: it was not started yet")
            .hint(format!("`agentctl vm start {}` starts it", vm.meta.name))
    };
    vm.status.console_log.clone().map(PathBuf::from).ok_or_else(none)
}

pub fn unreadable(error: &io::Error) -> Problem {
    Problem::new(ErrorCode::Internal, format!("its console's log cannot be read: {error}"))
}

/// The next piece, of at most so many bytes.
pub async fn read_piece(mut reader: Reader, most: u64) -> io::Result<(Reader, (Piece, Vec<u8>))> {
    let most = usize::try_from(most).map_or(PIECE, |most| most.min(PIECE));
    blocking(move || {
        let mut buffer = vec![0; most];
        let piece = reader.read(&mut buffer)?;
        buffer.truncate(if let Piece::Data(read) = piece { read } else { 0 });
        Ok((reader, (piece, buffer)))
    })
    .await
}

/// Runs what blocks on a thread for that.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
