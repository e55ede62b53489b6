//! `list`: the objects of a kind as a table.

use agentd_api::KindDef;
use clap::Args;

use crate::app::App;
use crate::failure::Failure;
use crate::output;

#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    pub select: Select,
}

/// Which of a kind.
#[derive(Debug, Default, Args)]
pub struct Select {
    /// Those whose labels match, as in app=web,tier!=test
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub selector: Option<String>,
    /// Those whose fields match, as in state=running
    #[arg(long, value_name = "SELECTOR")]
    pub field: Vec<String>,
}

impl List {
    pub async fn run(self, app: &App, def: &'static KindDef) -> Result<(), Failure> {
        list(app, def, &self.select).await
    }
}

pub async fn list(app: &App, def: &'static KindDef, select: &Select) -> Result<(), Failure> {
    let mut options = app.list();
    options.labels.extend(select.selector.clone());
    options.fields.extend(select.field.clone());
    let pages = app.client.kind(def).pages(&options).await?;
    let nothing = output::print_list(def, &pages, app.output)?;
    let selected = select.selector.is_some() || !select.field.is_empty();
    if nothing {
        let which = if selected { " that match" } else { "" };
        app.say(format_args!("no {}{which} in project {}", def.plural, app.project));
    }
    Ok(())
}
