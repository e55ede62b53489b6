//! How guests run on this host: under KVM, or under QEMU's own emulation (TCG).
//!
//! That `/dev/kvm` opens proves nothing, so a small real guest is run under KVM with a deadline, in the way that VMs are
//! run (q35, the host's processor), once in a boot of the host. The answer is kept in `accel.json` of the state
//! directory, with the boot's id and the emulator's identity; where either differs, the guest is run again. When the
//! trial itself cannot be made (no QEMU), the answer is TCG, says so, and is not kept. A guest that was not done in time
//! proves nothing where the same guest is not done in time under TCG either: the host is too busy to tell.

mod payload;
#[cfg(test)]
mod tests;

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agentd_api::vm::Accel;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::AccelAnswer;
use crate::exec::{self, ExecError, Program};
use crate::fault::chain;

const QEMU: &str = "qemu-system-x86_64";
const KVM: &str = "/dev/kvm";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";
/// A guest that works is done in a fifth of a second; the rest is for a host that is busy.
const DEADLINE: Duration = Duration::from_secs(20);

/// What the administrator asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AccelWish {
    #[default]
    Auto,
    Kvm,
    Tcg,
}

/// Answers how guests run. The first answer may take seconds; those who ask meanwhile wait for the same trial.
#[derive(Debug)]
pub struct AccelProbe {
    wish: AccelWish,
    kept_at: PathBuf,
    answer: Mutex<Option<AccelAnswer>>,
    /// What stands in KVM's way and was told: it is asked about again while it does.
    told: Mutex<Option<String>>,
}

/// What is kept between starts of the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    boot_id: String,
    /// Path, size and modification time of the emulator.
    qemu: String,
    accel: Accel,
    reason: String,
}

/// What became of the trial guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trial {
    /// How many of the guest's steps were done.
    pub steps: usize,
    pub of: usize,
    /// What the next step would have been; None when all were done.
    pub next: Option<&'static str>,
    /// How it ended where that was not as it should: QEMU's own words, or the deadline.
    pub trouble: Option<String>,
    /// It was ended because its time was over.
    pub late: bool,
}

impl Trial {
    pub fn passed(&self) -> bool {
        self.next.is_none() && self.trouble.is_none()
    }
}

impl AccelProbe {
    pub fn new(wish: AccelWish, state_dir: &Path) -> Self {
        Self { wish, kept_at: state_dir.join("accel.json"), answer: Mutex::new(None), told: Mutex::new(None) }
    }

    pub async fn answer(&self) -> AccelAnswer {
        let mut answer = self.answer.lock().await;
        if let Some(known) = &*answer {
            return known.clone();
        }
        if let Some((what, mend)) = kvm_trouble() {
            let mut told = self.told.lock().await;
            if told.as_ref() != Some(&what) {
                tracing::warn!(hint = %mend, "{what}");
                *told = Some(what);
            }
        }
        match self.find_out().await {
            Ok(found) => {
                tracing::info!(accel = found.accel.as_str(), reason = %found.reason, "how guests run on this host");
                answer.insert(found).clone()
            }
            // Not kept: what stands in the way may be mended while the daemon runs.
            Err(reason) => AccelAnswer { accel: Accel::Tcg, reason, settled: false },
        }
    }

    /// Err with the reason why nothing could be found out.
    async fn find_out(&self) -> Result<AccelAnswer, String> {
        let forced = |accel: Accel, more: &str| {
            let reason = format!("[vm] accel = \"{}\" in the configuration{more}", accel.as_str());
            Ok(settled(accel, reason))
        };
        match (self.wish, std::fs::File::options().read(true).write(true).open(KVM)) {
            (AccelWish::Tcg, _) => forced(Accel::Tcg, ""),
            (AccelWish::Kvm, Ok(_)) => forced(Accel::Kvm, ""),
            (AccelWish::Kvm, Err(error)) => {
                forced(Accel::Kvm, &format!(", but {KVM} cannot be opened: {error}"))
            }
            (AccelWish::Auto, Err(error)) if error.kind() == std::io::ErrorKind::NotFound => {
                Ok(settled(Accel::Tcg, format!("there is no {KVM}")))
            }
            (AccelWish::Auto, Err(error)) => Err(format!("{KVM} cannot be opened: {error}")),
            (AccelWish::Auto, Ok(_)) => self.remembered_or_tried().await,
        }
    }

    async fn remembered_or_tried(&self) -> Result<AccelAnswer, String> {
        let boot_id = std::fs::read_to_string(BOOT_ID).unwrap_or_default().trim().to_owned();
        let qemu = qemu_identity().map_err(|error| format!("KVM could not be tried: {}", chain(&error)))?;
        if let Some(kept) = self.read_kept().filter(|kept| kept.boot_id == boot_id && kept.qemu == qemu) {
            return Ok(settled(kept.accel, kept.reason));
        }
        let untried = |error| format!("KVM could not be tried: {error}");
        let trial = try_guest("kvm", "host").await.map_err(untried)?;
        let without = match trial.late {
            true => Some(try_guest("tcg", "max").await.map_err(untried)?),
            false => None,
        };
        let answer = judge(&trial, without.as_ref())?;
        let kept = Kept { boot_id, qemu, accel: answer.accel, reason: answer.reason.clone() };
        if let Err(error) = self.keep(&kept) {
            tracing::warn!(path = %self.kept_at.display(), %error, "the answer about KVM could not be kept");
        }
        Ok(answer)
    }

