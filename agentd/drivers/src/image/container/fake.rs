//! An engine's images that are nowhere: a stateful stand-in for tests, agentd-sim and the benches.
//!
//! Archives are recognised as the real driver does it. A registry has every image, but those that it was told to refuse.

mod packed;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Cursor, Read};
use std::sync::Arc;
use std::time::Duration;

use agentd_api::image::{BuildSource, Recipe, RegistryRef, UploadSource};
use agentd_api::{ByteSize, LayerProgress, LayerState, Progress};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::sync::broadcast;
use uuid::Uuid;

use super::archive::{Recognised, recognise};
use super::{ContainerImage, ContainerImageDriver, SaveAs, SavedPieces};
use crate::engine::{EngineError, EngineEvent, Subject};
use crate::faults::Faults;
use crate::image::fake::FakeImage;
use crate::image::{ImageError, Work};

#[derive(Debug)]
pub struct FakeContainerImages {
    /// Has what was uploaded.
    host: Arc<FakeImage>,
    faults: Faults<ImageError>,
    events: broadcast::Sender<EngineEvent>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    marks: BTreeMap<Uuid, String>,
    /// By their ids.
    there: BTreeMap<String, Kept>,
    used: BTreeSet<String>,
    /// The images whose builds left something, and those at whose build this engine is.
    left: BTreeSet<Uuid>,
    building: BTreeSet<Uuid>,
    refusals: BTreeMap<String, String>,
    away: bool,
    step: Duration,
}

#[derive(Debug)]
struct Kept {
    image: ContainerImage,
    packed: Bytes,
}

impl FakeContainerImages {
    /// The methods that can be made to fail, hang or be slow, by the names of the trait.
    pub const METHODS: &[&str] =
        &["pull", "load", "build", "build_recipe", "observe", "save", "remove", "clear", "list"];

    pub fn new(host: Arc<FakeImage>) -> Arc<Self> {
        Arc::new(Self {
            host,
            faults: Faults::new(Self::METHODS),
            events: broadcast::Sender::new(256),
            state: Mutex::default(),
        })
    }
    /// What goes wrong, by the names of the trait's methods.
    pub fn faults(&self) -> &Faults<ImageError> {
        &self.faults
    }
    /// While false, every call fails with Unavailable.
    pub fn set_available(&self, available: bool) {
        let was_away = std::mem::replace(&mut self.state.lock().away, !available);
        if was_away == available {
            self.tell(Subject::Everything, "");
        }
    }
    /// The registry does not give that reference away, and says so.
    pub fn refuse(&self, reference: &str, why: &str) {
        self.state.lock().refusals.insert(reference.to_owned(), why.to_owned());
    }
    /// How long each reported step takes.
    pub fn step_takes(&self, time: Duration) {
        self.state.lock().step = time;
    }
    /// Whether a container is made of it, as the engine sees it.
    pub fn set_used(&self, id: &str, used: bool) {
        let state = &mut self.state.lock().used;
        if used {
            state.insert(id.to_owned())
        } else {
            state.remove(id)
        };
    }
    /// As `docker rmi -f`.
    pub fn remove_behind_our_back(&self, id: &str) {
        let mut state = self.state.lock();
        state.there.remove(id);
        state.marks.retain(|_, at| at != id);
        drop(state);
        self.tell(Subject::Image, "delete");
    }
    /// As `docker rmi` of the mark, where the image has another name.
    pub fn unmark_behind_our_back(&self, image: Uuid) {
        self.state.lock().marks.remove(&image);
        self.tell(Subject::Image, "untag");
    }
    pub fn is_marked(&self, image: Uuid) -> bool {
        self.state.lock().marks.contains_key(&image)
    }

    /// The images whose builds left something that bears no name.
    pub fn left(&self) -> Vec<Uuid> {
        self.state.lock().left.iter().copied().collect()
    }
    /// As a build of that image leaves it that nobody lived to see the end of.
    pub fn leave(&self, image: Uuid) {
        self.state.lock().left.insert(image);
    }

