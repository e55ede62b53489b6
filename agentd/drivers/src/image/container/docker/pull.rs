//! From a registry: the digest is asked for first, and that is what the engine pulls. So the engine gets no name of the
//! registry's, and none that somebody has there is moved.

use std::path::PathBuf;

use agentd_api::image::{RegistryRef, is_digest};
use serde::Deserialize;
use uuid::Uuid;

use super::DockerImages;
use super::layers::Layers;
use super::messages::hear;
use crate::engine::wire::query;
use crate::engine::{ACT, EngineError, Flavor};
use crate::image::container::ContainerImage;
use crate::image::host::run::{files, report};
use crate::image::host::store::put;
use crate::image::{ImageError, Work};

const CALL: &str = "pull an image";
const AUTH: &str = "X-Registry-Auth";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Distribution {
    descriptor: Descriptor,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: String,
}

/// What is being pulled, on disk among what comes for the image: a pull that this process does not live to see the end of
/// leaves a name in the engine that is ours to remove.
pub(super) struct Journal(PathBuf);

impl Journal {
    pub(super) fn of(images: &DockerImages, image: Uuid) -> Self {
        Self(images.instance.incoming_dir(image).join("engine-pull"))
    }

    pub(super) async fn names(&self) -> Vec<String> {
        let text = tokio::fs::read_to_string(&self.0).await.unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    async fn has(&self, name: &str) -> bool {
        self.names().await.iter().any(|known| known == name)
    }

    async fn note(&self, name: &str) -> Result<(), ImageError> {
        let mut names = self.names().await;
        if !names.iter().any(|known| known == name) {
            names.push(name.to_owned());
        }
        let (path, text) = (self.0.clone(), names.join("\n"));
        files("noting what is pulled", move || put(&path, text.as_bytes())).await
    }
}

impl DockerImages {
    pub(super) async fn pull_from(
        &self,
        from: &RegistryRef,
        work: &Work,
    ) -> Result<ContainerImage, ImageError> {
        report(work, "asking the registry", 0, None, "steps");
        let auth = self.registries.one(from.host())?;
        let headers: Vec<(&str, String)> = auth.into_iter().map(|value| (AUTH, value)).collect();
        let wanted = match self.digest(from, &headers).await? {
            Some(digest) => format!("{}@{digest}", from.name()),
            None => format!("{}:{}", from.name(), from.tag()),
        };
        let journal = Journal::of(self, work.image);
        // What is there, and not by an earlier try of ours, is somebody's.
        let ours = self.inspect(&wanted).await?.is_none() || journal.has(&wanted).await;
        if ours {
            journal.note(&wanted).await?;
            self.fetch(from, &wanted, &headers, work).await?;
        }
        self.put_mark(work.image, &wanted).await?;
        let made = self.made(work.image, "registry").await?;
        let registry_digest = if wanted.contains('@') {
            Some(wanted.clone())
        } else {
            self.digest_of(&from.name(), &made.id).await?
        };
        if ours {
            // The mark holds it now.
            self.unname(&wanted).await?;
        }
        Ok(ContainerImage { registry_digest, ..made })
    }

    /// What the reference leads to. None where the engine cannot ask, as Podman.
    async fn digest(
        &self,
        from: &RegistryRef,
        headers: &[(&'static str, String)],
    ) -> Result<Option<String>, ImageError> {
        const CALL: &str = "ask a registry for an image";
        if let Some(digest) = from.digest() {
            return Ok(Some(digest.to_owned()));
        }
        if self.engine.linked().await?.flavor == Flavor::Podman {
            return Ok(None);
        }
        let path = format!("/distribution/{}:{}/json", from.name(), from.tag());
        let asked = async { self.wire().await?.json_with::<Distribution>(CALL, &path, headers).await };
        match self.within(CALL, ACT, asked).await {
            Ok(found) if is_digest(&found.descriptor.digest) => Ok(Some(found.descriptor.digest)),
            Ok(_) => Err(self.refused(from, "it answers with a digest that is none")),
            Err(EngineError::Status { message, .. }) => Err(self.refused(from, &message)),
            Err(error) => Err(error.into()),
        }
    }

    async fn fetch(
        &self,
        from: &RegistryRef,
        wanted: &str,
        headers: &[(&'static str, String)],
        work: &Work,
    ) -> Result<(), ImageError> {
        let path = query("/images/create", &[("fromImage", wanted)]);
        let content = match self.wire().await?.exchange(CALL, &path, headers, None).await {
            Err(EngineError::Status { message, .. }) => return Err(self.refused(from, &message)),
            other => other?,
        };
        let mut layers = Layers::default();
        let heard = hear(CALL, content, |message| {
            if layers.hear(message) {
                work.progress.send_replace(layers.progress());
            }
        });
        heard.await?.map_err(|why| self.refused(from, &why))
    }

    async fn digest_of(&self, name: &str, id: &str) -> Result<Option<String>, EngineError> {
        let digests = self.inspect(id).await?.and_then(|found| found.repo_digests).unwrap_or_default();
        Ok(digests.into_iter().find(|digest| digest.split('@').next() == Some(name)))
    }

    /// What a registry, or the engine over it, said no with: for good, or for now.
    fn refused(&self, from: &RegistryRef, why: &str) -> ImageError {
        let (host, lower) = (from.host(), why.to_lowercase());
        let says = |words: &[&str]| words.iter().any(|word| lower.contains(word));
        if says(&["no space left on device", "disk quota exceeded"]) {
            return ImageError::Capacity(why.to_owned());
        }
        if says(&["unauthorized", "authentication required", "denied", "no basic auth"]) {
            let known = if self.registries.knows(host) {
                "the credentials that the configuration names for it are not enough"
            } else {
                "the configuration names no credentials for it ([containers.registries])"
            };
            return ImageError::Refused(format!(
                "the registry {host} does not give {from} to us: {why}; {known}"
            ));
        }
        if says(&[
            "manifest unknown",
            "not found",
            "does not exist",
            "name unknown",
            "no matching manifest",
            "invalid reference",
        ]) {
            return ImageError::Refused(format!("the registry {host} has no {from} for this host: {why}"));
        }
        ImageError::Fetch { url: from.to_string(), detail: why.to_owned() }
    }
}
