//! Points in time: milliseconds since the epoch inside, RFC 3339 in UTC on the wire.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::schema::text_schema;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Timestamp(pub u64);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a time; write RFC 3339 in UTC, as in \"2026-01-02T03:04:05Z\"")]
pub struct TimestampError(String);

impl Timestamp {
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
    pub fn millis(self) -> u64 {
        self.0
    }
    /// How long ago this was; zero for what lies ahead.
    pub fn age(self) -> Duration {
        Duration::from_millis(Self::now().0.saturating_sub(self.0))
    }
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The formatter ends at the year 9999; what lies past it is shown as that.
        let at = UNIX_EPOCH + Duration::from_millis(self.0.min(253_402_300_799_000));
        if self.0.is_multiple_of(1000) {
            write!(f, "{}", humantime::format_rfc3339_seconds(at))
        } else {
            write!(f, "{}", humantime::format_rfc3339_millis(at))
        }
    }
}

impl FromStr for Timestamp {
    type Err = TimestampError;
    fn from_str(text: &str) -> Result<Self, TimestampError> {
        let bad = || TimestampError(text.to_owned());
        let at = humantime::parse_rfc3339(text).map_err(|_| bad())?;
        let since = at.duration_since(UNIX_EPOCH).map_err(|_| bad())?;
        Ok(Self(u64::try_from(since.as_millis()).map_err(|_| bad())?))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

text_schema!(Timestamp, "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{3})?Z$");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wire_form_is_rfc_3339_in_utc() {
        for text in ["2026-01-02T03:04:05Z", "2026-01-02T03:04:05.678Z", "1970-01-01T00:00:00Z"] {
            assert_eq!(text.parse::<Timestamp>().map(|t| t.to_string()), Ok(text.to_owned()));
        }
        assert!("yesterday".parse::<Timestamp>().is_err());
        assert!(!Timestamp(u64::MAX).to_string().is_empty());
    }
}
