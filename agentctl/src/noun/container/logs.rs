//! `container logs`: what a container said, each of its streams to that of this program.

use std::io;

use agentd_api::Timestamp;
use agentd_api::frame::Frame;
use agentd_client::{SubPath, failed};
use clap::Args;

use super::{DEF, sub};
use crate::app::App;
use crate::failure::Failure;
use crate::noun::exec::{cut, put};
use crate::noun::vm::logs::since;
use crate::target::{self, label};

#[derive(Debug, Args)]
pub struct Logs {
    /// The container's name or id
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
    /// Begin each line with its time
    #[arg(short, long)]
    timestamps: bool,
}

impl Logs {
    pub async fn run(self, app: &App) -> Result<(), Failure> {
        let name = target::name_of(app, DEF, &self.name).await?;
        let about = |failure: Failure| failure.about(label(DEF, &name));
        let (tail, since) = (self.tail.map(|n| n.to_string()), self.since.map(|at| at.to_string()));
        let mut params = Vec::new();
        params.extend(self.follow.then_some(("follow", "true")));
        params.extend(self.timestamps.then_some(("timestamps", "true")));
        params.extend(tail.as_deref().map(|lines| ("tail", lines)));
        params.extend(since.as_deref().map(|at| ("since", at)));
        let path =
            SubPath { def: DEF, project: Some(&app.project), name: &name, sub: sub("logs"), params: &params };
        let opened = app.client.frames(path).await;
        // The writer stays open: its end would be taken for our going.
        let (mut from, _to) = opened.map_err(|e| about(target::not_found_hint(e, DEF)))?;
        loop {
            match from.next().await.map_err(|e| about(cut(e)))? {
                Some(Frame::Out(bytes)) => put(&mut io::stdout().lock(), &bytes)?,
                Some(Frame::Err(bytes)) => put(&mut io::stderr().lock(), &bytes)?,
                Some(Frame::End) => return Ok(()),
                Some(Frame::Failed(text)) => return Err(about(failed(&text).into())),
                Some(_) => {}
                None => return Err(about(cut(io::ErrorKind::UnexpectedEof.into()))),
            }
        }
    }
}
