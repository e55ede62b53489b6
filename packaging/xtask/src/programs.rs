//! The three programs, built and stripped.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::run::{command, output, target, top};

/// What all three may have together.
const BYTES_MAX: u64 = 25 << 20;

pub struct Programs {
    pub agentd: PathBuf,
    pub agentctl: PathBuf,
    pub guest: PathBuf,
}

/// Builds them, and puts them stripped into `into`.
pub fn build(profile: &str, into: &Path) -> Result<Programs> {
    let top = top();
    let mut cargo = command(&std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()));
    cargo.current_dir(&top).args(["build", "--locked", "--quiet", "--profile", profile]);
    output(cargo.args(["--package", "agentd", "--package", "agentctl"]))?;
    let built = target().join(if profile == "dev" { "debug" } else { profile });
    output(command(&top.join("packaging/build-guest").to_string_lossy()).arg(&built))?;
    let stripped = |name: &str| -> Result<PathBuf> {
        let to = into.join(name);
        output(command("strip").arg("--strip-all").arg("-o").arg(&to).arg(built.join(name)))?;
        Ok(to)
    };
    let programs = Programs {
        agentd: stripped("agentd")?,
        agentctl: stripped("agentctl")?,
        guest: stripped("agentd-guest")?,
    };
    let sizes = [&programs.agentd, &programs.agentctl, &programs.guest]
        .iter()
        .map(|path| std::fs::metadata(path).map(|m| m.len()).with_context(|| path.display().to_string()))
        .collect::<Result<Vec<u64>>>()?;
    let sum: u64 = sizes.iter().sum();
    let mega = |bytes: u64| format!("{:.1} MB", bytes as f64 / f64::from(1 << 20));
    let over = if sum > BYTES_MAX { format!(", which is over {}", mega(BYTES_MAX)) } else { String::new() };
    eprintln!("programs of {profile}: {} together{over}", mega(sum));
    Ok(programs)
}
