//! The section `[remote]`: whether other machines are served, and by what.

use std::net::SocketAddr;
use std::path::PathBuf;

use agentd_api::remote;
use serde::{Deserialize, Serialize};

use super::ConfigError;

/// The API for other machines, over TLS with certificates on both sides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RemoteConfig {
    /// Where it listens, as in "0.0.0.0:7443". Absent: nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
    /// What `agentctl remote init` has made.
    pub dir: PathBuf,
}

impl Default for RemoteConfig {
    fn default() -> Self {
        Self { listen: None, dir: PathBuf::from(remote::DIR) }
    }
}

impl RemoteConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let wrong = |key, message: String| Err(ConfigError::Value { key, message });
        if self.listen.is_some_and(|listen| listen.port() == 0) {
            let message =
                format!("must have a port that clients can know; {} is the usual one", remote::PORT);
            return wrong("remote.listen", message);
        }
        if !self.dir.is_absolute() {
            return wrong("remote.dir", "must be an absolute path".to_owned());
        }
        Ok(())
    }
}
