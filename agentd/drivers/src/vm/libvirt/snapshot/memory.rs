//! Files of a guest's memory: written, looked at, started from, removed.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use agentd_api::ByteSize;
use parking_lot::Mutex;
use uuid::Uuid;
use virt::connect::Connect;
use virt::domain::Domain;
use virt::sys;

use super::super::domains;
use super::super::fault::Fault;
use super::live;
use crate::vm::snapshot::OwnDisks;
use crate::vm::{Change, VmError, xml};

/// What libvirt begins a file with once it is whole. Until then it is another word of the same length.
const WHOLE: &[u8; 16] = b"LibvirtQemudSave";
/// How long resuming a guest is tried, and how long a process that ends waits for that.
const RESUME_FOR: Duration = Duration::from_secs(10);

/// The guests that are paused while their memory is written.
#[derive(Debug, Clone, Default)]
pub(in crate::vm::libvirt) struct Writing(Arc<Mutex<BTreeSet<Uuid>>>);

impl Writing {
    pub(in crate::vm::libvirt) fn guests(&self) -> Vec<Uuid> {
        self.0.lock().iter().copied().collect()
    }
}

/// What a file takes on disk; None where it is not there or not whole.
pub(super) fn whole(file: &Path) -> Result<Option<ByteSize>, VmError> {
    let read = || -> io::Result<Option<ByteSize>> {
        let mut open = match File::open(file) {
            Ok(open) => open,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut begins = [0u8; 16];
        match open.read_exact(&mut begins) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            other => other?,
        }
        Ok((&begins == WHOLE).then_some(ByteSize(open.metadata()?.blocks() * 512)))
    };
    read().map_err(|error| failed("read a guest's memory", file, &error))
}

/// Whether it was there.
pub(super) fn forget(file: &Path) -> Result<bool, VmError> {
    match std::fs::remove_file(file) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed("remove a guest's memory", file, &error)),
    }
}

fn failed(call: &'static str, file: &Path, error: &io::Error) -> VmError {
    VmError::Failed { call, detail: format!("{}: {error}", file.display()) }
}

fn text(file: &Path) -> Result<&str, VmError> {
    file.to_str().ok_or_else(|| VmError::Refused(format!("the path '{}' is not UTF-8", file.display())))
}

fn sync(file: &Path) -> Result<(), VmError> {
    let synced = File::open(file).and_then(|open| open.sync_all());
    let folder = file.parent().map_or(Ok(()), |folder| File::open(folder).and_then(|open| open.sync_all()));
    synced.and(folder).map_err(|error| failed("write a guest's memory", file, &error))
}

/// libvirt says in many ways that the disk is full, and in some of them not at all.
fn full_or(error: Fault, file: &Path) -> Fault {
    let free = file.parent().and_then(|folder| nix::sys::statvfs::statvfs(folder).ok());
    let free = free.map_or(u64::MAX, |fs| fs.blocks_available() * fs.fragment_size());
    match error {
        Fault::Libvirt(error) if free < 1 << 20 || error.message().contains("No space left") => {
            VmError::Capacity(format!("the disk is full: {}", error.message())).into()
        }
        other => other,
    }
}

/// Ends the domain. Where that fails the file is removed, and libvirt has let the guest go on.
pub(super) fn save(domain: &Domain, file: &Path) -> Result<ByteSize, Fault> {
    // One that was begun by a process which was killed over it ends by itself, and its file is the guest.
    live::await_job(domain, ("save a guest's memory", live::JOB_ENDS))?;
    if !domain.is_active()? {
        let off = || VmError::Failed { call: "save a guest's memory", detail: "the guest is off".to_owned() };
        return whole(file)?.ok_or_else(|| off().into());
    }
    forget(file)?;
    let path = CString::new(text(file)?).map_err(|_| VmError::Nul(file.display().to_string()))?;
    let saved = super::super::ffi::save(domain, &path);
    let size = match saved {
        Ok(_) => sync(file).and_then(|()| whole(file)).map_err(Fault::from),
        Err(error) => Err(full_or(error.into(), file)),
    };
    match size {
        Ok(Some(size)) => Ok(size),
        Ok(None) => {
            let detail = "libvirt left half of it".to_owned();
            Err(VmError::Failed { call: "save a guest's memory", detail }.into())
        }
        Err(error) => {
            if domain.is_active().unwrap_or(true) {
                // The error says what is wrong; that the file could not be removed either adds nothing.
                let _ = forget(file);
            }
            Err(error)
        }
    }
}

