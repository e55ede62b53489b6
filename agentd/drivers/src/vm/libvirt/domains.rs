//! The calls themselves: each looks first, changes what is not so, and takes a change that happened in between for done.
//! They block, and run on a worker's thread.

use uuid::Uuid;
use virt::connect::Connect;
use virt::domain::Domain;
use virt::error::{Error, ErrorNumber};
use virt::sys;

use super::fault::Fault;
use crate::vm::xml::{self, Live, Mark};
use crate::vm::{Change, DomainSeen, DomainSpec, OffReason, Power, VmError, tpm_folder};

/// The domain of that id, if it is ours. A foreign one is as none.
pub(super) fn find(connect: &Connect, tag: &str, id: Uuid) -> Result<Option<(Domain, Mark)>, Fault> {
    let Some(domain) = lookup(connect, id)? else { return Ok(None) };
    Ok(mark_of(&domain, tag)?.map(|mark| (domain, mark)))
}

fn lookup(connect: &Connect, id: Uuid) -> Result<Option<Domain>, Fault> {
    unless(ErrorNumber::NoDomain, Domain::lookup_by_uuid_string(connect, &id.to_string()))
}

/// None in place of an error of that code.
fn unless<T>(code: ErrorNumber, done: Result<T, Error>) -> Result<Option<T>, Fault> {
    match done {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.code() == code => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Our mark on a domain, if it is there, names this daemon, and names this very domain (a clone keeps the mark of what it
/// was made of). Of the definition where there is one, else of what runs.
fn mark_of(domain: &Domain, tag: &str) -> Result<Option<Mark>, Fault> {
    let read = |flags: sys::virDomainModificationImpact| {
        domain.get_metadata(sys::VIR_DOMAIN_METADATA_ELEMENT as i32, Some(xml::NAMESPACE), flags)
    };
    let text = match read(sys::VIR_DOMAIN_AFFECT_CONFIG) {
        Err(error)
            if error.code() == ErrorNumber::OperationInvalid || error.code() == ErrorNumber::InvalidArg =>
        {
            // A domain without a definition has no configuration to ask.
            read(sys::VIR_DOMAIN_AFFECT_LIVE)
        }
        other => other,
    };
    let text = match text {
        Ok(text) => text,
        Err(error) if matches!(error.code(), ErrorNumber::NoDomainMetadata | ErrorNumber::NoDomain) => {
            return Ok(None);
        }
        // It was transient and ended between the two looks.
        Err(error) if error.code() == ErrorNumber::OperationInvalid => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let Some(mark) = xml::read_mark(&text) else { return Ok(None) };
    let own = mark.instance == tag && domain.get_uuid_string()? == mark.id.to_string();
    Ok(own.then_some(mark))
}

pub(super) fn seen(domain: &Domain, mark: Mark) -> Result<Option<DomainSeen>, Fault> {
    let Some((state, reason)) = unless(ErrorNumber::NoDomain, domain.get_state())? else { return Ok(None) };
    let Some(persistent) = unless(ErrorNumber::NoDomain, domain.is_persistent())? else { return Ok(None) };
    let power = match state {
        sys::VIR_DOMAIN_SHUTOFF | sys::VIR_DOMAIN_CRASHED => Power::Off,
        sys::VIR_DOMAIN_PAUSED | sys::VIR_DOMAIN_PMSUSPENDED => Power::Paused,
        _ => Power::Running,
    };
    let off = (power == Power::Off).then(|| off_reason(state, reason));
    let Some(text) = unless(ErrorNumber::NoDomain, domain.get_xml_desc(0))? else { return Ok(None) };
    let disks = super::disks::read(&text)?;
    let live = if power == Power::Off { None } else { Some(live(&text)?) };
    // What it was started with: its definition may have been changed since.
    let accel = live.as_ref().and_then(|l| l.mark.as_ref()).map_or(mark.accel, |mark| mark.accel);
    Ok(Some(DomainSeen {
        id: mark.id,
        power,
        off,
        persistent,
        digest: Some(mark.digest),
        accel: Some(accel),
        live: live.map(|live| live.seen),
        disks,
    }))
}

fn live(text: &str) -> Result<Live, Fault> {
    let failed = || VmError::Failed { call: "look at a domain", detail: "its XML cannot be read".to_owned() };
    Ok(xml::read_live(text).ok_or_else(failed)?)
}

fn off_reason(state: sys::virDomainState, reason: i32) -> OffReason {
    if state == sys::VIR_DOMAIN_CRASHED {
        return OffReason::Crashed;
    }
    match u32::try_from(reason) {
        Ok(sys::VIR_DOMAIN_SHUTOFF_SHUTDOWN) => OffReason::Shutdown,
        Ok(sys::VIR_DOMAIN_SHUTOFF_DESTROYED) => OffReason::Destroyed,
        Ok(sys::VIR_DOMAIN_SHUTOFF_CRASHED) => OffReason::Crashed,
        Ok(sys::VIR_DOMAIN_SHUTOFF_SAVED) => OffReason::Saved,
        _ => OffReason::Unknown,
    }
}

pub(super) fn list(connect: &Connect, tag: &str) -> Result<Vec<DomainSeen>, Fault> {
    let mut all = Vec::new();
    for domain in connect.list_all_domains(0)? {
        if let Some(mark) = mark_of(&domain, tag)? {
            all.extend(seen(&domain, mark)?);
        }
    }
    Ok(all)
}

pub(super) fn observe(connect: &Connect, tag: &str, id: Uuid) -> Result<Option<DomainSeen>, Fault> {
    match find(connect, tag, id)? {
        Some((domain, mark)) => seen(&domain, mark),
        None => Ok(None),
    }
}

/// A definition as it is given to libvirt.
pub(super) struct Definition {
    pub(super) id: Uuid,
    pub(super) digest: String,
    pub(super) xml: String,
    pub(super) spec: DomainSpec,
}

pub(super) fn ensure_defined(connect: &Connect, tag: &str, wanted: &Definition) -> Result<Change, Fault> {
    if let Some(domain) = lookup(connect, wanted.id)? {
        let Some(mark) = mark_of(&domain, tag)? else {
            let name = domain.get_name().unwrap_or_default();
            let text = format!("the domain '{name}' has the id {} and is not of this agentd", wanted.id);
            return Err(VmError::Conflict(text).into());
        };
        if mark.digest == wanted.digest && domain.is_persistent()? {
            let text = domain.get_xml_desc(sys::VIR_DOMAIN_XML_INACTIVE)?;
            if xml::disk::as_wanted(&text, &wanted.spec) && xml::has_room(&text, &wanted.xml) {
                return Ok(Change::AlreadySo);
            }
        }
    }
    // Where another domain has the name, libvirt refuses.
    Domain::define_xml(connect, &wanted.xml)?;
    Ok(Change::Made)
}

/// Does `act` unless the domain is as wanted already; one that became so in between is taken for so.
fn change(
    connect: &Connect,
    tag: &str,
    id: Uuid,
    so: impl Fn(&Domain) -> Result<bool, Fault>,
    act: impl FnOnce(&Domain) -> Result<(), Error>,
) -> Result<Change, Fault> {
    let (domain, _) = find(connect, tag, id)?.ok_or(VmError::Missing(id))?;
    if so(&domain)? {
        return Ok(Change::AlreadySo);
    }
    match act(&domain) {
        Ok(()) => Ok(Change::Made),
        Err(error) if error.code() == ErrorNumber::NoDomain => Err(VmError::Missing(id).into()),
        Err(error) if error.code() == ErrorNumber::OperationInvalid && so(&domain).unwrap_or(false) => {
            Ok(Change::AlreadySo)
        }
        Err(error) => Err(error.into()),
    }
}

fn off(domain: &Domain) -> Result<bool, Fault> {
    Ok(!domain.is_active()?)
}

pub(super) fn in_state(domain: &Domain, wanted: sys::virDomainState) -> Result<bool, Fault> {
    Ok(domain.get_state()?.0 == wanted)
}

pub(super) fn start(connect: &Connect, tag: &str, id: Uuid) -> Result<Change, Fault> {
    change(connect, tag, id, |domain| Ok(domain.is_active()?), |domain| domain.create().map(drop))
}

/// By the power button alone: libvirt's default would ask the guest agent first and wait for one that hangs.
pub(super) fn shutdown(connect: &Connect, tag: &str, id: Uuid) -> Result<Change, Fault> {
    let press = |domain: &Domain| domain.shutdown_flags(sys::VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN).map(drop);
    change(connect, tag, id, off, press)
}

pub(super) fn destroy(connect: &Connect, tag: &str, id: Uuid) -> Result<Change, Fault> {
    match change(connect, tag, id, off, Domain::destroy) {
        Err(Fault::Vm(VmError::Missing(_))) => Ok(Change::AlreadySo),
        other => other,
    }
}

pub(super) fn pause(connect: &Connect, tag: &str, id: Uuid) -> Result<Change, Fault> {
    let so = |domain: &Domain| in_state(domain, sys::VIR_DOMAIN_PAUSED);
    change(connect, tag, id, so, |domain| domain.suspend().map(drop))
}

pub(super) fn resume(connect: &Connect, tag: &str, id: Uuid) -> Result<Change, Fault> {
    let so = |domain: &Domain| in_state(domain, sys::VIR_DOMAIN_RUNNING);
    change(connect, tag, id, so, |domain| domain.resume().map(drop))
}

/// The content of a TPM that the domain had once: libvirt removes that of one that its last definition has, and no other.
fn forget_tpm(id: Uuid) -> Result<(), VmError> {
    let folder = tpm_folder(id);
    match std::fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            let detail = format!("{}: {error}", folder.display());
            Err(VmError::Failed { call: "remove a TPM's content", detail })
        }
        _ => Ok(()),
    }
}

/// With whatever libvirt keeps beside it.
pub(super) fn undefine(connect: &Connect, tag: &str, id: Uuid) -> Result<Change, Fault> {
    let Some((domain, _)) = find(connect, tag, id)? else {
        // Where another has the id, the TPM is its.
        if lookup(connect, id)?.is_none() {
            forget_tpm(id)?;
        }
        return Ok(Change::AlreadySo);
    };
    // libvirt would undefine a running guest too, and it would run on as nobody's.
    if domain.is_active()? {
        return Err(VmError::Failed { call: "undefine", detail: "the guest runs".to_owned() }.into());
    }
    let with_all = sys::VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
        | sys::VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
        | sys::VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
        | sys::VIR_DOMAIN_UNDEFINE_NVRAM;
    let gone = unless(ErrorNumber::NoDomain, domain.undefine_flags(with_all))?;
    forget_tpm(id)?;
    Ok(if gone.is_some() { Change::Made } else { Change::AlreadySo })
}
