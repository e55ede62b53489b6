//! What libvirt's guests are asked to do themselves. Freezing goes by QEMU's own agent where ours does not answer.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use agentd_guest_wire::Wish;
use async_trait::async_trait;
use tokio::sync::broadcast;
use uuid::Uuid;
use virt::connect::Connect;
use virt::domain::Domain;
use virt::error::{Error, ErrorNumber};
use virt::sys;

use super::fault::Fault;
use super::{LibvirtVm, TELL, domains, ffi};
use crate::vm::guest::channel::Channel;
use crate::vm::guest::{
    ExecWish, Freezer, Frozen, GuestDriver, GuestError, GuestIn, GuestOut, GuestSeen, Said,
};
use crate::vm::{Power, VmDriver, VmError};

/// A file system with much to write out takes its time.
const FREEZE: Duration = Duration::from_secs(60);
/// A program's start, or the look at a tree that is sent.
const BEGIN: Duration = Duration::from_secs(20);

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

impl LibvirtVm {
    /// The channel to the guest's own agent.
    async fn channel(&self, vm: Uuid) -> Result<Arc<Channel>, GuestError> {
        let seen = self.observe(vm).await?.ok_or(VmError::Missing(vm))?;
        match seen.power {
            Power::Running => {}
            Power::Paused => return Err(GuestError::NotRunning("paused")),
            Power::Off => return Err(GuestError::NotRunning("off")),
        }
        let none = || GuestError::NoAgent("the path of its channel would be too long".to_owned());
        let socket = self.instance.agent_socket(vm).ok_or_else(none)?;
        self.guests.channel(vm, &socket).await
    }

    /// One question to the agent, whose answer is a number.
    async fn ask(
        &self,
        vm: Uuid,
        (call, limit): (&'static str, Duration),
        wish: Wish,
    ) -> Result<u32, GuestError> {
        match self.channel(vm).await?.ask((call, limit), wish).await? {
            Said::Done { count, .. } => Ok(u32::try_from(count).unwrap_or(u32::MAX)),
            _ => Err(GuestError::Failed { call, detail: "it answers something else".to_owned() }),
        }
    }

    async fn begin(
        &self,
        vm: Uuid,
        call: &'static str,
        wish: Wish,
    ) -> Result<(GuestIn, GuestOut), GuestError> {
        let (input, mut output) = self.channel(vm).await?.open(call, wish).await?;
        output.started(BEGIN).await?;
        Ok((Box::new(input), Box::new(output)))
    }
}

#[async_trait]
impl GuestDriver for LibvirtVm {
    fn attend(&self, vm: Uuid, wanted: bool) {
        match self.instance.agent_socket(vm) {
            Some(socket) if wanted => self.guests.attend(vm, &socket),
            _ => self.guests.leave(vm),
        }
    }

    fn guest_seen(&self, vm: Uuid) -> GuestSeen {
        self.guests.seen(vm)
    }

    fn guest_events(&self) -> broadcast::Receiver<Uuid> {
        self.guests.events()
    }

    async fn agent_answers(&self, vm: Uuid) -> Result<(), GuestError> {
        self.channel(vm).await.map(drop)
    }

    async fn exec(&self, vm: Uuid, wish: ExecWish) -> Result<(GuestIn, GuestOut), GuestError> {
        self.begin(vm, "run a program", Wish::Exec(wish)).await
    }

    async fn pack(&self, vm: Uuid, path: String) -> Result<GuestOut, GuestError> {
        Ok(self.begin(vm, "send files", Wish::Pack { path }).await?.1)
    }

    async fn unpack(&self, vm: Uuid, path: String) -> Result<(GuestIn, GuestOut), GuestError> {
        self.begin(vm, "take files", Wish::Unpack { path }).await
    }

    async fn set_time(&self, vm: Uuid) -> Result<(), GuestError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let nanos = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        self.ask(vm, ("set its clock", TELL), Wish::Time { nanos }).await.map(drop)
    }

    async fn freeze(&self, vm: Uuid) -> Result<Frozen, GuestError> {
        const CALL: (&str, Duration) = ("freeze its file systems", FREEZE);
        match self.ask(vm, CALL, Wish::Freeze).await {
            Ok(filesystems) => Ok(Frozen { by: Freezer::Agent, filesystems }),
            Err(GuestError::NoAgent(_)) => {
                let filesystems = self.qemu_agent(CALL, vm, ffi::freeze).await?;
                Ok(Frozen { by: Freezer::Qemu, filesystems })
            }
            Err(error) => Err(error),
        }
    }

    async fn thaw(&self, vm: Uuid) -> Result<u32, GuestError> {
        const CALL: (&str, Duration) = ("thaw its file systems", FREEZE);
        match self.ask(vm, CALL, Wish::Thaw).await {
            // Before our agent came up, QEMU's may have frozen them.
            Ok(0) => match self.qemu_agent(CALL, vm, ffi::thaw).await {
                Err(GuestError::NoAgent(_)) => Ok(0),
                thawed => thawed,
            },
            Err(GuestError::NoAgent(_)) => self.qemu_agent(CALL, vm, ffi::thaw).await,
            thawed => thawed,
        }
    }

    async fn set_console_size(&self, vm: Uuid, columns: u16, rows: u16) -> Result<(), GuestError> {
        self.ask(vm, ("size its console", TELL), Wish::ConsoleSize { columns, rows }).await.map(drop)
    }
}