/// A domain to be started from a file.
pub(super) struct Start {
    pub(super) vm: Uuid,
    pub(super) file: PathBuf,
    pub(super) digest: String,
    pub(super) xml: String,
    pub(super) paused: bool,
}

impl Start {
    pub(super) fn run(&self, connect: &Connect, tag: &str) -> Result<Change, Fault> {
        let (domain, _) = domains::find(connect, tag, self.vm)?.ok_or(VmError::Missing(self.vm))?;
        if domain.is_active()? {
            return Ok(Change::AlreadySo);
        }
        let file = text(&self.file)?;
        if whole(&self.file)?.is_none() {
            let detail = format!("{file} is not there, or not whole");
            return Err(VmError::Failed { call: "start a guest from its memory", detail }.into());
        }
        // The machine as it was saved knows best which device sat where. Another is put in its place only where it is to
        // be another, and libvirt refuses one that the guest would notice.
        let saved = Domain::save_image_get_xml_desc(connect, file, 0)?;
        let same = xml::read_mark(&saved).is_some_and(|mark| mark.digest == self.digest);
        let other = (!same).then(|| xml::on_the_cpu_of(&saved, &self.xml));
        if !same && !xml::same_firmware(&saved, &self.xml) {
            let text = "the memory is of a machine with another firmware or TPM than this VM has now";
            return Err(VmError::Refused(text.to_owned()).into());
        }
        let how = if self.paused { sys::VIR_DOMAIN_SAVE_PAUSED } else { sys::VIR_DOMAIN_SAVE_RUNNING };
        match Domain::domain_restore_flags(connect, file, other.as_deref(), how) {
            Ok(()) => Ok(Change::Made),
            Err(error) if error.message().contains("does not match source") => {
                let text =
                    format!("the memory is of another machine than this VM is now: {}", error.message());
                Err(VmError::Refused(text).into())
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// A snapshot with memory, of a guest that is up.
pub(super) struct Job {
    pub(super) id: Uuid,
    pub(super) of: OwnDisks,
    pub(super) file: PathBuf,
    pub(super) writing: Writing,
}

impl Job {
    /// Disks and memory of one moment: the guest is paused from before the one until after the other.
    pub(super) fn run(&self, connect: &Connect, tag: &str) -> Result<(), Fault> {
        let domain = live::domain(connect, tag, self.of.vm)?;
        let ran = domain.get_state()?.0 == sys::VIR_DOMAIN_RUNNING;
        let targets = xml::disk_targets(&domain.get_xml_desc(0)?);
        let half = self.file.with_extension("new");
        forget(&half)?;
        self.writing.0.lock().insert(self.of.vm);
        let written = self.write(&domain, ran, &half, &targets);
        let back = || live::take_disks_back(&domain, ("take a snapshot", live::JOB_ENDS));
        let resumed = if ran { resume(&domain) } else { back() };
        self.writing.0.lock().remove(&self.of.vm);
        let done = written.and_then(|()| {
            sync(&half)?;
            std::fs::rename(&half, &self.file).map_err(|e| failed("write a guest's memory", &half, &e))?;
            Ok(sync(&self.file)?)
        });
        if let Err(error) = done {
            let error = full_or(error, &self.file);
            let _ = (forget(&half), forget(&self.file), live::delete(&domain, &self.of.disks, self.id));
            return Err(error);
        }
        resumed
    }

    fn write(&self, domain: &Domain, ran: bool, half: &Path, targets: &[String]) -> Result<(), Fault> {
        if ran {
            domain.suspend()?;
        }
        live::take(domain, &self.of.disks, self.id)?;
        live::memory(domain, text(half)?, targets)
    }
}

/// Tried for a while: a job of libvirt's may be in the way.
fn resume(domain: &Domain) -> Result<(), Fault> {
    let until = Instant::now() + RESUME_FOR;
    loop {
        let Err(error) = domain.resume() else { return Ok(()) };
        if !domain.is_active().unwrap_or(true) || domain.get_state()?.0 == sys::VIR_DOMAIN_RUNNING {
            return Ok(());
        }
        if Instant::now() > until {
            return Err(error.into());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
