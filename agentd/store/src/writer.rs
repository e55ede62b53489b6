//! The one thread that writes.
//!
//! ```text
//!   callers --queue--> [ stage all that wait ] -> engine.commit -> publish -> answer each
//!                        one that says no, or panics, is taken back alone
//! ```
//!
//! While a batch is being made durable the next callers queue up, and share the next commit. When a commit fails, all
//! of its transactions are told so and memory stays as it was; a probe then tries once a second whether writing is
//! possible again, so that `health` recovers without a write.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use agentd_api::Timestamp;
use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use crate::backup::Snapshot;
use crate::batch::Backlog;
use crate::engine::{Batch, Counters, Engine, Op};
use crate::error::{StoreError, Transact};
use crate::shared::{Counts, Publication, Shared};
use crate::stage::Stage;
use crate::stored::Interner;
use crate::tx::Tx;

/// How many transactions share a commit at most: what bounds the memory of a batch and the time that readers wait
/// for its publication.
const BATCH_MAX: usize = 512;
const PROBE: Duration = Duration::from_secs(1);

/// A transaction that waits for the writer.
pub(crate) trait Job: Send {
    /// True where its changes are to be kept.
    fn run(&mut self, tx: &mut dyn Tx) -> bool;
    fn panicked(&mut self, detail: String);
    /// The batch is durable, or failed.
    fn answer(self: Box<Self>, outcome: Result<(), StoreError>);
}

pub(crate) enum Work {
    Transaction(Box<dyn Job>),
    Compact {
        through: u64,
        done: oneshot::Sender<Result<(), StoreError>>,
    },
    /// All that is there between two commits.
    Snapshot(oneshot::Sender<Snapshot>),
}

#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<QueueState>,
    wake: Condvar,
}

#[derive(Default)]
struct QueueState {
    waiting: VecDeque<Work>,
    /// No more is taken; the writer ends once all that waits is done.
    closed: bool,
    /// Told when the writer has ended.
    closers: Vec<oneshot::Sender<Result<(), StoreError>>>,
    ended: Option<Result<(), StoreError>>,
}

impl Queue {
    /// Gives the work back when the store is closed.
    pub(crate) fn push(&self, work: Work) -> Result<(), Work> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(work);
        }
        state.waiting.push_back(work);
        drop(state);
        self.wake.notify_one();
        Ok(())
    }

    /// Closes; the receiver hears when all is written and the engine is closed.
    pub(crate) fn close(&self) -> oneshot::Receiver<Result<(), StoreError>> {
        let (done, heard) = oneshot::channel();
        let mut state = self.state.lock();
        state.closed = true;
        match state.ended.clone() {
            // The receiver is at hand: it cannot have been dropped.
            Some(ended) => drop(done.send(ended)),
            None => state.closers.push(done),
        }
        drop(state);
        self.wake.notify_one();
        heard
    }

    pub(crate) fn len(&self) -> usize {
        self.state.lock().waiting.len()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// Waits for work. Empty when the time is over; none when closed and empty.
    fn take(&self, limit: Option<Duration>) -> Option<Vec<Work>> {
        let mut state = self.state.lock();
        while state.waiting.is_empty() {
            if state.closed {
                return None;
            }
            match limit {
                None => self.wake.wait(&mut state),
                Some(limit) if self.wake.wait_for(&mut state, limit).timed_out() => return Some(Vec::new()),
                Some(_) => {}
            }
        }
        let count = state.waiting.len().min(BATCH_MAX);
        Some(state.waiting.drain(..count).collect())
    }

    fn end(&self, outcome: Result<(), StoreError>) {
        let mut state = self.state.lock();
        state.closed = true;
        state.ended = Some(outcome.clone());
        for closer in state.closers.drain(..) {
            // One that does not wait any more needs no answer.
            drop(closer.send(outcome.clone()));
        }
    }
}

pub(crate) struct Writer {
    pub shared: Arc<Shared>,
    pub queue: Arc<Queue>,
    pub engine: Box<dyn Engine>,
    pub interner: Interner,
    pub counters: Counters,
    pub backlog: Backlog,
    /// How many bytes of history are kept over a close.
    pub at_rest: usize,
}

impl Writer {
    pub(crate) fn run(mut self) {
        loop {
            let limit = self.shared.trouble.lock().is_some().then_some(PROBE);
            let Some(work) = self.queue.take(limit) else { break };
            if work.is_empty() {
                self.probe();
                continue;
            }
            let mut jobs = Vec::with_capacity(work.len());
            for work in work {
                match work {
                    Work::Transaction(job) => jobs.push(job),
                    Work::Compact { through, done } => {
                        self.transact(std::mem::take(&mut jobs));
                        // One that does not wait any more needs no answer.
                        drop(done.send(self.compact(through)));
                    }
                    Work::Snapshot(done) => {
                        self.transact(std::mem::take(&mut jobs));
                        // As above.
                        drop(done.send(Snapshot::take(&self.shared, self.counters)));
                    }
                }
            }
            self.transact(jobs);
            self.engine.tidy();
            self.shared.counts.engine_bytes.store(self.engine.size(), Ordering::Relaxed);
        }
        self.rest();
        let outcome = self.engine.close();
        if let Err(error) = &outcome {
            tracing::error!(%error, "the store was not closed cleanly; what was acknowledged is safe");
        }
        self.queue.end(outcome);
    }

