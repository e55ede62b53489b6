//! `agentctl watch`: changes of a kind as they come, until Ctrl-C. A daemon that goes away is waited for, and what
//! happened in between is printed once it is back.

use std::io::{self, Write};

use agentd_api::list::WatchKind;
use agentd_api::{ColumnDef, ErrorCode, KindDef};
use agentd_client::{ResumedWatch, WatchLine};
use bytes::Bytes;
use clap::Args;
use serde_json::value::RawValue;

use crate::app::App;
use crate::failure::{Exit, Failure};
use crate::output::table::{columns, plain};
use crate::output::{Output, project};
use crate::target::parse_kind;
use crate::verb::list::Select;

#[derive(Debug, Args)]
pub struct Watch {
    /// The kind, or one object of it: vm, vm/web
    #[arg(value_name = "KIND[/NAME]")]
    what: String,
    #[command(flatten)]
    select: Select,
    /// Begin after this revision instead of now
    #[arg(long, value_name = "REVISION")]
    since: Option<u64>,
}

struct Printer {
    def: &'static KindDef,
    columns: Vec<&'static ColumnDef>,
    name: Option<String>,
    output: Output,
    widths: Vec<usize>,
}

impl Watch {
    pub async fn run(self, app: &App) -> Result<(), Failure> {
        let (def, name) = parse_kind(&self.what)?;
        let mut options = app.list();
        options.labels.extend(self.select.selector.clone());
        options.fields.extend(self.select.field.clone());
        let mut printer = Printer::new(def, name, app.output);
        printer.heading()?;
        let mut watch = ResumedWatch::new(&app.client, def, options, self.since);
        loop {
            let step = match watch.step::<Box<RawValue>>().await {
                Ok(Some((line, head))) => printer.line(&line, &head).map(|()| Ok(()))?,
                Ok(None) => Ok(()),
                // What was missed cannot be had any more, and printing all there is would not tell so.
                Err(error) if error.code() == Some(ErrorCode::RevisionCompacted) => {
                    let hint = "leave --since away, and list what there is now";
                    return Err(Failure::from(error).hint(hint));
                }
                // The first connection is not waited for: a daemon that is not there is an answer.
                Err(error) if watch.since().is_none() => return Err(error.into()),
                Err(error) => Err(error),
            };
            if let Some(error) = watch.mended(step).await? {
                app.say(format_args!("{error}; waiting for it to come back"));
            }
        }
    }
}

impl Printer {
    fn new(def: &'static KindDef, name: Option<&str>, output: Output) -> Self {
        let columns = columns(def, output == Output::Wide);
        // Nobody knows what comes, so columns begin at a usual width and grow.
        let widths = columns.iter().map(|c| c.heading.len().max(12)).collect();
        Self { def, columns, name: name.map(ToOwned::to_owned), output, widths }
    }

    fn heading(&mut self) -> Result<(), Failure> {
        if !self.output.is_table() {
            return Ok(());
        }
        let headings = self.columns.iter().map(|c| c.heading.to_owned()).collect();
        self.row("EVENT", headings)
    }

    fn line(&mut self, line: &Bytes, head: &WatchLine<Box<RawValue>>) -> Result<(), Failure> {
        let Some(object) = &head.object else { return self.bookmark(line, head.event) };
        let object = object.get().as_bytes();
        if self.name.as_deref().is_some_and(|name| project::name(object).is_ok_and(|n| n != name)) {
            return Ok(());
        }
        match self.output {
            Output::Table | Output::Wide => {
                let row = project::row(&self.columns, object)?;
                self.row(head.event.as_str(), row)
            }
            Output::Json => raw(line),
            Output::Name => {
                let text = format!("{} {}/{}", head.event.as_str(), self.def.kind, project::name(object)?);
                raw(text.as_bytes())
            }
            Output::Yaml => Err(Failure::new(Exit::Usage, "changes are not printed as YAML; use -o json")),
        }
    }

    /// Bookmarks are for programs, which read JSON.
    fn bookmark(&self, line: &Bytes, event: WatchKind) -> Result<(), Failure> {
        let wanted = event == WatchKind::Bookmark && self.output == Output::Json;
        if wanted { raw(line) } else { Ok(()) }
    }

    fn row(&mut self, event: &str, cells: Vec<String>) -> Result<(), Failure> {
        let mut text = format!("{event:8}");
        for (cell, width) in cells.iter().zip(&mut self.widths) {
            let cell = plain(cell);
            *width = (*width).max(cell.chars().count());
            text.push_str(&format!("  {cell:width$}", width = *width));
        }
        raw(text.trim_end().as_bytes())
    }
}

/// A line at once: whoever reads a watch waits for it.
fn raw(line: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(line)?;
    out.write_all(b"\n")?;
    out.flush()?;
    Ok(())
}
