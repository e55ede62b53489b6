//! `image import` and `image load`: a file becomes a disk for VMs, or what containers are made of.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::Making;
use super::sending::{Sending, open};
use crate::app::App;
use crate::failure::Failure;

#[derive(Debug, Args)]
pub struct Import {
    /// qcow2, raw, vmdk or vhdx; recognised by what is in it
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    making: Making,
}

#[derive(Debug, Args)]
pub struct Load {
    /// An archive of one image, as `docker save`, skopeo or buildah write it, or a tar archive of a root file system;
    /// also compressed with gzip
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    making: Making,
}

impl Import {
    pub async fn run(self, app: &App) -> Result<(), Failure> {
        let name = self.making.named(&self.file.to_string_lossy())?;
        let file = open(&self.file).await?;
        let sending = Sending { name: &name, file, path: &self.file, making: &self.making };
        sending.run(app, |size, sha256| json!({"source": {"upload": {"size": size, "sha256": sha256}}})).await
    }
}

impl Load {
    pub async fn run(self, app: &App) -> Result<(), Failure> {
        let name = self.making.named(&self.file.to_string_lossy())?;
        let file = open(&self.file).await?;
        let sending = Sending { name: &name, file, path: &self.file, making: &self.making };
        let spec = |size, sha256| json!({"source": {"upload": {"size": size, "sha256": sha256}}, "format": "container"});
        sending.run(app, spec).await
    }
}
