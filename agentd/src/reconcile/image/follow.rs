//! What the engine tells of images becomes a wake of those that it is about.

use std::sync::Arc;

use agentd_api::Kind;
use agentd_api::image::{Image, ImageFormat};
use agentd_drivers::engine::{EngineEvent, Subject};
use agentd_drivers::image::container::ContainerImageDriver;
use agentd_store::{Query, Store};
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use crate::reconcile::runtime::Trigger;

/// Until cancelled.
pub async fn follow(
    (store, driver, trigger): (Store, Arc<dyn ContainerImageDriver>, Trigger),
    cancel: CancellationToken,
) {
    let mut events = driver.events();
    loop {
        // Cancel safety: an event that is not taken is of no use any more.
        let event = tokio::select! {
            () = cancel.cancelled() => return,
            event = events.recv() => event,
        };
        match event {
            Ok(event) => wake(&store, &trigger, &event),
            Err(RecvError::Lagged(_)) => wake_all(&store, &trigger, None),
            Err(RecvError::Closed) => return,
        }
    }
}

fn wake(store: &Store, trigger: &Trigger, event: &EngineEvent) {
    match (event.subject, event.action.as_str()) {
        (Subject::Everything, _) => wake_all(store, trigger, None),
        (Subject::Image, "delete" | "untag") => {
            wake_all(store, trigger, Some(&event.id).filter(|id| !id.is_empty()));
        }
        _ => {}
    }
}

/// Those for containers; of one id of the engine's, where that is known.
fn wake_all(store: &Store, trigger: &Trigger, id: Option<&String>) {
    let mut fields = vec![("format".to_owned(), true, ImageFormat::Container.to_string())];
    fields.extend(id.map(|id| ("digest".to_owned(), true, id.clone())));
    for image in store.list(&Query { fields, ..Query::kind(Image::DEF.kind) }).items {
        // Also one that is held back after a failure: the engine may be back.
        trigger.wake(image.key().clone());
    }
}
