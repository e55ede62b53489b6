//! The connections to libvirt, one for each lane of calls, which live and die as one: made by a thread of their own,
//! watched, and made anew when they are gone.
//!
//! ```text
//! First --opened--> Up --closed, or a call found it dead--> Down --opened--> Up
//!   \--refused--> Down (again after 0.2 s to 2 s)             any --stop--> Stopped
//! ```
//! While First, calls wait a little; while Down, they fail at once with the reason. Keepalive ends a connection whose
//! other end says nothing for some 15 s, and with it every call that waits on it.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use agentd_api::vm::AlarmKind;
use parking_lot::{Condvar, Mutex};
use tokio::sync::{broadcast, oneshot};
use uuid::Uuid;
use virt::connect::Connect;

use super::ffi::{self, Listener, Subscription};
use super::workers::Lane;
use crate::vm::{DomainEvent, VmError};

const FIRST_WAIT: Duration = Duration::from_secs(3);
const RETRY_MIN: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(2);
const KEEPALIVE_SECONDS: i32 = 5;
const KEEPALIVE_MISSED: u32 = 3;

#[derive(Debug)]
pub(super) struct Link {
    uri: String,
    /// What the names of our domains begin with: events of others are not passed on.
    prefix: String,
    state: Mutex<State>,
    moved: Condvar,
    events: broadcast::Sender<DomainEvent>,
}

#[derive(Debug)]
enum State {
    First,
    Up(Arc<Live>),
    /// `was` is dropped by the link's thread, since closing a connection may block.
    Down {
        detail: String,
        was: Option<Arc<Live>>,
    },
    Stopped,
}

/// The open connections. Closed when the last call that uses one has ended.
#[derive(Debug)]
pub(super) struct Live {
    connect: Option<Connect>,
    looks: Option<Connect>,
    subscription: Option<Subscription>,
    number: u64,
}

impl Live {
    pub(super) fn connect(&self, lane: Lane) -> &Connect {
        let connect = match lane {
            Lane::Look => &self.looks,
            Lane::Act => &self.connect,
        };
        connect.as_ref().expect("there until dropped")
    }

    fn is_alive(&self) -> bool {
        [Lane::Look, Lane::Act].iter().all(|&lane| self.connect(lane).is_alive().unwrap_or(false))
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if let (Some(subscription), Some(connect)) = (self.subscription.take(), &self.connect) {
            subscription.end(connect);
        }
        for mut connect in [self.looks.take(), self.connect.take()].into_iter().flatten() {
            // It may be gone on the other side already.
            let _ = connect.close();
        }
    }
}

struct Ear {
    link: Weak<Link>,
    number: u64,
}

impl Listener for Ear {
    fn changed(&self, id: Uuid, name: &str) {
        if let Some(link) = self.link.upgrade()
            && name.starts_with(&link.prefix)
        {
            link.tell(Some(id), None);
        }
    }
    fn alarmed(&self, id: Uuid, name: &str, what: AlarmKind) {
        if let Some(link) = self.link.upgrade()
            && name.starts_with(&link.prefix)
        {
            link.tell(Some(id), Some(what));
        }
    }
    fn closed(&self, why: &str) {
        if let Some(link) = self.link.upgrade() {
            link.lost(self.number, why);
        }
    }
}

impl Link {
    /// Begins to connect. `done` is answered when the link's thread has ended, after [`stop`](Self::stop).
    pub(super) fn begin(
        uri: String,
        prefix: String,
        events: broadcast::Sender<DomainEvent>,
    ) -> (Arc<Self>, oneshot::Receiver<()>) {
        let link =
            Arc::new(Self { uri, prefix, state: Mutex::new(State::First), moved: Condvar::new(), events });
        let (done, ended) = oneshot::channel();
        let own = link.clone();
        let thread = std::thread::Builder::new().name("agentd-libvirt".to_owned()).spawn(move || {
            own.keep_connected();
            let _ = done.send(());
        });
        if let Err(error) = thread {
            link.set_down(format!("no thread for it could be made: {error}"));
        }
        (link, ended)
    }

    pub(super) fn away(&self, detail: &str) -> VmError {
        VmError::Unavailable { uri: self.uri.clone(), detail: detail.to_owned() }
    }

    /// The open connection. Waits, up to 3 s, only while the very first attempt goes on. Blocks.
    pub(super) fn live(&self) -> Result<Arc<Live>, VmError> {
        let until = Instant::now() + FIRST_WAIT;
        let mut state = self.state.lock();
        loop {
            match &*state {
                State::Up(live) => return Ok(live.clone()),
                State::Down { detail, .. } => return Err(self.away(detail)),
                State::Stopped => return Err(self.away("the driver was closed")),
                State::First => (),
            }
            if self.moved.wait_until(&mut state, until).timed_out() && matches!(*state, State::First) {
                return Err(self.away("it has not answered yet"));
            }
        }
    }

