//! Takes away what builds left: images without a name, and of a build that was cut off also the containers of its steps.
//!
//! An image goes if it has no name, came after the build began, is none that another stands on, and was told of by the
//! engine while we listened, be it to the try after the one that made it; or, where we may have missed a word, stands on
//! such a one, was made by a container that was told of, by the very sort of step that was under way, on what that stood
//! on, or of the same files on the same image. A container goes if it bears the build's seal. Nothing goes while a build
//! of ours is under way: it may stand on what another one made.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use agentd_api::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::DockerImages;
use super::journal::{Journal, Noted};
use super::plan::{Listed, Maker, plan_images, seconds, under_way};
use crate::Instance;
use crate::engine::wire::query;
use crate::engine::{ACT, ASK, EngineError, Flavor};
use crate::image::ImageError;

const CALL: &str = "remove what a build left";
/// How long a step that copies files, and may go on after its build was cut off, is waited for at once.
const COPY_SOON: Duration = Duration::from_secs(12);
/// How often it is looked at what is still in use, and after how many looks the engine does not end it any more.
const TRIES: usize = 24;
const GRACE: usize = 6;
const PAUSE: Duration = Duration::from_millis(500);

/// A limit that no program meets: how long one of a real-time class may run at once, in microseconds. The containers of a build can
/// bear no label; this one number of theirs is ours to choose, and tells whose they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Seal {
    name: String,
    soft: i64,
    hard: i64,
}

