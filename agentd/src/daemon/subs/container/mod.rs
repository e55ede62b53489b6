//! What containers have beside their objects, and VMs have not or otherwise.

mod answers;
mod commit;
mod streams;
#[cfg(test)]
mod tests;
mod wait;

use agentd_api::{ErrorCode, ObjectName, Problem};
use agentd_drivers::Classed;
use agentd_drivers::container::ContainerError;
use agentd_drivers::fault::chain;
use bytes::Bytes;

use crate::http::SubReply;

pub use answers::{Diff, Stats, Top};
pub use commit::Commit;
pub use streams::{Attach, Logs};
pub use wait::Wait;

fn json(value: &impl serde::Serialize) -> Result<SubReply, Problem> {
    let text = serde_json::to_vec(value).map_err(|e| Problem::new(ErrorCode::Internal, e.to_string()))?;
    Ok(SubReply::Json(Bytes::from(text)))
}

fn refused(error: &ContainerError, name: &ObjectName) -> Problem {
    match error {
        ContainerError::Off(_) => Problem::new(ErrorCode::Conflict, "it does not run")
            .hint(format!("`agentctl container start {name}` starts it")),
        ContainerError::Missing(_) => {
            Problem::new(ErrorCode::Conflict, "the engine has no container of it: it was not started yet")
                .hint(format!("`agentctl container start {name}` starts it"))
        }
        other => Problem::new(other.code(), chain(other)),
    }
}
