//! Sizes in bytes and spans of time, as people write them.
//!
//! A value keeps its number and writes itself in one canonical way, so that what was sent as "1024MiB" is answered as
//! "1GiB" and two equal sizes are equal on the wire.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::schema::text_schema;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    #[error(
        "'{0}' is not a size; write a number and a unit: B, KiB, MiB, GiB, TiB (or KB, MB, GB, TB), as in \"1GiB\""
    )]
    Size(String),
    #[error("'{0}' is larger than can be counted in bytes")]
    SizeOverflow(String),
    #[error("'{0}' is not a duration; write a number and a unit: ms, s, m, h, d, as in \"30s\" or \"1h30m\"")]
    Span(String),
    #[error("'{0}' is longer than a hundred years")]
    SpanOverflow(String),
}

const UNITS: [(&str, u64); 5] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// A number of bytes. Reads "1GiB", "512 MiB", "1GB" (decimal), "1G" (binary, as QEMU and Incus take it), "1.5GiB"
/// and a bare number of bytes; writes the largest binary unit that divides it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct ByteSize(pub u64);

impl ByteSize {
    pub const fn kib(n: u64) -> Self {
        Self(n << 10)
    }
    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }
    pub const fn gib(n: u64) -> Self {
        Self(n << 30)
    }
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0B");
        }
        for (unit, bytes) in UNITS {
            if self.0.is_multiple_of(bytes) {
                return write!(f, "{}{unit}", self.0 / bytes);
            }
        }
        unreachable!("every number of bytes is a whole number of bytes")
    }
}

impl FromStr for ByteSize {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let bad = || QuantityError::Size(text.to_owned());
        let trimmed = text.trim();
        let digits = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
        let (number, unit) = (&trimmed[..digits], trimmed[digits..].trim_start());
        let factor: u64 = match unit {
            "" | "B" => 1,
            "K" | "KiB" | "k" => 1 << 10,
            "M" | "MiB" => 1 << 20,
            "G" | "GiB" => 1 << 30,
            "T" | "TiB" => 1 << 40,
            "KB" | "kB" => 1000,
            "MB" => 1_000_000,
            "GB" => 1_000_000_000,
            "TB" => 1_000_000_000_000,
            _ => return Err(bad()),
        };
        let over = || QuantityError::SizeOverflow(text.to_owned());
        match number.split_once('.') {
            None => {
                let whole: u64 =
                    number.parse().map_err(|_| if number.is_empty() { bad() } else { over() })?;
                whole.checked_mul(factor).map(Self).ok_or_else(over)
            }
            Some((whole, part)) => {
                let digit = |s: &str| !s.is_empty() && s.len() <= 9 && s.bytes().all(|b| b.is_ascii_digit());
                if !digit(part) || !digit(whole) || factor == 1 {
                    return Err(bad());
                }
                let scale = 10u128.pow(part.len() as u32);
                let all: u128 = format!("{whole}{part}").parse().map_err(|_| bad())?;
                u64::try_from(all * u128::from(factor) / scale).map(Self).map_err(|_| over())
            }
        }
    }
}

impl Serialize for ByteSize {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A span of time, to the millisecond. Reads and writes "500ms", "30s", "1h 30m", "2days" (spaces optional).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Span(pub Duration);

impl Span {
    pub const fn seconds(n: u64) -> Self {
        Self(Duration::from_secs(n))
    }
    pub const fn duration(self) -> Duration {
        self.0
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = humantime::format_duration(self.0).to_string();
        f.write_str(&text.replace(' ', ""))
    }
}

impl FromStr for Span {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        let span = humantime::parse_duration(text).map_err(|_| QuantityError::Span(text.to_owned()))?;
        if span > Duration::from_secs(100 * 366 * 86_400) {
            return Err(QuantityError::SpanOverflow(text.to_owned()));
        }
        Ok(Self(Duration::from_millis(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))))
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

text_schema!(ByteSize, "^[0-9]{1,20}([.][0-9]{1,9})? ?(B|[KMGT]i?B?)?$");
text_schema!(Span, "^([0-9]{1,6}(ms|s|m|h|days?|months?|years?) ?)+$");

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_read_as_people_write_them() {
        for (text, bytes) in [
            ("1GiB", 1 << 30),
            ("1G", 1 << 30),
            ("1GB", 1_000_000_000),
            ("512 MiB", 512 << 20),
            ("1.5KiB", 1536),
            ("7", 7),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
        for bad in ["", "GiB", "1GB2", "1 G B", "-1", "1e3", "1.5", ".5GiB", "0x10", "1gib"] {
            assert!(bad.parse::<ByteSize>().is_err(), "{bad}");
        }
        assert!(matches!("99999999999TiB".parse::<ByteSize>(), Err(QuantityError::SizeOverflow(_))));
    }

    #[test]
    fn spans_read_and_write() {
        assert_eq!("1h30m".parse::<Span>().map(|s| s.to_string()), Ok("1h30m".to_owned()));
        assert!("5".parse::<Span>().is_err());
        assert!("forever".parse::<Span>().is_err());
    }

    proptest! {
        #[test]
        fn a_size_survives_the_wire(bytes: u64) {
            prop_assert_eq!(ByteSize(bytes).to_string().parse::<ByteSize>(), Ok(ByteSize(bytes)));
        }
        #[test]
        fn a_span_survives_the_wire(ms in 0u64..100 * 365 * 86_400_000) {
            let span = Span(Duration::from_millis(ms));
            prop_assert_eq!(span.to_string().parse::<Span>(), Ok(span));
        }
        #[test]
        fn no_text_panics(text in ".*") {
            let _ = text.parse::<ByteSize>();
            let _ = text.parse::<Span>();
        }
    }
}
