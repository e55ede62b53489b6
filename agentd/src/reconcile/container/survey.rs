//! Which containers need a pass, as far as one list of all of the engine's shows ([`survey`]).

use std::collections::HashMap;

use agentd_api::container::{Container, ContainerDesired};
use agentd_api::life::RestartPolicy;
use agentd_api::{Object, State, Timestamp};
use agentd_drivers::container::{ContainerEvent, ContainerListed, ContainerState};
use async_trait::async_trait;
use tokio::sync::broadcast;
use uuid::Uuid;

use super::Containers;
use crate::reconcile::backend::Backend;
use crate::reconcile::guest::boot;
use crate::reconcile::guest::life::STOPPING;
use crate::reconcile::guest::survey::{self, Surveyed};

#[async_trait]
impl Surveyed for Containers {
    type Kind = Container;
    type Event = ContainerEvent;
    type Seen = ContainerListed;
    /// A host without an engine is not asked for one before there is a container.
    const ALWAYS: bool = false;

    fn backend(&self) -> &Backend {
        &self.backend
    }
    fn events(&self) -> broadcast::Receiver<ContainerEvent> {
        self.driver().events()
    }
    fn about(event: &ContainerEvent) -> Option<Uuid> {
        event.id
    }
    async fn list(&self) -> Option<HashMap<Uuid, ContainerListed>> {
        match self.driver().list().await {
            Ok(listed) => Some(listed.into_iter().map(|container| (container.id, container)).collect()),
            Err(error) => {
                self.backend.told(&error);
                None
            }
        }
    }
    fn expires(object: &Object<Container>) -> Option<Timestamp> {
        object.spec.expiry()
    }
    fn settled(&self, object: &Object<Container>, there: Option<&ContainerListed>) -> bool {
        settled(object, there, &self.boot_id)
    }
}

/// Whether a pass would find nothing to do, as far as one line of a list shows: of its interfaces how many are there. What the
/// line does not show (limits, addresses, health) the engine tells of by events.
fn settled(object: &Object<Container>, there: Option<&ContainerListed>, boot: &str) -> bool {
    let (status, common) = (&object.status, &object.status.common);
    let quiet = survey::quiet(object)
        && !status.restart_requested
        && !status.renamed
        && status.renamed_from.is_empty()
        && status.starting.is_none()
        && status.leaving.is_empty()
        && common.condition(STOPPING).is_none();
    let same = there.is_some_and(|there| status.engine_id.as_ref() == Some(&there.engine_id));
    let up = same && status.host_boot.as_deref() == Some(boot);
    let linked = there.and_then(|there| there.links).is_none_or(|links| links == status.addresses.len());
    let other_boot = status.host_boot.as_deref().is_some_and(|b| b != boot);
    let off_for_this_boot =
        status.held_boot.as_deref() == Some(boot) || (!object.spec.autostart.enabled && other_boot);
    let stays_off = object.spec.desired == ContainerDesired::Stopped
        || (object.spec.restart == RestartPolicy::Never && !boot::container_awaits_start(object, boot))
        || off_for_this_boot;
    match (common.state, there.map(|there| there.state)) {
        // Given up.
        (State::Failed, _) => survey::given_up(object),
        (State::Running, Some(ContainerState::Running)) | (State::Paused, Some(ContainerState::Paused)) => {
            quiet && up && linked
        }
        (State::Stopped, Some(ContainerState::Exited | ContainerState::Created) | None) => quiet && stays_off,
        _ => false,
    }
}
