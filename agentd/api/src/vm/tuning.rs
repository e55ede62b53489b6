//! How much of the host a VM may use, and on which of its processors: limits, pinning, huge pages, watchdog.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;

use super::VmSpec;
use crate::quantity::ByteSize;
use crate::schema::text_schema;

pub const CPU_SHARES_MAX: u32 = 10_000;
/// Of one set: more processors than any host has.
const CPU_MAX: u32 = 4095;
const RATE_MIN: ByteSize = ByteSize::kib(4);
/// The kernel's traffic shaper counts no further.
const NIC_RATE_MAX: ByteSize = ByteSize::gib(1);
const RATE_MAX: ByteSize = ByteSize::gib(1024);
const IOPS_MAX: u32 = 100_000_000;

/// What a disk may do in a second. Where absent, as much as it can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DiskLimits {
    /// Bytes read a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read: Option<ByteSize>,
    /// Bytes written a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write: Option<ByteSize>,
    /// Reads a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_iops: Option<u32>,
    /// Writes a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_iops: Option<u32>,
}

/// What an interface may carry in a second. Where absent, as much as it can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct NicLimits {
    /// Bytes a second towards the guest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inbound: Option<ByteSize>,
    /// Bytes a second out of the guest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outbound: Option<ByteSize>,
}

impl DiskLimits {
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl NicLimits {
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What happens when the guest has stopped feeding its watchdog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WatchdogAction {
    /// The guest begins anew, as by its reset button.
    Reset,
    /// Its power is cut, which counts as a failure for its restart policy.
    Poweroff,
    /// An event is recorded, and nothing else.
    Record,
}

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

/// What of a spec can only be had under KVM, and why: the field and a sentence.
pub fn needs_kvm(spec: &VmSpec) -> Option<(&'static str, &'static str)> {
    if spec.nested {
        return Some(("nested", "a guest can run guests of its own only under KVM, which this host has not"));
    }
    (spec.cpu_pinning.len() > 1).then_some((
        "cpu_pinning",
        "a set for each CPU can be had only under KVM, which this host has not; one set for all of them can",
    ))
}

pub(super) fn check(spec: &VmSpec, wrong: &mut impl FnMut(&str, String)) {
    check_disk("disk_limits", &spec.disk_limits, wrong);
    for (n, nic) in spec.networks.iter().enumerate() {
        check_nic(&format!("networks[{n}].limits"), &nic.limits, wrong);
    }
    check_shares(spec.cpu_shares, wrong);
    let pins = spec.cpu_pinning.len();
    if pins > 1 && pins != spec.cpus as usize {
        let message =
            format!("has {pins} entries for {} CPUs; give one for all of them, or one for each", spec.cpus);
        wrong("cpu_pinning", message);
    }
}

pub(crate) fn check_shares(shares: Option<u32>, wrong: &mut impl FnMut(&str, String)) {
    if let Some(shares) = shares.filter(|shares| !(1..=CPU_SHARES_MAX).contains(shares)) {
        wrong("cpu_shares", format!("must be 1 to {CPU_SHARES_MAX}, not {shares}"));
    }
}

pub(crate) fn check_disk(field: &str, limits: &DiskLimits, wrong: &mut impl FnMut(&str, String)) {
    for (name, rate) in [("read", limits.read), ("write", limits.write)] {
        check_rate(&format!("{field}.{name}"), rate, RATE_MAX, wrong);
    }
    for (name, iops) in [("read_iops", limits.read_iops), ("write_iops", limits.write_iops)] {
        if let Some(iops) = iops.filter(|iops| !(1..=IOPS_MAX).contains(iops)) {
            let message = format!("must be 1 to {IOPS_MAX} a second, not {iops}");
            wrong(&format!("{field}.{name}"), message);
        }
    }
}

pub(crate) fn check_nic(field: &str, limits: &NicLimits, wrong: &mut impl FnMut(&str, String)) {
    for (name, rate) in [("inbound", limits.inbound), ("outbound", limits.outbound)] {
        check_rate(&format!("{field}.{name}"), rate, NIC_RATE_MAX, wrong);
        if rate.is_some_and(|rate| !rate.bytes().is_multiple_of(1024)) {
            wrong(&format!("{field}.{name}"), "must be a whole number of KiB a second".to_owned());
        }
    }
}

fn check_rate(field: &str, rate: Option<ByteSize>, most: ByteSize, wrong: &mut impl FnMut(&str, String)) {
    if let Some(rate) = rate.filter(|rate| !(RATE_MIN..=most).contains(rate)) {
        wrong(field, format!("must be {RATE_MIN} to {most} a second, not {rate}"));
    }
}

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
