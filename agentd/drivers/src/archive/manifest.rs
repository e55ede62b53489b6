//! What an archive says of itself: the VM, and each file with its size and checksum.

use agentd_api::vm::VmSpec;
use agentd_api::{ByteSize, Labels, ObjectName, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::ArchiveError;
use super::format::{DISK, INITRD, KERNEL, VARIABLES_MAX, further_number};
use crate::volume::VARIABLES;

pub const FORMAT: &str = "agentd-vm";
/// The one version that there is. Whoever changes the layout counts on.
pub const VERSION: u32 = 1;
/// A VM has so many further disks at most, with a margin.
const FILES_MAX: usize = 64;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: String,
    pub version: u32,
    pub exported_at: Timestamp,
    /// The version of the agentd that wrote it.
    pub agentd: String,
    pub name: ObjectName,
    /// The VM's id there.
    pub id: Uuid,
    /// Without what can be of one host only: volumes, a medium, an expiry, MAC addresses.
    pub spec: VmSpec,
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// What the image beneath its disk was recognised as; "built" where agentd made it.
    pub source_format: String,
    /// The kernel's command line, where it boots by the kernel that is in here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmdline: Option<String>,
    /// In the order in which they follow.
    pub files: Vec<Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    pub name: String,
    /// In bytes, as it lies in the archive.
    pub size: u64,
    /// 64 hexadecimal digits.
    pub sha256: String,
    /// Of a disk: the size that a guest sees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub virtual_size: Option<ByteSize>,
}

impl Manifest {
    /// Refuses what this agentd would not have written.
    pub fn check(&self) -> Result<(), ArchiveError> {
        let refused = |why: String| Err(ArchiveError::Refused(why));
        if self.format != FORMAT {
            return refused(format!("the archive is a '{}', not an '{FORMAT}'", self.format));
        }
        if self.version != VERSION {
            let version = self.version;
            return refused(format!("the archive is of version {version}; only {VERSION} is known here"));
        }
        if self.files.len() > FILES_MAX {
            return refused(format!("the archive has {} files", self.files.len()));
        }
        let mut names: Vec<&str> = self.files.iter().map(|file| file.name.as_str()).collect();
        let known = |name: &&str| {
            matches!(*name, DISK | KERNEL | INITRD)
                || further_number(name).is_some()
                || VARIABLES.contains(name)
        };
        if let Some(other) = names.iter().find(|name| !known(name)) {
            return refused(format!(
                "the archive has a file '{}', which is no part of a VM",
                other.escape_debug()
            ));
        }
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return refused(format!("the archive has the file '{}' twice", twice[0]));
        }
        if let Some(large) = self.variables().find(|file| file.size > VARIABLES_MAX) {
            return refused(format!("{} in the archive is too large for what a UEFI keeps", large.name));
        }
        let has = |name: &str| names.contains(&name);
        if !has(DISK) {
            return refused(format!("the archive has no {DISK}"));
        }
        let boots = [has(KERNEL), has(INITRD), self.cmdline.is_some()];
        if boots.contains(&true) && boots.contains(&false) {
            return refused(format!("the archive has not all of {KERNEL}, {INITRD} and a command line"));
        }
        Ok(())
    }

    /// What its UEFI kept.
    pub fn variables(&self) -> impl Iterator<Item = &Entry> {
        self.files.iter().filter(|file| VARIABLES.contains(&file.name.as_str()))
    }

    /// The numbers of its further disks.
    pub fn further(&self) -> impl Iterator<Item = usize> {
        self.files.iter().filter_map(|file| further_number(&file.name))
    }
}
