//! What SQLite and the file system say, in the store's words.

use std::io;
use std::path::Path;

use rusqlite::ErrorCode;

use crate::error::{OpenError, StoreError};

pub(super) fn write_failed(file: &Path, error: &rusqlite::Error) -> StoreError {
    let (file, detail) = (file.to_owned(), error.to_string());
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StoreError::Full { file },
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => StoreError::ReadOnly { file },
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreError::Damaged { file, detail },
        _ => StoreError::Io { file, detail },
    }
}

/// `place` is what was being read.
pub(super) fn open_failed(file: &Path, place: &str, error: &rusqlite::Error) -> OpenError {
    let damaged =
        || OpenError::Damaged { file: file.to_owned(), place: place.to_owned(), what: error.to_string() };
    match error {
        // A value of another type than was written.
        rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::Utf8Error(..)
        | rusqlite::Error::QueryReturnedNoRows => damaged(),
        _ => match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => OpenError::Full { file: file.to_owned() },
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
                OpenError::ReadOnly { file: file.to_owned() }
            }
            // A schema that cannot be parsed, or that lacks a table, is damage too.
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::Unknown) => damaged(),
            _ => OpenError::Io { file: file.to_owned(), detail: error.to_string() },
        },
    }
}

pub(super) fn open_io(file: &Path, error: &io::Error) -> OpenError {
    let owned = file.to_owned();
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            OpenError::ReadOnly { file: owned }
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => OpenError::Full { file: owned },
        _ => OpenError::Io { file: owned, detail: error.to_string() },
    }
}
