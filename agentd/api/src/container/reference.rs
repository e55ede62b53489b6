//! How a container names its image: an `image` object of its project, or what the host's engine calls one that it has.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::name::ObjectName;
use crate::schema::text_schema;

const REFERENCE_MAX: usize = 255;

/// `debian-12`, `localhost/tool:1.2`, `sha256:...`: as engines write them. Which of the two it is shows when it is resolved:
/// an object of that name comes first.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageRef(String);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' names no image; write the name of one, or NAME:TAG as the engine has it")]
pub struct ImageRefError(String);

impl ImageRef {
    pub fn as_str(&self) -> &str {
        &self.0
    }
    /// The object that it may be, where it has the shape of an object's name.
    pub fn object(&self) -> Option<ObjectName> {
        ObjectName::parse(&self.0).ok()
    }
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ImageRef {
    type Err = ImageRefError;

    fn from_str(text: &str) -> Result<Self, ImageRefError> {
        let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'/' | b':' | b'@' | b'-');
        let end = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
        let bytes = text.as_bytes();
        let shaped = end(bytes.first())
            && end(bytes.last())
            && bytes.iter().all(|b| inner(*b))
            && !["..", "//", ":/", "/:", "::"].iter().any(|bad| text.contains(bad));
        if shaped && text.len() <= REFERENCE_MAX {
            Ok(Self(text.to_owned()))
        } else {
            Err(ImageRefError(text.chars().take(64).collect()))
        }
    }
}

impl Serialize for ImageRef {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for ImageRef {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

text_schema!(ImageRef, "^[A-Za-z0-9]([A-Za-z0-9_-]{0,60}[A-Za-z0-9])?(:[a-z0-9]{1,20})?$");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_references_read_and_nothing_else_does() {
        for good in ["web", "debian-12", "busybox:1.36", "localhost:5000/a/b:tag", "a@sha256:00ff"] {
            assert_eq!(good.parse::<ImageRef>().map(|r| r.to_string()), Ok(good.to_owned()));
        }
        for bad in ["", "-a", "a:", "/etc", "../a", "a/../b", "a b", "a\0b", "a//b", &"a".repeat(256)] {
            assert!(bad.parse::<ImageRef>().is_err(), "{bad:?}");
        }
        let named = |text: &str| text.parse::<ImageRef>().expect("a reference").object();
        assert!(named("debian-12").is_some() && named("busybox:1").is_none());
    }
}
