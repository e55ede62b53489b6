//! What is written on a thread of its own, as the pieces that it comes in: a few at a time in memory.

use std::io;

use bytes::Bytes;
use futures_util::Stream;
use tokio::sync::mpsc;

/// How many wait to be taken at most.
const AHEAD: usize = 4;

/// The pieces that `write` gives, and its error as the last. Where nobody takes them any more, what it gives them to says so.
pub(super) fn pieces(
    write: impl FnOnce(&mut dyn FnMut(Vec<u8>) -> io::Result<()>) -> io::Result<()> + Send + 'static,
) -> impl Stream<Item = io::Result<Bytes>> {
    let (to, from) = mpsc::channel::<io::Result<Bytes>>(AHEAD);
    tokio::task::spawn_blocking(move || {
        let mut out = |piece: Vec<u8>| {
            to.blocking_send(Ok(Bytes::from(piece))).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
        };
        if let Err(error) = write(&mut out) {
            let _ = to.blocking_send(Err(error));
        }
    });
    futures_util::stream::unfold(from, |mut from| async move { Some((from.recv().await?, from)) })
}
