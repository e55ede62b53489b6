//! Plugging and unplugging disks of a running guest.
//!
//! Both are done to the guest and its definition in one call of libvirt's, which changes the definition last: after a
//! crash of libvirt's daemon in between, the definition is behind, and is made anew at the next start.

use std::path::PathBuf;
use std::time::Duration;

use agentd_api::ByteSize;
use async_trait::async_trait;
use uuid::Uuid;
use virt::connect::Connect;
use virt::domain::Domain;
use virt::sys;

use super::domains::find;
use super::fault::Fault;
use super::snapshot::take_disks_back;
use super::{LibvirtVm, PROCESS, TELL};
use crate::vm::xml::{self, disk as text};
use crate::vm::{Cdrom, Change, DiskSeen, DomainDisk, Unplugged, VmDisks, VmError};

const LIVE: u32 = sys::VIR_DOMAIN_AFFECT_LIVE;
const CONFIG: u32 = sys::VIR_DOMAIN_AFFECT_CONFIG;
/// For what libvirt is at with a guest on behalf of a process that was killed over it. Less than each of the calls here is
/// given, so that it is told of.
const BUSY: Duration = Duration::from_secs(15);
/// What libvirt and QEMU say of a second request while the guest has not obeyed the first.
const UNDER_WAY: [&str; 2] = ["already in the process of unplug", "pending unplug"];

#[async_trait]
impl VmDisks for LibvirtVm {
    async fn attach_disk(&self, id: Uuid, disk: &DomainDisk) -> Result<Change, VmError> {
        xml::check_path(disk.source.path())?;
        let disk = disk.clone();
        self.run("plug a disk", PROCESS, move |c, tag| attach(c, tag, id, &disk)).await
    }

    async fn detach_disk(&self, id: Uuid, serial: &str) -> Result<Unplugged, VmError> {
        let serial = serial.to_owned();
        self.run("unplug a disk", PROCESS, move |c, tag| detach(c, tag, id, &serial)).await
    }

    async fn resize_disk(&self, id: Uuid, disk: &str, size: ByteSize) -> Result<Change, VmError> {
        let disk = disk.to_owned();
        self.run("grow a disk", PROCESS, move |c, tag| resize(c, tag, id, (&disk, size))).await
    }

    async fn change_medium(&self, id: Uuid, medium: Option<PathBuf>) -> Result<Change, VmError> {
        medium.iter().try_for_each(|path| xml::check_path(path))?;
        self.run("change a medium", TELL, move |c, tag| change_medium(c, tag, id, medium)).await
    }
}

/// The domain of that id, whose disks may be touched, and what it has; `config` where it is defined too.
struct Running {
    domain: Domain,
    live: Vec<DiskSeen>,
    config: Option<Vec<DiskSeen>>,
}

fn running(connect: &Connect, tag: &str, id: Uuid, call: &'static str) -> Result<Running, Fault> {
    let (domain, _) = find(connect, tag, id)?.ok_or(VmError::Missing(id))?;
    if !domain.is_active()? {
        return Err(VmError::Failed { call, detail: "the guest is off".to_owned() }.into());
    }
    take_disks_back(&domain, (call, BUSY))?;
    let live = disks(&domain, 0)?;
    let config = match domain.is_persistent()? {
        true => Some(disks(&domain, sys::VIR_DOMAIN_XML_INACTIVE)?),
        false => None,
    };
    Ok(Running { domain, live, config })
}

/// What the domain has: running where it runs, else as it is defined; `flags` may ask for the definition.
pub(super) fn disks(domain: &Domain, flags: u32) -> Result<Vec<DiskSeen>, Fault> {
    read(&domain.get_xml_desc(flags)?)
}

pub(super) fn read(domain: &str) -> Result<Vec<DiskSeen>, Fault> {
    let failed = || VmError::Failed { call: "look at a domain", detail: "its XML cannot be read".to_owned() };
    Ok(text::read_disks(domain).ok_or_else(failed)?)
}

fn by_serial<'a>(disks: &'a [DiskSeen], serial: &str) -> Option<&'a DiskSeen> {
    disks.iter().find(|disk| disk.serial.as_deref() == Some(serial))
}

