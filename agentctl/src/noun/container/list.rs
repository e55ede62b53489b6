//! `container list`: the project's, and with `--all` also those of the engine's that are none of agentd's.

use std::io::{self, BufWriter, Write};

use agentd_api::container::{ForeignContainer, ForeignList};
use agentd_client::ListOptions;
use bytes::Bytes;
use clap::Args;
use serde_json::{Value, json};

use super::{DEF, FOREIGN};
use crate::app::App;
use crate::failure::Failure;
use crate::output::table::{self, Table};
use crate::output::{self, Output, project, undecodable};
use crate::verb::list::List;

/// Of an engine's id, as engines cut it.
const SHORT_ID: usize = 12;

#[derive(Debug, Args)]
pub struct ListAll {
    #[command(flatten)]
    list: List,
    /// Also what the engine has that is not agentd's, of no project; `agentctl adopt` takes one over
    #[arg(short, long, conflicts_with_all = ["selector", "field"])]
    all: bool,
}

impl ListAll {
    pub async fn run(self, app: &App) -> Result<(), Failure> {
        if !self.all {
            return self.list.run(app, DEF).await;
        }
        let foreign = app.client.foreign().await.map_err(|error| {
            Failure::from(error)
                .hint("`agentctl container list` lists agentd's own also where the engine is away")
        })?;
        let pages = app.client.kind(DEF).pages(&ListOptions::of(app.project.clone())).await?;
        match app.output {
            Output::Table | Output::Wide => table(app, &pages, &foreign),
            Output::Json => {
                let list = output::joined(&pages)?;
                let mut list: Value = serde_json::from_slice(&list).map_err(|e| undecodable(&e))?;
                list[FOREIGN] = json!(foreign.items);
                print(&list)
            }
            Output::Yaml => {
                output::print_list(DEF, &pages, app.output)?;
                let mut out = io::stdout().lock();
                for item in &foreign.items {
                    let text = serde_json::to_vec(item).map_err(|error| undecodable(&error))?;
                    writeln!(out, "---")?;
                    output::yaml_text(&mut out, &text)?;
                }
                Ok(())
            }
            Output::Name => {
                output::print_list(DEF, &pages, app.output)?;
                let mut out = io::stdout().lock();
                foreign.items.iter().try_for_each(|item| writeln!(out, "{FOREIGN}/{}", item.name))?;
                Ok(())
            }
        }
    }
}

fn print(value: &Value) -> Result<(), Failure> {
    let text = serde_json::to_vec(value).map_err(|error| undecodable(&error))?;
    Ok(output::line(&mut io::stdout().lock(), &text)?)
}

/// One table: what is foreign has the engine's id in a column of its own.
fn table(app: &App, pages: &[Bytes], foreign: &ForeignList) -> Result<(), Failure> {
    let wide = app.output == Output::Wide;
    let columns = table::columns(DEF, wide);
    let mut rows = project::rows(&columns, pages)?;
    rows.iter_mut().for_each(|row| row.push("-".to_owned()));
    for item in &foreign.items {
        let mut row = project::row(&columns, as_object(item).to_string().as_bytes())?;
        let id = &item.engine_id;
        row.push(if wide { id.clone() } else { id.chars().take(SHORT_ID).collect() });
        rows.push(row);
    }
    if rows.is_empty() {
        app.say(format_args!("no containers in project {}, and the engine has no others", app.project));
        return Ok(());
    }
    let headings = columns.iter().map(|column| column.heading).chain(["FOREIGN"]).collect();
    let mut out = BufWriter::new(io::stdout().lock());
    Table::with_headings(headings, rows).write(&mut out)?;
    Ok(out.flush()?)
}

/// As far as a table shows it.
fn as_object(item: &ForeignContainer) -> Value {
    json!({
        "name": item.name,
        "created_at": item.created_at,
        "spec": {"image": item.image, "command": [item.command], "privileged": item.privileged},
        "status": {"state": item.state},
    })
}
