//! `agentctl version`: of agentctl, and of the daemon where one answers.

use std::io::{self, Write};

use clap::Args;

use crate::app::App;
use crate::failure::{Exit, Failure};
use crate::output::Output;

#[derive(Debug, Args)]
pub struct Version {}

impl Version {
    pub async fn run(self, app: &App) -> Result<(), Failure> {
        let own = env!("CARGO_PKG_VERSION");
        let daemon = app.client.info().await;
        let server = daemon.as_ref().ok().map(|info| info.version.clone());
        let mut out = io::stdout().lock();
        match app.output {
            Output::Table | Output::Wide => {
                writeln!(out, "agentctl {own}")?;
                if let Some(server) = server {
                    writeln!(out, "agentd {server}")?;
                }
            }
            Output::Json => writeln!(out, "{}", serde_json::json!({"agentctl": own, "agentd": server}))?,
            Output::Yaml => {
                writeln!(out, "agentctl: \"{own}\"")?;
                let server = server.map_or_else(|| "null".to_owned(), |v| format!("\"{v}\""));
                writeln!(out, "agentd: {server}")?;
            }
            Output::Name => {
                return Err(Failure::new(Exit::Usage, "versions are printed as table, json or yaml"));
            }
        }
        // Scripts ask for the version to learn whether a daemon answers; `agentctl --version` asks none.
        daemon.map(drop).map_err(Failure::from)
    }
}
