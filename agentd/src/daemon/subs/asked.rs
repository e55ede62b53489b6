//! What the subresources of guests have in common, be they VMs or containers: which one it is, and what a refusal means.

use std::sync::Arc;

use agentd_api::container::Container;
use agentd_api::vm::Vm;
use agentd_api::{ErrorCode, Kind, Problem, State};
use agentd_drivers::Classed;
use agentd_drivers::container::ContainerDriver;
use agentd_drivers::fault::chain;
use agentd_drivers::vm::guest::{ExecWish, GuestError, GuestIn, GuestOut};
use agentd_drivers::vm::{VmDriver, VmError};
use uuid::Uuid;

use crate::http::SubCall;

/// Who runs what is asked for: a VM's agent, or the container engine.
#[derive(Clone)]
pub enum Guests {
    Vms(Arc<dyn VmDriver>),
    Containers(Arc<dyn ContainerDriver>),
}

/// One guest, and the driver to ask.
#[derive(Clone)]
pub struct Asked {
    guests: Guests,
    pub id: Uuid,
    state: Option<State>,
    name: String,
}

impl Asked {
    pub fn new(guests: &Guests, call: &SubCall) -> Self {
        let state = call.object.field("state").next();
        Self {
            guests: guests.clone(),
            id: call.object.id(),
            state: State::ALL.into_iter().find(|s| Some(s.as_str()) == state),
            name: call.object.name().to_string(),
        }
    }

    /// Whether it can be asked to run something. A container is as its object says: to ask the engine first would make
    /// each program late.
    pub async fn answers(&self) -> Result<(), GuestError> {
        match &self.guests {
            Guests::Vms(vm) => vm.agent_answers(self.id).await,
            Guests::Containers(_) => match self.state {
                Some(State::Running) => Ok(()),
                other => Err(GuestError::NotRunning(other.map_or("not known", State::as_str))),
            },
        }
    }

    pub async fn exec(&self, wish: ExecWish) -> Result<(GuestIn, GuestOut), GuestError> {
        match &self.guests {
            Guests::Vms(vm) => vm.exec(self.id, wish).await,
            Guests::Containers(containers) => containers.exec(self.id, wish).await,
        }
    }

    pub async fn pack(&self, path: String) -> Result<GuestOut, GuestError> {
        match &self.guests {
            Guests::Vms(vm) => vm.pack(self.id, path).await,
            Guests::Containers(containers) => containers.pack(self.id, path).await,
        }
    }

    pub async fn unpack(&self, path: String) -> Result<(GuestIn, GuestOut), GuestError> {
        match &self.guests {
            Guests::Vms(vm) => vm.unpack(self.id, path).await,
            Guests::Containers(containers) => containers.unpack(self.id, path).await,
        }
    }

    fn kind(&self) -> &'static str {
        match self.guests {
            Guests::Vms(_) => Vm::DEF.kind,
            Guests::Containers(_) => Container::DEF.kind,
        }
    }

    /// The problem that a caller is told of.
    pub fn refused(&self, error: &GuestError) -> Problem {
        let (kind, name) = (self.kind(), &self.name);
        let problem = Problem::new(error.code(), chain(error));
        match error {
            GuestError::NotRunning("paused") => {
                problem.hint(format!("`agentctl {kind} resume {name}` lets it run on"))
            }
            GuestError::NotRunning(_) | GuestError::Vm(VmError::Missing(_)) => {
                let what = if kind == Vm::DEF.kind { "the guest does not run" } else { "it does not run" };
                Problem::new(ErrorCode::Conflict, what)
                    .hint(format!("`agentctl {kind} start {name}` starts it"))
            }
            GuestError::Full(_) if kind == Vm::DEF.kind => problem.hint(format!(
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
