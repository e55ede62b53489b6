//! `agentctl remote`: this host for other machines, and other machines for this user.
//!
//! ```text
//! on the host    init, add-client, revoke, list-clients      files below /etc/agentd/remote (authority)
//! on the other   join, list, forget                          files below ~/.config/agentctl (crate::remotes)
//! ```
//! None of them asks this host's daemon anything: agentd reads what has changed of its files by itself.

mod authority;
mod clients;
mod init;
mod joined;
#[cfg(test)]
pub mod tests;

use std::path::PathBuf;

use agentd_api::{Timestamp, remote};
use clap::{Args, Subcommand};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use crate::app::App;
use crate::failure::Failure;

#[derive(Debug, Subcommand)]
pub enum Remote {
    /// Make what this host needs to be called by other machines: an authority, and a certificate of the daemon's
    Init(init::Init),
    /// Let a machine or person in: make a certificate and key, for `remote join` there
    AddClient(clients::AddClient),
    /// Let a client in no more; what it has open is closed
    Revoke(clients::Revoke),
    /// List who has a certificate of this host's
    ListClients(clients::ListClients),
    /// Know another machine by a name, for --host
    Join(joined::Join),
    /// List the machines that --host knows
    #[command(visible_alias = "ls")]
    List(joined::List),
    /// Know a machine no more
    Forget(joined::Forget),
}

impl Remote {
    pub async fn run(self, app: &App) -> Result<(), Failure> {
        match self {
            Self::Init(init) => init.run(app),
            Self::AddClient(add) => add.run(app),
            Self::Revoke(revoke) => revoke.run(app),
            Self::ListClients(list) => list.run(app),
            Self::Join(join) => join.run(app).await,
            Self::List(list) => list.run(app),
            Self::Forget(forget) => forget.run(app),
        }
    }
}

/// Where the authority is.
#[derive(Debug, Args)]
struct Dir {
    /// Where it is kept, as agentd's `remote.dir` says
    #[arg(long = "dir", value_name = "DIR", default_value = remote::DIR)]
    dir: PathBuf,
}

/// How long a certificate holds.
#[derive(Debug, Args)]
struct Days {
    /// How many days the certificate holds
    #[arg(long, value_name = "N", default_value_t = 730, value_parser = clap::value_parser!(u16).range(1..=3650))]
    days: u16,
}

/// The common name and the end of a certificate in DER.
pub fn named(certificate: &[u8]) -> Option<(String, Timestamp)> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let name = parsed.subject().iter_common_name().next()?.as_str().ok()?.to_owned();
    Some((name, at(parsed.validity().not_after.timestamp())))
}

fn at(seconds: i64) -> Timestamp {
    Timestamp(u64::try_from(seconds).unwrap_or(0).saturating_mul(1000))
}
