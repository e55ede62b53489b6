//! `vms/{name}/exec` and `containers/{name}/exec`: a program in the guest, its input and output as they come.
//!
//! ```text
//!   caller                              daemon                       guest
//!     In ... InEnd (the wish)   ---->     checks it, opens    ---->    starts it
//!     In, Resize, Signal        ---->     as it is taken      ---->
//!                               <----     Out, Err            <----
//!                               <----     Exit                <----    its end
//! ```
//! Either side waits for the other, and nothing piles up here. A caller that hangs up ends the program.

#[cfg(test)]
mod tests;

use std::time::Duration;

use agentd_api::exec::ExecWish;
use agentd_api::frame::Frame;
use agentd_api::{ErrorCode, FieldError, Problem};
use agentd_drivers::vm::guest::{self, GuestIn, GuestOut, Said};
use async_trait::async_trait;
use futures_util::FutureExt;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use super::Opener;
use super::asked::{Asked, Guests};
use super::frames::{FrameSink, FrameSource, frames};
use crate::http::{SubCall, SubReply};

/// The longest document of a wish: what is allowed, escaped as badly as JSON can.
const WISH_MAX: usize = 1 << 20;
const WISH_TIME: Duration = Duration::from_secs(30);

pub struct Exec {
    pub guests: Guests,
}

#[async_trait]
impl Opener for Exec {
    async fn open(&self, call: SubCall) -> Result<SubReply, Problem> {
        let asked = Asked::new(&self.guests, &call);
        // Whether anybody answers is told before the connection is upgraded.
        asked.answers().await.map_err(|e| asked.refused(&e))?;
        let stop = call.stop.clone();
        Ok(SubReply::Session(Box::new(move |channel| {
            async move {
                let (mut from, mut to) = frames(channel);
                if let Err(problem) = session(&asked, (&mut from, &mut to), &stop).await {
                    // A caller that is gone is told nothing.
                    let _ = to.fail(&problem).await;
                }
            }
            .boxed()
        })))
    }
}

async fn session(
    asked: &Asked,
    (from, to): (&mut FrameSource<impl AsyncRead + Unpin>, &mut FrameSink<impl AsyncWrite + Unpin>),
    stop: &CancellationToken,
) -> Result<(), Problem> {
    let late = || Problem::new(ErrorCode::Invalid, format!("what to run did not come within {WISH_TIME:?}"));
    let wish = tokio::time::timeout(WISH_TIME, read_wish(from)).await.map_err(|_| late())??;
    let (input, output) = asked.exec(wish).await.map_err(|e| asked.refused(&e))?;
    // Cancel safety: whichever arm ends first, the session in the guest ends with what is dropped.
    tokio::select! {
        done = speak(asked, output, to) => done,
        () = listen(input, from) => Ok(()),
        () = stop.cancelled() => {
            Err(Problem::new(ErrorCode::BackendUnavailable, "agentd stops, and ends the program"))
        }
    }
}

/// What comes first: the wish, as In up to InEnd.
async fn read_wish(from: &mut FrameSource<impl AsyncRead + Unpin>) -> Result<guest::ExecWish, Problem> {
    let mut text = Vec::new();
    loop {
        match from.next().await {
            Ok(Some(Frame::In(bytes))) => text.extend(bytes),
            Ok(Some(Frame::InEnd)) => break,
            Ok(None) => return Err(Problem::new(ErrorCode::Invalid, "nothing to run was named")),
            Ok(Some(_)) => return Err(Problem::new(ErrorCode::Invalid, "what to run comes first, as In")),
            Err(error) => return Err(Problem::new(ErrorCode::Invalid, error.to_string())),
        }
        if text.len() > WISH_MAX {
            let message = format!("is longer than {WISH_MAX} bytes as JSON");
            return Err(Problem::invalid(vec![FieldError::new("argv", message)]));
        }
    }
    let wish: ExecWish = serde_json::from_slice(&text)
        .map_err(|e| Problem::new(ErrorCode::Invalid, format!("what to run is no ExecWish: {e}")))?;
    let errors = wish.check();
    if !errors.is_empty() {
        return Err(Problem::invalid(errors));
    }
    Ok(guest::ExecWish {
        argv: wish.argv,
        env: wish.env.into_iter().collect(),
        cwd: wish.cwd,
        user: wish.user,
        terminal: wish.terminal.map(|size| (size.columns, size.rows)),
        input: wish.input,
    })
}

/// What the program says, to its end.
pub(super) async fn speak(
    asked: &Asked,
    mut output: GuestOut,
    to: &mut FrameSink<impl AsyncWrite + Unpin>,
) -> Result<(), Problem> {
    loop {
        let (frame, last) = match output.next().await.map_err(|e| asked.refused(&e))? {
            Said::Out(bytes) => (Frame::Out(bytes), false),
            Said::Err(bytes) => (Frame::Err(bytes), false),
            Said::Exit(status) => (Frame::Exit(status), true),
            Said::Done { .. } => (Frame::Exit(0), true),
        };
        if to.send(&frame).await.is_err() || last {
            return Ok(());
        }
    }
}

/// What the caller says, until it hangs up.
pub(super) async fn listen(mut input: GuestIn, from: &mut FrameSource<impl AsyncRead + Unpin>) {
    while let Ok(Some(frame)) = from.next().await {
        // The session may be over: the other direction says how.
        let _ = match frame {
            Frame::In(bytes) => input.data(&bytes).await,
            Frame::InEnd => input.end().await,
            Frame::Resize { columns, rows } => input.resize(columns, rows).await,
            Frame::Signal(number) => input.signal(number.cast_unsigned()).await,
            _ => return,
        };
    }
}
