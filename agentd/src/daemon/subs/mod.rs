//! What stands behind subresources: the table from a kind's declaration to what opens it.

use agentd_api::{ErrorCode, Problem};
use async_trait::async_trait;

use crate::http::{SubCall, SubReply, Subresources};

/// Opens the subresources of all kinds.
pub struct Subs {}

#[async_trait]
impl Subresources for Subs {
    async fn open(&self, call: SubCall) -> Result<SubReply, Problem> {
        let (kind, sub) = (call.object.kind(), call.sub.name);
        // A test asks for each that is declared: none ends here.
        Err(Problem::new(ErrorCode::NotFound, format!("a {kind} has no {sub}")))
    }
}
