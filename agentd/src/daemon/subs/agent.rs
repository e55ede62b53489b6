//! What the subresources of guests' agents have in common: which VM it is, and what a refusal means.

use std::sync::Arc;

use agentd_api::vm::Vm;
use agentd_api::{ErrorCode, Object, Problem};
use agentd_drivers::Classed;
use agentd_drivers::fault::chain;
use agentd_drivers::vm::guest::GuestError;
use agentd_drivers::vm::{VmDriver, VmError};
use uuid::Uuid;

use crate::http::SubCall;

/// One VM, and the driver to ask.
#[derive(Clone)]
pub struct Asked {
    pub vm: Arc<dyn VmDriver>,
    pub id: Uuid,
    name: String,
}

impl Asked {
    pub fn new(vm: &Arc<dyn VmDriver>, call: &SubCall) -> Result<Self, Problem> {
        let object: Object<Vm> =
            call.object.object().map_err(|e| Problem::new(ErrorCode::Internal, e.to_string()))?;
        Ok(Self { vm: vm.clone(), id: object.meta.id, name: object.meta.name.to_string() })
    }

    /// The problem that a caller is told of.
    pub fn refused(&self, error: &GuestError) -> Problem {
        let name = &self.name;
        let problem = Problem::new(error.code(), chain(error));
        match error {
            GuestError::NotRunning("paused") => {
                problem.hint(format!("`agentctl vm resume {name}` lets it run on"))
            }
            GuestError::NotRunning(_) | GuestError::Vm(VmError::Missing(_)) => {
                Problem::new(ErrorCode::Conflict, "the guest does not run")
                    .hint(format!("`agentctl vm start {name}` starts it"))
            }
            GuestError::Full(_) => problem.hint(format!(
                "make room there, or give it more: `agentctl vm resize {name} --disk SIZE`, and the file system in the \
                 guest has to grow with it"
            )),
            GuestError::NoAgent(_) => problem.hint(format!(
                "a guest that has just started answers a little later; one of an image without agentd-guest never \
                 does: build the image anew, or see `agentctl doctor` and `agentctl vm logs {name}`"
            )),
            _ => problem,
        }
    }
}