pub(super) fn seal(instance: &Instance, image: Uuid) -> Seal {
    let hash = Sha256::digest(format!("{}/{image}", instance.tag()));
    let number = hash.iter().take(8).fold(0u64, |number, byte| number << 8 | u64::from(*byte));
    // More than 100,000 years.
    let number = i64::try_from(number >> 2 | 1 << 62).unwrap_or(i64::MAX);
    Seal { name: "rttime".to_owned(), soft: number, hard: number }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Made {
    #[serde(default)]
    container: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Layer {
    #[serde(default)]
    created_by: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Step {
    id: String,
    #[serde(default)]
    created: i64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct StepLook {
    host_config: StepHost,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct StepHost {
    #[serde(default)]
    ulimits: Option<Vec<Seal>>,
}

impl DockerImages {
    /// What builds of these images left, unless a build is under way. Those that were cleared.
    pub(super) async fn clear_builds(&self, wanted: impl Fn(Uuid) -> bool) -> Result<Vec<Uuid>, ImageError> {
        let Ok(_none_begins_now) = self.builds.try_write() else { return Ok(Vec::new()) };
        if self.engine.linked().await?.flavor == Flavor::Podman {
            self.clear_built().await?;
        }
        let mut cleared = Vec::new();
        for image in Journal::list(&self.instance).await?.into_iter().filter(|image| wanted(*image)) {
            let journal = Journal::of(&self.instance, image);
            if let Some(noted) = journal.read().await?
                && !self.clear(image, &noted).await?
            {
                continue;
            }
            journal.remove().await?;
            cleared.push(image);
        }
        Ok(cleared)
    }

    /// False where the engine may still be at it, or has something in use yet.
    async fn clear(&self, image: Uuid, noted: &Noted) -> Result<bool, EngineError> {
        if !noted.cut && noted.images.is_empty() {
            return Ok(true);
        }
        if self.engine.linked().await?.flavor == Flavor::Podman {
            // What is in use is so by a container that Podman's own end left, and whoever has that may remove it.
            let why = self.clear_images(&self.images().await?, &BTreeMap::new(), noted).await?;
            return Ok(why.is_none());
        }
        if noted.cut {
            self.settled(&seal(&self.instance, image), noted.since).await?;
        }
        for _ in 0..TRIES {
            let there = self.images().await?;
            let makers = if noted.cut { self.makers(&there, noted).await? } else { BTreeMap::new() };
            if let Some(copy) = under_way(&there, &makers, noted) {
                if copy.since.age() > COPY_SOON {
                    return Ok(false);
                }
            } else {
                let Some(why) = self.clear_images(&there, &makers, noted).await? else { return Ok(true) };
                tracing::debug!(%image, "what a build left is in use: {why}");
            }
            tokio::time::sleep(PAUSE).await;
        }
        // Somebody has made a container of it.
        Ok(true)
    }

    /// Waits for the end of a build that nobody listens to: the engine ends the step at hand, and may make an image of it yet.
    /// What is left of the steps after that is removed.
    async fn settled(&self, seal: &Seal, since: Timestamp) -> Result<(), EngineError> {
        let mut last = None;
        for n in 0..TRIES {
            let steps = self.steps(seal, since).await?;
            let there = self.nameless(since).await?;
            if steps.is_empty() && last.as_ref() == Some(&there) {
                return Ok(());
            }
            if n >= GRACE {
                self.remove_steps(&steps).await?;
            }
            last = steps.is_empty().then_some(there);
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    pub(super) async fn images(&self) -> Result<Vec<Listed>, EngineError> {
        let asked = async { self.wire().await?.json(CALL, "/images/json?all=1").await };
        self.within(CALL, ASK, asked).await
    }

    async fn nameless(&self, since: Timestamp) -> Result<BTreeSet<String>, EngineError> {
        let there = self.images().await?.into_iter().filter(|one| one.may_be_of(since));
        Ok(there.map(|one| one.id).collect())
    }

    /// What those were made by that may be of a build that was cut off, and those that stand where one copied.
    async fn makers(&self, there: &[Listed], noted: &Noted) -> Result<BTreeMap<String, Maker>, EngineError> {
        let mut makers = BTreeMap::new();
        let beside =
            |one: &&Listed| noted.copies.iter().any(|copy| !copy.on.is_empty() && one.stands_on(&copy.on));
        for one in there.iter().filter(|one| one.may_be_of(noted.since) || beside(one)) {
            let path = format!("/images/{}", one.id);
            let asked = async {
                let wire = self.wire().await?;
                let made: Made = wire.json(CALL, &format!("{path}/json")).await?;
                let layers: Vec<Layer> = wire.json(CALL, &format!("{path}/history")).await?;
                let step = layers.into_iter().next().map(|layer| layer.created_by);
                Ok(Maker { container: made.container, step: step.unwrap_or_default() })
            };
            match self.within(CALL, ASK, asked).await {
                Ok(maker) => drop(makers.insert(one.id.clone(), maker)),
                Err(error) if error.is_missing() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(makers)
    }

    /// Why something stays, where the engine refuses to remove it.
    async fn clear_images(
        &self,
        there: &[Listed],
        makers: &BTreeMap<String, Maker>,
        noted: &Noted,
    ) -> Result<Option<String>, EngineError> {
        let mut in_the_way = None;
        for id in plan_images(there, makers, noted) {
            let path = format!("/images/{id}?noprune=1");
            let asked = async { self.wire().await?.delete(CALL, &path).await };
            in_the_way = gone(self.within(CALL, ACT, asked).await)?.or(in_the_way);
        }
        Ok(in_the_way)
    }

    /// The containers of a build's steps.
    async fn steps(&self, seal: &Seal, since: Timestamp) -> Result<Vec<String>, EngineError> {
        let asked = async { self.wire().await?.json::<Vec<Step>>(CALL, "/containers/json?all=1").await };
        let there = self.within(CALL, ASK, asked).await?;
        let mut ours = Vec::new();
        for step in there.into_iter().filter(|step| step.created >= seconds(since)) {
            let path = format!("/containers/{}/json", step.id);
            let asked = async { self.wire().await?.json::<StepLook>(CALL, &path).await };
            match self.within(CALL, ASK, asked).await {
                Ok(look) if look.host_config.ulimits.iter().flatten().any(|one| one == seal) => {
                    ours.push(step.id)
                }
                Ok(_) => {}
                Err(error) if error.is_missing() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(ours)
    }

    /// An engine that was killed has left them.
    async fn remove_steps(&self, steps: &[String]) -> Result<(), EngineError> {
        for id in steps {
            let path = query(&format!("/containers/{id}"), &[("force", "1"), ("v", "1")]);
            let asked = async { self.wire().await?.delete(CALL, &path).await };
            gone(self.within(CALL, ACT, asked).await)?;
        }
        Ok(())
    }
}

/// Why it stays, where the engine refuses.
fn gone(removed: Result<(), EngineError>) -> Result<Option<String>, EngineError> {
    match removed {
        Ok(()) => Ok(None),
        Err(EngineError::Status { status: 404, .. }) => Ok(None),
        Err(EngineError::Status { status: 409, message, .. }) => Ok(Some(message)),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_seal_is_one_builds_and_nobody_meets_it() {
        let (one, two) =
            (Instance::new(Path::new("/var/lib/agentd")), Instance::new(Path::new("/var/lib/agentd-2")));
        let id = Uuid::now_v7();
        assert_eq!(seal(&one, id), seal(&one, id));
        assert_ne!(seal(&one, id), seal(&two, id));
        assert_ne!(seal(&one, id), seal(&one, Uuid::now_v7()));
        assert!(seal(&one, id).hard >= 1 << 62);
        let text = serde_json::to_string(&seal(&one, id)).expect("a text");
        assert!(text.starts_with("{\"Name\":\"rttime\",\"Soft\":"), "{text}");
    }
}
