//! What a guest says of itself.

use crate::bytes::{Put, Take};

/// The most entries of each list.
pub(crate) const LIST_MAX: usize = 64;
/// The longest text, in bytes; what is longer is cut by the guest and refused by agentd.
pub const TEXT_MAX: usize = 256;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// The program's own version.
    pub agent: String,
    pub hostname: String,
    pub os: Os,
    pub kernel: String,
    pub interfaces: Vec<Interface>,
    pub filesystems: Vec<Filesystem>,
}

/// As /etc/os-release has it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Os {
    pub id: String,
    pub name: String,
    pub version: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Interface {
    pub name: String,
    pub mac: String,
    /// With their prefix, as 10.77.0.2/24.
    pub addresses: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filesystem {
    pub path: String,
    pub device: String,
    pub kind: String,
    pub size: u64,
    pub used: u64,
}

impl Facts {
    pub(crate) fn put(&self, put: &mut Put) {
        for text in [&self.agent, &self.hostname, &self.os.id, &self.os.name, &self.os.version, &self.kernel]
        {
            put.text(text);
        }
        put.list(&self.interfaces, |put, one| {
            put.text(&one.name);
            put.text(&one.mac);
            put.list(&one.addresses, |put, address| put.text(address));
        });
        put.list(&self.filesystems, |put, one| {
            put.text(&one.path);
            put.text(&one.device);
            put.text(&one.kind);
            put.u64(one.size);
            put.u64(one.used);
        });
    }

    pub(crate) fn take(take: &mut Take<'_>) -> Option<Self> {
        let (agent, hostname) = (short(take)?, short(take)?);
        let os = Os { id: short(take)?, name: short(take)?, version: short(take)? };
        let kernel = short(take)?;
        let interfaces = take.list(LIST_MAX, |take| {
            let (name, mac) = (short(take)?, short(take)?);
            Some(Interface { name, mac, addresses: take.list(LIST_MAX, short)? })
        })?;
        let filesystems = take.list(LIST_MAX, |take| {
            let (path, device, kind) = (short(take)?, short(take)?, short(take)?);
            Some(Filesystem { path, device, kind, size: take.u64()?, used: take.u64()? })
        })?;
        Some(Self { agent, hostname, os, kernel, interfaces, filesystems })
    }

    /// Cut to what the other end takes.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        let os = &mut self.os;
        for text in
            [&mut self.agent, &mut self.hostname, &mut os.id, &mut os.name, &mut os.version, &mut self.kernel]
        {
            cut(text);
        }
        self.interfaces.truncate(LIST_MAX);
        for one in &mut self.interfaces {
            cut(&mut one.name);
            cut(&mut one.mac);
            one.addresses.truncate(LIST_MAX);
            one.addresses.iter_mut().for_each(cut);
        }
        self.filesystems.truncate(LIST_MAX);
        for one in &mut self.filesystems {
            cut(&mut one.path);
            cut(&mut one.device);
            cut(&mut one.kind);
        }
        self
    }
}

/// A text for people: bounded, and without what a terminal would obey.
fn short(take: &mut Take<'_>) -> Option<String> {
    take.text().filter(|text| text.len() <= TEXT_MAX && !text.chars().any(char::is_control))
}

fn cut(text: &mut String) {
    text.retain(|c| !c.is_control());
    let mut end = text.len().min(TEXT_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
}