    fn tell(&self, subject: Subject, action: &str) {
        let (action, id) = (action.to_owned(), String::new());
        let _ = self.events.send(EngineEvent { subject, action, id, attributes: Arc::default() });
    }

    async fn pass(&self, method: &str) -> Result<(), ImageError> {
        self.faults.pass(method).await?;
        if self.state.lock().away {
            let (socket, detail) = ("/nowhere".to_owned(), "it was told to be away".to_owned());
            return Err(EngineError::Unavailable { socket, detail }.into());
        }
        Ok(())
    }

    /// Passes, and takes its steps, until it is cancelled.
    async fn work(&self, method: &str, work: &Work, steps: &[&str]) -> Result<(), ImageError> {
        let doing = async {
            self.pass(method).await?;
            for (n, step) in steps.iter().enumerate() {
                let (step, unit) = ((*step).to_owned(), "steps".to_owned());
                work.progress.send_replace(Progress {
                    step,
                    done: n as u64,
                    total: Some(steps.len() as u64),
                    unit,
                    layers: if method == "pull" { layers(n) } else { Vec::new() },
                });
                let pause = self.state.lock().step;
                tokio::time::sleep(pause).await;
            }
            if method == "pull" {
                work.progress.send_modify(|progress| progress.layers = layers(steps.len()));
            }
            Ok(())
        };
        // Cancel safety: neither arm holds anything.
        tokio::select! {
            biased;
            () = work.cancel.cancelled() => Err(ImageError::Cancelled),
            done = doing => done,
        }
    }

    fn keep(&self, image: Uuid, (id, packed): (String, Bytes), format: &str) -> ContainerImage {
        let made = ContainerImage {
            id: id.clone(),
            registry_digest: None,
            size: ByteSize::mib(8),
            source_format: format.to_owned(),
        };
        let mut state = self.state.lock();
        state.there.insert(id.clone(), Kept { image: made.clone(), packed });
        state.marks.insert(image, id);
        made
    }
}

/// A build under way: what it makes has no name until its end.
struct Building<'a>(&'a FakeContainerImages, Uuid);

impl<'a> Building<'a> {
    fn begin(at: &'a FakeContainerImages, image: Uuid) -> Self {
        let mut state = at.state.lock();
        state.building.insert(image);
        state.left.insert(image);
        drop(state);
        Self(at, image)
    }
}

impl Drop for Building<'_> {
    fn drop(&mut self) {
        self.0.state.lock().building.remove(&self.1);
    }
}

