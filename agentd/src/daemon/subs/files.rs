//! `vms/{name}/files` and `containers/{name}/files`: what is in the guest as a tar archive, and an archive into the guest. Bytes are handed on as the
//! other side takes them; what is in an archive is looked at where it is unpacked.

use std::io;

use agentd_api::exec::{Copied, check_guest_path};
use agentd_api::kind::SubMethod;
use agentd_api::{ErrorCode, Problem};
use agentd_drivers::fault::chain;
use agentd_drivers::vm::guest::{GuestError, GuestOut, Said};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;

use super::Opener;
use super::asked::{Asked, Guests};
use crate::http::{Pieces, SubCall, SubReply};

pub struct Files {
    pub guests: Guests,
}

#[async_trait]
impl Opener for Files {
    async fn open(&self, call: SubCall) -> Result<SubReply, Problem> {
        let asked = Asked::new(&self.guests, &call);
        let path = call.text("path").ok_or_else(|| Problem::field("path", "must be given"))?.to_owned();
        check_guest_path(&path).map_err(|error| Problem::invalid(vec![error]))?;
        if call.sub.method == SubMethod::Get {
            let out = asked.pack(path).await.map_err(|e| asked.refused(&e))?;
            return Ok(SubReply::Content(pieces(out)));
        }
        let copied = unpack(&asked, path, call).await?;
        let json = serde_json::to_vec(&copied);
        Ok(SubReply::Json(json.map_err(|e| Problem::new(ErrorCode::Internal, e.to_string()))?.into()))
    }
}

/// The archive. Where the guest fails in its middle, the answer is cut; the archive itself says why.
fn pieces(out: GuestOut) -> Pieces {
    futures_util::stream::unfold(Some(out), |out| async move {
        let mut out = out?;
        match out.next().await {
            Ok(Said::Out(bytes)) => Some((Ok(Bytes::from(bytes)), Some(out))),
            Ok(Said::Done { .. }) => None,
            Ok(_) => Some((Err(io::Error::other("the guest answers something else")), None)),
            Err(error) => Some((Err(io::Error::other(chain(&error))), None)),
        }
    })
    .boxed()
}

async fn unpack(asked: &Asked, path: String, call: SubCall) -> Result<Copied, Problem> {
    let (mut input, mut output) = asked.unpack(path).await.map_err(|e| asked.refused(&e))?;
    let (mut body, stop) = (call.body, call.stop);
    let feed = async {
        while let Some(piece) = body.next().await {
            let piece = piece.map_err(|e| {
                Problem::new(ErrorCode::Invalid, format!("the archive was not sent to its end: {e}"))
            })?;
            if input.data(&piece).await.is_err() {
                // It is over; the answer says how.
                return std::future::pending().await;
            }
        }
        let _ = input.end().await;
        std::future::pending::<Result<Copied, Problem>>().await
    };
    let answer = async {
        match output.next().await {
            Ok(Said::Done { count, bytes }) => Ok(Copied { entries: count, bytes }),
            Ok(_) => Err(GuestError::Gone),
            Err(error) => Err(error),
        }
        .map_err(|e| asked.refused(&e))
    };
    // Cancel safety: what is dropped ends the session, and the guest removes what is half made.
    tokio::select! {
        answer = answer => answer,
        cut = feed => cut,
        () = stop.cancelled() => Err(Problem::new(ErrorCode::BackendUnavailable, "agentd stops")),
    }
}
