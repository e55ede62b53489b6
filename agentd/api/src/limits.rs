//! How much of the host's disks, network and processors a guest may use, of whichever kind it is.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::quantity::ByteSize;

pub const CPU_SHARES_MAX: u32 = 10_000;
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
