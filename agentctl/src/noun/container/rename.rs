//! `container rename`: the same container under another name.

use clap::Args;
use serde_json::json;

use super::DEF;
use crate::app::App;
use crate::failure::Failure;
use crate::target::label;
use crate::verb::{act, create};

#[derive(Debug, Args)]
pub struct Rename {
    /// The container's name or id
    #[arg(value_name = "NAME")]
    name: String,
    /// Its new name
    #[arg(value_name = "NEW")]
    new: String,
    /// Check everything, change nothing
    #[arg(long)]
    dry_run: bool,
}

impl Rename {
    pub async fn run(self, app: &App) -> Result<(), Failure> {
        let about = label(DEF, &self.name);
        let options = json!({"name": self.new});
        let sent = act::send_with(app, (DEF, &self.name), ("rename", options), self.dry_run).await;
        let object = sent.map_err(|failure| failure.about(about.clone()))?;
        if self.dry_run {
            app.say("dry run: nothing was changed");
            return Ok(());
        }
        if !app.output.is_table() {
            return create::print(app, DEF, &object).await;
        }
        app.say(format_args!("{about}: is {} now", label(DEF, &object.meta.name)));
        Ok(())
    }
}
