//! Limits, pinning, huge pages and the watchdog; and the limits and pinning of a running guest, read out of what libvirt
//! says of it.

use agentd_api::ByteSize;
use agentd_api::vm::{CpuSet, DiskLimits, NicLimits, WatchdogAction};
use quick_xml::events::{BytesStart, Event};

use super::disk::ROOT_TARGET;
use super::element::{Element, el};
use crate::vm::{DomainSpec, Tuning};

/// Where all CPUs share one set, the emulator's own threads are bound to it too, which also works where QEMU has no
/// thread for each CPU.
pub(super) fn cpuset(spec: &DomainSpec) -> Option<&CpuSet> {
    match spec.tuning.pinning.as_slice() {
        [all] => Some(all),
        _ => None,
    }
}

pub(super) fn cputune(spec: &DomainSpec) -> Option<Element> {
    let tuning = &spec.tuning;
    let pins: &[CpuSet] = if tuning.pinning.len() > 1 { &tuning.pinning } else { &[] };
    if tuning.cpu_shares.is_none() && pins.is_empty() {
        return None;
    }
    let pins = pins.iter().enumerate().map(|(n, set)| el("vcpupin").attr("vcpu", n).attr("cpuset", set));
    let shares = tuning.cpu_shares.map(|shares| el("shares").text(shares));
    Some(el("cputune").children(shares).children(pins))
}

pub(super) fn memory_backing(spec: &DomainSpec) -> Option<Element> {
    spec.hardware.huge_pages.then(|| el("memoryBacking").child(el("hugepages")))
}

const WATCHDOG: &str = "i6300esb";

/// A PCI device, for which every distribution's kernel has a driver.
pub(super) fn watchdog(spec: &DomainSpec) -> Option<Element> {
    let action = match spec.hardware.watchdog? {
        WatchdogAction::Reset => "reset",
        WatchdogAction::Poweroff => "poweroff",
        WatchdogAction::Record => "none",
    };
    Some(el("watchdog").attr("model", WATCHDOG).attr("action", action))
}

/// What a watchdog of ours does. libvirt gives a machine others by itself.
pub(super) fn watchdog_of(element: &Element) -> Option<WatchdogAction> {
    match element.get("action").filter(|_| element.get("model") == Some(WATCHDOG))? {
        "reset" => Some(WatchdogAction::Reset),
        "poweroff" => Some(WatchdogAction::Poweroff),
        "none" => Some(WatchdogAction::Record),
        _ => None,
    }
}

pub(super) fn iotune(limits: &DiskLimits) -> Option<Element> {
    if limits.is_default() {
        return None;
    }
    let bytes = |size: Option<ByteSize>| size.map(ByteSize::bytes);
    let all = [
        ("read_bytes_sec", bytes(limits.read)),
        ("write_bytes_sec", bytes(limits.write)),
        ("read_iops_sec", limits.read_iops.map(u64::from)),
        ("write_iops_sec", limits.write_iops.map(u64::from)),
    ];
    let given = all.into_iter().filter_map(|(name, value)| Some(el(name).text(value?)));
    Some(el("iotune").children(given))
}

pub(super) fn bandwidth(limits: &NicLimits) -> Option<Element> {
    if limits.is_default() {
        return None;
    }
    let all = [("inbound", limits.inbound), ("outbound", limits.outbound)];
    let given = all.into_iter().filter_map(|(name, rate)| Some(el(name).attr("average", kib(rate?))));
    Some(el("bandwidth").children(given))
}

/// As libvirt counts bandwidth.
pub fn kib(rate: ByteSize) -> u64 {
    rate.bytes() / 1024
}

/// The limits and pinning in the XML of a running domain. None where it is no such XML.
pub fn read_tuning(xml: &str) -> Option<Tuning> {
    let mut reader = quick_xml::Reader::from_str(xml);
    let mut reading = Reading::default();
    loop {
        match reader.read_event().ok()? {
            Event::Start(tag) => {
                reading.open(&tag);
                reading.path.push(tag.local_name().as_ref().to_owned());
            }
            Event::Empty(tag) => reading.open(&tag),
            Event::Text(text) => reading.text(&text),
            Event::End(_) => {
                let ended = reading.path.pop();
                reading.close(ended.as_deref().unwrap_or_default());
            }
            Event::Eof => return Some(reading.tuning),
            _ => {}
        }
    }
}

/// How far the reading of a domain's XML is.
#[derive(Default)]
struct Reading {
    tuning: Tuning,
    path: Vec<String>,
    target: Option<String>,
    disk: DiskLimits,
    nic: NicLimits,
}

impl Reading {
    fn open(&mut self, tag: &BytesStart<'_>) {
        let value =
            |key: &str| -> Option<String> { Some(tag.try_get_attribute(key).ok()??.value.into_owned()) };
        let rate = || Some(ByteSize::kib(value("average")?.parse().ok()?));
        match tag.local_name().as_ref() {
            "target" => self.target = value("dev"),
            "inbound" => self.nic.inbound = rate(),
            "outbound" => self.nic.outbound = rate(),
            "vcpu" => self.tuning.pinning.extend(value("cpuset").and_then(|set| set.parse().ok())),
            "vcpupin" => {
                // One for each takes the place of one for all.
                if value("vcpu").as_deref() == Some("0") {
                    self.tuning.pinning.clear();
                }
                self.tuning.pinning.extend(value("cpuset").and_then(|set| set.parse().ok()));
            }
            _ => {}
        }
    }

    fn text(&mut self, text: &str) {
        let number = text.trim().parse::<u64>().ok().filter(|n| *n > 0);
        let small = number.and_then(|n| u32::try_from(n).ok());
        match self.path.last().map(String::as_str) {
            Some("read_bytes_sec") => self.disk.read = number.map(ByteSize),
            Some("write_bytes_sec") => self.disk.write = number.map(ByteSize),
            Some("read_iops_sec") => self.disk.read_iops = small,
            Some("write_iops_sec") => self.disk.write_iops = small,
            Some("shares") => self.tuning.cpu_shares = small,
            _ => {}
        }
    }

    fn close(&mut self, ended: &str) {
        match ended {
            "disk" => {
                let limits = std::mem::take(&mut self.disk);
                if self.target.take().as_deref() == Some(ROOT_TARGET) {
                    self.tuning.disk = limits;
                }
            }
            "interface" => {
                let limits = std::mem::take(&mut self.nic);
                if let (Some(tap), false) = (self.target.take(), limits.is_default()) {
                    self.tuning.nics.insert(tap, limits);
                }
            }
            _ => {}
        }
    }
}
