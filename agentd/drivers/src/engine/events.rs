//! The engine's events: one connection, made again where it ends.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use super::wire::Lines;
use super::{Engine, EngineError, Linked};

/// How long to wait before an engine that is not there is looked for again: at first, and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
/// How long an engine that listens may leave its answer out before it counts as given.
const SILENCE: Duration = Duration::from_millis(250);
/// The longest event. One is some hundred bytes, and its attributes are labels that others chose.
const EVENT_MAX: usize = 1 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    Container,
    Network,
    Image,
    /// Changes may have been missed (the engine was away, or is back): look at all.
    Everything,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineEvent {
    pub subject: Subject,
    /// As the engine calls it: "die", "connect", "tag". Empty where it is about everything.
    pub action: String,
    /// Of the container, network or image: the engine's id.
    pub id: String,
    /// As the engine tells them: a container's labels and name, a network's container.
    pub attributes: Arc<HashMap<String, String>>,
}

impl EngineEvent {
    fn everything() -> Self {
        Self {
            subject: Subject::Everything,
            action: String::new(),
            id: String::new(),
            attributes: Arc::default(),
        }
    }
}

/// As the engine says it. bollard's own type takes no kind that it does not know, and Podman has more.
#[derive(Debug, Deserialize)]
struct Told {
    #[serde(rename = "Type", default)]
    kind: String,
    #[serde(rename = "Action", default)]
    action: String,
    #[serde(rename = "Actor")]
    actor: Option<Actor>,
}

#[derive(Debug, Deserialize)]
struct Actor {
    #[serde(rename = "ID", default)]
    id: String,
    #[serde(rename = "Attributes", default)]
    attributes: Option<HashMap<String, String>>,
}

/// Until the engine is closed or gone.
pub(super) fn follow(engine: &Arc<Engine>) {
    let (weak, stop) = (Arc::downgrade(engine), engine.stop.clone());
    tokio::spawn(async move {
        // Cancel safety: nothing is kept between two events but the connection.
        tokio::select! {
            () = stop.cancelled() => {}
            () = again_and_again(&weak, &stop) => {}
        }
    });
}

async fn again_and_again(weak: &Weak<Engine>, stop: &CancellationToken) {
    let mut pause = PAUSE.0;
    let mut was_there = false;
    while let Some(engine) = weak.upgrade() {
        let (linked, events) = (engine.linked().await, engine.events.clone());
        // The engine is not held while it is listened to: its owner's leaving ends this.
        drop(engine);
        let error = match linked {
            Ok(linked) => listen(&linked, &events).await.err(),
            Err(error) => Some(error),
        };
        if let Some(engine) = weak.upgrade() {
            match &error {
                None | Some(EngineError::Unavailable { .. }) => engine.lost(),
                Some(_) => engine.unlink(),
            }
        }
        if let Some(error) = error {
            if std::mem::take(&mut was_there) {
                tracing::warn!(%error, "the container engine is away");
            }
            pause = (pause * 2).min(PAUSE.1);
        } else {
            // That it is away is news too: whoever cares asks, and is told that it is.
            let _ = events.send(EngineEvent::everything());
            (pause, was_there) = (PAUSE.0, true);
        }
        // Cancel safety: a pause holds nothing.
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Until it hangs up. An error: it does not tell.
async fn listen(linked: &Linked, events: &broadcast::Sender<EngineEvent>) -> Result<(), EngineError> {
    let asked = linked.wire.get("tell its events", "/events");
    tokio::pin!(asked);
    // Podman 4 begins its answer with the first event; it tells from when it was asked.
    let answered = tokio::time::timeout(SILENCE, &mut asked).await.ok().transpose()?;
    let _ = events.send(EngineEvent::everything());
    let answered = match answered {
        Some(content) => Ok(content),
        None => asked.await,
    };
    let Ok(content) = answered else { return Ok(()) };
    let mut lines = Lines::new(content, EVENT_MAX);
    while let Some(event) = next(&mut lines).await {
        let _ = events.send(event);
    }
    Ok(())
}

/// The next event that anybody here could care for.
async fn next(lines: &mut Lines) -> Option<EngineEvent> {
    loop {
        let line = lines.next().await?.ok()?;
        let Ok(told) = serde_json::from_slice::<Told>(&line) else {
            tracing::debug!("an event of the engine is not understood: taken as any");
            return Some(EngineEvent::everything());
        };
        let subject = match told.kind.as_str() {
            "container" => Subject::Container,
            "network" => Subject::Network,
            "image" => Subject::Image,
            _ => continue,
        };
        let (id, attributes) = told.actor.map_or_else(Default::default, |actor| (actor.id, actor.attributes));
        let id = if subject == Subject::Image { image_id(id) } else { id };
        let attributes = Arc::new(attributes.unwrap_or_default());
        return Some(EngineEvent { subject, action: told.action, id, attributes });
    }
}

/// As it is called wherever else the engine says it: Podman leaves out of its events what the id begins with.
pub(super) fn image_id(id: String) -> String {
    let bare = id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if bare { format!("sha256:{id}") } else { id }
}
