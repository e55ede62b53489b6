//! `POST /v1/archives`: a VM that comes in an archive. The body is handed on as it comes, like an image's content.

use agentd_api::{ObjectName, Problem};
use async_trait::async_trait;
use http::request::Parts;
use hyper::body::Incoming;
use serde_json::Value;

use super::objects::replied;
use super::request::Params;
use super::service::{Answer, Call};
use super::upload::{Content, content};
use crate::intent::{Caller, Reply};

/// What is asked for beside the archive itself.
#[derive(Debug, Clone)]
pub struct ImportWish {
    pub caller: Caller,
    pub project: ObjectName,
    /// A merge patch over what the archive says of the VM: its name, its labels, its spec.
    pub change: Value,
}

/// Takes archives in.
#[async_trait]
pub trait Import: Send + Sync {
    /// Answers with the VM as it was written down. Nothing is left of an archive that is refused.
    async fn import(&self, wish: ImportWish, content: Content) -> Result<Reply, Problem>;
}

pub(super) async fn import(call: &Call, head: &Parts, body: Incoming) -> Answer {
    let params = Params::parse(head.uri.query(), &["project", "dry_run", "name", "spec"])?;
    let mut change = Value::Object(serde_json::Map::new());
    if let Some(name) = params.get("name") {
        change["name"] = Value::from(name);
    }
    if let Some(spec) = params.get("spec") {
        let patch: Value = serde_json::from_str(spec)
            .map_err(|error| Problem::field("spec", format!("must be JSON: {error}")))?;
        if !patch.is_object() {
            return Err(Problem::field("spec", "must be a JSON object"));
        }
        change["spec"] = patch;
    }
    let caller = call.caller(params.flag("dry_run")?, None);
    let wish = ImportWish { caller, project: params.project()?, change };
    let content = content(body, call.app.limits.body_time);
    // In the request's own task: when the caller hangs up there is nothing more to receive.
    Ok(replied(call.app.import.import(wish, content).await?))
}
