//! What every command needs: the daemon, the project, how to print.

use std::fmt::Display;
use std::io::{self, Write};

use agentd_api::{ObjectName, paths};
use agentd_client::{Client, ListOptions, WriteOptions};

use crate::cli::Global;
use crate::failure::Failure;
use crate::output::Output;
use crate::remotes::Remotes;

pub struct App {
    pub client: Client,
    pub project: ObjectName,
    pub output: Output,
}

impl App {
    pub fn new(global: Global) -> Result<Self, Failure> {
        let joined = global.host.as_deref().map(|host| Remotes::of_this_user()?.get(host)?.client());
        let client = joined.transpose()?;
        Ok(match client {
            Some(client) => Self { client, project: global.project, output: global.output },
            None => Self::asking_nobody(global),
        })
    }
    /// For commands that ask no other machine, whatever the environment says.
    pub fn asking_nobody(global: Global) -> Self {
        let socket = global.socket.unwrap_or_else(|| paths::SOCKET.into());
        Self { client: Client::new(socket), project: global.project, output: global.output }
    }
    /// The same in another project.
    pub fn of(&self, project: ObjectName) -> Self {
        Self { client: self.client.clone(), project, output: self.output }
    }
    pub fn write(&self, dry_run: bool) -> WriteOptions {
        WriteOptions { dry_run, ..WriteOptions::of(self.project.clone()) }
    }
    pub fn list(&self) -> ListOptions {
        ListOptions::of(self.project.clone())
    }
    /// A line of talk: what is done, for a person. A closed stderr is nobody listening, not a failure.
    pub fn say(&self, line: impl Display) {
        let _ = writeln!(io::stderr(), "{line}");
    }
}
