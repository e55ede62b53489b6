//! `containers/{name}/attach` and `logs`: what it says, each stream by itself, and what is said to it.

use std::sync::Arc;

use agentd_api::frame::Frame;
use agentd_api::{ErrorCode, Problem};
use agentd_drivers::container::{self as driver, ContainerDriver};
use agentd_drivers::vm::guest::{GuestOut, Said};
use async_trait::async_trait;
use futures_util::FutureExt;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::daemon::subs::Opener;
use crate::daemon::subs::asked::{Asked, Guests};
use crate::daemon::subs::exec::{listen, speak};
use crate::daemon::subs::frames::{FrameSink, FrameSource, frames};
use crate::http::{SubCall, SubReply};

pub struct Attach {
    pub containers: Arc<dyn ContainerDriver>,
}

pub struct Logs {
    pub containers: Arc<dyn ContainerDriver>,
}

#[async_trait]
impl Opener for Attach {
    async fn open(&self, call: SubCall) -> Result<SubReply, Problem> {
        let asked = Asked::new(&Guests::Containers(self.containers.clone()), &call);
        let (stop, watch) = (call.stop.clone(), call.flag("watch"));
        let sitting = driver::Sitting { input: !watch, early: call.flag("early") };
        let (input, output) =
            self.containers.attach(asked.id, sitting).await.map_err(|e| asked.refused(&e))?;
        Ok(SubReply::Session(Box::new(move |channel| {
            async move {
                let (mut from, mut to) = frames(channel);
                let heard =
                    async { if watch { unheard(&mut from).await } else { listen(input, &mut from).await } };
                // Cancel safety: whichever arm ends first, what is dropped leaves the program as it is.
                let done = tokio::select! {
                    done = speak(&asked, output, &mut to) => done,
                    () = heard => Ok(()),
                    () = stop.cancelled() => Err(Problem::new(ErrorCode::BackendUnavailable, "agentd stops")),
                };
                if let Err(problem) = done {
                    // A caller that is gone is told nothing.
                    let _ = to.fail(&problem).await;
                }
            }
            .boxed()
        })))
    }
}

#[async_trait]
impl Opener for Logs {
    async fn open(&self, call: SubCall) -> Result<SubReply, Problem> {
        let asked = Asked::new(&Guests::Containers(self.containers.clone()), &call);
        let parse = |text: &str| text.parse().map_err(|e| Problem::field("since", format!("{e}")));
        let logs = driver::Logs {
            follow: call.flag("follow"),
            since: call.text("since").map(parse).transpose()?,
            until: None,
            tail: call.number("tail"),
            timestamps: call.flag("timestamps"),
            out: true,
            err: true,
        };
        let output = self.containers.logs(asked.id, logs).await.map_err(|e| asked.refused(&e))?;
        let stop = call.stop.clone();
        Ok(SubReply::Session(Box::new(move |channel| {
            async move {
                let (mut from, mut to) = frames(channel);
                // Cancel safety: whichever arm ends first, the other is of no more use.
                let done = tokio::select! {
                    done = tell(&asked, output, &mut to) => done,
                    () = unheard(&mut from) => return,
                    () = stop.cancelled() => Err(Problem::new(ErrorCode::BackendUnavailable, "agentd stops")),
                };
                let _ = match done {
                    Ok(()) => to.end().await,
                    Err(problem) => to.fail(&problem).await,
                };
            }
            .boxed()
        })))
    }
}

/// What it said, to the end of it; at the pace of the caller.
async fn tell(
    asked: &Asked,
    mut output: GuestOut,
    to: &mut FrameSink<impl AsyncWrite + Unpin>,
) -> Result<(), Problem> {
    loop {
        let frame = match output.next().await.map_err(|e| asked.refused(&e))? {
            Said::Out(bytes) => Frame::Out(bytes),
            Said::Err(bytes) => Frame::Err(bytes),
            Said::Exit(_) | Said::Done { .. } => return Ok(()),
        };
        if to.send(&frame).await.is_err() {
            return Ok(());
        }
    }
}

/// Until the caller hangs up.
async fn unheard(from: &mut FrameSource<impl AsyncRead + Unpin>) {
    while let Ok(Some(_)) = from.next().await {}
}
