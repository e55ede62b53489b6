//! `cargo xtask deb|rpm`: agentd as a package.
//!
//! ```text
//! programs.rs  builds and strips the programs                manual.rs   manual pages and completions, from the CLIs
//! tree.rs      what the package puts where                   deb.rs, rpm.rs   the tree as a package
//! ```
//!
//! The same commit gives the same bytes: every time in a package is the commit's (or SOURCE_DATE_EPOCH), every owner is
//! root, every list is sorted, nothing of the builder's is named. The compiler's part of that holds where the sources lie at the
//! same path.

mod deb;
mod manual;
mod programs;
mod rpm;
mod run;
mod tree;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};

/// Makes packages of agentd
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// A .deb for Debian 12 and Ubuntu 24.04 or later; needs dpkg-dev
    Deb(How),
    /// A .rpm; needs rpmbuild
    Rpm(How),
}

#[derive(Debug, Args)]
struct How {
    /// The profile that agentd and agentctl are built in
    #[arg(long, default_value = "release")]
    profile: String,
    /// Pack the programs that the target folder has of that profile, whatever they were built of
    #[arg(long)]
    as_built: bool,
    /// The package's revision of this version
    #[arg(long, default_value_t = 1)]
    revision: u32,
    /// Where the package goes [default: the target folder]
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
}

/// What both sorts of packages say.
struct Release {
    version: &'static str,
    revision: u32,
    /// Seconds since 1970: of the commit.
    time: u64,
    /// As for a release, or quickly.
    small: bool,
    out: PathBuf,
}

const MAINTAINER: &str = "agentd maintainers <agentd@packages.invalid>";
const SUMMARY: &str = "turns one Linux host into a cloud";
const DESCRIPTION: &str = "agentd makes virtual machines with libvirt, containers with Docker, networks and volumes, keeps them as they were \
asked for, and reports only what it saw. agentctl is its command line. It is one process whose store is a file.";

fn main() -> Result<()> {
    let what = Arguments::parse().what;
    let (What::Deb(how) | What::Rpm(how)) = &what;
    let top = run::top();
    let target = run::target();
    let release = Release {
        version: env!("CARGO_PKG_VERSION"),
        revision: how.revision,
        time: run::commit_time(&top)?,
        small: how.profile != "dev",
        out: how.out.clone().unwrap_or(target),
    };
    let scratch = tempfile::tempdir().context("a scratch folder")?;
    if !how.as_built {
        programs::build(&how.profile)?;
    }
    let programs = programs::strip(&how.profile, scratch.path())?;
    let tree = tree::of(&top, &programs)?;
    let package = match what {
        What::Deb(_) => deb::make(&tree, &release)?,
        What::Rpm(_) => rpm::make(&tree, &release)?,
    };
    println!("{}", package.display());
    Ok(())
}
