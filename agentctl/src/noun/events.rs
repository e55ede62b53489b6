//! `agentctl events`: who did what, why, and how it ended.

use std::io::{self, Write};
use std::time::Duration;

use agentd_api::event::Event;
use agentd_client::EventQuery;
use clap::Args;

use crate::app::App;
use crate::failure::{Exit, Failure};
use crate::output::detail::outcome;
use crate::output::table::{Table, plain};
use crate::output::{Output, quantity, undecodable, yaml};
use crate::target::parse_kind;

const PAUSE: Duration = Duration::from_millis(500);

#[derive(Debug, Args)]
pub struct Events {
    /// Those of a kind or of one object: vm, vm/web
    #[arg(value_name = "KIND[/NAME]")]
    what: Option<String>,
    /// Go on printing those that come
    #[arg(short, long)]
    follow: bool,
    /// Those of one request
    #[arg(long, value_name = "ID")]
    request: Option<String>,
    /// Those after this number
    #[arg(long, value_name = "SEQ")]
    since: Option<u64>,
    /// Only the last ones
    #[arg(short = 'n', long, value_name = "N")]
    limit: Option<usize>,
}

impl Events {
    pub async fn run(self, app: &App) -> Result<(), Failure> {
        if app.output == Output::Name || (self.follow && app.output == Output::Yaml) {
            return Err(Failure::new(Exit::Usage, "events are printed as table or json"));
        }
        let (kind, name) = match &self.what {
            None => (None, None),
            Some(what) => {
                let (def, name) = parse_kind(what)?;
                (Some(def.kind.to_owned()), name.map(ToOwned::to_owned))
            }
        };
        let mut query = EventQuery {
            project: Some(app.project.clone()),
            kind,
            name,
            request_id: self.request,
            since: self.since,
            limit: None,
        };
        let list = app.client.events(&query).await?;
        // The daemon's own limit counts from the beginning.
        let first = list.items.len().saturating_sub(self.limit.unwrap_or(usize::MAX));
        print(app.output, &list.items[first..])?;
        if !self.follow {
            return Ok(());
        }
        query.since = Some(list.next);
        follow(app, query).await
    }
}

/// Until Ctrl-C. A daemon that goes away is waited for; events are kept across its restart.
async fn follow(app: &App, mut query: EventQuery) -> Result<(), Failure> {
    let mut told = false;
    loop {
        let lost = match app.client.follow_events(&query).await {
            Err(error) => Some(error),
            Ok(mut events) => loop {
                match events.next().await {
                    Some(Ok(event)) => {
                        told = false;
                        query.since = Some(event.seq);
                        line(app.output, &event)?;
                    }
                    Some(Err(error)) => break Some(error),
                    None => break None,
                }
            },
        };
        match lost {
            Some(error) if !error.passes() => return Err(error.into()),
            Some(error) if !std::mem::replace(&mut told, true) => {
                app.say(format_args!("{error}; waiting for it to come back"));
            }
            _ => {}
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn print(output: Output, events: &[Event]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match output {
        Output::Table | Output::Wide => {
            let rows: Vec<Vec<String>> =
                events.iter().map(|event| cells(event, output == Output::Wide)).collect();
            Table::with_headings(headings(output == Output::Wide), rows).write(&mut out)?;
        }
        _ => {
            for event in events {
                one(&mut out, output, event)?;
            }
        }
    }
    Ok(())
}

fn one(out: &mut impl Write, output: Output, event: &Event) -> Result<(), Failure> {
    let json = serde_json::to_string(event).map_err(|e| undecodable(&e))?;
    if output == Output::Yaml {
        let tree = serde_json::from_str(&json).map_err(|e| undecodable(&e))?;
        write!(out, "---\n{}", yaml::render(&tree))?;
    } else {
        writeln!(out, "{json}")?;
    }
    Ok(())
}

/// One event as it comes, in columns of fixed width.
fn line(output: Output, event: &Event) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    if output.is_table() {
        let cells = cells(event, output == Output::Wide);
        let widths = [4, 20, 12, 8, 10, 36, 8];
        let mut text = String::new();
        for (cell, width) in cells.iter().zip(widths) {
            text.push_str(&format!("{:width$}  ", plain(cell)));
        }
        if let Some(last) = cells.get(widths.len()) {
            text.push_str(&plain(last));
        }
        writeln!(out, "{}", text.trim_end())?;
    } else {
        one(&mut out, output, event)?;
    }
    out.flush()?;
    Ok(())
}

fn headings(wide: bool) -> Vec<&'static str> {
    let mut headings = vec!["AGE", "OBJECT", "VERB", "OUTCOME", "ACTOR"];
    if wide {
        headings.extend(["REQUEST", "SEQ"]);
    }
    headings.push("MESSAGE");
    headings
}

fn cells(event: &Event, wide: bool) -> Vec<String> {
    let object = format!("{}/{}", event.kind, event.name);
    let mut cells =
        vec![quantity::age(event.at), object, event.verb.clone(), outcome(event), event.actor.clone()];
    if wide {
        cells.extend([event.request_id.clone().unwrap_or_else(|| "-".to_owned()), event.seq.to_string()]);
    }
    cells.push(event.message.clone());
    cells
}