    /// What cannot be read or is of another shape is as good as nothing: the guest is run again.
    fn read_kept(&self) -> Option<Kept> {
        serde_json::from_slice(&std::fs::read(&self.kept_at).ok()?).ok()
    }

    fn keep(&self, kept: &Kept) -> std::io::Result<()> {
        let folder = self.kept_at.parent().unwrap_or(Path::new("/"));
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        serde_json::to_writer_pretty(&mut file, kept)?;
        file.as_file().sync_all()?;
        file.persist(&self.kept_at)?;
        Ok(())
    }
}

/// What is amiss with `/dev/kvm` as libvirt sees it, and how to mend it; None where nothing is, or where it is not there.
///
/// Where only root may open it, libvirt's own look finds KVM (with root's rights) and then does not (as QEMU's user): it
/// takes what it knows of QEMU for outdated each time, and runs QEMU for some seconds on almost every call. udev sets
/// the mode up on a host that has it; in a container nobody does.
pub fn kvm_trouble() -> Option<(String, String)> {
    let facts = std::fs::metadata(KVM).ok()?;
    (facts.mode() & 0o066 == 0).then(|| {
        let what =
            format!("only root may open {KVM}, which makes libvirt run QEMU anew on almost every call");
        (what, format!("chgrp kvm {KVM} && chmod 0660 {KVM}"))
    })
}

/// The feature by which this host's processors run guests, as they show it: it can be given on to a guest.
pub fn nesting() -> Option<&'static str> {
    static SHOWN: std::sync::OnceLock<Option<&'static str>> = std::sync::OnceLock::new();
    *SHOWN.get_or_init(|| {
        let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let flags = text.lines().find(|line| line.starts_with("flags"))?;
        ["vmx", "svm"].into_iter().find(|feature| flags.split_whitespace().any(|flag| flag == *feature))
    })
}

fn settled(accel: Accel, reason: String) -> AccelAnswer {
    AccelAnswer { accel, reason, settled: true }
}

/// Of a trial under KVM and, where that was not done in time, of one without.
fn judge(trial: &Trial, without: Option<&Trial>) -> Result<AccelAnswer, String> {
    if trial.passed() {
        let reason = format!("a trial guest ran under KVM and did all its {} steps", trial.of);
        return Ok(settled(Accel::Kvm, reason));
    }
    if without.is_some_and(|without| !without.passed()) {
        let within = DEADLINE.as_secs();
        return Err(format!(
            "KVM could not be tried: no guest is done here within {within} s, with KVM or without"
        ));
    }
    let how = trial.trouble.as_deref().unwrap_or("the guest was reset");
    let at = trial.next.map(|next| format!(" at '{next}'")).unwrap_or_default();
    let reason =
        format!("a trial guest under KVM did {} of its {} steps and ended{at}: {how}", trial.steps, trial.of);
    Ok(settled(Accel::Tcg, reason))
}

fn qemu_identity() -> Result<String, ExecError> {
    let path = exec::find(QEMU)?;
    let facts =
        std::fs::metadata(&path).map_err(|source| ExecError::Start { program: QEMU.to_owned(), source })?;
    Ok(format!("{} {} {}", path.display(), facts.len(), facts.mtime()))
}

/// Runs the trial guest with QEMU's `accelerator` and `cpu`. Err where it could not even be begun.
pub async fn try_guest(accelerator: &str, cpu: &str) -> Result<Trial, String> {
    let folder = tempfile::tempdir().map_err(|error| format!("no temporary folder: {error}"))?;
    let kernel = folder.path().join("trial");
    std::fs::write(&kernel, payload::GUEST).map_err(|error| format!("{}: {error}", kernel.display()))?;
    // The debug console is QEMU's stderr: its lines arrive one by one, so they are known even when QEMU is killed.
    let program = Program::new(QEMU)
        .args(["-machine", &format!("q35,accel={accelerator}"), "-cpu", cpu, "-smp", "1", "-m", "32"])
        .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-sandbox", "on"])
        .args([
            "-chardev",
            "file,id=steps,path=/dev/stderr",
            "-device",
            "isa-debugcon,iobase=0xe9,chardev=steps",
        ])
        .arg("-kernel")
        .arg(&kernel)
        .deadline(DEADLINE);
    let (mut steps, mut said) = (0, Vec::new());
    let ended = program
        .run_watched(|line| match line.trim() {
            step if step == (steps + 1).to_string() => steps += 1,
            "" => (),
            other => said.push(other.to_owned()),
        })
        .await;
    let late = matches!(ended, Err(ExecError::Deadline { .. }));
    let trouble = match ended {
        Ok(_) => None,
        Err(error @ (ExecError::Missing(_) | ExecError::Start { .. })) => return Err(chain(&error)),
        Err(ExecError::Status { status, .. }) => Some(format!("QEMU: {} ({status})", said.join("; "))),
        Err(error) => Some(error.to_string()),
    };
    Ok(Trial { steps, of: payload::STEPS.len(), next: payload::STEPS.get(steps).copied(), trouble, late })
}
