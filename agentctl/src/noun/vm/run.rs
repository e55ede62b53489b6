//! `vm run` and `vm create`: keys, wish, wait, address.

use std::time::Duration;

use agentd_api::image::Image;
use agentd_api::{Kind, KindDef};
use clap::Args;

use crate::app::App;
use crate::failure::Failure;
use crate::noun::ssh_key;
use crate::noun::vm::spec::SpecArgs;
use crate::verb::create::{self, Create, Until};
use crate::wait::goal::Goal;
use crate::wait::{Beside, WaitArgs};

const DEF: &KindDef = super::DEF;
/// Enough for a Debian to be built first on a slow host.
const USUAL: Duration = Duration::from_secs(1800);

#[derive(Debug, Args)]
pub struct Run {
    /// The VM's name; also its host name
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    spec: SpecArgs,
    /// Check everything, change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    wait: WaitArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    Started,
    Stopped,
}

impl Run {
    pub async fn run(self, app: &App, begin: Begin) -> Result<(), Failure> {
        let mut keys = Vec::new();
        for key in &self.spec.cloud_init.ssh_keys {
            keys.extend(ssh_key::ensure(app, key, self.dry_run).await?);
        }
        let started = begin == Begin::Started;
        let draft = self.spec.draft(&self.name, &keys, started)?;
        let create = Create { def: DEF, name: &self.name, draft, dry_run: self.dry_run };
        let Some(object) = create.send(app).await? else { return Ok(()) };
        let until = Until {
            goal: if started { Goal::Running } else { Goal::Stopped },
            wait: &self.wait,
            usual: USUAL,
            beside: Some(Beside { def: Image::DEF, name: self.spec.image }),
        };
        create::finish(app, DEF, object, until).await
    }
}
