//! A backup: one line of JSON that says what follows, then a store's file. It has every object, allocation and event
//! as they were at one revision, and no content: no disk, no image, no volume.
//!
//! The checksum is over the line, with no checksum in it, and all that follows: neither can be altered unseen.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::Timestamp;

pub const FORMAT: &str = "agentd-backup";
/// Of the format, not of the store in it.
pub const VERSION: u32 = 1;
/// No line is as long as this.
pub const LINE_MAX: usize = 4096;

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// `agentd-backup`
    pub format: String,
    pub version: u32,
    /// Of the store that follows.
    pub schema: u32,
    pub revision: u64,
    pub objects: u64,
    /// Length of the store's file, which is all that follows this line.
    pub bytes: u64,
    /// The version of the agentd that made it.
    pub agentd: String,
    pub created_at: Timestamp,
    /// In hexadecimal, over this line with an empty `sha256` and the store's file.
    pub sha256: String,
}

/// What can be known of a line before its version is known to be one that can be read.
#[derive(Deserialize)]
struct Opening {
    format: String,
    version: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    #[error("it does not begin as a backup of agentd's")]
    Foreign,
    #[error(
        "it is of format {version}, and this agentd knows {VERSION}; use the agentd that made it, or a later one"
    )]
    Newer { version: u32 },
    #[error("its first line is not as it was written")]
    Altered,
}

impl Header {
    /// As it stands in the file.
    pub fn line(&self) -> Vec<u8> {
        let mut line = serde_json::to_vec(self).expect("numbers and texts are JSON");
        line.push(b'\n');
        line
    }

    /// What the checksum is taken over before all that follows.
    pub fn covered(&self) -> Vec<u8> {
        Self { sha256: String::new(), ..self.clone() }.line()
    }

    /// Reads a line, with or without its end.
    pub fn parse(line: &[u8]) -> Result<Self, HeaderError> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let opening: Opening = serde_json::from_slice(line).map_err(|_| HeaderError::Foreign)?;
        if opening.format != FORMAT {
            return Err(HeaderError::Foreign);
        }
        if opening.version > VERSION {
            return Err(HeaderError::Newer { version: opening.version });
        }
        let header: Self = serde_json::from_slice(line).map_err(|_| HeaderError::Altered)?;
        let written = header.line();
        (written.strip_suffix(b"\n") == Some(line)).then_some(header).ok_or(HeaderError::Altered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            format: FORMAT.to_owned(),
            version: VERSION,
            schema: 2,
            revision: 412,
            objects: 12,
            bytes: 65_536,
            agentd: "0.1.0".to_owned(),
            created_at: "2026-01-02T03:04:05Z".parse().expect("a time"),
            sha256: "ab".repeat(32),
        }
    }

    #[test]
    fn a_line_is_read_back_as_it_was_written_and_in_no_other_way() {
        let line = header().line();
        assert_eq!(Header::parse(&line), Ok(header()));
        assert!(line.len() < LINE_MAX);
        let text = String::from_utf8(line).expect("text");
        let spaced = text.replacen(':', ": ", 1);
        assert_eq!(Header::parse(spaced.as_bytes()), Err(HeaderError::Altered));
        let more = text.replacen('{', "{\"more\":1,", 1);
        assert_eq!(Header::parse(more.as_bytes()), Err(HeaderError::Altered));
        assert_eq!(Header::parse(&text.as_bytes()[..40]), Err(HeaderError::Foreign));
        assert_eq!(Header::parse(b"SQLite format 3\0"), Err(HeaderError::Foreign));
    }

    #[test]
    fn one_of_a_later_format_says_what_to_do() {
        let later = r#"{"format":"agentd-backup","version":2,"sealed":true}"#;
        let error = Header::parse(later.as_bytes()).expect_err("it is not known");
        assert_eq!(error, HeaderError::Newer { version: 2 });
        assert!(error.to_string().contains("use the agentd that made it"), "{error}");
    }
}
