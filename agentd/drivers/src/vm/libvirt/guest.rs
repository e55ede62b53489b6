//! What libvirt's guests are asked to do themselves. Freezing goes by QEMU's own agent where ours does not answer.

use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;
use virt::connect::Connect;
use virt::domain::Domain;
use virt::error::{Error, ErrorNumber};
use virt::sys;

use super::fault::Fault;
use super::{LibvirtVm, TELL, domains, ffi};
use crate::vm::VmError;
use crate::vm::guest::{Freezer, Frozen, GuestDriver, GuestError};

/// A file system with much to write out takes its time.
const FREEZE: Duration = Duration::from_secs(60);

/// What was found in place of an agent's answer.
enum Mute {
    Off(&'static str),
    NoAgent(String),
    Failed(String),
}

impl LibvirtVm {
    /// One call to QEMU's agent in a running guest.
    async fn qemu_agent(
        &self,
        (call, limit): (&'static str, Duration),
        vm: Uuid,
        ask: fn(&Domain) -> Result<u32, Error>,
    ) -> Result<u32, GuestError> {
        let told = self.run(call, limit, move |connect, tag| asked(connect, tag, vm, ask)).await?;
        told.map_err(|mute| match mute {
            Mute::Off(state) => GuestError::NotRunning(state),
            Mute::NoAgent(why) => GuestError::NoAgent(why),
            Mute::Failed(detail) => GuestError::Failed { call, detail },
        })
    }
}

fn asked(
    connect: &Connect,
    tag: &str,
    vm: Uuid,
    ask: fn(&Domain) -> Result<u32, Error>,
) -> Result<Result<u32, Mute>, Fault> {
    let (domain, _) = domains::find(connect, tag, vm)?.ok_or(VmError::Missing(vm))?;
    if let Some(state) = at_rest(&domain)? {
        return Ok(Err(Mute::Off(state)));
    }
    Ok(match ask(&domain) {
        Ok(count) => Ok(count),
        Err(error) => match error.code() {
            ErrorNumber::AgentUnresponsive | ErrorNumber::ArgumentUnsupported => {
                Err(Mute::NoAgent(error.message().to_owned()))
            }
            ErrorNumber::AgentCommandFailed | ErrorNumber::AgentCommandTimeout => {
                Err(Mute::Failed(error.message().to_owned()))
            }
            // It went off in between.
            ErrorNumber::OperationInvalid if !domain.is_active()? => Err(Mute::Off("off")),
            _ => return Err(error.into()),
        },
    })
}

/// Why its guest executes nothing, where it does not.
fn at_rest(domain: &Domain) -> Result<Option<&'static str>, Fault> {
    if !domain.is_active()? {
        return Ok(Some("off"));
    }
    Ok(domains::in_state(domain, sys::VIR_DOMAIN_PAUSED)?.then_some("paused"))
}

#[async_trait]
impl GuestDriver for LibvirtVm {
    async fn freeze(&self, vm: Uuid) -> Result<Frozen, GuestError> {
        let filesystems = self.qemu_agent(("freeze its file systems", FREEZE), vm, ffi::freeze).await?;
        Ok(Frozen { by: Freezer::Qemu, filesystems })
    }

    async fn thaw(&self, vm: Uuid) -> Result<u32, GuestError> {
        self.qemu_agent(("thaw its file systems", FREEZE), vm, ffi::thaw).await
    }

    async fn set_console_size(&self, vm: Uuid, _columns: u16, _rows: u16) -> Result<(), GuestError> {
        let state = self.run("look at a guest", TELL, move |connect, tag| {
            let (domain, _) = domains::find(connect, tag, vm)?.ok_or(VmError::Missing(vm))?;
            at_rest(&domain)
        });
        Err(match state.await? {
            Some(state) => GuestError::NotRunning(state),
            None => GuestError::NoAgent("it has none of agentd's".to_owned()),
        })
    }
}
