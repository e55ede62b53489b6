//! `vm logs`: what the guest said on its serial console, as far as it is kept.

use std::io::{self, Write};

use agentd_api::{Span, Timestamp};
use agentd_client::SubPath;
use clap::Args;

use super::{DEF, sub};
use crate::app::App;
use crate::failure::Failure;
use crate::target::{self, label};

#[derive(Debug, Args)]
pub struct Logs {
    /// The VM's name or id
    #[arg(value_name = "NAME")]
    name: String,
    /// Go on printing what comes
    #[arg(short, long)]
    follow: bool,
    /// Only what was said since: so long ago, as in 10m, or since a time, as in 2026-01-02T03:04:05Z
    #[arg(long, value_name = "DURATION|TIME", value_parser = since)]
    since: Option<Timestamp>,
    /// Only the last lines
    #[arg(short = 'n', long, value_name = "LINES")]
    tail: Option<u64>,
}

pub fn since(text: &str) -> Result<Timestamp, String> {
    if let Ok(span) = text.parse::<Span>() {
        let ago = u64::try_from(span.duration().as_millis()).unwrap_or(u64::MAX);
        return Ok(Timestamp(Timestamp::now().millis().saturating_sub(ago)));
    }
    text.parse()
        .map_err(|_| "write how long ago, as in 10m, or a time, as in 2026-01-02T03:04:05Z".to_owned())
}

impl Logs {
    pub async fn run(self, app: &App) -> Result<(), Failure> {
        let name = target::name_of(app, DEF, &self.name).await?;
        let about = |failure: Failure| failure.about(label(DEF, &name));
        let (tail, since) = (self.tail.map(|n| n.to_string()), self.since.map(|at| at.to_string()));
        let mut params = Vec::new();
        params.extend(self.follow.then_some(("follow", "true")));
        params.extend(tail.as_deref().map(|lines| ("tail", lines)));
        params.extend(since.as_deref().map(|at| ("since", at)));
        let path =
            SubPath { def: DEF, project: Some(&app.project), name: &name, sub: sub("logs"), params: &params };
        let opened = app.client.download(path).await;
        let mut pieces = opened.map_err(|e| about(target::not_found_hint(e, DEF)))?;
        while let Some(piece) = pieces.next().await.map_err(|e| about(e.into()))? {
            let mut out = io::stdout().lock();
            out.write_all(&piece)?;
            out.flush()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_a_time_or_how_long_ago() {
        let time = since("2026-01-02T03:04:05Z").expect("a time");
        assert_eq!(time.to_string(), "2026-01-02T03:04:05Z");
        let ago = since("10m").expect("a duration").age().as_secs();
        assert!((600..605).contains(&ago), "{ago}");
        assert!(since("yesterday").is_err());
    }
}
