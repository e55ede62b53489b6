//! Whether libvirt answers, known to every pass without asking it.
//!
//! While it does not, passes say so on their object and wait: thousands of objects cost one write each and nothing
//! more, and all are looked at when it answers again.

use std::sync::Arc;
use std::time::Duration;

use agentd_drivers::vm::{VmDriver, VmError};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

const EVERY: Duration = Duration::from_secs(5);
/// While it is away it is asked more often: somebody is waiting.
const EVERY_WHILE_DOWN: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub struct Backend {
    state: watch::Sender<Option<String>>,
    ask: Arc<Notify>,
}

impl Default for Backend {
    fn default() -> Self {
        Self { state: watch::Sender::new(None), ask: Arc::default() }
    }
}

impl Backend {
    /// Why it does not answer; None while it does.
    pub fn down(&self) -> Option<String> {
        self.state.borrow().clone()
    }

    /// A call came back with this. Whether that means that the backend is away.
    pub fn told(&self, error: &VmError) -> bool {
        let VmError::Unavailable { .. } = error else { return false };
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
                    None => tracing::info!("libvirt answers"),
                }
                *known = down;
            }
            changed
        });
    }

    /// Asks now and then until cancelled.
    pub async fn run(self, driver: Arc<dyn VmDriver>, cancel: CancellationToken) {
        loop {
            let answer = tokio::select! {
                () = cancel.cancelled() => return,
                answer = driver.probe() => answer,
            };
            self.set(answer.err().map(|error| error.to_string()));
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
