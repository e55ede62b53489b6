//! The threads on which libvirt's blocking calls are made.
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

/// More than the domains that may hang at once on a sane host; libvirt serves a connection's calls side by side.
const THREADS: usize = 6;

type Job = Box<dyn FnOnce(&Link) + Send>;

#[derive(Debug)]
pub(super) struct Workers {
    link: Arc<Link>,
    jobs: Mutex<Option<Sender<Job>>>,
}

impl Workers {
    pub(super) fn begin(link: Arc<Link>) -> Self {
        let (jobs, queue) = channel::<Job>();
        let queue = Arc::new(Mutex::new(queue));
        for number in 0..THREADS {
            let (queue, link) = (queue.clone(), link.clone());
            let thread = std::thread::Builder::new().name(format!("agentd-virt-{number}"));
            if let Err(error) = thread.spawn(move || work(&queue, &link)) {
                // With none at all, every call ends at its deadline and says so.
                tracing::error!(%error, "a thread for libvirt's calls could not be made");
            }
        }
        Self { link, jobs: Mutex::new(Some(jobs)) }
    }

    /// Runs `work` on a thread and waits for it up to `limit`. `call` names it in errors.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        call: &'static str,
        limit: Duration,
        work: impl FnOnce(&Connect) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, VmError> {
        let (answer, answered) = oneshot::channel();
        let due = Instant::now() + limit;
        let job: Job = Box::new(move |link| {
            if Instant::now() < due {
                let _ = answer.send(attempt(link, call, work));
            }
        });
        let sent = self.jobs.lock().as_ref().is_some_and(|jobs| jobs.send(job).is_ok());
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
        drop(self.jobs.lock().take());
    }
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
    call: &'static str,
    work: impl FnOnce(&Connect) -> Result<T, Fault>,
) -> Result<T, VmError> {
    let live = link.live()?;
    // `virt` panics on some failures, as on freeing a domain; a thread must outlive that.
    let done = catch_unwind(AssertUnwindSafe(|| work(live.connect())));
    match done {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(Fault::Vm(error))) => Err(error),
        Ok(Err(Fault::Libvirt(error))) if !live.connect().is_alive().unwrap_or(false) => {
            link.found_dead(&live);
            Err(link.away(error.message()))
        }
        Ok(Err(Fault::Libvirt(error))) => Err(super::fault::told(call, &error)),
        Err(_) => Err(VmError::Failed { call, detail: "the call panicked".to_owned() }),
    }
}
