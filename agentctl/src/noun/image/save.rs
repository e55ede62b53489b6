//! `image save`: a container's image as one file, written beside its name until all of it is on disk.

use std::path::PathBuf;

use agentd_api::image::SaveFormat;
use agentd_client::SubPath;
use clap::Args;

use super::DEF;
use crate::app::App;
use crate::failure::Failure;
use crate::noun::file::{Receive, receive};
use crate::target::{self, label};

#[derive(Debug, Args)]
pub struct Save {
    /// The image's name or id
    #[arg(value_name = "NAME")]
    name: String,
    /// The archive that is made, which `image load` takes. One that is there is replaced once the new one is whole
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The archive's layout: Docker's, which `docker load` takes, or OCI's, which others take as well [default: docker]
    #[arg(long, value_name = "FORMAT", value_parser = SaveFormat::NAMES)]
    format: Option<String>,
}

impl Save {
    pub async fn run(self, app: &App) -> Result<(), Failure> {
        let name = target::name_of(app, DEF, &self.name).await?;
        let sub = DEF.sub("save").expect("a subresource that is declared");
        let params: Vec<_> = self.format.as_deref().map(|format| ("format", format)).into_iter().collect();
        let path = SubPath { def: DEF, project: Some(&app.project), name: &name, sub, params: &params };
        receive(app, Receive { path, file: &self.file, first: "packing it" }).await?;
        app.say(format_args!("{}: saved to {}", label(DEF, &name), self.file.display()));
        Ok(())
    }
}