fn attach(connect: &Connect, tag: &str, id: Uuid, disk: &DomainDisk) -> Result<Change, Fault> {
    let Running { domain, live, config } = running(connect, tag, id, "plug a disk")?;
    if let Some(there) = by_serial(&live, &disk.serial) {
        if there.source.as_deref() == Some(disk.source.path()) && there.read_only == disk.read_only {
            return Ok(Change::AlreadySo);
        }
        let text = format!("the guest has another disk of the serial '{}' as {}", disk.serial, there.target);
        return Err(VmError::Conflict(text).into());
    }
    let defined = config.as_deref().and_then(|config| by_serial(config, &disk.serial));
    let (target, flags) = match (defined, &config) {
        // Defined and not plugged: somebody took it out of the guest alone.
        (Some(defined), _) if live.iter().all(|d| d.target != defined.target) => {
            (defined.target.clone(), LIVE)
        }
        (Some(_), config) => (free(&live, config.as_deref()), LIVE),
        (None, Some(config)) => (free(&live, Some(config)), LIVE | CONFIG),
        (None, None) => (free(&live, None), LIVE),
    };
    domain.attach_device_flags(&text::render_disk(disk, &target), flags)?;
    Ok(Change::Made)
}

fn free(live: &[DiskSeen], config: Option<&[DiskSeen]>) -> String {
    let all: Vec<DiskSeen> = live.iter().chain(config.unwrap_or_default()).cloned().collect();
    text::free_target(&all)
}

fn detach(connect: &Connect, tag: &str, id: Uuid, serial: &str) -> Result<Unplugged, Fault> {
    let Running { domain, live, config } = running(connect, tag, id, "unplug a disk")?;
    let (plugged, defined) =
        (by_serial(&live, serial), config.as_deref().and_then(|config| by_serial(config, serial)));
    let done = match (plugged, defined) {
        (None, None) => return Ok(Unplugged::Gone),
        // One call for both only where it means the same disk in both.
        (Some(plugged), Some(defined)) if plugged.target == defined.target => {
            domain.detach_device_flags(&text::render_seen(plugged), LIVE | CONFIG)
        }
        (Some(plugged), None) => domain.detach_device_flags(&text::render_seen(plugged), LIVE),
        (plugged, Some(defined)) => {
            domain.detach_device_flags(&text::render_seen(defined), CONFIG)?;
            match plugged {
                Some(plugged) => domain.detach_device_flags(&text::render_seen(plugged), LIVE),
                None => Ok(0),
            }
        }
    };
    // Whatever the answer was, libvirt takes the disk out of the domain only once the guest has let go of it.
    if !domain.is_active()? || by_serial(&disks(&domain, 0)?, serial).is_none() {
        return Ok(Unplugged::Gone);
    }
    match done {
        Err(error) if !UNDER_WAY.iter().any(|words| error.message().contains(words)) => Err(error.into()),
        _ => Ok(Unplugged::Asked),
    }
}

fn resize(connect: &Connect, tag: &str, id: Uuid, (disk, size): (&str, ByteSize)) -> Result<Change, Fault> {
    let Running { domain, live, .. } = running(connect, tag, id, "grow a disk")?;
    let named = live.iter().find(|seen| seen.target == disk);
    let Some(seen) = by_serial(&live, disk).or(named) else {
        return Err(VmError::NoDisk { id, disk: disk.to_owned() }.into());
    };
    if domain.get_block_info(&seen.target, 0)?.capacity >= size.bytes() {
        return Ok(Change::AlreadySo);
    }
    domain.block_resize(&seen.target, size.bytes(), sys::VIR_DOMAIN_BLOCK_RESIZE_BYTES)?;
    Ok(Change::Made)
}

fn change_medium(connect: &Connect, tag: &str, id: Uuid, medium: Option<PathBuf>) -> Result<Change, Fault> {
    let Running { domain, live, config } = running(connect, tag, id, "change a medium")?;
    let Some(drive) = live.iter().find(|disk| disk.cdrom) else {
        return Err(VmError::Unsupported("the guest was started without a CD-ROM drive".to_owned()).into());
    };
    let defined = config.as_deref().and_then(|config| config.iter().find(|disk| disk.cdrom));
    if drive.source == medium {
        return Ok(Change::AlreadySo);
    }
    let flags = if defined.is_some_and(|d| d.target == drive.target) { LIVE | CONFIG } else { LIVE };
    domain.update_device_flags(&text::render_cdrom(&Cdrom { medium }, &drive.target), flags)?;
    Ok(Change::Made)
}
