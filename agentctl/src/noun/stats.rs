//! `agentctl vm stats`, and what other nouns' `stats` share with it: what guests use, once or again and again.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use agentd_api::stats::StatsList;
use agentd_api::{KindDef, Span};
use agentd_client::StatsQuery;
use bytes::Bytes;
use clap::Args;

use crate::app::App;
use crate::failure::{Exit, Failure};
use crate::output::figures::{self, Order};
use crate::output::{self, Output, undecodable};
use crate::target::{self, label};

/// Between the two looks that a single answer takes.
const LOOK: Duration = Duration::from_secs(1);
/// However short a time between two looks was asked for.
pub const INTERVAL_MIN: Duration = Duration::from_millis(100);

#[derive(Debug, Args)]
pub struct Stats {
    /// Names or ids; all that run where none is given
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Go on until Ctrl-C
    #[arg(short, long)]
    follow: bool,
    /// The time between two lines of one guest
    #[arg(long, value_name = "DURATION", default_value = "2s")]
    interval: Span,
}

impl Stats {
    pub async fn run(self, app: &App, def: &'static KindDef) -> Result<(), Failure> {
        if matches!(app.output, Output::Name | Output::Yaml) {
            return Err(Failure::new(Exit::Usage, "figures are printed as table or json"));
        }
        let mut looker = Looker { app, def: Some(def), names: Vec::new() };
        // An id is looked up: figures are asked for by name.
        for name in &self.names {
            looker.names.push(target::find(app, def, name).await?.meta.name.to_string());
        }
        let interval = self.interval.duration().max(INTERVAL_MIN);
        if app.output == Output::Json {
            return looker.documents(self.follow.then_some(interval)).await;
        }
        let mut before = looker.decoded().await?;
        looker.refuse_absent(&before)?;
        loop {
            tokio::time::sleep(if self.follow { interval } else { LOOK }).await;
            let now = looker.decoded().await?;
            let terminal = io::stdout().is_terminal();
            show(&before, &now, Order::Name, false, self.follow && terminal)?;
            if !self.follow {
                return Ok(());
            }
            before = now;
        }
    }
}

/// Asks for figures.
pub struct Looker<'a> {
    pub app: &'a App,
    pub def: Option<&'static KindDef>,
    pub names: Vec<String>,
}

impl Looker<'_> {
    async fn raw(&self) -> Result<Bytes, Failure> {
        let query = StatsQuery {
            project: Some(self.app.project.clone()),
            kind: self.def.map(|def| def.kind),
            name: if let [one] = &self.names[..] { Some(one.clone()) } else { None },
        };
        Ok(self.app.client.stats(&query).await?)
    }

    pub async fn decoded(&self) -> Result<StatsList, Failure> {
        let mut list: StatsList = serde_json::from_slice(&self.raw().await?).map_err(|e| undecodable(&e))?;
        if !self.names.is_empty() {
            list.items.retain(|figures| self.names.iter().any(|name| *name == *figures.name.as_str()));
        }
        Ok(list)
    }

    fn refuse_absent(&self, list: &StatsList) -> Result<(), Failure> {
        let Some(def) = self.def else { return Ok(()) };
        let there = |name: &String| list.items.iter().any(|figures| *name == *figures.name.as_str());
        match self.names.iter().find(|name| !there(name)) {
            Some(name) => {
                let hint = format!("agentctl {} start {name}", def.kind);
                Err(Failure::new(Exit::Conflict, "does not run").about(label(def, name)).hint(hint))
            }
            None => Ok(()),
        }
    }

    async fn documents(&self, again: Option<Duration>) -> Result<(), Failure> {
        loop {
            let list = self.decoded().await?;
            self.refuse_absent(&list)?;
            let mut out = io::stdout().lock();
            output::line(&mut out, &serde_json::to_vec(&list).map_err(|e| undecodable(&e))?)?;
            out.flush()?;
            drop(out);
            match again {
                Some(interval) => tokio::time::sleep(interval).await,
                None => return Ok(()),
            }
        }
    }
}

/// On a terminal the table stands still and its figures change.
pub fn show(
    before: &StatsList,
    now: &StatsList,
    order: Order,
    kinds: bool,
    in_place: bool,
) -> Result<(), Failure> {
    const HOME_AND_CLEAR: &[u8] = b"\x1b[H\x1b[J";
    let mut out = io::BufWriter::new(io::stdout().lock());
    if in_place {
        out.write_all(HOME_AND_CLEAR)?;
    }
    figures::table(before, now, order, kinds).write(&mut out)?;
    out.flush()?;
    Ok(())
}
