//! Whether a backend answers, known to every pass without asking it.
//!
//! While it does not, passes say so on their object and wait: thousands of objects cost one write each and nothing
//! more, and all are looked at when it answers again.

use std::sync::Arc;
use std::time::Duration;

use agentd_drivers::container::ContainerError;
use agentd_drivers::engine::EngineError;
use agentd_drivers::vm::VmError;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

/// The condition of an object that is false while its backend does not answer.
pub const BACKEND_AVAILABLE: &str = "backend_available";

const EVERY: Duration = Duration::from_secs(5);
/// While it is away it is asked more often: somebody is waiting.
const EVERY_WHILE_DOWN: Duration = Duration::from_secs(1);

/// An error of a driver's that may mean that its backend is away.
pub trait Away: std::fmt::Display {
    fn is_away(&self) -> bool;
}

impl Away for VmError {
    fn is_away(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }
}

impl Away for ContainerError {
    fn is_away(&self) -> bool {
        matches!(self, Self::Engine(EngineError::Unavailable { .. }))
    }
}

#[derive(Clone)]
pub struct Backend {
    name: &'static str,
    state: watch::Sender<Option<String>>,
    ask: Arc<Notify>,
}

impl Backend {
    pub fn new(name: &'static str) -> Self {
        Self { name, state: watch::Sender::new(None), ask: Arc::default() }
    }

    /// Why it does not answer; None while it does.
    pub fn down(&self) -> Option<String> {
        self.state.borrow().clone()
    }

    pub fn name(&self) -> &'static str {
        self.name
    }

    /// A call came back with this. Whether that means that the backend is away.
    pub fn told(&self, error: &impl Away) -> bool {
        if !error.is_away() {
            return false;
        }
        self.set(Some(error.to_string()));
        self.ask.notify_one();
        true
    }

    /// Changes of availability.
    pub fn changes(&self) -> watch::Receiver<Option<String>> {
        self.state.subscribe()
    }

    fn set(&self, down: Option<String>) {
        self.state.send_if_modified(|known| {
            let changed = *known != down;
            if changed {
                match &down {
                    Some(reason) => tracing::warn!("{reason}"),
                    None => tracing::info!("{} answers", self.name),
                }
                *known = down;
            }
            changed
        });
    }

    /// Asks now and then until cancelled.
    pub async fn run<F: Future<Output = Result<(), String>> + Send>(
        self,
        probe: impl Fn() -> F + Send,
        cancel: CancellationToken,
    ) {
        loop {
            let answer = tokio::select! {
                () = cancel.cancelled() => return,
                answer = probe() => answer,
            };
            self.set(answer.err());
            let wait = if self.down().is_some() { EVERY_WHILE_DOWN } else { EVERY };
            // Cancel safety: no arm holds anything.
            tokio::select! {
                () = cancel.cancelled() => return,
                () = self.ask.notified(), if self.down().is_none() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }
}
