//! The threads on which libvirt's blocking calls are made, in two lanes.
//!
//! Calls that only look have threads and a connection of their own: they take milliseconds, and are never queued behind
//! calls that make or end processes, which take seconds and more. libvirtd reads nothing more from a connection that has
//! five calls open, not even that it is alive, so that a lane has fewer threads than that.
//!
//! A caller waits for its answer up to a deadline. A call that hangs holds one thread until libvirt or keepalive ends it;
//! the others go on. A job whose deadline passed before a thread was free is not begun at all: its caller was told that
//! it failed, and must not be surprised by it later. A job that was begun goes on to its end, waited for or not.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::fault::Fault;
use super::link::Link;
use crate::vm::VmError;
use virt::connect::Connect;

/// One waits for a guest that is being started, whose lock libvirt holds; the others look at the rest meanwhile.
const LOOKING: usize = 3;
/// More than the domains that may hang at once on a sane host; libvirt serves a connection's calls side by side.
pub(super) const ACTING: usize = 4;

type Job = Box<dyn FnOnce(&Link) + Send>;

/// Which of the two a call goes by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    /// Changes nothing and waits for no guest.
    Look,
    Act,
}

#[derive(Debug)]
struct Queues {
    look: Sender<Job>,
    act: Sender<Job>,
}

#[derive(Debug)]
pub(super) struct Workers {
    link: Arc<Link>,
    queues: Mutex<Option<Queues>>,
}

impl Workers {
    pub(super) fn begin(link: Arc<Link>) -> Self {
        let queues = Queues { look: threads(&link, "look", LOOKING), act: threads(&link, "act", ACTING) };
        Self { link, queues: Mutex::new(Some(queues)) }
    }

    /// Runs `work` on a thread of that lane and waits for it up to `limit`. `call` names it in errors.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        lane: Lane,
        (call, limit): (&'static str, Duration),
        work: impl FnOnce(&Connect) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, VmError> {
        let (answer, answered) = oneshot::channel();
        let due = Instant::now() + limit;
        let job: Job = Box::new(move |link| {
            if Instant::now() < due {
                let _ = answer.send(attempt(link, lane, call, work));
            }
        });
        let sent = self.queues.lock().as_ref().is_some_and(|queues| queues.of(lane).send(job).is_ok());
        if !sent {
            return Err(self.link.away("the driver was closed"));
        }
        match tokio::time::timeout(limit, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(VmError::Deadline { call, seconds: limit.as_secs() }),
        }
    }

    /// The threads end once they have done what they are at. What is queued is still done, unless its time is over.
    pub(super) fn end(&self) {
        drop(self.queues.lock().take());
    }
}

impl Queues {
    fn of(&self, lane: Lane) -> &Sender<Job> {
        match lane {
            Lane::Look => &self.look,
            Lane::Act => &self.act,
        }
    }
}

fn threads(link: &Arc<Link>, name: &str, count: usize) -> Sender<Job> {
    let (jobs, queue) = channel::<Job>();
    let queue = Arc::new(Mutex::new(queue));
    for number in 0..count {
        let (queue, link) = (queue.clone(), link.clone());
        let thread = std::thread::Builder::new().name(format!("agentd-{name}-{number}"));
        if let Err(error) = thread.spawn(move || work(&queue, &link)) {
            // With none at all, every call ends at its deadline and says so.
            tracing::error!(%error, "a thread for libvirt's calls could not be made");
        }
    }
    jobs
}

fn work(queue: &Mutex<Receiver<Job>>, link: &Link) {
    loop {
        // The lock is held only by the thread that waits next, never during a job.
        let job = queue.lock().recv();
        match job {
            Ok(job) => job(link),
            Err(_) => return,
        }
    }
}

fn attempt<T>(
    link: &Link,
    lane: Lane,
    call: &'static str,
    work: impl FnOnce(&Connect) -> Result<T, Fault>,
) -> Result<T, VmError> {
    let live = link.live()?;
    let connect = live.connect(lane);
    // `virt` panics on some failures, as on freeing a domain; a thread must outlive that.
    let done = catch_unwind(AssertUnwindSafe(|| work(connect)));
    match done {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(Fault::Vm(error))) => Err(error),
        Ok(Err(Fault::Libvirt(error))) if !connect.is_alive().unwrap_or(false) => {
            link.found_dead(&live);
            Err(link.away(error.message()))
        }
        Ok(Err(Fault::Libvirt(error))) => Err(super::fault::told(call, &error)),
        Err(_) => Err(VmError::Failed { call, detail: "the call panicked".to_owned() }),
    }
}