/// Of an image of two layers: none is known of, the one is on its way, both are there.
fn layers(step: usize) -> Vec<LayerProgress> {
    let layer = |id: &str, state, done| LayerProgress { id: id.to_owned(), state, done, total: Some(1000) };
    match step {
        0 => Vec::new(),
        1 => vec![
            layer("0123456789ab", LayerState::Done, 1000),
            LayerProgress { total: None, ..layer("ba9876543210", LayerState::Waiting, 0) },
        ],
        _ => {
            vec![layer("0123456789ab", LayerState::Done, 1000), layer("ba9876543210", LayerState::Done, 1000)]
        }
    }
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

#[async_trait]
impl ContainerImageDriver for FakeContainerImages {
    async fn pull(&self, from: &RegistryRef, work: &Work) -> Result<ContainerImage, ImageError> {
        self.work("pull", work, &["asking the registry", "pulling, 1 of 2 layers here"]).await?;
        if let Some(why) = self.state.lock().refusals.get(from.as_str()) {
            return Err(ImageError::Refused(why.clone()));
        }
        let led = from.digest().map_or_else(|| digest(from.as_str().as_bytes()), str::to_owned);
        let made = self.keep(work.image, packed::of_seed(&led), "registry");
        Ok(ContainerImage { registry_digest: Some(format!("{}@{led}", from.name())), ..made })
    }

    async fn load(&self, source: &UploadSource, work: &Work) -> Result<ContainerImage, ImageError> {
        self.work("load", work, &["sending it to the engine"]).await?;
        let bytes = Bytes::from(self.host.uploaded(source, work.image)?);
        let open = || Ok(Box::new(Cursor::new(bytes.clone())) as Box<dyn Read + Send>);
        match recognise(&open)? {
            Recognised::Image(inside) => {
                let packed = packed::of_archive(&bytes, &inside)?;
                Ok(self.keep(work.image, (inside.id, packed), inside.format))
            }
            Recognised::Root => Ok(self.keep(work.image, packed::of_seed(&digest(&bytes)), "root tree")),
        }
    }

    async fn build(&self, source: &BuildSource, work: &Work) -> Result<ContainerImage, ImageError> {
        let _building = Building::begin(self, work.image);
        let worked = self.work("build", work, &["FROM scratch", "COPY . /"]).await;
        if !matches!(worked, Err(ImageError::Engine(_))) {
            self.state.lock().left.remove(&work.image);
        }
        worked?;
        let bytes = self.host.uploaded(&source.upload(), work.image)?;
        let dockerfile = source.dockerfile.as_deref().unwrap_or("Dockerfile");
        if !bytes.windows(dockerfile.len()).any(|part| part == dockerfile.as_bytes()) {
            return Err(ImageError::Refused(format!("the build failed: there is no {dockerfile}")));
        }
        Ok(self.keep(work.image, packed::of_seed(&digest(&bytes)), "dockerfile"))
    }

    async fn build_recipe(&self, recipe: Recipe, work: &Work) -> Result<ContainerImage, ImageError> {
        self.work("build_recipe", work, &["fetching packages", "packing the tree"]).await?;
        Ok(self.keep(work.image, packed::of_seed(recipe.as_str()), "built"))
    }

    async fn observe(&self, image: Uuid, id: &str) -> Result<Option<ContainerImage>, ImageError> {
        self.pass("observe").await?;
        let mut state = self.state.lock();
        let Some(there) = state.there.get(id).map(|kept| kept.image.clone()) else { return Ok(None) };
        state.marks.insert(image, id.to_owned());
        Ok(Some(ContainerImage { source_format: String::new(), ..there }))
    }

    async fn save(&self, id: &str, wanted: SaveAs<'_>) -> Result<SavedPieces, ImageError> {
        self.pass("save").await?;
        let kept = self.state.lock().there.get(id).map(|kept| kept.packed.clone());
        let Some(kept) = kept else {
            let (call, message) = ("save an image", format!("No such image: {id}"));
            return Err(EngineError::Status { call, status: 404, message }.into());
        };
        let whole = match wanted {
            SaveAs::Docker => kept,
            SaveAs::Oci { name } => packed::in_oci(&kept, name)?,
        };
        Ok(futures_util::stream::once(async move { Ok(whole) }).boxed())
    }

    async fn remove(&self, image: Uuid) -> Result<(), ImageError> {
        self.pass("remove").await?;
        let mut state = self.state.lock();
        if state.building.is_empty() {
            state.left.remove(&image);
        }
        let Some(id) = state.marks.get(&image).cloned() else { return Ok(()) };
        let others = state.marks.iter().any(|(other, at)| *other != image && *at == id);
        if !others && state.used.contains(&id) {
            return Err(ImageError::InUse("a container".to_owned()));
        }
        state.marks.remove(&image);
        if !others {
            state.there.remove(&id);
        }
        Ok(())
    }

    async fn clear(&self, keep: &BTreeSet<Uuid>) -> Result<Vec<Uuid>, ImageError> {
        self.pass("clear").await?;
        let state = &mut *self.state.lock();
        if !state.building.is_empty() {
            return Ok(Vec::new());
        }
        let cleared: Vec<Uuid> = state.left.difference(keep).copied().collect();
        state.left.retain(|image| keep.contains(image));
        Ok(cleared)
    }

    async fn list(&self) -> Result<Vec<Uuid>, ImageError> {
        self.pass("list").await?;
        Ok(self.state.lock().marks.keys().copied().collect())
    }

    fn events(&self) -> broadcast::Receiver<EngineEvent> {
        self.events.subscribe()
    }
}
