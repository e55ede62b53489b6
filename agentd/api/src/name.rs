//! Names of objects and labels, checked where they are parsed, so that nothing past the parser sees a bad one.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};
use smol_str::SmolStr;

use crate::schema::text_schema;

/// The longest name, in bytes. A DNS label: every object's name can be a host name.
pub const NAME_MAX: usize = 63;
/// The project of an object whose request names none.
pub const DEFAULT_PROJECT: &str = "default";

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("is empty")]
    Empty,
    #[error("is {0} characters long; at most {NAME_MAX} are allowed")]
    TooLong(usize),
    #[error("must be of lower-case letters, digits and '-', begin with a letter or digit and end with one")]
    Shape,
    #[error("must be of letters, digits, '-', '_', '.' and '/', begin and end with a letter or digit")]
    LabelShape,
}

/// The name of an object: a DNS label (RFC 1123), 1 to 63 of `a-z 0-9 -`, no hyphen at either end. A name of up to 23
/// characters has no memory of its own, and a copy of a longer one shares it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct ObjectName(SmolStr);

impl ObjectName {
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let bytes = text.as_bytes();
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        match (bytes.first(), bytes.last()) {
            (Some(first), Some(last)) => {
                let length = text.chars().count();
                if length > NAME_MAX {
                    return Err(NameError::TooLong(length));
                }
                let shaped = inner(*first) && inner(*last) && bytes.iter().all(|b| inner(*b) || *b == b'-');
                if shaped { Ok(Self(text.into())) } else { Err(NameError::Shape) }
            }
            _ => Err(NameError::Empty),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The key of a label: `a-z A-Z 0-9 - _ . /`, 1 to 63 characters, a letter or digit at both ends.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct LabelKey(String);

/// The value of a label: as a key, or empty.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize)]
pub struct LabelValue(String);

fn label_text(text: &str) -> Result<String, NameError> {
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return Err(NameError::Empty);
    };
    if text.chars().count() > NAME_MAX {
        return Err(NameError::TooLong(text.chars().count()));
    }
    let ends = first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric();
    let inner = bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/'));
    if ends && inner { Ok(text.to_owned()) } else { Err(NameError::LabelShape) }
}

impl LabelKey {
    pub fn parse(text: &str) -> Result<Self, NameError> {
        label_text(text).map(Self)
    }
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl LabelValue {
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if text.is_empty() { Ok(Self::default()) } else { label_text(text).map(Self) }
    }
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

macro_rules! text_type {
    ($type:ident) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl FromStr for $type {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::parse(text)
            }
        }
        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
        impl Borrow<str> for $type {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = String::deserialize(from)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}
text_type!(ObjectName);
text_type!(LabelKey);
text_type!(LabelValue);

text_schema!(ObjectName, "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$");
text_schema!(LabelKey, "^[A-Za-z0-9]([A-Za-z0-9_./-]{0,61}[A-Za-z0-9])?$");
text_schema!(LabelValue, "^([A-Za-z0-9]([A-Za-z0-9_./-]{0,61}[A-Za-z0-9])?)?$");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dns_labels() {
        for good in ["a", "web", "web-1", "0x", &"a".repeat(63)] {
            assert_eq!(ObjectName::parse(good).map(|n| n.to_string()), Ok(good.to_owned()));
        }
        for bad in ["-a", "a-", "A", "a_b", "../x", "a/b", "a b", "é", "a\0b", "<a>", "a.b"] {
            assert_eq!(ObjectName::parse(bad), Err(NameError::Shape), "{bad:?}");
        }
        assert_eq!(ObjectName::parse(""), Err(NameError::Empty));
        assert_eq!(ObjectName::parse(&"a".repeat(64)), Err(NameError::TooLong(64)));
    }

    #[test]
    fn labels_may_be_prefixed_and_values_empty() {
        assert!(LabelKey::parse("example.com/tier").is_ok());
        assert!(LabelValue::parse("").is_ok());
        for bad in ["", "/a", "a/", "a b", "a=b", "a,b", "a!"] {
            assert!(LabelKey::parse(bad).is_err(), "{bad:?}");
        }
    }
}
