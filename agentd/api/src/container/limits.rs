//! How much of the host a container may use, where that is said otherwise than of a VM.

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;

/// Processors, to a thousandth: 2, 0.5. A number on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cpus(u32);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a number of processors; write one with at most three decimals, as in 0.5")]
pub struct CpusError(String);

impl Cpus {
    /// What the kernel can still hold to.
    pub const MIN: Self = Self(10);
    pub const MAX: Self = Self(256_000);

    pub const fn whole(n: u32) -> Self {
        Self(n * 1000)
    }
    pub const fn thousandths(self) -> u32 {
        self.0
    }
    /// As engines take it.
    pub const fn nanos(self) -> u64 {
        self.0 as u64 * 1_000_000
    }

    fn of(number: f64) -> Option<Self> {
        let scaled = number * 1000.0;
        let whole = scaled.round();
        let fits = number.is_finite() && (0.0..=1e9).contains(&whole) && (scaled - whole).abs() < 1e-6;
        // Whole, and within the range.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked above")]
        fits.then_some(Self(whole as u32))
    }
}

impl fmt::Display for Cpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / 1000, self.0 % 1000);
        if part == 0 {
            return write!(f, "{whole}");
        }
        let decimals = format!("{part:03}");
        write!(f, "{whole}.{}", decimals.trim_end_matches('0'))
    }
}

impl FromStr for Cpus {
    type Err = CpusError;

    fn from_str(text: &str) -> Result<Self, CpusError> {
        let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        let number = text.parse::<f64>().ok().filter(|_| plain).and_then(Self::of);
        number.ok_or_else(|| CpusError(text.chars().take(32).collect()))
    }
}

impl Serialize for Cpus {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if self.0.is_multiple_of(1000) {
            to.serialize_u32(self.0 / 1000)
        } else {
            to.serialize_f64(f64::from(self.0) / 1000.0)
        }
    }
}

impl<'de> Deserialize<'de> for Cpus {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Number;
        impl Visitor<'_> for Number {
            type Value = Cpus;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of processors with at most three decimals, as in 0.5")
            }
            fn visit_u64<E: de::Error>(self, n: u64) -> Result<Cpus, E> {
                let small = u32::try_from(n).ok().filter(|n| *n <= 1_000_000);
                small.map(Cpus::whole).ok_or_else(|| E::invalid_value(Unexpected::Unsigned(n), &self))
            }
            fn visit_i64<E: de::Error>(self, n: i64) -> Result<Cpus, E> {
                Err(E::invalid_value(Unexpected::Signed(n), &self))
            }
            fn visit_f64<E: de::Error>(self, n: f64) -> Result<Cpus, E> {
                Cpus::of(n).ok_or_else(|| E::invalid_value(Unexpected::Float(n), &self))
            }
        }
        from.deserialize_any(Number)
    }
}

impl utoipa::PartialSchema for Cpus {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::Number)
            .minimum(Some(0.01))
            .maximum(Some(256.0))
            .multiple_of(Some(0.001))
            .into()
    }
}

impl ToSchema for Cpus {
    fn name() -> std::borrow::Cow<'static, str> {
        std::borrow::Cow::Borrowed("Cpus")
    }
}

/// How much of one resource each of its processes may have: as `ulimit` has it. -1 is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Ulimit {
    #[schema(minimum = -1)]
    pub soft: i64,
    /// As `soft` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = -1)]
    pub hard: Option<i64>,
}

/// Those that a kernel knows.
pub const ULIMITS: [&str; 16] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn processors_read_and_write() {
        for (text, canonical) in [("1", "1"), ("0.5", "0.5"), ("1.250", "1.25"), ("0.001", "0.001")] {
            assert_eq!(text.parse::<Cpus>().map(|c| c.to_string()), Ok(canonical.to_owned()));
        }
        for bad in ["", "-1", "1e3", "0.0001", "nan", "inf", "1.2.3", "9999999999"] {
            assert!(bad.parse::<Cpus>().is_err(), "{bad}");
        }
        assert_eq!(serde_json::to_string(&Cpus::whole(2)).ok().as_deref(), Some("2"));
        for bad in ["-1", "0.00001", "1e300", "\"1\"", "18446744073709551615"] {
            assert!(serde_json::from_str::<Cpus>(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn they_survive_the_wire(thousandths in 0u32..=256_000) {
            let cpus = Cpus(thousandths);
            let json = serde_json::to_string(&cpus).expect("json");
            prop_assert_eq!(serde_json::from_str::<Cpus>(&json).ok(), Some(cpus));
            prop_assert_eq!(cpus.to_string().parse(), Ok(cpus));
        }
    }
}
