//! Snapshots of the disks of a guest that runs, by QEMU itself: libvirt keeps no record of them, so none that could differ
//! from what is in the disks.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use uuid::Uuid;
use virt::connect::Connect;
use virt::domain::Domain;
use virt::domain_snapshot::DomainSnapshot;
use virt::sys;

use super::super::domains;
use super::super::fault::Fault;
use super::{name, table};
use crate::vm::VmError;
use crate::vm::xml::render_memory_snapshot;

/// For a job of libvirt's to end.
pub(super) const JOB_ENDS: Duration = Duration::from_secs(240);

pub(super) fn domain(connect: &Connect, tag: &str, vm: Uuid) -> Result<Domain, Fault> {
    let found = domains::find(connect, tag, vm)?;
    Ok(found.ok_or(VmError::Missing(vm))?.0)
}

/// One command to QEMU, and what it returned.
fn qmp(domain: &Domain, command: &Value) -> Result<Value, Fault> {
    let answer = domain.qemu_monitor_command(&command.to_string(), 0)?;
    let answer: Value = serde_json::from_str(&answer)
        .map_err(|error| failed(format!("QEMU's answer is no JSON: {error}")))?;
    if let Some(error) = answer.get("error") {
        let text = error["desc"].as_str().unwrap_or("no reason was given").to_owned();
        return Err(if text.contains("No space left on device") {
            VmError::Capacity(text).into()
        } else {
            failed(text)
        });
    }
    Ok(answer["return"].clone())
}

fn failed(detail: String) -> Fault {
    VmError::Failed { call: "take a snapshot", detail }.into()
}

/// QEMU's names of the nodes of these disks.
fn nodes(domain: &Domain, disks: &[PathBuf]) -> Result<Vec<String>, Fault> {
    let devices = qmp(domain, &json!({"execute": "query-block"}))?;
    let devices = devices.as_array().map(Vec::as_slice).unwrap_or_default();
    let node = |disk: &PathBuf| {
        let found = devices.iter().map(|device| &device["inserted"]).find(|inserted| {
            let file = inserted["image"]["filename"].as_str().or_else(|| inserted["file"].as_str());
            file.is_some_and(|file| Path::new(file) == disk)
        });
        let name = found.and_then(|inserted| inserted["node-name"].as_str());
        name.map(str::to_owned).ok_or_else(|| failed(format!("the guest has no disk {}", disk.display())))
    };
    disks.iter().map(node).collect()
}

/// A guest whose memory was written has let go of its disks, and QEMU dies of a command about them. It takes them back
/// when it runs on: here for a moment, where it is to stay paused. A memory that is still being written is that of a
/// process which was killed over it, and is waited for, up to `limit`. `call` is what it is in the way of.
pub(in crate::vm::libvirt) fn take_disks_back(
    domain: &Domain,
    (call, limit): (&'static str, Duration),
) -> Result<(), Fault> {
    await_job(domain, (call, limit))?;
    // Such a guest is a paused one to libvirt; no other needs to be asked.
    if !domains::in_state(domain, sys::VIR_DOMAIN_PAUSED)? {
        return Ok(());
    }
    if qmp(domain, &json!({"execute": "query-status"}))?["status"] == "postmigrate" {
        domain.resume()?;
        domain.suspend()?;
    }
    Ok(())
}

/// Waits for what libvirt is at with this guest on behalf of a process that was killed over it.
pub(super) fn await_job(domain: &Domain, (call, limit): (&'static str, Duration)) -> Result<(), Fault> {
    let until = Instant::now() + limit;
    // A guest that went off meanwhile has no job either; what follows says that it is off.
    while domain.get_job_info().is_ok_and(|job| job.r#type != sys::VIR_DOMAIN_JOB_NONE as i32) {
        if Instant::now() > until {
            let detail = "libvirt is busy with this guest".to_owned();
            return Err(VmError::Failed { call, detail }.into());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Takes a snapshot of all disks as one, or of none.
pub(super) fn take(domain: &Domain, disks: &[PathBuf], id: Uuid) -> Result<(), Fault> {
    take_disks_back(domain, ("take a snapshot", JOB_ENDS))?;
    let actions = nodes(domain, disks)?.into_iter().map(
        |node| json!({"type": "blockdev-snapshot-internal-sync", "data": {"device": node, "name": name(id)}}),
    );
    let actions: Vec<Value> = actions.collect();
    qmp(domain, &json!({"execute": "transaction", "arguments": {"actions": actions}})).map(drop)
}

/// Whether any of the disks had it.
pub(super) fn delete(domain: &Domain, disks: &[PathBuf], id: Uuid) -> Result<bool, Fault> {
    let mut having = Vec::new();
    for disk in disks {
        if table(disk)?.iter().any(|s| s.name == name(id)) {
            having.push(disk.clone());
        }
    }
    if !having.is_empty() {
        take_disks_back(domain, ("delete a snapshot", JOB_ENDS))?;
    }
    for node in nodes(domain, &having)? {
        let arguments = json!({"device": node, "name": name(id)});
        let command = json!({"execute": "blockdev-snapshot-delete-internal-sync", "arguments": arguments});
        qmp(domain, &command)?;
    }
    Ok(!having.is_empty())
}

/// Writes the memory of a guest that is paused into a file.
pub(super) fn memory(domain: &Domain, file: &str, disks: &[String]) -> Result<(), Fault> {
    let xml = render_memory_snapshot(file, disks);
    DomainSnapshot::create_xml(domain, &xml, sys::VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA)?;
    Ok(())
}
