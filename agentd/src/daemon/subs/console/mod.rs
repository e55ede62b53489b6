//! `vms/{name}/console`: the serial console as a two-way stream of frames.
//!
//! ```text
//!   log --> reader --> Out                 In --> seat: may it type? --> terminal
//!   notes, state ----> Note            Resize --> the guest's agent, where it has one
//! ```
//! What is sent is read from the log, so that it is all there, in order, and once: first what is kept, then what comes.
//! A caller that does not read holds up only itself. When the VM is gone the stream ends; when agentd stops it fails and
//! says so; neither is the guest's end, over which it goes on.

mod desks;
mod session;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use agentd_api::Problem;
use agentd_drivers::console::{Reader, Snapshot, Watches};
use agentd_drivers::vm::VmDriver;
use agentd_store::Store;
use async_trait::async_trait;

use self::desks::{Desks, Wish};
use self::session::Sitting;
use super::Opener;
use super::log::{blocking, console_log, unreadable};
use crate::http::{SubCall, SubReply};

/// How much of what was said before is sent first, where it is not told.
const SCROLLBACK: u64 = 64 << 10;

pub struct Console {
    pub store: Store,
    pub vm: Arc<dyn VmDriver>,
    pub watches: Arc<Watches>,
    desks: Arc<Desks>,
}

impl Console {
    pub fn new(store: Store, vm: Arc<dyn VmDriver>, watches: Arc<Watches>) -> Self {
        Self { store, vm, watches, desks: Arc::default() }
    }
}

#[async_trait]
impl Opener for Console {
    async fn open(&self, call: SubCall) -> Result<SubReply, Problem> {
        let log = console_log(&call)?;
        let wish = match (call.flag("watch"), call.flag("force")) {
            (true, true) => return Err(Problem::field("force", "who only watches takes nothing over")),
            (true, false) => Wish::Watch,
            (false, true) => Wish::TakeOver,
            (false, false) => Wish::Type,
        };
        let watched = self.watches.on(&log);
        let tail = call.number("tail");
        let reader = blocking(move || {
            let snapshot = Snapshot::take(&log)?;
            let from = match tail {
                Some(lines) => snapshot.last_lines(lines)?,
                None => snapshot.line_from(snapshot.length().saturating_sub(SCROLLBACK))?,
            };
            Ok(Reader::new(snapshot, from))
        });
        let reader = reader.await.map_err(|error| unreadable(&error))?;
        let vm = call.object.id();
        let (seat, notes) = self.desks.sit(vm, &call.caller.principal.actor(), wish)?;
        let sitting = Sitting {
            vm,
            store: self.store.clone(),
            driver: self.vm.clone(),
            seat: Arc::new(seat),
            only_watches: wish == Wish::Watch,
            stop: call.stop,
        };
        Ok(SubReply::Session(Box::new(move |channel| Box::pin(sitting.run(channel, reader, watched, notes)))))
    }
}
