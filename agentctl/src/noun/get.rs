//! `agentctl get`: objects of any kind as a table, or as the API has them.

use agentd_api::KindDef;
use bytes::Bytes;
use clap::Args;

use crate::app::App;
use crate::failure::{Exit, Failure, Failures};
use crate::output;
use crate::target::{self, label, not_found_hint, parse_list};
use crate::verb::list::{self, Select};

#[derive(Debug, Args)]
pub struct Get {
    /// A kind for all of it, or objects: vm, vm/web, vm web db
    #[arg(value_name = "KIND[/NAME]", required = true)]
    what: Vec<String>,
    #[command(flatten)]
    select: Select,
}

impl Get {
    pub async fn run(self, app: &App) -> Result<(), Failure> {
        let wanted = parse_list(&self.what)?;
        let selected = self.select.selector.is_some() || !self.select.field.is_empty();
        if selected && wanted.iter().any(|(_, name)| name.is_some()) {
            return Err(Failure::new(Exit::Usage, "a selector and a name exclude each other"));
        }
        let mut failures = Failures::default();
        // One table a kind, in the order in which kinds were first named.
        let mut found: Vec<(&'static KindDef, Vec<Bytes>)> = Vec::new();
        for (def, name) in wanted {
            match name {
                None => list::list(app, def, &self.select).await?,
                Some(name) => {
                    let outcome = read(app, def, &name).await;
                    let Some(body) = failures.take(label(def, &name), outcome) else { continue };
                    match found.iter_mut().find(|(known, _)| known.kind == def.kind) {
                        Some((_, bodies)) => bodies.push(body),
                        None => found.push((def, vec![body])),
                    }
                }
            }
        }
        for (def, bodies) in found {
            output::print_objects(def, &bodies, app.output)?;
        }
        failures.end()
    }
}

async fn read(app: &App, def: &'static KindDef, name: &str) -> Result<Bytes, Failure> {
    let name = target::name_of(app, def, name).await?;
    app.client.kind(def).get(Some(&app.project), &name).await.map_err(|e| not_found_hint(e, def))
}
