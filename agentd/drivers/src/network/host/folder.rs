//! The folder that a network's dnsmasq serves from.
//!
//! ```text
//! networks/<id>/dnsmasq.conf  dnsmasq.pid  leases
//!               dhcp-hosts/<ip>_<mac>_<name>  dns-hosts/<ip>_<name>     read by dnsmasq as they appear
//! ```
//!
//! While dnsmasq runs the host files are judged by their names. What they hold is looked at before each start, since a
//! host that lost its power may have kept a name and lost the text.
//!
//! dnsmasq runs as the user `dnsmasq` (`nobody` where there is none), as distributions have it, because it reads packets
//! of guests. That user must get to the host files: where a folder above them is closed to others it stays root, and
//! the log says so.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::dnsmasq::Serving;
use crate::network::NetworkSetup;
use crate::network::dnsmasq_config::{
    CONFIG, DHCP_HOSTS, DNS_HOSTS, DnsmasqSetting, HostFiles, LEASES, PID, prune_leases, render_dnsmasq,
    render_hosts,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    Nothing,
    /// Files that dnsmasq reads by itself as they appear.
    Additions,
    /// Only a new dnsmasq can take it up.
    Restart,
}

/// What the folder should hold, and how that differs from what it does.
pub struct Wanted {
    folder: PathBuf,
    setup: NetworkSetup,
    config: String,
    files: HostFiles,
    change: Change,
}

impl Wanted {
    pub fn of(serving: &Serving, setup: NetworkSetup) -> io::Result<Self> {
        let folder = serving.folder.clone();
        for folder in [folder.clone(), folder.join(DHCP_HOSTS), folder.join(DNS_HOSTS)] {
            make_folder(&folder)?;
        }
        let user = user_for(&folder);
        let Serving { bridge, index, upstream, .. } = serving;
        let setting = DnsmasqSetting { bridge, index: *index, folder: &folder, user, upstream };
        let config = render_dnsmasq(&setup, &setting).ok_or_else(|| {
            let why = format!(
                "neither the domain '{}' nor {} may hold such characters",
                setup.domain,
                folder.display()
            );
            io::Error::new(ErrorKind::InvalidInput, why)
        })?;
        let files = render_hosts(&setup);
        let mut wanted = Self { folder, setup, config, files, change: Change::Nothing };
        wanted.change = wanted.compare()?;
        Ok(wanted)
    }

    pub fn change(&self) -> Change {
        self.change
    }

    fn compare(&self) -> io::Result<Change> {
        if read_where_there(&self.folder.join(CONFIG))?.as_ref() != Some(&self.config)
            || self.pruned_leases()?.is_some()
        {
            return Ok(Change::Restart);
        }
        let mut change = Change::Nothing;
        for (name, wanted) in [(DHCP_HOSTS, &self.files.dhcp), (DNS_HOSTS, &self.files.dns)] {
            let there = names_in(&self.folder.join(name))?;
            if there.iter().any(|file| !wanted.contains_key(file)) {
                return Ok(Change::Restart);
            }
            if there.len() < wanted.len() {
                change = Change::Additions;
            }
        }
        Ok(change)
    }

    fn pruned_leases(&self) -> io::Result<Option<String>> {
        let leases = read_where_there(&self.folder.join(LEASES))?;
        Ok(leases.and_then(|leases| prune_leases(&leases, &self.setup.hosts)))
    }

    /// Puts everything right, while no dnsmasq of this folder runs.
    pub fn write(&self) -> io::Result<()> {
        for (name, wanted) in self.host_folders() {
            for file in names_in(&name)?.iter().filter(|file| !wanted.contains_key(*file)) {
                fs::remove_file(name.join(file))?;
            }
            for (file, text) in wanted {
                if read_where_there(&name.join(file))?.as_ref() != Some(text) {
                    write_file(&name.join(file), text)?;
                }
            }
        }
        if let Some(leases) = self.pruned_leases()? {
            write_file(&self.folder.join(LEASES), &leases)?;
        }
        let _ = fs::remove_file(self.folder.join(PID));
        // Last: while it differs, this is done again.
        write_file(&self.folder.join(CONFIG), &self.config)
    }

    /// Adds the hosts that are not there, while dnsmasq runs.
    pub fn write_additions(&self) -> io::Result<()> {
        for (name, wanted) in self.host_folders() {
            let there = names_in(&name)?;
            for (file, text) in wanted.iter().filter(|(file, _)| !there.contains(*file)) {
                write_file(&name.join(file), text)?;
            }
        }
        Ok(())
    }

    /// Names first: a guest that has its address may be asked for at once.
    fn host_folders(&self) -> [(PathBuf, &BTreeMap<String, String>); 2] {
        [(self.folder.join(DNS_HOSTS), &self.files.dns), (self.folder.join(DHCP_HOSTS), &self.files.dhcp)]
    }
}

/// Whom dnsmasq becomes once it has its sockets.
fn user_for(folder: &Path) -> &'static str {
    let closed = folder
        .ancestors()
        .skip(1)
        .find(|above| !fs::metadata(above).is_ok_and(|found| found.permissions().mode() & 0o001 != 0));
    if let Some(closed) = closed {
        let closed = closed.display();
        tracing::warn!(%closed, "dnsmasq runs as root, because only root gets past this folder (chmod o+x mends it)");
        return "root";
    }
    match nix::unistd::User::from_name("dnsmasq") {
        Ok(Some(_)) => "dnsmasq",
        _ => "nobody",
    }
}

/// Made where it is not there; open to others for reading, whatever the umask.
fn make_folder(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
    let found = fs::metadata(folder)?.permissions().mode() & 0o777;
    if found == 0o755 { Ok(()) } else { fs::set_permissions(folder, fs::Permissions::from_mode(0o755)) }
}

/// Whole, by a rename. dnsmasq passes over names that begin with a dot.
fn write_file(path: &Path, text: &str) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = path.with_file_name(format!(".{name}.new"));
    fs::write(&new, text)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o644))?;
    fs::rename(&new, path)
}

fn read_where_there(path: &Path) -> io::Result<Option<String>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// What a folder holds; left-overs of `write_file` among it.
fn names_in(folder: &Path) -> io::Result<HashSet<String>> {
    fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}
