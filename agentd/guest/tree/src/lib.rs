//! Trees of files as tar archives, both ways: what `agentctl vm cp` and the program in a guest do alike.
//!
//! An archive comes from the other side and is believed nothing. [`unpack`] writes below its target and nowhere else,
//! whatever names and links the archive holds: each name is opened from the folder above it, and no link is followed. What
//! is not finished never bears its final name: it is made under another and renamed, and removed where it failed.

mod pack;
mod tar;
mod target;
#[cfg(test)]
mod tests;
mod unpack;

pub use pack::{Packed, Taken, pack, pack_below};
pub use unpack::{Rules, Unpacked, unpack};

use std::path::PathBuf;
use std::{fmt, io};

/// Its text is the whole of it. Written out by hand: a derive would be most of what the guest's program costs to build.
#[derive(Debug)]
pub enum TreeError {
    /// What was asked for is wrong in itself.
    Refused(String),
    Missing(PathBuf),
    /// The archive is none, ends too soon, or holds what may not be in one.
    Archive(String),
    /// The other side says that it could not go on.
    Told(String),
    Io {
        what: String,
        source: io::Error,
    },
}

impl fmt::Display for TreeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(why) | Self::Told(why) => f.write_str(why),
            Self::Missing(path) => write!(f, "there is no {}", path.display()),
            Self::Archive(why) => write!(f, "the archive {why}"),
            Self::Io { what, source } => write!(f, "{what}: {source}"),
        }
    }
}

impl std::error::Error for TreeError {}

impl TreeError {
    pub(crate) fn io(what: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Io { what: what.into(), source: source.into() }
    }
}
