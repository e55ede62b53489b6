//! The images of Docker Engine, or of Podman by its socket that speaks Docker's API.
//!
//! What is long (a pull, a load, a build) is one call whose answer is a stream of messages; the call ends with the engine's
//! last word, a failure among the messages, or our hanging up, by which the engine stops.

mod build;
mod buildah;
mod intermediates;
mod journal;
mod layers;
mod leftovers;
mod load;
mod messages;
mod pieces;
mod plan;
mod pull;
mod remove;
mod save;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use agentd_api::ByteSize;
use agentd_api::image::{BuildSource, Recipe, RegistryRef, UploadSource};
use async_trait::async_trait;
use futures_util::StreamExt;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::broadcast;
use uuid::Uuid;

use self::plan::Listed;
use super::credentials::Registries;
use super::{ContainerImage, ContainerImageDriver, SaveAs, SavedPieces, marked, repository};
use crate::Instance;
use crate::engine::wire::{Wire, query};
use crate::engine::{ACT, ASK, Engine, EngineError, EngineEvent, Flavor};
use crate::image::host::HostImage;
use crate::image::{ImageError, Work};

const PODMANS_OWN: &str = "localhost/";

pub struct DockerImages {
    engine: Arc<Engine>,
    instance: Instance,
    /// Has what was uploaded, and builds recipes' trees.
    host: Arc<HostImage>,
    registries: Registries,
    /// Held for reading by each build, for writing while what builds left is taken away.
    builds: Arc<tokio::sync::RwLock<()>>,
    /// The images whose builds ended here, and may have left something.
    ended: Mutex<BTreeSet<Uuid>>,
}

/// What `/images/{name}/json` says, of what is looked at.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    id: String,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    repo_digests: Option<Vec<String>>,
}

impl DockerImages {
    /// Connects to nothing yet.
    pub fn new(
        engine: Arc<Engine>,
        instance: Instance,
        host: Arc<HostImage>,
        registries: Registries,
    ) -> Arc<Self> {
        let (builds, ended) = (Arc::default(), Mutex::default());
        Arc::new(Self { engine, instance, host, registries, builds, ended })
    }

    /// What our images are called in this engine. Podman puts a registry before a name that has none, and not always the
    /// same; `localhost` is the one that it takes for its own.
    async fn repository(&self) -> Result<String, EngineError> {
        let ours = repository(&self.instance);
        Ok(match self.engine.linked().await?.flavor {
            Flavor::Docker => ours,
            Flavor::Podman => format!("{PODMANS_OWN}{ours}"),
        })
    }

    async fn mark(&self, image: Uuid) -> Result<String, EngineError> {
        Ok(format!("{}:{image}", self.repository().await?))
    }

    async fn wire(&self) -> Result<Wire, EngineError> {
        Ok(self.engine.linked().await?.wire.clone())
    }

    /// What `work` answers, with a deadline; where nobody listens any more the next call looks for an engine anew.
    async fn within<T>(
        &self,
        call: &'static str,
        limit: Duration,
        work: impl Future<Output = Result<T, EngineError>>,
    ) -> Result<T, EngineError> {
        let done = tokio::time::timeout(limit, work).await;
        let done = done.unwrap_or(Err(EngineError::Deadline { call, seconds: limit.as_secs() }));
        done.inspect_err(|error| self.engine.failed(error))
    }

