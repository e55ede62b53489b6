//! `vm export`: a VM as one file.

use std::path::PathBuf;

use agentd_api::KindDef;
use agentd_client::SubPath;
use clap::Args;

use super::sub;
use crate::app::App;
use crate::failure::Failure;
use crate::noun::file::{Receive, receive};
use crate::target::{self, label};

const DEF: &KindDef = super::DEF;

#[derive(Debug, Args)]
pub struct Export {
    /// The VM's name or id; it may run, and goes on
    #[arg(value_name = "NAME")]
    name: String,
    /// The archive that is made, a tar file. One that is there is replaced once the new one is whole
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

impl Export {
    pub async fn run(self, app: &App) -> Result<(), Failure> {
        let name = target::name_of(app, DEF, &self.name).await?;
        let path =
            SubPath { def: DEF, project: Some(&app.project), name: &name, sub: sub("export"), params: &[] };
        receive(app, Receive { path, file: &self.file, first: "copying its disks" }).await?;
        app.say(format_args!("{}: exported to {}", label(DEF, &name), self.file.display()));
        if target::find(app, DEF, &name).await.is_ok_and(|vm| vm.spec["tpm"] == true) {
            app.say(format_args!("{}: what its TPM holds is not in it", label(DEF, &name)));
        }
        Ok(())
    }
}
