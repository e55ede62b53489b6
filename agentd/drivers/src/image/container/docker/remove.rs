//! Takes an image away: our mark, and what a pull of ours that broke off left.

use serde::Deserialize;
use uuid::Uuid;

use super::pull::Journal;
use super::{DockerImages, Inspected};
use crate::engine::wire::query;
use crate::engine::{ACT, ASK, EngineError, Flavor};
use crate::image::ImageError;

const CALL: &str = "remove an image";

/// A container of any kind.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct User {
    #[serde(default)]
    names: Vec<String>,
    #[serde(rename = "ImageID", default)]
    image_id: String,
}

impl DockerImages {
    pub(super) async fn remove_marked(&self, image: Uuid) -> Result<(), ImageError> {
        let mark = self.mark(image).await?;
        if let Some(there) = self.inspect(&mark).await?
            && sole(&there, &mark)
        {
            self.unless_used(&there).await?;
        }
        for name in Journal::of(self, image).names().await {
            if self.inspect(&name).await?.is_some() {
                self.unname(&name).await?;
            }
        }
        self.delete(&mark).await
    }

    /// Takes a name away that a pull brought. What has no other goes with it.
    pub(super) async fn unname(&self, name: &str) -> Result<(), ImageError> {
        // Podman takes a digest that is no name of the image for the image itself, with all of its names.
        if name.contains('@') && self.engine.linked().await?.flavor == Flavor::Podman {
            let images = self.images().await?;
            let mut names = images.iter().flat_map(|image| image.repo_tags.iter().flatten());
            if !names.any(|known| known == name) {
                return Ok(());
            }
        }
        self.delete(name).await
    }

    /// The engine says so as well, though only of the last name.
    async fn unless_used(&self, there: &Inspected) -> Result<(), ImageError> {
        const CALL: &str = "look who uses an image";
        // Podman knows an id without what it begins with.
        let bare = there.id.trim_start_matches("sha256:");
        let filters = serde_json::json!({"ancestor": [there.id, bare]}).to_string();
        let path = query("/containers/json", &[("all", "1"), ("filters", &filters)]);
        let asked = async { self.wire().await?.json::<Vec<User>>(CALL, &path).await };
        let users = self.within(CALL, ASK, asked).await?;
        let names: Vec<&str> = users
            .iter()
            .filter(|user| user.image_id == there.id)
            .filter_map(|user| user.names.first().map(|name| name.trim_start_matches('/')))
            .collect();
        if names.is_empty() { Ok(()) } else { Err(ImageError::InUse(names.join(", "))) }
    }

    async fn delete(&self, name: &str) -> Result<(), ImageError> {
        let path = format!("/images/{name}");
        let asked = async { self.wire().await?.delete(CALL, &path).await };
        match self.within(CALL, ACT, asked).await {
            Ok(()) => Ok(()),
            Err(error) if error.is_missing() => Ok(()),
            Err(EngineError::Status { status: 409, message, .. }) => Err(ImageError::InUse(message)),
            Err(error) => Err(error.into()),
        }
    }
}

/// Whether it has no name but our mark. Some engines give a digest to each name.
fn sole(there: &Inspected, mark: &str) -> bool {
    let repository = mark.rsplit_once(':').map(|(repository, _)| repository);
    let tags = there.repo_tags.as_deref().unwrap_or_default();
    let digests = there.repo_digests.as_deref().unwrap_or_default();
    tags.iter().all(|tag| tag == mark) && digests.iter().all(|digest| digest.split('@').next() == repository)
}
