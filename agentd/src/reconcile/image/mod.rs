//! Makes images ready: builds, fetches or takes in their content, which is stored once under its digest.
//!
//! ```text
//!   pending (an upload not there yet) --> provisioning (a job) --> ready
//!                                              |                     | content gone from the disk
//!                                              +------> failed <-----+
//! ```
//!
//! A disk's content is ours, and in `content.rs`; a container's image is the engine's, and in `container.rs`.
//!
//! Content goes with the last that needs it: another image of the same digest or a VM whose disk stands on it keep it,
//! and the sweep takes it later. A job is stopped when its image is deleted; a pull that was interrupted resumes.

mod container;
mod content;
mod follow;
mod jobs;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use agentd_api::image::{Image, ImageFormat, ImageSource, ImageStatus, UploadSource};
use agentd_api::{ErrorCode, Object, ObjectKey, State};
use agentd_drivers::Class;
use agentd_drivers::image::container::ContainerImageDriver;
use agentd_drivers::image::{ImageContent, ImageDriver, ImageError, Work};
use async_trait::async_trait;

use super::runtime::{Fault, Note, Outcome, Pass, Reconciler, Trigger};

pub use content::Contents;
pub use follow::follow;
pub use jobs::Jobs;
use jobs::{JobState, Made, Turn};

/// The one thing that an image has on the host.
pub const CONTENT: &str = "content";
/// How often progress is written down at most.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);

pub struct Images {
    pub driver: Arc<dyn ImageDriver>,
    pub containers: Arc<dyn ContainerImageDriver>,
    pub jobs: Jobs,
    pub contents: Contents,
    pub trigger: Trigger,
}

#[async_trait]
impl Reconciler for Images {
    type Kind = Image;

    async fn reconcile(&self, pass: &Pass, object: &Object<Image>) -> Outcome<ImageStatus> {
        let mut status = object.status.clone();
        if status.common.observed_generation != object.meta.generation {
            // Another source makes another image; what is there goes with the sweep once no VM stands on it.
            (status.digest, status.received) = (None, None);
        }
        status.format = object.spec.format();
        if let Some(digest) = status.digest.clone() {
            // A daemon that was killed between the two has left it.
            self.tidy(object).await;
            return match status.format {
                ImageFormat::Disk => self.look(status, &digest).await,
                ImageFormat::Container => self.look_at_engine(object.meta.id, status, &digest).await,
            };
        }
        match self.jobs.state(object.meta.id, object.meta.generation) {
            JobState::None => self.begin(pass.key(), object, status).await,
            JobState::Running(progress) => working(status, progress),
            JobState::Ended(Ok(made)) => self.ended(pass, object, status, made).await,
            JobState::Ended(Err(fault)) => {
                if fault.class == Class::Permanent {
                    // What is refused is of no use: a new try begins with nothing. The sweep does not take it either.
                    self.tidy(object).await;
                }
                self.jobs.forget(object.meta.id);
                status.common.progress = None;
                Outcome::failed(status, fault)
            }
        }
    }

    async fn finalize(&self, pass: &Pass, object: &Object<Image>, finalizer: &str) -> Result<(), Fault> {
        if finalizer != CONTENT {
            return Err(Fault::internal(format!(
                "an image has nothing to undo by the name of '{finalizer}'"
            )));
        }
        self.jobs.stop(object.meta.id).await;
        if object.spec.format() == ImageFormat::Container {
            // What the engine has for it comes first: what came for it tells what that is.
            self.containers.remove(object.meta.id).await?;
            return Ok(self.driver.discard(object.meta.id).await?);
        }
        self.driver.discard(object.meta.id).await?;
        match &object.status.digest {
            Some(digest) => self.contents.release(pass.store(), digest, Some(object.meta.id)).await,
            None => Ok(()),
        }
    }

    /// Looking whether content is still there is cheap, and seldom useful.
    fn resync(&self) -> Option<Duration> {
        Some(Duration::from_secs(600))
    }
}

impl Images {
    /// An image that was ready: is its content still there?
    async fn look(&self, mut status: ImageStatus, digest: &str) -> Outcome<ImageStatus> {
        match self.driver.observe(digest).await {
            Ok(Some(content)) => ready(status, &content),
            Ok(None) => {
                // Without a digest a retry makes it again.
                status.digest = None;
                status.common.progress = None;
                let message = format!("its content {digest} is gone from the disk");
                Outcome::failed(status, Fault::permanent(ErrorCode::NotFound, message))
            }
            Err(error) => Outcome::failed(status, error.into()),
        }
    }

    /// What the content was put together from is of no use once the object stands for the content.
    async fn tidy(&self, object: &Object<Image>) {
        if let Err(error) = self.driver.discard(object.meta.id).await {
            tracing::warn!(object = %object.meta.key(), "what the image was made from is still there: {error}");
        }
    }

