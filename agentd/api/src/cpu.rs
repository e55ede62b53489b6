//! The host's processors, as specs name them.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::schema::text_schema;

/// Of one set: more processors than any host has.
const CPU_MAX: u32 = 4095;

/// Processors of the host: "0", "0-3", "0,2-3".
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct CpuSet(BTreeSet<u32>);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a set of processors; write numbers and ranges, as in \"0-3,8\"")]
pub struct CpuSetError(String);

impl CpuSet {
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().copied()
    }
    pub fn contains(&self, cpu: u32) -> bool {
        self.0.contains(&cpu)
    }
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
    /// What of it is not in `other`.
    pub fn without(&self, other: &Self) -> Self {
        Self(self.0.difference(&other.0).copied().collect())
    }
}

impl FromIterator<u32> for CpuSet {
    fn from_iter<I: IntoIterator<Item = u32>>(cpus: I) -> Self {
        Self(cpus.into_iter().collect())
    }
}

impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut runs: Vec<(u32, u32)> = Vec::new();
        for &cpu in &self.0 {
            match runs.last_mut() {
                Some((_, last)) if *last + 1 == cpu => *last = cpu,
                _ => runs.push((cpu, cpu)),
            }
        }
        for (n, (first, last)) in runs.into_iter().enumerate() {
            let comma = if n == 0 { "" } else { "," };
            if first == last { write!(f, "{comma}{first}")? } else { write!(f, "{comma}{first}-{last}")? }
        }
        Ok(())
    }
}

impl FromStr for CpuSet {
    type Err = CpuSetError;

    fn from_str(text: &str) -> Result<Self, CpuSetError> {
        let bad = || CpuSetError(text.chars().take(64).collect());
        let number = |text: &str| -> Result<u32, CpuSetError> {
            let digits = !text.is_empty() && text.len() <= 4 && text.bytes().all(|b| b.is_ascii_digit());
            let number = text.parse().map_err(|_| bad())?;
            if digits && number <= CPU_MAX { Ok(number) } else { Err(bad()) }
        };
        let mut set = BTreeSet::new();
        for part in text.split(',') {
            let (first, last) = match part.split_once('-') {
                Some((first, last)) => (number(first)?, number(last)?),
                None => (number(part)?, number(part)?),
            };
            if first > last {
                return Err(bad());
            }
            set.extend(first..=last);
        }
        Ok(Self(set))
    }
}

impl Serialize for CpuSet {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for CpuSet {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(serde::de::Error::custom)
    }
}

text_schema!(CpuSet, "^[0-9]{1,4}(-[0-9]{1,4})?(,[0-9]{1,4}(-[0-9]{1,4})?)*$");

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sets_of_processors_read_and_write() {
        for (text, canonical) in [("0", "0"), ("0-1", "0-1"), ("3,0-1", "0-1,3"), ("0,1,2", "0-2")] {
            assert_eq!(text.parse::<CpuSet>().map(|s| s.to_string()), Ok(canonical.to_owned()), "{text}");
        }
        for bad in ["", "-", "1-", "-1", "3-1", "0,", "a", "5000", "99999999999", "0 1", "^1", "+1"] {
            assert!(bad.parse::<CpuSet>().is_err(), "{bad}");
        }
        let set: CpuSet = "0-3".parse().expect("a set");
        assert_eq!(set.without(&"1-2".parse().expect("a set")).to_string(), "0,3");
    }

    proptest! {
        #[test]
        fn a_set_survives_the_wire(cpus in proptest::collection::btree_set(0u32..=CPU_MAX, 1..40)) {
            let set = CpuSet(cpus);
            prop_assert_eq!(set.to_string().parse::<CpuSet>(), Ok(set));
        }
    }
}
