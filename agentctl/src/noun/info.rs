//! `agentctl info`: what the daemon says of itself, its host and what it works through.

use std::io::{self, Write};

use agentd_api::paths;
use agentd_api::server::ServerInfo;
use clap::Args;

use crate::app::App;
use crate::failure::Failure;
use crate::output::table::{Table, plain};
use crate::output::{self, quantity, undecodable};

#[derive(Debug, Args)]
pub struct Info {}

impl Info {
    pub async fn run(self, app: &App) -> Result<(), Failure> {
        let body = app.client.raw(paths::SERVER).await?;
        if output::print_raw(&body, app.output)? {
            return Ok(());
        }
        let info: ServerInfo = serde_json::from_slice(&body).map_err(|e| undecodable(&e))?;
        let mut out = io::stdout().lock();
        out.write_all(render(&info)?.as_bytes())?;
        Ok(())
    }
}

fn render(info: &ServerInfo) -> Result<String, Failure> {
    let accel = match (&info.host.accel, &info.host.accel_reason) {
        (Some(accel), Some(reason)) => format!("{accel} ({reason})"),
        (Some(accel), None) => accel.clone(),
        (None, reason) => {
            format!("not known yet{}", reason.as_ref().map_or(String::new(), |r| format!(" ({r})")))
        }
    };
    let rows = [
        ("Daemon", format!("{} {}", info.name, info.version)),
        ("Instance", info.instance.clone()),
        ("Started", format!("{} ({} ago)", info.started_at, quantity::age(info.started_at))),
        ("State in", info.state_dir.clone()),
        ("Revision", info.revision.to_string()),
        ("Host", info.host.hostname.clone()),
        ("Kernel", info.host.kernel.clone()),
        ("CPUs", info.host.cpus.to_string()),
        ("Memory", quantity::bytes(info.host.memory.bytes())),
        ("Guests run by", accel),
    ];
    let mut text: String = rows
        .iter()
        .map(|(heading, value)| format!("{:15}{}\n", format!("{heading}:"), plain(value)))
        .collect();
    let backends = info
        .backends
        .iter()
        .map(|b| {
            let available = if b.available { "yes" } else { "no" };
            vec![b.name.clone(), available.to_owned(), b.detail.clone()]
        })
        .collect();
    let mut table = Vec::new();
    Table::with_headings(vec!["BACKEND", "AVAILABLE", "DETAIL"], backends).write(&mut table)?;
    text.push('\n');
    text.push_str(&String::from_utf8_lossy(&table));
    Ok(text)
}
