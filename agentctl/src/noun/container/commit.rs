//! `container commit`: an image of what a container holds now.

use std::io::{self, Write};

use agentd_api::container::{ContainerCommit, ContainerCommitted};
use agentd_client::SubPath;
use bytes::Bytes;
use clap::Args;

use super::{DEF, sub};
use crate::app::App;
use crate::failure::{Exit, Failure};
use crate::output::{self, undecodable};
use crate::target::{self, label};

#[derive(Debug, Args)]
pub struct Commit {
    /// The container's name or id
    #[arg(value_name = "NAME")]
    name: String,
    /// What the engine is to call the image: NAME or NAME:TAG
    #[arg(value_name = "IMAGE")]
    image: String,
    /// What is said of it
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    /// Let it run on meanwhile; what it writes just then may be in it half
    #[arg(long)]
    no_pause: bool,
}

impl Commit {
    pub async fn run(self, app: &App) -> Result<(), Failure> {
        let name = target::name_of(app, DEF, &self.name).await?;
        let wish = ContainerCommit { image: self.image, pause: !self.no_pause, message: self.message };
        let body = serde_json::to_vec(&wish).map_err(|e| Failure::new(Exit::Failed, e.to_string()))?;
        let path =
            SubPath { def: DEF, project: Some(&app.project), name: &name, sub: sub("commit"), params: &[] };
        let sent = app.client.send_content(path, futures_util::stream::iter([Ok(Bytes::from(body))])).await;
        let answer = sent.map_err(|e| target::not_found_hint(e, DEF).about(label(DEF, &name)))?;
        let mut out = io::stdout().lock();
        if !app.output.is_table() {
            return Ok(output::line(&mut out, &answer)?);
        }
        let made: ContainerCommitted = serde_json::from_slice(&answer).map_err(|e| undecodable(&e))?;
        app.say(format_args!("{}: committed as {}", label(DEF, &name), made.image));
        writeln!(out, "{}", made.digest)?;
        Ok(())
    }
}
