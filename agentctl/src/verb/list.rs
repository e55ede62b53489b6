//! `list`: the objects of a kind as a table.

use agentd_api::KindDef;
use agentd_api::name::DEFAULT_PROJECT;
use agentd_client::ListOptions;
use bytes::Bytes;
use clap::Args;

use crate::app::App;
use crate::failure::Failure;
use crate::output::{self, project};

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

impl Select {
    fn of(&self, mut options: ListOptions) -> ListOptions {
        options.labels.extend(self.selector.clone());
        options.fields.extend(self.field.clone());
        options
    }
}

impl List {
    pub async fn run(self, app: &App, def: &'static KindDef) -> Result<(), Failure> {
        list(app, def, &self.select).await
    }
}

pub async fn list(app: &App, def: &'static KindDef, select: &Select) -> Result<(), Failure> {
    let pages = app.client.kind(def).pages(&select.of(app.list())).await?;
    print(app, def, select, &pages)
}

/// As [`list`], of a kind whose objects in the project `default` serve all projects, but for those that have one of that
/// name of their own.
pub async fn list_with_shared(app: &App, def: &'static KindDef, select: &Select) -> Result<(), Failure> {
    if app.project.as_str() == DEFAULT_PROJECT {
        return list(app, def, select).await;
    }
    let kind = app.client.kind(def);
    let mut pages = kind.pages(&select.of(app.list())).await?;
    let own = project::names(&kind.pages(&app.list()).await?)?;
    let shared = kind.pages(&select.of(ListOptions::default())).await?;
    pages.push(output::without(&shared, &own)?);
    print(app, def, select, &pages)
}

fn print(app: &App, def: &'static KindDef, select: &Select, pages: &[Bytes]) -> Result<(), Failure> {
    let nothing = output::print_list(def, pages, app.output)?;
    let selected = select.selector.is_some() || !select.field.is_empty();
    if nothing {
        let which = if selected { " that match" } else { "" };
        app.say(format_args!("no {}{which} in project {}", def.plural, app.project));
    }
    Ok(())
}
