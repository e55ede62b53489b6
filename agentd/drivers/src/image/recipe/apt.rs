//! apt with a state of its own: its lists, its cache, an empty set of installed packages.
//!
//! The host's package database is neither read nor locked, so that a build and an `apt upgrade` do not meet, and what
//! a build finds does not depend on what is installed. The host's apt.conf still counts, for it names the proxy.

use std::path::{Path, PathBuf};

use super::Kitchen;
use super::sources::sources;
use crate::image::ImageError;
use crate::image::host::run::files;

/// The release that both recipes are made of.
pub(super) const RELEASE: &str = "bookworm";

pub(super) struct Apt<'a> {
    kitchen: &'a Kitchen<'a>,
    root: PathBuf,
}

impl<'a> Apt<'a> {
    /// Fetches the lists of what there is.
    pub(super) async fn open(kitchen: &'a Kitchen<'a>) -> Result<Self, ImageError> {
        const STEP: &str = "reading the package lists";
        let root = kitchen.scratch.join("apt");
        let (made, lines) = (root.clone(), host_sources(kitchen.mirror.clone()).await?);
        files(STEP, move || {
            for folder in ["state/lists/partial", "cache/archives/partial"] {
                std::fs::create_dir_all(made.join(folder))?;
            }
            std::fs::write(made.join("status"), "")?;
            std::fs::write(made.join("sources.list"), lines.join("\n") + "\n")
        })
        .await?;
        let apt = Self { kitchen, root };
        apt.run(STEP, "apt-get", &["-q", "update"]).await?;
        Ok(apt)
    }

    async fn run(&self, step: &str, program: &str, arguments: &[&str]) -> Result<String, ImageError> {
        let root = self.root.display();
        let program = self
            .kitchen
            .program(program)?
            .folder(&self.root)
            .args([
                "-o",
                "APT::Sandbox::User=root",
                "-o",
                "Acquire::Languages=none",
                "-o",
                "Acquire::Retries=3",
            ])
            .args(["-o", "Dir::Etc::sourceparts=/dev/null", "-o", "Dir::Etc::preferences=/dev/null"])
            .args(["-o", "Dir::Etc::preferencesparts=/dev/null", "-o", "APT::Architectures=amd64"])
            .args([
                "-o".to_owned(),
                format!("Dir::State={root}/state"),
                "-o".to_owned(),
                format!("Dir::Cache={root}/cache"),
                "-o".to_owned(),
                format!("Dir::State::status={root}/status"),
                "-o".to_owned(),
                format!("Dir::Etc::sourcelist={root}/sources.list"),
            ])
            .args(arguments);
        let text = self.kitchen.run(step, program).await?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// The package of the newest kernel that a package without a version stands for.
    pub(super) async fn newest_kernel(&self, stands_for: &str) -> Result<String, ImageError> {
        const STEP: &str = "finding the kernel's package";
        let text = self.run(STEP, "apt-cache", &["depends", stands_for]).await?;
        let package = text.lines().filter_map(|line| line.trim().strip_prefix("Depends: ")).find(|package| {
            package
                .strip_prefix("linux-image-")
                .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        });
        package.map(str::to_owned).ok_or_else(|| ImageError::Failed {
            step: STEP.to_owned(),
            detail: format!("{stands_for} depends on no kernel"),
        })
    }

    /// Fetches a package, checked against the signed lists, and unpacks it. Nothing of it is run.
    pub(super) async fn unpack(&self, package: &str, into: &Path) -> Result<(), ImageError> {
        let step = format!("fetching {package}");
        self.run(&step, "apt-get", &["-q", "download", package]).await?;
        let (folder, begins) = (self.root.clone(), format!("{package}_"));
        let names = files("looking for the package", move || {
            let entries = std::fs::read_dir(folder)?;
            Ok(entries.filter_map(|e| e.ok()?.file_name().into_string().ok()).collect::<Vec<_>>())
        })
        .await?;
        let name = names.iter().find(|name| name.starts_with(&begins) && name.ends_with(".deb"));
        let Some(name) = name else {
            return Err(ImageError::Failed { step, detail: "apt-get download left no file".to_owned() });
        };
        let unpack = self.kitchen.program("dpkg-deb")?.arg("-x").arg(self.root.join(name)).arg(into);
        self.kitchen.run(&format!("unpacking {package}"), unpack).await?;
        Ok(())
    }
}

/// The entries for our release, from what the host has.
pub(super) async fn host_sources(mirror: Option<String>) -> Result<Vec<String>, ImageError> {
    files("reading the host's apt sources", move || {
        let mut texts = Vec::new();
        let mut paths = vec![PathBuf::from("/etc/apt/sources.list")];
        let parts = std::fs::read_dir("/etc/apt/sources.list.d").into_iter().flatten();
        paths.extend(parts.filter_map(|entry| entry.ok().map(|e| e.path())));
        paths.sort();
        for path in paths {
            let name = path.to_string_lossy().into_owned();
            if (name.ends_with(".list") || name.ends_with(".sources")) && path.is_file() {
                texts.push((name, std::fs::read_to_string(path)?));
            }
        }
        let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
        let value = |key: &str| {
            release.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix('=').map(|v| v.trim_matches('"')))
        };
        let codename = (value("ID") == Some("debian")).then(|| value("VERSION_CODENAME")).flatten();
        Ok(sources(RELEASE, &texts, codename, mirror.as_deref()))
    })
    .await
}
