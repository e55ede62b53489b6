//! Programs that packaging runs, and where things are.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// The top of the sources.
pub fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap_or(Path::new(".")).to_owned()
}

/// Where cargo puts what it builds.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| top().join("target"), PathBuf::from)
}

#[expect(clippy::disallowed_methods, reason = "packaging starts programs; the rule is for the daemon")]
pub fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env("LC_ALL", "C.UTF-8");
    command
}

/// Its stdout, once it has ended well.
pub fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().with_context(|| format!("{name} cannot be started"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{name} failed ({}): {}", output.status, said.trim());
    }
    String::from_utf8(output.stdout).with_context(|| format!("what {name} wrote"))
}

/// When the commit was made, or what SOURCE_DATE_EPOCH says.
pub fn commit_time(top: &Path) -> Result<u64> {
    let text = match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => text,
        Err(_) => output(command("git").arg("-C").arg(top).args(["log", "-1", "--format=%ct"]))
            .context("neither SOURCE_DATE_EPOCH nor a commit says what time it is")?,
    };
    text.trim().parse().with_context(|| format!("'{}' is no time", text.trim()))
}

/// A time as `date` writes it, in UTC.
pub fn date(time: u64, format: &str) -> Result<String> {
    let text = output(command("date").args(["--utc", "--date", &format!("@{time}"), &format!("+{format}")]))?;
    Ok(text.trim().to_owned())
}
