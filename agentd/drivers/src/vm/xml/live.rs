//! What a running guest has at this moment, read out of what libvirt says of it (its live XML).

use agentd_api::ByteSize;

use super::element::Element;
use super::{MARK, Mark, PREFIX, mark_of, tuning};
use crate::vm::{HardwareSeen, LiveSeen, NicSeen};

/// What runs, with our mark on it. None where the text is not of a shape that libvirt writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Live {
    pub mark: Option<Mark>,
    pub seen: LiveSeen,
}

pub fn read_live(text: &str) -> Option<Live> {
    let domain = Element::parse(text)?;
    let ours = domain.find("metadata").and_then(|m| m.find(&format!("{PREFIX}:{MARK}")));
    let mark = ours.and_then(|tag| mark_of(&|key| tag.get(key).map(ToOwned::to_owned)));
    let vcpu = domain.find("vcpu")?;
    let cpus_max = vcpu.content().parse().ok()?;
    let memory_max = size(domain.find("memory")?)?;
    let seen = LiveSeen {
        fixed: mark.as_ref().map(|mark| mark.fixed.clone()),
        cpus: vcpu.get("current").map_or(Some(cpus_max), |current| current.parse().ok())?,
        cpus_max,
        memory: domain.find("currentMemory").map_or(Some(memory_max), size)?,
        memory_max,
        nics: domain.find("devices")?.all("interface").filter_map(nic).collect(),
        hardware: hardware(&domain),
    };
    Some(Live { mark, seen })
}

fn hardware(domain: &Element) -> HardwareSeen {
    let devices = domain.find("devices");
    let runs_guests = |feature: &Element| {
        matches!(feature.get("name"), Some("vmx" | "svm")) && feature.get("policy") == Some("require")
    };
    HardwareSeen {
        huge_pages: domain.find("memoryBacking").is_some_and(|backing| backing.find("hugepages").is_some()),
        nested: domain.find("cpu").is_some_and(|cpu| cpu.all("feature").any(runs_guests)),
        watchdog: devices.and_then(|devices| devices.all("watchdog").find_map(tuning::watchdog_of)),
        graphics: devices.is_some_and(|devices| devices.find("graphics").is_some()),
    }
}

/// libvirt answers in KiB, and says so.
fn size(element: &Element) -> Option<ByteSize> {
    let number: u64 = element.content().parse().ok()?;
    let unit = match element.get("unit") {
        None | Some("KiB") => 1 << 10,
        Some("bytes" | "b") => 1,
        Some("MiB") => 1 << 20,
        Some(_) => return None,
    };
    number.checked_mul(unit).map(ByteSize)
}

/// What is on no bridge or has no tap was not made by us.
fn nic(interface: &Element) -> Option<NicSeen> {
    Some(NicSeen {
        mac: interface.find("mac")?.get("address")?.parse().ok()?,
        bridge: interface.find("source")?.get("bridge")?.to_owned(),
        tap: interface.find("target")?.get("dev")?.to_owned(),
    })
}
