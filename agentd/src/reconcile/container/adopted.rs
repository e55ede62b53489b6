//! Containers that somebody else made and that were adopted (`intent/container/adopt.rs`).
//!
//! One is as any other, but that it bears no mark of ours: the driver is told which it is ([`Work::attend`]), at the
//! daemon's start, before anything is looked at, and again by each pass. It has no digest, and is not made anew for that:
//! what its spec cannot change while it is there it has as its spec says. Once it has gone, by whatever hand, it is one of
//! ours that is made in its place, of the same image.

use agentd_api::Kind;
use agentd_api::container::Container;
use agentd_drivers::container::{Change, ContainerDriver, ContainerError, ContainerSeen};
use agentd_store::{Query, Store};

use super::apply::{Halt, Work};
use crate::reconcile::runtime::Note;

/// There only while it is one that somebody else made.
pub const ADOPTED: &str = "adopted";

/// Tells the driver of all that were adopted.
pub fn attend_all(store: &Store, driver: &dyn ContainerDriver) {
    for stored in store.list(&Query::kind(Container::DEF.kind)).items {
        for engine_id in stored.field("adopted") {
            driver.attend(stored.id(), engine_id);
        }
    }
}

impl Work<'_> {
    pub(super) fn attend(&self) {
        if let Some(adopted) = &self.status.adopted {
            self.containers.driver().attend(self.object.meta.id, &adopted.engine_id);
        }
    }

    /// Whether the one that was adopted has gone: there is to be a look for one of ours.
    pub(super) fn has_lost(&mut self, seen: Option<&ContainerSeen>) -> bool {
        let Some(adopted) = self.status.adopted.take_if(|_| seen.is_none()) else { return false };
        self.containers.driver().leave(self.object.meta.id);
        self.status.common.clear_condition(ADOPTED);
        let text =
            format!("the adopted '{}' is gone; what is made in its place is agentd's own", adopted.name);
        self.notes.push(Note::seen("lost", text));
        true
    }

    /// That it is started by nobody else from now on, and that it is another's make.
    pub(super) async fn take_over(&mut self, seen: &ContainerSeen) -> Result<(), Halt> {
        let (driver, id) = (self.containers.driver(), self.object.meta.id);
        let mut but = String::new();
        if seen.restarts {
            match driver.take_restarts(id).await {
                Ok(Change::Made) => {
                    self.notes
                        .push(Note::done("taken", "its restarts are no longer the engine's but agentd's"));
                }
                Ok(Change::AlreadySo) => {}
                Err(error @ (ContainerError::Refused(_) | ContainerError::Unsupported(_))) => {
                    but = format!("; the engine restarts it too: {error}");
                }
                Err(error) => return self.told(Err(error)),
            }
        }
        if let Some(adopted) = &self.status.adopted {
            let reason = format!(
                "somebody made it as '{}'; until it is made anew it asks the engine's own name server and keeps its log \
                 as it did{but}",
                adopted.name
            );
            self.status.common.set_condition(ADOPTED, true, reason);
        }
        Ok(())
    }
}
