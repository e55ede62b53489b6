//! `show` and `describe`: all about one object; `describe` adds what happened to it.

use agentd_api::KindDef;
use agentd_client::{AnyObject, EventQuery};
use clap::Args;
use std::io::{self, Write};

use crate::app::App;
use crate::failure::{Failure, Failures};
use crate::output::{self, detail, undecodable};
use crate::target::{self, label, not_found_hint};

/// How many of an object's events are shown.
const EVENTS: usize = 20;

#[derive(Debug, Args)]
pub struct Show {
    /// Names or ids
    #[arg(value_name = "NAME", required = true)]
    pub names: Vec<String>,
}

impl Show {
    pub async fn run(self, app: &App, def: &'static KindDef) -> Result<(), Failure> {
        let objects = self.names.into_iter().map(|name| (def, name)).collect();
        show(app, objects, false).await
    }
}

pub async fn show(
    app: &App,
    objects: Vec<(&'static KindDef, String)>,
    with_events: bool,
) -> Result<(), Failure> {
    let mut failures = Failures::default();
    let mut shown = 0;
    for (def, name) in objects {
        let page = page(app, def, &name, with_events, shown > 0).await;
        shown += usize::from(failures.take(label(def, &name), page).is_some());
    }
    failures.end()
}

async fn page(
    app: &App,
    def: &'static KindDef,
    name: &str,
    with_events: bool,
    another: bool,
) -> Result<(), Failure> {
    let name = target::name_of(app, def, name).await?;
    let body =
        app.client.kind(def).get(Some(&app.project), &name).await.map_err(|e| not_found_hint(e, def))?;
    if !app.output.is_table() {
        if another && app.output == output::Output::Yaml {
            io::stdout().lock().write_all(b"---\n")?;
        }
        return output::print_objects(def, &[body], app.output);
    }
    let mut text = if another { "\n".to_owned() } else { String::new() };
    text.push_str(&detail::render(&body)?);
    if with_events {
        let object: AnyObject = serde_json::from_slice(&body).map_err(|e| undecodable(&e))?;
        let query = EventQuery {
            project: Some(app.project.clone()),
            kind: Some(def.kind.to_owned()),
            name: Some(name),
            ..EventQuery::default()
        };
        let mut events = app.client.events(&query).await?.items;
        // An earlier object of the same name has a past of its own.
        events.retain(|event| event.id == object.meta.id);
        let first = events.len().saturating_sub(EVENTS);
        text.push_str(&detail::events(&events[first..])?);
    }
    io::stdout().lock().write_all(text.as_bytes())?;
    Ok(())
}