    async fn begin(
        &self,
        key: &ObjectKey,
        object: &Object<Image>,
        mut status: ImageStatus,
    ) -> Outcome<ImageStatus> {
        if let Some(source) = object.spec.source.upload() {
            let received = match self.driver.received(object.meta.id).await {
                Ok(received) => received,
                Err(error) => return Outcome::failed(status, error.into()),
            };
            if received < source.size {
                return awaited(status, received, &source);
            }
            status.received = Some(received);
        }
        // Of a failed try its attempts tell.
        let cut = status.common.state == State::Provisioning && status.common.attempts.is_none();
        let recipe = matches!(object.spec.source, ImageSource::Recipe(_));
        let turn = if recipe { Turn::Build } else { Turn::Receive };
        let (driver, source) = (self.driver.clone(), object.spec.source.clone());
        let (containers, format) = (self.containers.clone(), object.spec.format());
        let work = move |work| async move {
            match format {
                ImageFormat::Disk => disk(&*driver, &source, &work).await.map(Made::Disk),
                ImageFormat::Container => {
                    container::make(&*containers, &source, &work).await.map(Made::Container)
                }
            }
        };
        let (trigger, own) = (self.trigger.clone(), key.clone());
        let _no_content_goes_now = self.contents.gate().await;
        self.jobs.start((object.meta.id, object.meta.generation), turn, work, move || trigger.wake(own));
        let mut outcome = match self.jobs.state(object.meta.id, object.meta.generation) {
            JobState::Running(progress) => working(status, progress),
            JobState::None | JobState::Ended(_) => Outcome::settled(status).again(Duration::ZERO),
        };
        if cut {
            outcome
                .notes
                .push(Note::seen("resumed", "agentd ended while this was under way; it goes on now"));
        }
        outcome
    }

    /// Who watches layers sees the end of each. It may have come since the last look.
    async fn show_end(&self, pass: &Pass, object: &Object<Image>, status: &ImageStatus) {
        let told = self.jobs.told(object.meta.id).filter(|told| !told.layers.is_empty());
        if let Some(told) = told.filter(|told| status.common.progress.as_ref() != Some(told)) {
            let shown = working(status.clone(), told).status;
            if let Err(fault) = pass.publish_noting::<Image>(&shown, Vec::new()).await {
                tracing::debug!(object = %object.meta.key(), "the end of its layers is not shown: {fault}");
            }
        }
    }

    async fn ended(
        &self,
        pass: &Pass,
        object: &Object<Image>,
        status: ImageStatus,
        made: Made,
    ) -> Outcome<ImageStatus> {
        self.show_end(pass, object, &status).await;
        let (mut outcome, note) = match &made {
            Made::Disk(content) => {
                let note = format!("{}, a disk of {}", content.digest, content.virtual_size);
                (ready(status, content), note)
            }
            Made::Container(image) => (container::ready(status, image), image.id.clone()),
        };
        outcome.status.common.observed_generation = object.meta.generation;
        outcome.status.common.attempts = None;
        let note = Note::done("created", note);
        // The job stands for the content until the object does: nothing may take it for unused in between.
        match pass.publish_noting::<Image>(&outcome.status, vec![note]).await {
            Ok(()) => {
                self.jobs.forget(object.meta.id);
                self.tidy(object).await;
                outcome
            }
            Err(fault) => Outcome::failed(outcome.status, fault),
        }
    }
}

/// Makes a disk.
async fn disk(
    driver: &dyn ImageDriver,
    source: &ImageSource,
    work: &Work,
) -> Result<ImageContent, ImageError> {
    match source {
        ImageSource::Recipe(recipe) => driver.build(*recipe, work).await,
        ImageSource::Url(source) => driver.pull(source, work).await,
        ImageSource::Upload(source) => driver.import(source, work).await,
        // Admission lets none of these be a disk.
        ImageSource::Registry(_) | ImageSource::Build(_) => {
            Err(ImageError::Refused("no disk comes of this source".to_owned()))
        }
    }
}

fn working(mut status: ImageStatus, progress: agentd_api::Progress) -> Outcome<ImageStatus> {
    status.common.state = State::Provisioning;
    status.common.reason = None;
    if progress.unit == "bytes" {
        status.received = Some(progress.done);
    }
    status.common.progress = Some(progress);
    Outcome::settled(status).again(PROGRESS_EVERY)
}

fn awaited(mut status: ImageStatus, received: u64, source: &UploadSource) -> Outcome<ImageStatus> {
    status.common.state = State::Pending;
    status.common.reason = Some(format!("waiting for its content: {received} of {} bytes", source.size));
    status.common.progress = None;
    status.received = Some(received);
    Outcome::settled(status)
}

fn ready(mut status: ImageStatus, content: &ImageContent) -> Outcome<ImageStatus> {
    (status.common.state, status.common.reason, status.common.progress) = (State::Ready, None, None);
    status.digest = Some(content.digest.clone());
    status.virtual_size = Some(content.virtual_size);
    status.stored_size = Some(content.stored_size);
    status.source_format = Some(content.source_format.clone());
    status.direct_boot = content.boot.is_some();
    Outcome::settled(status)
}
