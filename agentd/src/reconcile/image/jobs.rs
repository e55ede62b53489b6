//! Builds, pulls and imports that are under way. They take minutes, so that they run beside the passes: a pass starts a
//! job, the next ones show how far it is, and the one after its end takes its result.
//!
//! A job lives in memory only. After a restart the image is still `provisioning`, its pass finds no job and starts one,
//! and the driver goes on from what is on the disk.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;

use agentd_api::Progress;
use agentd_drivers::image::container::ContainerImage;
use agentd_drivers::image::{ImageContent, ImageError, Work};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::reconcile::runtime::Fault;

/// What a job needs its turn for. Building takes all of a processor; receiving waits for the network most of the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    Build,
    Receive,
}

/// What came of a job.
#[derive(Debug, Clone)]
pub enum Made {
    Disk(ImageContent),
    Container(ContainerImage),
}

#[derive(Clone)]
pub struct Jobs {
    running: Arc<Mutex<HashMap<Uuid, Job>>>,
    builds: Arc<Semaphore>,
    receives: Arc<Semaphore>,
    cancel: CancellationToken,
    tracker: TaskTracker,
}

struct Job {
    /// The generation of the image's spec that it works for.
    generation: u64,
    progress: watch::Receiver<Progress>,
    cancel: CancellationToken,
    end: watch::Receiver<Option<Result<Made, Fault>>>,
}

/// What has become of an image's job.
#[derive(Debug, Clone)]
pub enum JobState {
    None,
    Running(Progress),
    Ended(Result<Made, Fault>),
}

impl Jobs {
    pub fn new(cancel: &CancellationToken, tracker: TaskTracker) -> Self {
        Self {
            running: Arc::default(),
            builds: Arc::new(Semaphore::new(1)),
            receives: Arc::new(Semaphore::new(2)),
            cancel: cancel.child_token(),
            tracker,
        }
    }

    /// A job for another generation is stopped, and forgotten once it has ended.
    pub fn state(&self, image: Uuid, generation: u64) -> JobState {
        let mut running = self.running.lock();
        let Some(job) = running.get(&image) else { return JobState::None };
        let end = job.end.borrow().clone();
        if job.generation != generation {
            job.cancel.cancel();
            if end.is_some() {
                running.remove(&image);
                return JobState::None;
            }
        }
        end.map_or_else(|| JobState::Running(job.progress.borrow().clone()), JobState::Ended)
    }

    /// What a job told of itself last.
    pub fn told(&self, image: Uuid) -> Option<Progress> {
        self.running.lock().get(&image).map(|job| job.progress.borrow().clone())
    }

    /// Whether any job but that image's is there.
    pub fn others(&self, image: Option<Uuid>) -> bool {
        self.running.lock().keys().any(|id| Some(*id) != image)
    }

    /// Begins `work` when its turn comes. `ended` is called after its end.
    pub fn start<F>(
        &self,
        (image, generation): (Uuid, u64),
        turn: Turn,
        work: impl FnOnce(Work) -> F + Send + 'static,
        ended: impl FnOnce() + Send + 'static,
    ) where
        F: Future<Output = Result<Made, ImageError>> + Send + 'static,
    {
        let waiting = Progress { step: "waiting for its turn".to_owned(), ..Progress::default() };
        let (progress, shown) = watch::channel(waiting);
        let (end, seen) = watch::channel(None);
        let cancel = self.cancel.child_token();
        let job = Job { generation, progress: shown, cancel: cancel.clone(), end: seen };
        self.running.lock().insert(image, job);
        let turns = match turn {
            Turn::Build => self.builds.clone(),
            Turn::Receive => self.receives.clone(),
        };
        self.tracker.spawn(async move {
            // Cancel safety: a permit that was not taken yet is given to the next in line.
            let result = tokio::select! {
                () = cancel.cancelled() => Err(ImageError::Cancelled),
                permit = turns.acquire() => {
                    let result = work(Work { image, progress, cancel: cancel.clone() }).await;
                    drop(permit);
                    result
                }
            };
            end.send_replace(Some(result.map_err(Fault::from)));
            ended();
        });
    }

    /// Forgets a job that has ended.
    pub fn forget(&self, image: Uuid) {
        self.running.lock().remove(&image);
    }

    /// Stops the image's job and waits for its end.
    pub async fn stop(&self, image: Uuid) {
        let end = {
            let running = self.running.lock();
            let Some(job) = running.get(&image) else { return };
            job.cancel.cancel();
            job.end.clone()
        };
        // An error is the job's task gone, which is an end as well.
        let _ = end.clone().wait_for(Option::is_some).await;
        self.forget(image);
    }
}
