//! What libvirt is told about a VM: `render_domain`, pure, with golden files; and what it is asked to keep for us: the
//! mark, an element of our own namespace in the domain's metadata.
//!
//! The text is made by a serialiser from a tree, so no string of a user's can become markup.

mod console;
pub(super) mod disk;
mod element;
mod firmware;
mod live;
mod machine;
mod memory;
mod nic;
mod ports;
mod screen;
#[cfg(test)]
mod tests;
mod tuning;

use std::path::Path;

pub use memory::{disk_targets, render_memory_snapshot};

use agentd_api::vm::Accel;
use agentd_api::{ByteSize, Timestamp};
use element::{Element, el};
use quick_xml::events::Event;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{DomainNic, DomainSpec, Tuning, VmError};
use crate::Instance;
pub use firmware::same_firmware;
pub use live::{Live, read_live};
pub use machine::on_the_cpu_of;
pub use ports::has_room;
pub use tuning::{kib, read_tuning};

/// The namespace of our metadata. A name, not an address: `.invalid` never resolves.
pub const NAMESPACE: &str = "https://agentd.invalid/libvirt/1";
const PREFIX: &str = "agentd";
const MARK: &str = "vm";

/// Our mark in a domain's metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    pub instance: String,
    pub id: Uuid,
    /// Of all that the definition says.
    pub digest: String,
    /// Of what cannot be changed while the guest runs.
    pub fixed: String,
    pub accel: Accel,
}

/// What the names of this daemon's domains begin with.
pub fn name_prefix(instance: &Instance) -> String {
    format!("agentd-{}-", instance.tag())
}

/// Unique on the host, since no two VMs of a daemon share project and name; a name holds no '.'.
pub fn domain_name(spec: &DomainSpec, instance: &Instance) -> String {
    format!("{}{}.{}", name_prefix(instance), spec.project, spec.name)
}

/// The same for equal definitions, and another when a later agentd renders a definition otherwise. Disks
/// and media are no part of it: they are compared one by one.
pub fn digest(spec: &DomainSpec, instance: &Instance) -> String {
    let plugged_apart = DomainSpec { disks: Vec::new(), cdrom: None, ..spec.clone() };
    let text = render_with(&plugged_apart, instance, ("", "")).text_of_tree();
    hex::encode(&Sha256::digest(text.as_bytes())[..16])
}

/// The same for definitions that a running guest can be brought from one to the other: what is changed while it runs
/// is compared with what is seen of it, and not by this.
pub fn fixed_digest(spec: &DomainSpec, instance: &Instance) -> String {
    let plain = DomainSpec {
        cpus: 1,
        cpus_max: 1,
        memory: ByteSize(1),
        memory_max: ByteSize(1),
        nics: Vec::new(),
        tuning: Tuning::default(),
        ..spec.clone()
    };
    digest(&plain, instance)
}

/// The VNC of a running guest: its socket, and whom it lets in until when; nobody without a ticket.
pub fn render_vnc(socket: &Path, ticket: Option<(&str, Timestamp)>) -> String {
    screen::vnc(Some(socket), ticket).text_of_tree()
}

pub fn render_domain(spec: &DomainSpec, instance: &Instance) -> String {
    let (all, fixed) = (digest(spec, instance), fixed_digest(spec, instance));
    render_with(spec, instance, (&all, &fixed)).text_of_tree()
}

/// One interface, as it is plugged in.
pub fn render_nic(nic: &DomainNic) -> String {
    nic::interface(nic, &Tuning::default()).text_of_tree()
}

/// Refuses what XML or a C string cannot carry.
pub fn check_spec(spec: &DomainSpec) -> Result<(), VmError> {
    let paths = [Some(&spec.disk), Some(&spec.console_log), spec.seed.as_ref(), spec.agent.as_ref()];
    let boot = spec.boot.as_ref();
    let uefi = spec.hardware.uefi.as_ref();
    let flash = [uefi.map(|uefi| &uefi.code), uefi.map(|uefi| &uefi.variables)];
    let paths =
        paths.into_iter().chain([boot.map(|b| &b.kernel), boot.map(|b| &b.initrd)]).chain(flash).flatten();
    let disks = spec.disks.iter().map(|disk| disk.source.path());
    let medium = spec.cdrom.iter().filter_map(|cdrom| cdrom.medium.as_deref());
    paths.map(|path| path.as_path()).chain(disks).chain(medium).try_for_each(check_path)?;
    let texts = spec.nics.iter().flat_map(|nic| [&nic.bridge, &nic.tap]);
    texts.chain(boot.map(|b| &b.cmdline)).try_for_each(|text| check_text(text))
}

