//! `/v1/doctor`: what the host has and lacks, what on it belongs to nobody and what belongs there and is not; and the
//! mending of what can be mended safely.

use agentd_api::Problem;
use agentd_api::doctor::{Finding, Repair, RepairList, RepairWish};
use async_trait::async_trait;
use http::request::Parts;
use hyper::body::Incoming;

use super::objects::{parsed, required};
use super::request::{self, JSON, Params};
use super::server_info::json;
use super::service::{Answer, Call};
use crate::intent::Caller;

/// Compares the host with the objects.
#[async_trait]
pub trait HostSides: Send + Sync {
    /// Looks at the host, which may take a while.
    async fn findings(&self) -> Vec<Finding>;
    /// Looks again, and does of what it then finds what was asked for and is safe. One answer for each.
    async fn repair(&self, subjects: Vec<String>, caller: Caller) -> Vec<Repair>;
}

pub(super) async fn get(call: &Call, head: &Parts) -> Answer {
    Params::parse(head.uri.query(), &[])?;
    let (facts, sides) = (call.app.facts.clone(), call.app.sides.clone());
    let (mut report, findings) = tokio::join!(facts.doctor(), sides.findings());
    report.findings = findings;
    json(&report)
}

pub(super) async fn repair(call: &Call, head: &Parts, body: Incoming) -> Answer {
    Params::parse(head.uri.query(), &[])?;
    let body = required(request::json(&head.headers, body, JSON, call.body_limits()).await?)?;
    let wish: RepairWish = parsed(body)?;
    if wish.subjects.is_empty() {
        return Err(Problem::field("subjects", "names nothing to mend"));
    }
    let (sides, caller) = (call.app.sides.clone(), call.caller(false, None));
    // Goes on to its end where the caller goes away.
    let done = tokio::spawn(async move { sides.repair(wish.subjects, caller).await }).await;
    json(&RepairList { items: done.map_err(|_| super::error::panicked())? })
}
