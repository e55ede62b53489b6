//! `container top` and `container diff`: one question, one answer.

use std::io::{self, Write};

use agentd_api::container::{ContainerChange, ContainerChangeKind, ContainerTop};
use agentd_client::SubPath;
use bytes::Bytes;
use clap::Args;

use super::{DEF, sub};
use crate::app::App;
use crate::failure::Failure;
use crate::output::{self, undecodable};
use crate::target::{self, label};

#[derive(Debug, Args)]
pub struct Top {
    /// The container's name or id
    #[arg(value_name = "NAME")]
    name: String,
}

#[derive(Debug, Args)]
pub struct Diff {
    /// The container's name or id
    #[arg(value_name = "NAME")]
    name: String,
}

async fn asked(app: &App, name: &str, what: &str) -> Result<Bytes, Failure> {
    let name = target::name_of(app, DEF, name).await?;
    let path = SubPath { def: DEF, project: Some(&app.project), name: &name, sub: sub(what), params: &[] };
    let answer = app.client.sub_json(path).await;
    answer.map_err(|e| target::not_found_hint(e, DEF).about(label(DEF, &name)))
}

impl Top {
    pub async fn run(self, app: &App) -> Result<(), Failure> {
        let answer = asked(app, &self.name, "top").await?;
        let mut out = io::stdout().lock();
        if !app.output.is_table() {
            return Ok(output::line(&mut out, &answer)?);
        }
        let top: ContainerTop = serde_json::from_slice(&answer).map_err(|e| undecodable(&e))?;
        let rows = std::iter::once(&top.titles).chain(&top.processes);
        let mut widths: Vec<usize> = Vec::new();
        for row in rows.clone() {
            widths.resize(widths.len().max(row.len()), 0);
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        for row in rows {
            let last = row.len().saturating_sub(1);
            let cells = row.iter().enumerate().map(|(n, cell)| {
                let plain = output::table::plain(cell);
                let width = if n == last { 0 } else { widths.get(n).copied().unwrap_or(0) };
                format!("{plain:width$}")
            });
            writeln!(out, "{}", cells.collect::<Vec<_>>().join("  "))?;
        }
        Ok(())
    }
}

impl Diff {
    pub async fn run(self, app: &App) -> Result<(), Failure> {
        let answer = asked(app, &self.name, "diff").await?;
        let mut out = io::stdout().lock();
        if !app.output.is_table() {
            return Ok(output::line(&mut out, &answer)?);
        }
        let all: Vec<ContainerChange> = serde_json::from_slice(&answer).map_err(|e| undecodable(&e))?;
        for ContainerChange { path, change } in all {
            let letter = match change {
                ContainerChangeKind::Added => 'A',
                ContainerChangeKind::Modified => 'C',
                ContainerChangeKind::Deleted => 'D',
            };
            writeln!(out, "{letter} {}", output::table::plain(&path))?;
        }
        Ok(())
    }
}