    async fn inspect(&self, name: &str) -> Result<Option<Inspected>, EngineError> {
        const CALL: &str = "look at an image";
        let path = format!("/images/{name}/json");
        let asked = async { self.wire().await?.json(CALL, &path).await };
        match self.within(CALL, ASK, asked).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Gives the image our name for it, which keeps the engine from taking it for one that nobody needs.
    async fn put_mark(&self, image: Uuid, name: &str) -> Result<(), EngineError> {
        const CALL: &str = "mark an image";
        let (repo, tag) = (self.repository().await?, image.to_string());
        let path = query(&format!("/images/{name}/tag"), &[("repo", &repo), ("tag", &tag)]);
        let asked = async { self.wire().await?.post(CALL, &path, &Value::Null).await };
        self.within(CALL, ACT, asked).await.map(drop)
    }

    /// All that is called so, with its tags.
    async fn names_in(&self, repository: &str) -> Result<Vec<String>, EngineError> {
        const CALL: &str = "list the images";
        let filters = serde_json::json!({"reference": [repository]}).to_string();
        let path = query("/images/json", &[("filters", &filters)]);
        let asked = async { self.wire().await?.json::<Vec<Listed>>(CALL, &path).await };
        let listed = self.within(CALL, ASK, asked).await?;
        let names = listed.into_iter().flat_map(|image| image.repo_tags.unwrap_or_default());
        let tagged = |name: &String| name.strip_prefix(repository).is_some_and(|rest| rest.starts_with(':'));
        Ok(names.filter(tagged).collect())
    }

    /// The image under our mark, which was just put there.
    async fn made(&self, image: Uuid, source_format: &str) -> Result<ContainerImage, ImageError> {
        let found = self.inspect(&self.mark(image).await?).await?.ok_or_else(|| ImageError::Failed {
            step: "looking at what was made".to_owned(),
            detail: "the engine has it no more".to_owned(),
        })?;
        Ok(ContainerImage {
            id: found.id,
            registry_digest: None,
            size: ByteSize(found.size),
            source_format: source_format.to_owned(),
        })
    }
}

/// Ends `work` when it is cancelled.
async fn unless_cancelled<T>(
    work: &Work,
    doing: impl Future<Output = Result<T, ImageError>>,
) -> Result<T, ImageError> {
    // Cancel safety: what is dropped hangs up on the engine, which stops by that.
    tokio::select! {
        biased;
        () = work.cancel.cancelled() => Err(ImageError::Cancelled),
        done = doing => done,
    }
}

#[async_trait]
impl ContainerImageDriver for DockerImages {
    async fn pull(&self, from: &RegistryRef, work: &Work) -> Result<ContainerImage, ImageError> {
        unless_cancelled(work, self.pull_from(from, work)).await
    }

    async fn load(&self, source: &UploadSource, work: &Work) -> Result<ContainerImage, ImageError> {
        unless_cancelled(work, self.load_upload(source, work)).await
    }

    async fn build(&self, source: &BuildSource, work: &Work) -> Result<ContainerImage, ImageError> {
        let built = self.build_noting(source, work).await;
        self.ended.lock().insert(work.image);
        let ended = |image: Uuid| self.ended.lock().contains(&image);
        // The last that is under way does it for all; the sweep does where the engine is away.
        match self.clear_builds(ended).await {
            Ok(cleared) => self.ended.lock().retain(|image| !cleared.contains(image)),
            Err(error) => tracing::debug!(image = %work.image, "what a build left is still there: {error}"),
        }
        built
    }

    async fn build_recipe(&self, recipe: Recipe, work: &Work) -> Result<ContainerImage, ImageError> {
        unless_cancelled(work, self.import_recipe(recipe, work)).await
    }

    async fn observe(&self, image: Uuid, id: &str) -> Result<Option<ContainerImage>, ImageError> {
        let at_mark = self.inspect(&self.mark(image).await?).await?;
        let found = match at_mark.filter(|found| found.id == id) {
            Some(found) => found,
            None => match self.inspect(id).await? {
                Some(found) => {
                    self.put_mark(image, id).await?;
                    found
                }
                None => return Ok(None),
            },
        };
        Ok(Some(ContainerImage {
            id: found.id,
            registry_digest: None,
            size: ByteSize(found.size),
            source_format: String::new(),
        }))
    }

    async fn save(&self, id: &str, wanted: SaveAs<'_>) -> Result<SavedPieces, ImageError> {
        match wanted {
            SaveAs::Docker => Ok(self.packed(id).await?.boxed()),
            SaveAs::Oci { name } => self.save_oci(id, name).await,
        }
    }

    async fn remove(&self, image: Uuid) -> Result<(), ImageError> {
        self.remove_marked(image).await?;
        self.clear_builds(|other| other == image).await.map(drop)
    }

    async fn clear(&self, keep: &BTreeSet<Uuid>) -> Result<Vec<Uuid>, ImageError> {
        self.clear_builds(|image| !keep.contains(&image)).await
    }

    async fn list(&self) -> Result<Vec<Uuid>, ImageError> {
        let names = self.names_in(&self.repository().await?).await?;
        Ok(names
            .iter()
            .filter_map(|name| marked(&self.instance, name.trim_start_matches(PODMANS_OWN)))
            .collect())
    }

    fn events(&self) -> broadcast::Receiver<EngineEvent> {
        self.engine.events()
    }
}
