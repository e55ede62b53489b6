//! Reads an archive as it comes and believes nothing: what is not exactly as it should be is refused by its name.

use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::format::{
    ARCHIVE_SUM, BLOCK, END, MANIFEST, MANIFEST_MAX, MANIFEST_SUM, header, padding, size_in, sum_text,
};
use super::manifest::{Entry, Manifest};
use super::{ArchiveError, io_error};

const PIECE: usize = 256 << 10;
/// As `hex` and a new line.
const SUM: u64 = 65;

/// An archive on its way here.
pub type Incoming<'a> = &'a mut (dyn AsyncRead + Send + Unpin);

/// Reads in the order of the archive: the manifest, each of its files, the end.
pub struct ArchiveReader<'a> {
    from: Incoming<'a>,
    whole: Sha256,
    at: u64,
}

impl<'a> ArchiveReader<'a> {
    pub fn new(from: Incoming<'a>) -> Self {
        Self { from, whole: Sha256::new(), at: 0 }
    }

    /// The manifest, whole and of this version.
    pub async fn manifest(&mut self) -> Result<Manifest, ArchiveError> {
        let mut head = [0u8; BLOCK];
        self.fill(&mut head, MANIFEST).await?;
        let no_archive = || {
            ArchiveError::Refused("this is no archive of a VM, or its first bytes were altered".to_owned())
        };
        let size = size_in(&head, MANIFEST).filter(|size| *size <= MANIFEST_MAX).ok_or_else(no_archive)?;
        let mut text = vec![0u8; usize::try_from(size).map_err(|_| no_archive())?];
        self.fill(&mut text, MANIFEST).await?;
        self.padding(size, MANIFEST).await?;
        self.sum(MANIFEST_SUM, &hex::encode(Sha256::digest(&text)), MANIFEST).await?;
        let manifest: Manifest = serde_json::from_slice(&text).map_err(|error| {
            ArchiveError::Refused(format!("{MANIFEST} in the archive is not understood: {error}"))
        })?;
        manifest.check()?;
        Ok(manifest)
    }

    /// The next file, into `to`.
    pub async fn file(
        &mut self,
        entry: &Entry,
        to: &mut (dyn AsyncWrite + Send + Unpin),
    ) -> Result<(), ArchiveError> {
        let name = entry.name.as_str();
        self.head(name, entry.size).await?;
        let (mut left, mut hash, mut piece) = (entry.size, Sha256::new(), vec![0u8; PIECE]);
        while left > 0 {
            let most = usize::try_from(left).map_or(PIECE, |left| left.min(PIECE));
            let read = self.from.read(&mut piece[..most]).await.map_err(|e| self.broken(name, &e))?;
            if read == 0 {
                return Err(self.cut(name));
            }
            hash.update(&piece[..read]);
            self.count(&piece[..read]);
            to.write_all(&piece[..read]).await.map_err(|e| io_error("writing what came", &e))?;
            left -= read as u64;
        }
        to.flush().await.map_err(|e| io_error("writing what came", &e))?;
        self.padding(entry.size, name).await?;
        let seen = hex::encode(hash.finalize());
        if seen != entry.sha256 {
            let wanted = &entry.sha256;
            return Err(ArchiveError::Refused(format!(
                "{name} in the archive was altered: it has the SHA-256 {seen}, not {wanted}"
            )));
        }
        Ok(())
    }

    /// The checksum of all, and that nothing follows.
    pub async fn end(mut self) -> Result<(), ArchiveError> {
        let whole = hex::encode(self.whole.clone().finalize());
        self.sum(ARCHIVE_SUM, &whole, "the archive").await?;
        let mut end = END;
        self.fill(&mut end, "its end").await?;
        let more = self.from.read(&mut [0u8; 1]).await.map_err(|e| self.broken("its end", &e))?;
        if end != END || more > 0 {
            return Err(ArchiveError::Refused("the archive's end was altered".to_owned()));
        }
        Ok(())
    }

    /// A file with the checksum of `of`, which must be this.
    async fn sum(&mut self, name: &str, wanted: &str, of: &str) -> Result<(), ArchiveError> {
        self.head(name, SUM).await?;
        let mut text = [0u8; SUM as usize];
        self.fill(&mut text, name).await?;
        if text != sum_text(wanted).as_bytes() {
            return Err(ArchiveError::Refused(format!(
                "{of} was altered: it has the SHA-256 {wanted}, and {name} says otherwise"
            )));
        }
        self.padding(SUM, name).await
    }

    async fn head(&mut self, name: &str, size: u64) -> Result<(), ArchiveError> {
        let mut head = [0u8; BLOCK];
        self.fill(&mut head, name).await?;
        if head == header(name, size) {
            return Ok(());
        }
        Err(ArchiveError::Refused(format!(
            "the archive was altered where {name} begins, at byte {}",
            self.at
        )))
    }

    async fn padding(&mut self, size: u64, name: &str) -> Result<(), ArchiveError> {
        let mut rest = [0u8; BLOCK];
        let rest = &mut rest[..padding(size)];
        self.fill(rest, name).await?;
        if rest.iter().all(|byte| *byte == 0) {
            return Ok(());
        }
        Err(ArchiveError::Refused(format!("the archive was altered behind {name}, at byte {}", self.at)))
    }

    async fn fill(&mut self, bytes: &mut [u8], within: &str) -> Result<(), ArchiveError> {
        let mut filled = 0;
        while filled < bytes.len() {
            let read =
                self.from.read(&mut bytes[filled..]).await.map_err(|error| self.broken(within, &error))?;
            if read == 0 {
                self.at += filled as u64;
                return Err(self.cut(within));
            }
            filled += read;
        }
        self.count(bytes);
        Ok(())
    }

    fn count(&mut self, bytes: &[u8]) {
        self.whole.update(bytes);
        self.at += bytes.len() as u64;
    }

    fn cut(&self, within: &str) -> ArchiveError {
        ArchiveError::Refused(format!("the archive ends after {} bytes, within {within}", self.at))
    }

    fn broken(&self, within: &str, error: &std::io::Error) -> ArchiveError {
        let at = self.at;
        ArchiveError::Refused(format!("the archive broke off after {at} bytes, within {within}: {error}"))
    }
}