    /// The connection of that `live` is of no more use. Does nothing where a newer one is open. Does not block.
    pub(super) fn found_dead(&self, live: &Live) {
        self.lost(live.number, "the connection is dead");
    }

    pub(super) fn stop(&self) {
        let was = std::mem::replace(&mut *self.state.lock(), State::Stopped);
        self.moved.notify_all();
        // Closing may block; not on the caller's thread.
        if matches!(was, State::Up(_) | State::Down { .. }) {
            let closing = std::thread::Builder::new().name("agentd-libvirt-close".to_owned());
            let _ = closing.spawn(move || drop(was));
        }
    }

    fn lost(&self, number: u64, why: &str) {
        let mut state = self.state.lock();
        let State::Up(live) = &*state else { return };
        if live.number != number {
            return;
        }
        tracing::warn!(uri = %self.uri, why, "libvirt is lost");
        let was = Some(live.clone());
        *state = State::Down { detail: why.to_owned(), was };
        self.moved.notify_all();
    }

    fn set_down(&self, detail: String) {
        let mut state = self.state.lock();
        match &*state {
            State::Stopped => return,
            State::Down { detail: before, .. } if *before == detail => (),
            _ => tracing::warn!(uri = %self.uri, %detail, "libvirt cannot be reached"),
        }
        *state = State::Down { detail, was: None };
        self.moved.notify_all();
    }

    fn tell(&self, id: Option<Uuid>, alarm: Option<AlarmKind>) {
        // Nobody listening is no failure.
        let _ = self.events.send(DomainEvent { id, alarm });
    }

    fn keep_connected(self: &Arc<Self>) {
        let mut number = 0;
        let mut pause = RETRY_MIN;
        loop {
            number += 1;
            match self.open(number) {
                Ok(live) => {
                    pause = RETRY_MIN;
                    if !self.set_up(live) {
                        return;
                    }
                    tracing::info!(uri = %self.uri, "connected to libvirt");
                    self.tell(None, None);
                    self.wait_while_up();
                }
                Err(detail) => self.set_down(detail),
            }
            if !self.wait_before_retry(pause) {
                return;
            }
            pause = (pause * 2).min(RETRY_MAX);
        }
    }

    fn open(self: &Arc<Self>, number: u64) -> Result<Live, String> {
        ffi::ensure_event_loop()?;
        // A failure closes what is open, by `live` being dropped.
        let mut live = Live { connect: None, looks: None, subscription: None, number };
        live.connect = Some(self.connect()?);
        live.looks = Some(self.connect()?);
        let ear = || -> Box<dyn Listener> { Box::new(Ear { link: Arc::downgrade(self), number }) };
        let subscription =
            Subscription::begin(live.connect(Lane::Act), ear).map_err(|error| error.message().to_owned())?;
        live.subscription = Some(subscription);
        Ok(live)
    }

    fn connect(&self) -> Result<Connect, String> {
        let text = |error: virt::error::Error| error.message().to_owned();
        let mut connect = Connect::open(Some(&self.uri)).map_err(text)?;
        if let Err(error) = connect.set_keep_alive(KEEPALIVE_SECONDS, KEEPALIVE_MISSED) {
            let _ = connect.close();
            return Err(text(error));
        }
        Ok(connect)
    }

    /// False when it was stopped meanwhile.
    fn set_up(&self, live: Live) -> bool {
        let live = Arc::new(live);
        {
            let mut state = self.state.lock();
            if matches!(*state, State::Stopped) {
                return false;
            }
            *state = State::Up(live.clone());
        }
        self.moved.notify_all();
        // Where it died before it was Up, `lost` was told of a connection that it did not know. Asks nobody.
        if !live.is_alive() {
            self.found_dead(&live);
        }
        true
    }

    fn wait_while_up(&self) {
        let mut state = self.state.lock();
        while matches!(*state, State::Up(_)) {
            self.moved.wait(&mut state);
        }
        let was = match &mut *state {
            State::Down { was, .. } => was.take(),
            _ => None,
        };
        drop(state);
        drop(was);
    }

    /// False when it was stopped.
    fn wait_before_retry(&self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        let mut state = self.state.lock();
        while !matches!(*state, State::Stopped) {
            if self.moved.wait_until(&mut state, until).timed_out() {
                return true;
            }
        }
        false
    }
}