    fn transact(&mut self, mut jobs: Vec<Box<dyn Job>>) {
        if jobs.is_empty() {
            return;
        }
        let mut stage = Stage::new(&self.shared, &mut self.interner, self.counters);
        for job in &mut jobs {
            stage.begin();
            match catch_unwind(AssertUnwindSafe(|| job.run(&mut stage))) {
                Ok(true) => stage.keep(),
                Ok(false) => stage.roll_back(),
                Err(panic) => {
                    stage.roll_back();
                    job.panicked(text_of(&*panic));
                }
            }
        }
        let outcome = match stage.finish(&self.shared) {
            None => Ok(()),
            Some((batch, publication)) => self.commit(batch, publication),
        };
        Counts::add(&self.shared.counts.transactions, jobs.len() as u64);
        for job in jobs {
            job.answer(outcome.clone());
        }
    }

    fn commit(&mut self, mut batch: Batch, publication: Publication) -> Result<(), StoreError> {
        self.backlog.add_to(&mut batch, &self.shared);
        self.write(&batch)?;
        self.shared.publish(publication);
        self.backlog.answers = self.shared.answers.lock().evict(Timestamp::now().millis());
        Ok(())
    }

    fn write(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let began = Instant::now();
        let outcome = self.engine.commit(batch);
        let took = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let counts = &self.shared.counts;
        Counts::add(&counts.commit_nanos, took);
        Counts::add(&counts.commits, 1);
        let mut trouble = self.shared.trouble.lock();
        match &outcome {
            Ok(()) => {
                if trouble.take().is_some() {
                    tracing::info!("the store can be written to again");
                }
                drop(trouble);
                self.counters = batch.counters;
                self.backlog.done(batch);
            }
            Err(error) => {
                Counts::add(&counts.failed_commits, 1);
                if trouble.as_ref() != Some(error) {
                    tracing::error!(%error, "the store cannot be written to");
                }
                *trouble = Some(error.clone());
            }
        }
        outcome
    }

    fn probe(&mut self) {
        let batch = Batch { ops: Vec::new(), counters: self.counters };
        // Its outcome is kept as the store's health.
        drop(self.write(&batch));
    }

    fn compact(&mut self, through: u64) -> Result<(), StoreError> {
        self.drop_changes(through)?;
        self.engine.compact()
    }

    fn drop_changes(&mut self, through: u64) -> Result<(), StoreError> {
        let through = through.min(self.counters.revision);
        if through > self.counters.compacted {
            let counters = Counters { compacted: through, ..self.counters };
            self.write(&Batch { ops: vec![Op::DropChanges { through }], counters })?;
            let mut gone = Vec::new();
            self.shared.history.write().compact(through, &mut gone);
        }
        Ok(())
    }

    /// Leaves only the last changes for the next start. One that cannot be written loses nothing.
    fn rest(&mut self) {
        let beyond = self.shared.history.read().beyond(self.at_rest);
        if let Err(error) = self.drop_changes(beyond) {
            tracing::warn!(%error, "old changes could not be dropped before the store was closed");
        }
    }
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

/// A closure with the one who waits for it.
pub(crate) struct Transaction<F, T, E> {
    pub closure: F,
    pub result: Option<Result<T, Transact<E>>>,
    pub caller: oneshot::Sender<Result<T, Transact<E>>>,
}

impl<F, T, E> Job for Transaction<F, T, E>
where
    F: FnMut(&mut dyn Tx) -> Result<T, E> + Send,
    T: Send,
    E: Send,
{
    fn run(&mut self, tx: &mut dyn Tx) -> bool {
        let result = (self.closure)(tx);
        let kept = result.is_ok();
        self.result = Some(result.map_err(Transact::Refused));
        kept
    }

    fn panicked(&mut self, detail: String) {
        self.result = Some(Err(Transact::Failed(StoreError::Panicked { detail })));
    }

    fn answer(self: Box<Self>, outcome: Result<(), StoreError>) {
        // A refusal may rest on what an earlier transaction of the batch did, so it too counts only if that is durable.
        let result = match outcome {
            Ok(()) => self.result.expect("it ran before it is answered"),
            Err(error) => Err(Transact::Failed(error)),
        };
        // A caller that does not wait any more needs no answer; what was done is done.
        drop(self.caller.send(result));
    }
}
