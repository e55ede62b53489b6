//! What arrives for an image before it is one: `incoming/<image id>/`, kept until it is discarded.
//!
//! `upload` is a whole upload; it appears by a rename. `pull-<digest>.part` is a download as far as it got, which the
//! next try goes on with; `pull-<digest>` is one whose digest was found right. `work` is scratch space of a conversion
//! or a build, emptied whenever one begins. What only passes through is in a file beside these that has no name.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use agentd_api::image::UploadSource;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use uuid::Uuid;

use super::run::{broken, files};
use super::store::{ensure_folder, gone, names_in, sync};
use crate::image::ImageError;

pub(super) const UPLOAD: &str = "upload";
/// One that is under way, or was cut off.
const PART: &str = "upload.part";
const STEP: &str = "receiving the upload";

/// Writes an upload. It has its name only when all of it came and is on the disk; a shorter one leaves an earlier
/// upload as it was, and of a longer one no more than a piece too much is ever written.
pub(super) async fn receive(
    folder: &Path,
    source: &UploadSource,
    from: &mut (dyn AsyncRead + Send + Unpin),
) -> Result<u64, ImageError> {
    let part = folder.join(PART);
    let outcome = write_part(folder, &part, source, from).await;
    if outcome.is_err() {
        // What is wrong has been said already; the next upload overwrites what cannot be removed now.
        let _ = tokio::fs::remove_file(&part).await;
    }
    outcome
}

async fn write_part(
    folder: &Path,
    part: &Path,
    source: &UploadSource,
    from: &mut (dyn AsyncRead + Send + Unpin),
) -> Result<u64, ImageError> {
    let io = |error: io::Error| broken(STEP, &error);
    let made = folder.to_owned();
    files(STEP, move || ensure_folder(&made)).await?;
    let mut file = tokio::fs::File::create(part).await.map_err(io)?;
    let (mut received, mut piece) = (0u64, vec![0u8; 256 << 10]);
    loop {
        let n = from.read(&mut piece).await.map_err(io)?;
        received += n as u64;
        if received > source.size {
            let size = source.size;
            return Err(ImageError::Refused(format!("more came than the {size} bytes that were announced")));
        }
        if n == 0 {
            break;
        }
        file.write_all(&piece[..n]).await.map_err(io)?;
    }
    file.flush().await.map_err(io)?;
    if received < source.size {
        return Err(ImageError::Incomplete { received, expected: source.size });
    }
    let (part, whole, folder) = (part.to_owned(), folder.join(UPLOAD), folder.to_owned());
    files(STEP, move || {
        sync(&part)?;
        std::fs::rename(&part, &whole)?;
        sync(&folder)
    })
    .await?;
    Ok(received)
}

/// How many bytes there are of an upload or, where there is none, of a download.
pub(super) fn received(folder: &Path) -> io::Result<u64> {
    let mut most = 0;
    for name in names_in(folder)? {
        let length = || std::fs::metadata(folder.join(&name)).map(|m| m.len());
        if name == UPLOAD {
            return length();
        }
        if name.starts_with("pull-") {
            most = most.max(length()?);
        }
    }
    Ok(most)
}

/// Removes what came of an upload that nobody sends any more.
pub(super) fn discard_part(folder: &Path) -> io::Result<()> {
    gone(std::fs::remove_file(folder.join(PART)))
}

pub(super) fn discard(folder: &Path) -> io::Result<()> {
    gone(std::fs::remove_dir_all(folder))
}

pub(super) fn list(incoming: &Path) -> io::Result<Vec<Uuid>> {
    Ok(names_in(incoming)?.iter().filter_map(|name| name.parse().ok()).collect())
}

/// A file that has no name: what is in it goes with the last who has it open, and so with this process.
pub(super) fn nameless(incoming: &Path) -> io::Result<File> {
    ensure_folder(incoming)?;
    tempfile::tempfile_in(incoming)
}

/// Where a download with that digest lies: as far as it got, and once it is whole.
pub(super) fn pull_paths(folder: &Path, sha256: &str) -> (PathBuf, PathBuf) {
    (folder.join(format!("pull-{sha256}.part")), folder.join(format!("pull-{sha256}")))
}
