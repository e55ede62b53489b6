//! What the daemon is told at its start: a TOML file, files beside it, the environment, flags.
//!
//! It owns the settings, their defaults, and which source wins: a flag over the environment over the last file that has
//! the key over the default. It opens nothing but the files. A file that cannot be understood ends the start with its
//! path, line and column: a daemon that runs on half of its settings is worse than one that does not run.

mod cli;
mod remote;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use agentd_api::image::RegistryRef;
use agentd_api::{Cidr, network, paths};
use serde::{Deserialize, Serialize};

pub use cli::{Arguments, Command, Flags};
pub use remote::RemoteConfig;

/// Beside the usual file: what others add to it, and what the administrator changes of it. Taken in the order of names.
const DROP_INS: &str = "conf.d";
/// The longest path that a Unix socket can be bound to (`sun_path`, less its NUL).
const SOCKET_PATH_MAX: usize = 107;

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{path} cannot be read")]
    Read { path: String, source: std::io::Error },
    #[error("{path}:{line}:{column}: {message}")]
    Parse { path: String, line: usize, column: usize, message: String },
    #[error("{path} and the files of conf.d beside it: {message}")]
    Whole { path: String, message: String },
    #[error("{key}: {message}")]
    Value { key: &'static str, message: String },
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub daemon: DaemonConfig,
    pub vm: VmConfig,
    pub network: NetworkConfig,
    pub image: ImageConfig,
    pub containers: ContainersConfig,
    pub remote: RemoteConfig,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DaemonConfig {
    /// Where everything that must survive is kept. Tells this daemon from another on the same host.
    pub state_dir: PathBuf,
    pub socket: PathBuf,
    /// Whose members may use the socket, beside root.
    pub group: String,
    /// What is logged: a level, or levels by target, as in "info,agentd::reconcile=debug".
    pub log: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VmConfig {
    pub accel: AccelChoice,
    pub libvirt_uri: String,
    /// agentd's program for guests. Absent: `agentd-guest` beside agentd, or in /usr/lib/agentd.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guest_program: Option<PathBuf>,
}

/// How guests' instructions run: as a probe finds, or as told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AccelChoice {
    #[default]
    Auto,
    Kvm,
    Tcg,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NetworkConfig {
    /// The addresses of the network `default`. Absent: 10.77.0.0/24, or the next of its kind that this host has free.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cidr: Option<Cidr>,
    /// Whom the DNS of a network asks for names that are not its own. Empty: whom the host asks.
    pub dns_upstream: Vec<Ipv4Addr>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImageConfig {
    /// A Debian mirror for `image build`. Absent: the host's own apt sources.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mirror: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ContainersConfig {
    /// Where the engine serves: Docker's API on a Unix socket. Absent: Docker's usual place, else Podman's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socket: Option<PathBuf>,
    /// Folders of the host that containers may have mounted, and what is below them. None where empty.
    pub bind_mounts: Vec<PathBuf>,
    /// Registries by their host, with the port where they have one.
    pub registries: BTreeMap<String, RegistryConfig>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegistryConfig {
    /// Who agentd is to it: a file that root alone can read, with USER:PASSWORD or JSON in it. Read whenever it is needed.
    pub auth_file: PathBuf,
}

impl Default for DaemonConfig {
    fn default() -> Self {
        Self {
            state_dir: PathBuf::from(paths::STATE_DIR),
            socket: PathBuf::from(paths::SOCKET),
            group: paths::GROUP.to_owned(),
            log: "info".to_owned(),
        }
    }
}

impl Default for VmConfig {
    fn default() -> Self {
        Self { accel: AccelChoice::Auto, libvirt_uri: "qemu:///system".to_owned(), guest_program: None }
    }
}

impl Config {
    /// The settings as the flags (which hold the environment already) and the files say. Without a named file the usual
    /// one is read where it exists, and then those of `conf.d` beside it, whose keys win; a named one must be there, and
    /// is all that is read.
    pub fn load(flags: &Flags) -> Result<Self, ConfigError> {
        Self::load_with(flags, Path::new(paths::CONFIG))
    }

    fn load_with(flags: &Flags, usual: &Path) -> Result<Self, ConfigError> {
        let mut config = match &flags.config {
            Some(path) => Self::parse(&read(path)?, path)?,
            None => Self::of_files(usual)?,
        };
        if let Some(dir) = &flags.state_dir {
            config.daemon.state_dir.clone_from(dir);
        }
        if let Some(socket) = &flags.socket {
            config.daemon.socket.clone_from(socket);
        }
        config.check()?;
        Ok(config)
    }

    fn of_files(usual: &Path) -> Result<Self, ConfigError> {
        let mut files = drop_ins(&usual.with_file_name(DROP_INS))?;
        if usual.try_exists().map_err(unreadable(usual))? {
            files.insert(0, usual.to_owned());
        }
        let mut all = toml::Table::new();
        for path in &files {
            let text = read(path)?;
            // By itself first: what is wrong has a place in this file.
            Self::parse(&text, path)?;
            let table = text.parse().map_err(|error| refused(&error, &text, path))?;
            lay_over(&mut all, table);
        }
        let path = || usual.display().to_string();
        let whole = |e: toml::de::Error| ConfigError::Whole { path: path(), message: e.message().to_owned() };
        all.try_into().map_err(whole)
    }

    fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        toml::from_str(text).map_err(|error| refused(&error, text, path))
    }

    fn check(&self) -> Result<(), ConfigError> {
        let wrong = |key, message: String| Err(ConfigError::Value { key, message });
        for (key, path) in
            [("daemon.state_dir", &self.daemon.state_dir), ("daemon.socket", &self.daemon.socket)]
        {
            if !path.is_absolute() {
                return wrong(key, format!("'{}' must be an absolute path", path.display()));
            }
            // The paths go into libvirt's XML and QEMU's options.
            if path.to_str().is_none_or(|p| p.chars().any(char::is_control)) {
                return wrong(key, "must be UTF-8 without control characters".to_owned());
            }
        }
        if self.daemon.socket.as_os_str().len() > SOCKET_PATH_MAX {
            return wrong(
                "daemon.socket",
                format!("is longer than {SOCKET_PATH_MAX} bytes, the kernel's limit"),
            );
        }
        if let Err(e) = self.daemon.log.parse::<tracing_subscriber::filter::Targets>() {
            return wrong("daemon.log", format!("'{}' is no log filter: {e}", self.daemon.log));
        }
        if self.vm.libvirt_uri.is_empty() || self.vm.libvirt_uri.chars().any(char::is_control) {
            return wrong("vm.libvirt_uri", "must be a libvirt URI, as in \"qemu:///system\"".to_owned());
        }
        if self.vm.guest_program.as_ref().is_some_and(|path| !path.is_absolute()) {
            return wrong("vm.guest_program", "must be an absolute path".to_owned());
        }
        if let Some(cidr) = self.network.cidr
            && !(network::PREFIX_MIN..=network::PREFIX_MAX).contains(&cidr.prefix())
        {
            let (least, most) = (network::PREFIX_MIN, network::PREFIX_MAX);
            return wrong("network.cidr", format!("{cidr} must have a prefix of /{least} to /{most}"));
        }
        if self.containers.socket.as_ref().is_some_and(|path| !path.is_absolute()) {
            return wrong("containers.socket", "must be an absolute path".to_owned());
        }
        let climbs = |path: &PathBuf| path.components().any(|part| part == std::path::Component::ParentDir);
        if let Some(path) = self.containers.bind_mounts.iter().find(|p| !p.is_absolute() || climbs(p)) {
            let message = format!("'{}' must be an absolute path without '..'", path.display());
            return wrong("containers.bind_mounts", message);
        }
        if let Some((host, _)) = self.containers.registries.iter().find(|(_, r)| !r.auth_file.is_absolute()) {
            return wrong(
                "containers.registries",
                format!("the auth_file of '{host}' must be an absolute path"),
            );
        }
        let named =
            |host: &String| format!("{host}/x").parse::<RegistryRef>().is_ok_and(|r| r.host() == host);
        if let Some(host) = self.containers.registries.keys().find(|host| !named(host)) {
            let message = format!("'{host}' is no registry's name, as in \"registry.example.com:5000\"");
            return wrong("containers.registries", message);
        }
        self.remote.check()?;
        let web = |url: &String| url.starts_with("http://") || url.starts_with("https://");
        if self.image.mirror.as_ref().is_some_and(|m| !web(m) || !m.bytes().all(|b| b.is_ascii_graphic())) {
            return wrong("image.mirror", "must be an http:// or https:// address".to_owned());
        }
        Ok(())
    }

    /// The keys in which the two differ, as `section.key`.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let tables = |config: &Self| toml::Table::try_from(config).unwrap_or_default();
        let (one, two) = (tables(self), tables(other));
        let keys = |(section, table): (&String, &toml::Value)| {
            let keys = table.as_table().map(|t| t.keys().cloned().collect::<Vec<_>>()).unwrap_or_default();
            keys.into_iter().map(|key| (section.clone(), key)).collect::<Vec<_>>()
        };
        let all: BTreeSet<(String, String)> = one.iter().chain(&two).flat_map(keys).collect();
        let value = |table: &toml::Table, (section, key): &(String, String)| {
            table.get(section).and_then(|section| section.get(key)).cloned()
        };
        let differs = |at: &(String, String)| value(&one, at) != value(&two, at);
        all.into_iter().filter(differs).map(|(section, key)| format!("{section}.{key}")).collect()
    }

    /// As a file that says the same.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).unwrap_or_else(|e| format!("# cannot be written as TOML: {e}\n"))
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(unreadable(path))
}

fn unreadable(path: &Path) -> impl Fn(std::io::Error) -> ConfigError {
    move |source| ConfigError::Read { path: path.display().to_string(), source }
}

/// The files of the folder that end in `.toml`, by their names. None where there is no folder.
fn drop_ins(folder: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(unreadable(folder)(source)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(unreadable(folder))?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension().is_some_and(|end| end == "toml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Puts the keys of `over` in the place of those of `under`; tables of both become one.
fn lay_over(under: &mut toml::Table, over: toml::Table) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(toml::Value::Table(under)), toml::Value::Table(over)) => lay_over(under, over),
            (_, value) => drop(under.insert(key, value)),
        }
    }
}

fn refused(error: &toml::de::Error, text: &str, path: &Path) -> ConfigError {
    let (line, column) = position(text, error.span().map_or(0, |span| span.start));
    let message = error.message().trim().to_owned();
    ConfigError::Parse { path: path.display().to_string(), line, column, message }
}

/// Line and column, from 1, of a byte of the text.
fn position(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |l| l.chars().count()) + 1;
    (line, column)
}
