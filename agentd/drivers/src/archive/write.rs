//! Writes an archive as it is asked for, piece by piece: files are read as they are sent, and none is held in memory.

use std::io;
use std::path::PathBuf;

use futures_util::stream::BoxStream;
use futures_util::{StreamExt, stream};
use sha2::{Digest, Sha256};
use tokio::fs::File;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::format::{ARCHIVE_SUM, END, MANIFEST, MANIFEST_SUM, header, padding, sum_text};
use super::manifest::Manifest;

const PIECE: usize = 256 << 10;

/// The bytes of an archive. An error cuts them short: what was sent is then no archive.
pub type Pieces = BoxStream<'static, io::Result<Vec<u8>>>;

/// Where the bytes of a file are.
#[derive(Debug, Clone)]
pub enum Content {
    File(PathBuf),
    #[cfg(any(test, feature = "fake"))]
    Bytes(Vec<u8>),
}

enum Part {
    Bytes(Vec<u8>),
    /// A file that was opened, of which so much is still to come.
    Open(Box<dyn AsyncRead + Send + Unpin>, u64),
    File(Content, u64),
    Sum,
}

struct Writing {
    parts: std::collections::VecDeque<Part>,
    whole: Sha256,
}

/// The archive of these contents, which are those that the manifest names, in its order.
pub fn pieces(manifest: &Manifest, contents: Vec<Content>) -> io::Result<Pieces> {
    let text = serde_json::to_vec_pretty(manifest).map_err(io::Error::other)?;
    let sum = sum_text(&hex::encode(Sha256::digest(&text)));
    let mut parts = std::collections::VecDeque::new();
    for (name, bytes) in [(MANIFEST, text), (MANIFEST_SUM, sum.into_bytes())] {
        let size = bytes.len() as u64;
        parts.push_back(Part::Bytes(header(name, size).to_vec()));
        parts.push_back(Part::Bytes(bytes));
        parts.push_back(Part::Bytes(vec![0; padding(size)]));
    }
    for (entry, content) in manifest.files.iter().zip(contents) {
        parts.push_back(Part::Bytes(header(&entry.name, entry.size).to_vec()));
        parts.push_back(Part::File(content, entry.size));
        parts.push_back(Part::Bytes(vec![0; padding(entry.size)]));
    }
    parts.push_back(Part::Sum);
    let writing = Writing { parts, whole: Sha256::new() };
    Ok(stream::unfold(Some(writing), |writing| async move {
        let mut writing = writing?;
        match writing.next().await {
            Ok(Some(piece)) => Some((Ok(piece), Some(writing))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed())
}

impl Writing {
    async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        while let Some(part) = self.parts.pop_front() {
            let piece = match part {
                Part::Bytes(bytes) => bytes,
                Part::File(Content::File(path), size) => {
                    self.parts.push_front(Part::Open(Box::new(File::open(path).await?), size));
                    continue;
                }
                #[cfg(any(test, feature = "fake"))]
                Part::File(Content::Bytes(bytes), size) => {
                    self.parts.push_front(Part::Open(Box::new(io::Cursor::new(bytes)), size));
                    continue;
                }
                Part::Open(_, 0) => continue,
                Part::Open(mut file, left) => {
                    let most = usize::try_from(left).map_or(PIECE, |left| left.min(PIECE));
                    let mut piece = vec![0; most];
                    let read = file.read(&mut piece).await?;
                    if read == 0 {
                        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a file became shorter"));
                    }
                    piece.truncate(read);
                    self.parts.push_front(Part::Open(file, left - read as u64));
                    piece
                }
                Part::Sum => {
                    let text = sum_text(&hex::encode(self.whole.clone().finalize()));
                    let size = text.len() as u64;
                    let mut last = header(ARCHIVE_SUM, size).to_vec();
                    last.extend(text.as_bytes());
                    last.extend(std::iter::repeat_n(0, padding(size)));
                    last.extend(END);
                    return Ok(Some(last));
                }
            };
            if !piece.is_empty() {
                self.whole.update(&piece);
                return Ok(Some(piece));
            }
        }
        Ok(None)
    }
}
