//! What the package puts where, in the same order for the same files.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use anyhow::{Context, Result};

use crate::manual;
use crate::programs::Programs;

/// A file of the package.
pub struct File {
    /// From the root of the system, without a first slash.
    pub path: PathBuf,
    pub content: Vec<u8>,
    pub mode: u32,
    /// What the administrator changes stays over an upgrade.
    pub kept: bool,
}

/// A folder that the package has for itself.
pub struct Folder {
    pub path: &'static str,
    pub mode: u32,
}

/// A name for a file beside it.
pub struct Link {
    pub path: &'static str,
    pub to: &'static str,
}

pub struct Tree {
    pub files: Vec<File>,
    pub folders: Vec<Folder>,
    pub links: Vec<Link>,
    /// The one whose libraries are needed.
    pub program: PathBuf,
}

impl File {
    pub fn plain(path: impl Into<PathBuf>, content: Vec<u8>) -> Self {
        Self { path: path.into(), content, mode: 0o644, kept: false }
    }
}

const UNITS: &str = "usr/lib/systemd/system";

pub fn of(top: &Path, programs: &Programs) -> Result<Tree> {
    let read = |path: &Path| fs::read(path).with_context(|| path.display().to_string());
    let plain = |to: &str, from: &str| Ok::<_, anyhow::Error>(File::plain(to, read(&top.join(from))?));
    let program =
        |to: &str, from: &Path| Ok::<_, anyhow::Error>(File { mode: 0o755, ..File::plain(to, read(from)?) });
    let mut files = vec![
        program("usr/bin/agentd", &programs.agentd)?,
        program("usr/lib/agentd/agentd-guest", &programs.guest)?,
        File { kept: true, ..plain("etc/agentd/agentd.toml", "packaging/agentd.toml")? },
        plain(&format!("{UNITS}/agentd.service"), "systemd/agentd.service")?,
        plain(&format!("{UNITS}/agentd-guests.service"), "systemd/agentd-guests.service")?,
        plain("usr/lib/agentd/podman.conf", "systemd/agentd-podman.conf")?,
        program("usr/lib/systemd/system-generators/agentd-podman", &top.join("systemd/podman-generator"))?,
        program("usr/lib/agentd/stop-guests", &top.join("systemd/stop-guests"))?,
        plain(&format!("{UNITS}/agentd.socket"), "systemd/agentd.socket")?,
        plain(&format!("{UNITS}/agentd-dnsmasq@.service"), "systemd/agentd-dnsmasq@.service")?,
        plain(&format!("{UNITS}/agentd-mac@.service"), "systemd/agentd-mac@.service")?,
        plain("usr/lib/sysusers.d/agentd.conf", "systemd/agentd.sysusers")?,
        plain("usr/lib/tmpfiles.d/agentd.conf", "systemd/agentd.tmpfiles")?,
        plain("usr/lib/sysctl.d/60-agentd.conf", "systemd/agentd.sysctl")?,
    ];
    files.extend(manual::files()?);
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let folders = vec![
        Folder { path: "etc/agentd/conf.d", mode: 0o755 },
        Folder { path: "etc/agentd/secrets", mode: 0o700 },
    ];
    let links = vec![Link { path: "usr/bin/agentctl", to: "agentd" }];
    Ok(Tree { files, folders, links, program: programs.agentd.clone() })
}

impl Tree {
    /// Writes all of it below `root`, which is empty.
    pub fn write(&self, root: &Path, more: &[File]) -> Result<()> {
        for folder in &self.folders {
            make(root, Path::new(folder.path))?;
        }
        for file in self.files.iter().chain(more) {
            let path = root.join(&file.path);
            make(root, file.path.parent().unwrap_or(Path::new("")))?;
            fs::write(&path, &file.content).with_context(|| path.display().to_string())?;
            fs::set_permissions(&path, fs::Permissions::from_mode(file.mode))?;
        }
        for link in &self.links {
            symlink(link.to, root.join(link.path)).with_context(|| link.path.to_owned())?;
        }
        for folder in &self.folders {
            fs::set_permissions(root.join(folder.path), fs::Permissions::from_mode(folder.mode))?;
        }
        Ok(())
    }

    /// In kilobytes, as dpkg counts.
    pub fn kilobytes(&self) -> u64 {
        self.files.iter().map(|file| (file.content.len() as u64).div_ceil(1024)).sum()
    }
}

/// The folders down to `path`, open to all whatever the umask.
fn make(root: &Path, path: &Path) -> Result<()> {
    let mut folder = root.to_owned();
    for part in path {
        folder.push(part);
        if !folder.is_dir() {
            fs::create_dir(&folder).with_context(|| folder.display().to_string())?;
            fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
        }
    }
    Ok(())
}

/// Gives all below `folder`, and itself, that time. Links get it from whoever packs them.
pub fn date(folder: &Path, time: u64) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_symlink() {
            continue;
        }
        if path.is_dir() { date(&path, time)? } else { touch(&path, time)? }
    }
    touch(folder, time)
}

fn touch(path: &Path, time: u64) -> Result<()> {
    let file = fs::File::open(path).with_context(|| path.display().to_string())?;
    file.set_modified(UNIX_EPOCH + Duration::from_secs(time)).with_context(|| path.display().to_string())
}
