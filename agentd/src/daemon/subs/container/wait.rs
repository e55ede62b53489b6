//! `containers/{name}/wait`: answers once the container is no longer up. It is the object that is waited for: what the
//! engine does in between, restarts by policy included, is judged there.

use std::time::Duration;

use agentd_api::container::{Container, ContainerWaited};
use agentd_api::{ErrorCode, Object, Problem, State};
use agentd_store::Store;
use async_trait::async_trait;

use super::json;
use crate::daemon::subs::Opener;
use crate::http::{SubCall, SubReply};

pub struct Wait {
    pub store: Store,
}

#[async_trait]
impl Opener for Wait {
    async fn open(&self, call: SubCall) -> Result<SubReply, Problem> {
        let object: Object<Container> =
            call.object.object().map_err(|e| Problem::new(ErrorCode::Internal, e.to_string()))?;
        let limit = call.number("timeout").map(Duration::from_secs);
        let over = async {
            match limit {
                Some(limit) => tokio::time::sleep(limit).await,
                None => std::future::pending().await,
            }
        };
        // Cancel safety: waiting only reads.
        let waited = tokio::select! {
            waited = self.ended(object) => waited?,
            () = over => return Err(Problem::new(ErrorCode::RequestTimeout, "it is still up")),
            () = call.stop.cancelled() => {
                return Err(Problem::new(ErrorCode::BackendUnavailable, "agentd stops"));
            }
        };
        json(&waited)
    }
}

impl Wait {
    async fn ended(&self, mut last: Object<Container>) -> Result<ContainerWaited, Problem> {
        let id = last.meta.id;
        loop {
            let compacted = |_| Problem::new(ErrorCode::Internal, "the store's changes cannot be followed");
            let mut changes = self.store.watch(None).map_err(compacted)?;
            loop {
                // By its id: it may have another name by now.
                match self.store.by_id(id) {
                    Some(now) => {
                        last = now.object().map_err(|e| Problem::new(ErrorCode::Internal, e.to_string()))?;
                    }
                    None => return Ok(waited(&last)),
                }
                if is_off(&last) {
                    return Ok(waited(&last));
                }
                if changes.next().await.is_err() {
                    break;
                }
            }
        }
    }
}

/// It has come to rest, and its status is of its present wish.
fn is_off(object: &Object<Container>) -> bool {
    let common = &object.status.common;
    let current = common.observed_generation == object.meta.generation;
    current && matches!(common.state, State::Stopped | State::Failed)
}

fn waited(object: &Object<Container>) -> ContainerWaited {
    ContainerWaited { exit_code: object.status.exit_code, oom_killed: object.status.oom_killed }
}
