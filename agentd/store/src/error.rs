//! What can go wrong with the store as a whole. What a transaction may be told about its own wish is
//! [`crate::TxError`]; that a watcher came too late is [`crate::Compacted`].

use std::path::PathBuf;

/// Why a write was not acknowledged. Nothing of it is visible to anyone, and the store goes on serving reads.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    #[error("no space is left on the disk of {}; nothing was written, and writing goes on once there is", .file.display())]
    Full { file: PathBuf },
    #[error("{} cannot be written to; nothing was changed", .file.display())]
    ReadOnly { file: PathBuf },
    #[error("{} is damaged ({detail}); nothing was written. Stop agentd and restore it from a backup", .file.display())]
    Damaged { file: PathBuf, detail: String },
    #[error("writing {} failed: {detail}; nothing was changed", .file.display())]
    Io { file: PathBuf, detail: String },
    #[error("the store is closed")]
    Closed,
    /// The transaction's own code panicked. It alone was rolled back.
    #[error("a transaction panicked and was rolled back: {detail}")]
    Panicked { detail: String },
}

/// Why a store was not opened. No file was changed or deleted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    #[error("{} is in use by another agentd{}; give this one a --state-dir of its own", .file.display(), by(*.holder))]
    Locked { file: PathBuf, holder: Option<u32> },
    #[error("{} cannot be written to; agentd needs a state directory that it may write", .file.display())]
    ReadOnly { file: PathBuf },
    #[error("no space is left on the disk of {}; free some and start agentd again", .file.display())]
    Full { file: PathBuf },
    #[error(
        "{f} was written by a newer agentd (schema {is}, this one knows {known}) and was left as it is. Start that \
         agentd again; or, to go back to this one and to what was there before, put the copy {f}.v{known}.bak, which \
         was kept when it was migrated, in its place, and remove {f}-wal and {f}.mark",
        f = .file.display()
    )]
    Newer { file: PathBuf, is: i64, known: i64 },
    #[error("{} is a database, but not one of agentd's; it was left as it is", .file.display())]
    Foreign { file: PathBuf },
    /// `place` names the table and the row, or the part of the file.
    #[error(
        "{f} is damaged, {place}: {what}. Nothing was changed or deleted. Keep a copy, then restore {f} \
         from a backup and remove {f}-wal and {f}.mark, which belong to the damaged file",
        f = .file.display()
    )]
    Damaged { file: PathBuf, place: String, what: String },
    #[error("{}: {detail}", .file.display())]
    Io { file: PathBuf, detail: String },
}

fn by(holder: Option<u32>) -> String {
    holder.map(|pid| format!(" (process {pid})")).unwrap_or_default()
}

/// How a transaction ended that did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Transact<E> {
    /// Its closure said no.
    #[error("{0}")]
    Refused(E),
    /// It could not be made durable.
    #[error(transparent)]
    Failed(StoreError),
}

/// An object whose stored form is not one of the kind it was asked as.
#[derive(Debug, thiserror::Error)]
#[error("{key} cannot be read as what this agentd knows of its kind: {detail}")]
pub struct DecodeError {
    pub key: agentd_api::ObjectKey,
    pub detail: String,
}
