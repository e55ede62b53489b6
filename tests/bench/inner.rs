//! This program again, within a namespace of its own: for rows of real guests on a host of their own.

use std::path::Path;
use std::process::Stdio;

use agent_tests::door;
use agent_tests::host::namespace;
use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Where the figures are left, in the scratch folder.
const FIGURES: &str = "took";

/// Outside: has it measure so many times in that role, and gives what it left. An error has all that was said inside.
/// What runs inside ends with the namespace.
pub fn run<T: DeserializeOwned>(role: &str, times: usize) -> Result<T> {
    let scratch = namespace::scratch_folder()?;
    // Images are built of packages, which are fetched outside.
    door::serve(&scratch.path().join("door.sock"))?;
    let said = std::fs::File::create(scratch.path().join("output"))?;
    let status = namespace::command(scratch.path())
        .arg(std::env::current_exe()?)
        .arg(role)
        .arg(times.to_string())
        .stdin(Stdio::null())
        .stdout(said.try_clone()?)
        .stderr(said)
        .status()
        .context("unshare (util-linux)")?;
    let said = std::fs::read_to_string(scratch.path().join("output"))?;
    ensure!(status.success(), "inside its namespace ({status}):\n{said}");
    Ok(serde_json::from_slice(&std::fs::read(scratch.path().join(FIGURES))?)?)
}

/// Inside: leaves the figures.
pub fn leave(scratch: &Path, took: &impl Serialize) -> Result<()> {
    Ok(std::fs::write(scratch.join(FIGURES), serde_json::to_vec(took)?)?)
}
