//! What cloud-init gives the guest, read from files.

use std::path::{Path, PathBuf};

use agentd_api::vm::{NETWORK_CONFIG_MAX, USER_DATA_MAX};
use clap::Args;
use serde_json::{Map, Value, json};

use crate::failure::{Exit, Failure};

#[derive(Debug, Default, Args)]
pub struct CloudInitArgs {
    /// A public key for its user: a .pub file, or the name of an ssh-key
    #[arg(long = "ssh-key", value_name = "FILE|NAME")]
    pub ssh_keys: Vec<String>,
    /// cloud-init user-data; - reads it from stdin
    #[arg(long, value_name = "FILE")]
    pub user_data: Option<PathBuf>,
    /// cloud-init network-config, in place of the one that agentd makes
    #[arg(long, value_name = "FILE")]
    pub cloud_init_network: Option<PathBuf>,
}

impl CloudInitArgs {
    /// `ssh_keys` are names of objects.
    pub fn fill(&self, ssh_keys: &[String], spec: &mut Map<String, Value>) -> Result<(), Failure> {
        if !ssh_keys.is_empty() {
            spec.insert("ssh_keys".to_owned(), json!(ssh_keys));
        }
        if let Some(path) = &self.user_data {
            spec.insert("user_data".to_owned(), json!(text("user_data", path, USER_DATA_MAX)?));
        }
        if let Some(path) = &self.cloud_init_network {
            let text = text("network_config", path, NETWORK_CONFIG_MAX)?;
            spec.insert("network_config".to_owned(), json!(text));
        }
        Ok(())
    }
}

/// The text of a file, for that field of the spec.
fn text(field: &str, path: &Path, most: usize) -> Result<String, Failure> {
    let data = read_bounded(path, most)
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot read {}: {error}", path.display())))?
        // Checked here too, because the whole request would be too large before the daemon saw the field.
        .ok_or_else(|| {
            let text = format!("{} is longer than the {most} bytes that are allowed", path.display());
            Failure::field(format!("spec.{field}"), text)
        })?;
    String::from_utf8(data)
        .map_err(|_| Failure::field(format!("spec.{field}"), format!("{} is not UTF-8 text", path.display())))
}

/// A file's content, or nothing where it is longer than `limit`. `-` is stdin.
pub fn read_bounded(path: &Path, limit: usize) -> std::io::Result<Option<Vec<u8>>> {
    use std::io::Read;
    let mut data = Vec::new();
    let bound = limit as u64 + 1;
    if path.as_os_str() == "-" {
        std::io::stdin().lock().take(bound).read_to_end(&mut data)?;
    } else {
        std::fs::File::open(path)?.take(bound).read_to_end(&mut data)?;
    }
    Ok((data.len() <= limit).then_some(data))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_user_data_is_refused_by_its_field() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let read = || text("user_data", file.path(), USER_DATA_MAX);
        std::fs::write(file.path(), vec![b'a'; USER_DATA_MAX]).expect("written");
        assert!(read().is_ok());
        std::fs::write(file.path(), vec![b'a'; 1 << 20]).expect("written");
        let failure = read().expect_err("refused");
        assert_eq!(failure.exit, Exit::Usage);
        assert!(failure.text().contains("spec.user_data"), "{}", failure.text());
    }
}
