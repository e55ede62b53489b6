//! `agentctl network`: the bridges of this host.

use agentd_api::{Kind, KindDef, network};
use clap::Subcommand;

use crate::app::App;
use crate::failure::Failure;
use crate::verb::list::List;
use crate::verb::show::Show;

const DEF: &KindDef = network::Network::DEF;

#[derive(Debug, Subcommand)]
pub enum Network {
    /// List networks
    #[command(visible_alias = "ls")]
    List(List),
    /// Show all about networks
    Show(Show),
}

impl Network {
    pub async fn run(self, app: &App) -> Result<(), Failure> {
        match self {
            Self::List(list) => list.run(app, DEF).await,
            Self::Show(show) => show.run(app, DEF).await,
        }
    }
}
