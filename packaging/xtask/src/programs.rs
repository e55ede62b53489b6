//! The programs, built and stripped: agentd and agentctl, which are one file, and the one for guests.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::run::{command, output, target, top};

/// What they may have together, as they are released.
const BYTES_MAX: u64 = 25_000_000;

pub struct Programs {
    /// agentctl where it is called so.
    pub agentd: PathBuf,
    pub guest: PathBuf,
}

/// Where cargo puts them.
fn folder(profile: &str) -> PathBuf {
    target().join(if profile == "dev" { "debug" } else { profile })
}

pub fn build(profile: &str) -> Result<()> {
    let top = top();
    let mut cargo = command(&std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()));
    cargo.current_dir(&top).args(["build", "--locked", "--quiet", "--profile", profile]);
    output(cargo.args(["--package", "agentd-one"]))?;
    output(command(&top.join("packaging/build-guest").to_string_lossy()).arg(folder(profile)))?;
    Ok(())
}

/// Puts those that are built stripped into `into`.
pub fn strip(profile: &str, into: &Path) -> Result<Programs> {
    let built = folder(profile);
    let stripped = |name: &str| -> Result<PathBuf> {
        let to = into.join(name);
        output(command("strip").arg("--strip-all").arg("-o").arg(&to).arg(built.join(name)))?;
        Ok(to)
    };
    let programs = Programs { agentd: stripped("agentd-one")?, guest: stripped("agentd-guest")? };
    let sizes = [&programs.agentd, &programs.guest]
        .iter()
        .map(|path| std::fs::metadata(path).map(|m| m.len()).with_context(|| path.display().to_string()))
        .collect::<Result<Vec<u64>>>()?;
    let sum: u64 = sizes.iter().sum();
    eprintln!("programs of {profile}: {:.1} MB together", sum as f64 / 1e6);
    ensure!(profile == "dev" || sum <= BYTES_MAX, "the programs have {sum} bytes, which is over {BYTES_MAX}");
    Ok(programs)
}
