//! `vm screenshot`: a picture of the guest's screen, as a PNG file.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use agentd_client::SubPath;
use clap::Args;

use super::{DEF, sub};
use crate::app::App;
use crate::failure::{Exit, Failure};
use crate::target::{self, label};

#[derive(Debug, Args)]
pub struct Screenshot {
    /// The VM's name or id
    #[arg(value_name = "NAME")]
    name: String,
    /// Where the PNG goes; - is stdout
    #[arg(value_name = "FILE.png")]
    file: PathBuf,
}

impl Screenshot {
    pub async fn run(self, app: &App) -> Result<(), Failure> {
        let name = target::name_of(app, DEF, &self.name).await?;
        let about = |failure: Failure| failure.about(label(DEF, &name));
        let to_stdout = self.file.as_os_str() == "-";
        if to_stdout && io::stdout().is_terminal() {
            return Err(Failure::new(Exit::Usage, "a picture is not for a terminal").hint("name a file"));
        }
        let path = SubPath {
            def: DEF,
            project: Some(&app.project),
            name: &name,
            sub: sub("screenshot"),
            params: &[],
        };
        let opened = app.client.download(path).await;
        let mut pieces = opened.map_err(|e| about(target::not_found_hint(e, DEF)))?;
        let mut png = Vec::new();
        while let Some(piece) = pieces.next().await.map_err(|e| about(e.into()))? {
            png.extend_from_slice(&piece);
        }
        if to_stdout {
            return Ok(io::stdout().lock().write_all(&png)?);
        }
        write(&self.file, &png).map_err(|error| {
            Failure::new(Exit::Failed, format!("cannot write {}: {error}", self.file.display()))
        })
    }
}

/// Whole or not at all, where it is a file that may be replaced.
fn write(file: &Path, png: &[u8]) -> io::Result<()> {
    if file.exists() && !file.is_file() {
        return std::fs::write(file, png);
    }
    let mut part = file.as_os_str().to_owned();
    part.push(".part");
    std::fs::write(&part, png)?;
    std::fs::rename(&part, file).inspect_err(|_| drop(std::fs::remove_file(&part)))
}
