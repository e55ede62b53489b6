//! Programs and blocking work of this driver, with errors that say which step failed.
//!
//! A program that was started here must not outlive a daemon that is killed: the next one would start its own and two
//! would write one file. So each is told by the kernel to die with its parent (`setpriv --pdeathsig`), and one that
//! mounts things gets a mount and process namespace of its own, which takes all of that with it.

use std::ffi::OsStr;
use std::io;

use agentd_api::Progress;

use crate::exec::{ExecError, Program, find};
use crate::image::{ImageError, Work};

/// `name`, which dies when we do. What it starts in turn may not: see [`contained`].
pub(crate) fn program(name: &str, work: &Work) -> Result<Program, ImageError> {
    let path = find(name).map_err(|error| failed(name, error))?;
    let guard = find("setpriv").map_err(|error| failed(name, error))?;
    let program = Program::new(guard.to_string_lossy().into_owned());
    Ok(program.args(["--pdeathsig", "KILL", "--"]).arg(path).cancel(work.cancel.clone()))
}

/// `name` in namespaces of its own: its mounts and all its processes end with it, and it with us.
pub(crate) fn contained(name: &str, work: &Work) -> Result<Program, ImageError> {
    let path = find(name).map_err(|error| failed(name, error))?;
    let flags = ["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"];
    Ok(program("unshare", work)?.args(flags).arg(path))
}

/// A program's error as this driver's, told by the step and not by the guard it was run under.
pub(crate) fn failed(step: &str, error: ExecError) -> ImageError {
    match error {
        ExecError::Missing(program) => ImageError::ProgramMissing { program },
        ExecError::Cancelled { .. } => ImageError::Cancelled,
        ExecError::Status { stderr, .. } if no_room(&stderr) => ImageError::Capacity(last_line(&stderr)),
        ExecError::Status { status, stderr, .. } => {
            ImageError::Failed { step: step.to_owned(), detail: format!("{stderr} ({status})") }
        }
        error => ImageError::Failed { step: step.to_owned(), detail: crate::fault::chain(&error) },
    }
}

fn no_room(stderr: &str) -> bool {
    ["No space left on device", "Disk quota exceeded", "Read-only file system"]
        .iter()
        .any(|text| stderr.contains(text))
}

pub(super) fn last_line(text: &str) -> String {
    text.lines().last().unwrap_or_default().trim().to_owned()
}

/// An error of the file system as this driver's.
pub(crate) fn broken(step: &str, error: &io::Error) -> ImageError {
    use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    match error.kind() {
        StorageFull | QuotaExceeded | ReadOnlyFilesystem => ImageError::Capacity(error.to_string()),
        _ => ImageError::Failed { step: step.to_owned(), detail: error.to_string() },
    }
}

/// Runs what blocks on a thread for that. It goes on to its end even when nobody waits for it any more.
pub(crate) async fn blocking<T: Send + 'static>(
    step: &str,
    work: impl FnOnce() -> Result<T, ImageError> + Send + 'static,
) -> Result<T, ImageError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| ImageError::Failed { step: step.to_owned(), detail: error.to_string() })?
}

/// As [`blocking`], for what fails only as the file system does.
pub(crate) async fn files<T: Send + 'static>(
    step: &'static str,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, ImageError> {
    blocking(step, move || work().map_err(|error| broken(step, &error))).await
}

/// Says how far the work is.
pub(crate) fn report(work: &Work, step: &str, done: u64, total: Option<u64>, unit: &str) {
    let (step, unit) = (step.to_owned(), unit.to_owned());
    work.progress.send_replace(Progress { step, done, total, unit, ..Progress::default() });
}

/// qemu-img, by its arguments.
pub(super) fn qemu_img<A: AsRef<OsStr>>(
    work: &Work,
    arguments: impl IntoIterator<Item = A>,
) -> Result<Program, ImageError> {
    Ok(program("qemu-img", work)?.args(arguments))
}

#[cfg(test)]
mod tests;
