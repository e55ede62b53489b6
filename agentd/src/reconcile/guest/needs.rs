//! What a guest needs of other objects before it can be made, and is not there yet.

use agentd_api::network::Network;
use agentd_api::{Object, ObjectName, Progress, State, StatusCommon};

use crate::reconcile::runtime::{Fault, Note, Pass};

/// What is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The condition that is false meanwhile: image_ready, network_ready.
    pub condition: &'static str,
    pub reason: String,
    /// What is waited for has failed itself.
    pub failed: bool,
    pub progress: Option<Progress>,
}

pub const IMAGE_READY: &str = "image_ready";
pub const NETWORK_READY: &str = "network_ready";
/// There only while a volume is missing.
pub const VOLUMES_READY: &str = "volumes_ready";

impl Waiting {
    /// Writes it into a guest's status; `pinned` where its image's content has been written down.
    pub fn tell(self, common: &mut StatusCommon, pinned: bool, notes: &mut Vec<Note>) {
        let state = match (self.failed, pinned) {
            (true, _) => State::Failed,
            (false, false) => State::Pending,
            (false, true) => State::Provisioning,
        };
        if state == State::Failed && common.state != State::Failed {
            notes.push(Note::failed(self.reason.clone()));
        }
        common.state = state;
        common.set_condition(self.condition, false, self.reason.clone());
        common.reason = Some(self.reason);
        common.progress = self.progress;
    }
}

/// A network that it is on, where that is ready.
pub fn network(pass: &Pass, name: &ObjectName) -> Result<Result<Object<Network>, Waiting>, Fault> {
    let Some(network) = pass.get::<Network>(name)?.filter(|n| !n.meta.deleting()) else {
        return Ok(Err(waiting(NETWORK_READY, format!("network '{name}' does not exist"), false)));
    };
    if network.status.common.state == State::Ready {
        return Ok(Ok(network));
    }
    Ok(Err(not_ready(NETWORK_READY, &format!("network '{name}'"), network.status.common)))
}

pub fn waiting(condition: &'static str, reason: String, failed: bool) -> Waiting {
    Waiting { condition, reason, failed, progress: None }
}

/// Another object, of that status, that it waits for.
pub fn not_ready(condition: &'static str, what: &str, common: StatusCommon) -> Waiting {
    let failed = common.state == State::Failed;
    let why = common.reason.map(|r| format!(": {r}")).unwrap_or_default();
    let reason = if failed {
        format!("{what} failed{why}")
    } else {
        format!("{what} is not ready yet ({}){why}", common.state)
    };
    Waiting { condition, reason, failed, progress: common.progress.map(coarse) }
}

/// In twentieths, and as a whole: many VMs can wait for one image, and each of them is written anew when this changes.
fn coarse(progress: Progress) -> Progress {
    let progress = Progress { layers: Vec::new(), ..progress };
    let Some(total) = progress.total.filter(|total| *total > 0) else { return progress };
    let twentieths = u128::from(progress.done) * 20 / u128::from(total);
    let done = u64::try_from(twentieths * u128::from(total) / 20).unwrap_or(progress.done);
    Progress { done, ..progress }
}
