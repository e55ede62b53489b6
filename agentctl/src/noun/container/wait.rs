//! `container wait`: until containers are no longer up.

use std::io::{self, Write};

use agentd_api::Span;
use agentd_api::container::ContainerWaited;
use agentd_client::SubPath;
use clap::Args;

use super::{DEF, sub};
use crate::app::App;
use crate::failure::{Failure, Failures};
use crate::output::{self, undecodable};
use crate::target::{self, label};

#[derive(Debug, Args)]
pub struct WaitFor {
    /// Names or ids
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,
    /// How long to wait for each, as in 90s or 5m [default: for ever]
    #[arg(long, value_name = "DURATION")]
    timeout: Option<Span>,
}

impl WaitFor {
    pub async fn run(self, app: &App) -> Result<(), Failure> {
        let mut failures = Failures::default();
        for name in &self.names {
            let Some(text) = failures.take(label(DEF, name), self.one(app, name).await) else { continue };
            let mut out = io::stdout().lock();
            if app.output.is_table() {
                let waited: ContainerWaited = serde_json::from_slice(&text).map_err(|e| undecodable(&e))?;
                let code = waited.exit_code.map_or_else(|| "-".to_owned(), |code| code.to_string());
                writeln!(out, "{code}")?;
            } else {
                output::line(&mut out, &text)?;
            }
        }
        failures.end()
    }

    async fn one(&self, app: &App, name: &str) -> Result<Vec<u8>, Failure> {
        let name = target::name_of(app, DEF, name).await?;
        let seconds = self.timeout.map(|span| span.duration().as_secs().to_string());
        let params: Vec<(&str, &str)> = seconds.iter().map(|s| ("timeout", s.as_str())).collect();
        let path =
            SubPath { def: DEF, project: Some(&app.project), name: &name, sub: sub("wait"), params: &params };
        let opened = app.client.download_patiently(path).await;
        let mut pieces = opened.map_err(|e| target::not_found_hint(e, DEF))?;
        let mut text = Vec::new();
        while let Some(piece) = pieces.next().await? {
            text.extend_from_slice(&piece);
        }
        Ok(text)
    }
}
