//! An image as an archive of OCI's layout. The engine packs one of Docker's, of which what comes last may be needed first: it
//! is written into a file without a name, and what leaves here is read from that. The file goes with whoever reads it.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::io::AsyncWriteExt;

use super::DockerImages;
use super::pieces::pieces;
use crate::engine::EngineError;
use crate::engine::wire::Content;
use crate::image::ImageError;
use crate::image::container::SavedPieces;
use crate::image::container::archive::repack;
use crate::image::host::HostImage;
use crate::image::host::run::{blocking, broken};

const CALL: &str = "save an image";
const STEP: &str = "keeping what the engine packs";
const BUFFER: usize = 256 << 10;

impl DockerImages {
    /// As the engine packs it.
    pub(super) async fn packed(&self, id: &str) -> Result<Content, EngineError> {
        // The engine answers once it has put the archive together.
        self.wire().await?.get(CALL, &format!("/images/{id}/get")).await
    }

    pub(super) async fn save_oci(&self, id: &str, name: &str) -> Result<SavedPieces, ImageError> {
        repacked(&self.host, self.packed(id).await?, name).await
    }
}

/// The archive that comes, in OCI's layout, once all of it has come.
async fn repacked(
    host: &HostImage,
    from: impl Stream<Item = io::Result<Bytes>> + Unpin,
    name: &str,
) -> Result<SavedPieces, ImageError> {
    let kept = Arc::new(keep(host, from).await?);
    let (looked_at, name) = (kept.clone(), name.to_owned());
    let made = blocking("looking at what the engine packed", move || repack(&|| open(&looked_at), &name));
    let made = made.await.map_err(of_engine)?;
    Ok(pieces(move |out| {
        let written = made.write(&|| open(&kept), out);
        written.inspect_err(|error| {
            if error.kind() != io::ErrorKind::BrokenPipe {
                tracing::warn!("an archive of an image is cut short: {error}");
            }
        })
    })
    .boxed())
}

/// All that comes, in a file without a name.
async fn keep(
    host: &HostImage,
    mut from: impl Stream<Item = io::Result<Bytes>> + Unpin,
) -> Result<File, ImageError> {
    let mut file = tokio::fs::File::from_std(host.nameless().await?);
    while let Some(piece) = from.next().await {
        let piece = piece.map_err(|error| failed(error.to_string()))?;
        file.write_all(&piece).await.map_err(|error| broken(STEP, &error))?;
    }
    file.flush().await.map_err(|error| broken(STEP, &error))?;
    Ok(file.into_std().await)
}

fn failed(detail: String) -> ImageError {
    EngineError::Failed { call: CALL, detail }.into()
}

/// What is wrong with an archive of the engine's is nobody else's doing.
fn of_engine(error: ImageError) -> ImageError {
    match error {
        ImageError::Refused(why) => failed(why),
        other => other,
    }
}

fn open(file: &Arc<File>) -> io::Result<Box<dyn Read + Send>> {
    Ok(Box::new(BufReader::with_capacity(BUFFER, Whole { file: file.clone(), at: 0 })))
}

/// A file from its beginning, whoever else reads it.
struct Whole {
    file: Arc<File>,
    at: u64,
}

impl Read for Whole {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests;
