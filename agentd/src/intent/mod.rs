//! Wishes: checks what a caller wants and writes it down in one transaction.

mod caller;

pub use caller::{Caller, Principal, Reply};

use agentd_api::{KindDef, ObjectKey, ObjectName, Problem};
use serde_json::Value;

#[derive(Clone)]
pub struct Intents {}

#[expect(clippy::unused_async, reason = "signatures that others build on; the bodies follow")]
impl Intents {
    pub async fn create(
        &self,
        _caller: &Caller,
        _def: &'static KindDef,
        _project: &ObjectName,
        _draft: Value,
    ) -> Result<Reply, Problem> {
        Err(unfinished())
    }
    pub async fn replace(
        &self,
        _caller: &Caller,
        _key: &ObjectKey,
        _draft: Value,
        _if_match: Option<u64>,
    ) -> Result<Reply, Problem> {
        Err(unfinished())
    }
    pub async fn patch(
        &self,
        _caller: &Caller,
        _key: &ObjectKey,
        _patch: Value,
        _if_match: Option<u64>,
    ) -> Result<Reply, Problem> {
        Err(unfinished())
    }
    pub async fn delete(
        &self,
        _caller: &Caller,
        _key: &ObjectKey,
        _if_match: Option<u64>,
    ) -> Result<Reply, Problem> {
        Err(unfinished())
    }
    pub async fn act(
        &self,
        _caller: &Caller,
        _key: &ObjectKey,
        _action: &str,
        _body: Value,
    ) -> Result<Reply, Problem> {
        Err(unfinished())
    }
}

fn unfinished() -> Problem {
    Problem::new(agentd_api::ErrorCode::Internal, "intents are not connected")
}
