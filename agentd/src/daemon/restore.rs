//! `agentd restore FILE`: a backup becomes the store of a state directory that has none.
//!
//! ```text
//!   FILE --read whole: header, length, checksum, schema--> copied beside the place --opened, every row read-->
//!        moved into the place --> what it has no content of is named
//! ```
//! Nothing is written before the file was found whole, and what was written goes where it fails. The place is locked
//! meanwhile: no daemon runs on it, and none begins there.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use agentd_api::backup::{Header, HeaderError, LINE_MAX};
use agentd_drivers::Instance;
use agentd_store::{OpenError, Options, RestoreError, SCHEMA, Store, StoreError, Vacancy};

use super::backups::{Scratch, checksum};
use super::{lacking, state_dir};
use crate::reconcile::note_shipped_flavors;

/// Below the state directory, while the copy is looked through.
const FOLDER: &str = "restore-under-way";

#[derive(Debug, thiserror::Error)]
pub enum BackupFileError {
    #[error("{} cannot be read", .file.display())]
    Read { file: PathBuf, source: io::Error },
    #[error("{} is no backup that can be restored", .file.display())]
    Header { file: PathBuf, source: HeaderError },
    #[error("{} has {is} bytes of a store where {wanted} were written: it was cut off, or something was added", .file.display())]
    Length { file: PathBuf, is: u64, wanted: u64 },
    #[error("{} is not as it was written: its content does not have its checksum", .file.display())]
    Altered { file: PathBuf },
    #[error(
        "{} was made by a newer agentd, {agentd} (schema {is}, this one knows {SCHEMA}): restore it with that one, or a \
         later one", .file.display()
    )]
    Newer { file: PathBuf, agentd: String, is: u32 },
    #[error("the store in {} is not what its first line says: {what}", .file.display())]
    Unlike { file: PathBuf, what: String },
    #[error("the copy of its store cannot be written")]
    Copy(#[source] io::Error),
    #[error("the store in it cannot be opened")]
    Open(#[source] OpenError),
    #[error("the store in it cannot be closed")]
    Close(#[source] StoreError),
    #[error(transparent)]
    Place(#[from] RestoreError),
}

/// What was restored.
pub struct Restored {
    pub file: PathBuf,
    pub header: Header,
    /// What a person has to know: one line each.
    pub lacking: Vec<String>,
}

/// Puts the backup into the state directory. Its work on files blocks: nothing else runs beside it.
pub async fn restore(backup: &Path, wanted: &Path) -> anyhow::Result<Restored> {
    let header = look_through(backup)?;
    let state_dir = state_dir::prepare(wanted)?;
    let database = state_dir.join("agentd.db");
    let vacancy = Vacancy::take(&database).map_err(BackupFileError::from)?;
    let scratch = scratch(&state_dir).map_err(BackupFileError::Copy)?;
    let copy = scratch.0.join("agentd.db");
    copy_content(backup, &header, &copy)?;
    let lacking = open_once(backup, &header, (&copy, &state_dir)).await?;
    note_shipped_flavors(&state_dir)?;
    vacancy.fill(&copy).map_err(BackupFileError::from)?;
    Ok(Restored { file: database, header, lacking })
}

/// The place is locked: what is there was left by one that was killed.
fn scratch(state_dir: &Path) -> io::Result<Scratch> {
    let folder = state_dir.join(FOLDER);
    match std::fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Scratch::new(folder),
    }
}

fn unread(file: &Path) -> impl Fn(io::Error) -> BackupFileError {
    move |source| BackupFileError::Read { file: file.to_owned(), source }
}

/// The header, and the file behind it.
fn open(file: &Path) -> Result<(Header, BufReader<File>), BackupFileError> {
    let mut reader = BufReader::new(File::open(file).map_err(unread(file))?);
    let mut line = Vec::new();
    reader.by_ref().take(LINE_MAX as u64).read_until(b'\n', &mut line).map_err(unread(file))?;
    let header =
        Header::parse(&line).map_err(|source| BackupFileError::Header { file: file.to_owned(), source })?;
    if line.last() != Some(&b'\n') {
        return Err(BackupFileError::Length { file: file.to_owned(), is: 0, wanted: header.bytes });
    }
    Ok((header, reader))
}

/// Whether it is whole and can be understood. Writes nothing.
fn look_through(file: &Path) -> Result<Header, BackupFileError> {
    let owned = || file.to_owned();
    let (header, mut content) = open(file)?;
    let all = content.get_ref().metadata().map_err(unread(file))?.len();
    let is = all.saturating_sub(header.line().len() as u64);
    if is != header.bytes {
        return Err(BackupFileError::Length { file: owned(), is, wanted: header.bytes });
    }
    if checksum(&header, &mut content).map_err(unread(file))? != header.sha256 {
        return Err(BackupFileError::Altered { file: owned() });
    }
    if header.schema > SCHEMA {
        return Err(BackupFileError::Newer { file: owned(), agentd: header.agentd, is: header.schema });
    }
    Ok(header)
}

fn copy_content(from: &Path, header: &Header, to: &Path) -> Result<(), BackupFileError> {
    /// Takes its checksum of what it hands on.
    struct Tee<'a>(BufReader<File>, &'a mut File, Option<io::Error>);
    impl Read for Tee<'_> {
        fn read(&mut self, piece: &mut [u8]) -> io::Result<usize> {
            let read = self.0.read(piece)?;
            if let Err(error) = self.1.write_all(&piece[..read]) {
                self.2 = Some(error);
                return Ok(0);
            }
            Ok(read)
        }
    }
    let (again, content) = open(from)?;
    let copied = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to);
    let mut copy = copied.map_err(BackupFileError::Copy)?;
    let mut tee = Tee(content, &mut copy, None);
    let sum = checksum(&again, &mut tee).map_err(unread(from))?;
    if let Some(error) = tee.2 {
        return Err(BackupFileError::Copy(error));
    }
    // It may have been written to since it was looked through.
    if again != *header || sum != header.sha256 {
        return Err(BackupFileError::Altered { file: from.to_owned() });
    }
    copy.sync_all().map_err(BackupFileError::Copy)
}

/// Reads every row against its checksum, brings the schema up, and says what is named in it and not on this host.
async fn open_once(
    backup: &Path,
    header: &Header,
    (copy, state_dir): (&Path, &Path),
) -> anyhow::Result<Vec<String>> {
    let store =
        state_dir::privately(|| Store::open(copy, Options::default())).map_err(BackupFileError::Open)?;
    let stats = store.stats();
    let lacking = lacking::lines(&store, &Instance::new(state_dir));
    store.close().await.map_err(BackupFileError::Close)?;
    let found = (stats.revision, stats.objects as u64);
    if found != (header.revision, header.objects) {
        let what = format!("{} objects at revision {}", found.1, found.0);
        return Err(BackupFileError::Unlike { file: backup.to_owned(), what }.into());
    }
    Ok(lacking)
}