/// Also of a disk that is plugged later.
pub fn check_path(path: &std::path::Path) -> Result<(), VmError> {
    let text = path
        .to_str()
        .ok_or_else(|| VmError::Refused(format!("the path '{}' is not UTF-8", path.display())))?;
    check_text(text)?;
    if !path.is_absolute() {
        return Err(VmError::Refused(format!("the path '{text}' is not absolute")));
    }
    Ok(())
}

/// As [`check_spec`], of an interface that is plugged in.
pub fn check_nic(nic: &DomainNic) -> Result<(), VmError> {
    check_text(&nic.bridge)?;
    check_text(&nic.tap)
}

fn check_text(text: &str) -> Result<(), VmError> {
    if text.contains('\0') {
        return Err(VmError::Nul(text.replace('\0', "\\0")));
    }
    if let Some(bad) = text.chars().find(|c| c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}')) {
        return Err(VmError::Refused(format!("'{}' holds the character {bad:?}", text.escape_debug())));
    }
    Ok(())
}

/// Reads our mark out of what libvirt says to be our element. None where it is not of a shape that we write.
pub fn read_mark(metadata: &str) -> Option<Mark> {
    let mut reader = quick_xml::Reader::from_str(metadata);
    loop {
        match reader.read_event().ok()? {
            Event::Start(tag) | Event::Empty(tag) if tag.local_name().as_ref() == MARK => {
                let value = |key: &str| -> Option<String> {
                    let found = tag.try_get_attribute(key).ok()??;
                    Some(found.value.into_owned())
                };
                return mark_of(&value);
            }
            Event::Eof => return None,
            _ => (),
        }
    }
}

/// The mark, of the attributes of its element.
fn mark_of(value: &dyn Fn(&str) -> Option<String>) -> Option<Mark> {
    let accel = match value("accel")?.as_str() {
        "kvm" => Accel::Kvm,
        "tcg" => Accel::Tcg,
        _ => return None,
    };
    let id = Uuid::parse_str(&value("id")?).ok()?;
    // What an older agentd defined lacks it, and differs from all.
    let fixed = value("fixed").unwrap_or_default();
    Some(Mark { instance: value("instance")?, id, digest: value("digest")?, fixed, accel })
}

fn render_with(spec: &DomainSpec, instance: &Instance, digests: (&str, &str)) -> Element {
    let kind = match spec.accel {
        Accel::Kvm => "kvm",
        Accel::Tcg => "qemu",
    };
    el("domain")
        .attr("type", kind)
        .child(el("name").text(domain_name(spec, instance)))
        .child(el("uuid").text(spec.id))
        .child(el("metadata").child(mark(spec, instance, digests)))
        .children(machine::memory(spec))
        .children(tuning::memory_backing(spec))
        .child(machine::vcpu(spec))
        .children(tuning::cputune(spec))
        .child(machine::os(spec))
        .child(firmware::features(spec))
        .child(machine::cpu(spec))
        .child(machine::clock())
        .child(el("on_poweroff").text("destroy"))
        .child(el("on_reboot").text("restart"))
        .child(el("on_crash").text("destroy"))
        .child(machine::pm())
        .child(devices(spec))
}

fn mark(spec: &DomainSpec, instance: &Instance, (digest, fixed): (&str, &str)) -> Element {
    el(&format!("{PREFIX}:{MARK}"))
        .attr(&format!("xmlns:{PREFIX}"), NAMESPACE)
        .attr("instance", instance.tag())
        .attr("project", &spec.project)
        .attr("name", &spec.name)
        .attr("id", spec.id)
        .attr("accel", spec.accel.as_str())
        .attr("digest", digest)
        .attr("fixed", fixed)
}

/// Each group of devices is rendered in a file of its own; here is their order.
fn devices(spec: &DomainSpec) -> Element {
    let devices = el("devices")
        .children(disk::disks(spec))
        .children(spec.nics.iter().map(|nic| nic::interface(nic, &spec.tuning)))
        .children(console::console(spec))
        .children(console::agent_channels(spec))
        .child(
            el("rng")
                .attr("model", "virtio")
                .child(el("backend").attr("model", "random").text("/dev/urandom")),
        )
        .child(
            el("memballoon")
                .attr("model", "virtio")
                .attr("freePageReporting", "on")
                // In seconds: how often the guest tells its own view of its memory.
                .child(el("stats").attr("period", 5)),
        )
        .child(el("panic").attr("model", "isa"))
        .children(tuning::watchdog(spec))
        .children(firmware::tpm(spec))
        .child(el("controller").attr("type", "usb").attr("model", "none"))
        .children(screen::screen(spec));
    let ports = ports::ports(&devices);
    devices.children(ports)
}
