//! What a build has made so far, on disk: `builds/<image id>` below the state folder, from before its first step until what
//! it left is taken away. One that is there when nothing is under way is of a build that was cut off.

use std::path::PathBuf;

use agentd_api::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Instance;
use crate::image::ImageError;
use crate::image::host::run::files;
use crate::image::host::store::{gone, names_in, put};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Noted {
    /// When the first try began.
    pub(super) since: Timestamp,
    /// A try was cut off: the engine may have made more than is noted.
    pub(super) cut: bool,
    /// As the engine tells them, shortened; the last is last.
    pub(super) images: Vec<String>,
    pub(super) containers: Vec<String>,
    /// Steps whose end was not told.
    #[serde(default)]
    pub(super) copies: Vec<Copying>,
}

/// What steps begin with that copy files.
pub(super) const COPIES: [&str; 2] = ["COPY", "ADD"];

/// A step that copies files: it has no container, and the engine goes through with it although nobody listens any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Copying {
    pub(super) since: Timestamp,
    /// The image that it stands on, shortened.
    pub(super) on: String,
    /// One of [`COPIES`].
    pub(super) word: String,
}

pub(super) struct Journal(PathBuf);

impl Journal {
    pub(super) fn of(instance: &Instance, image: Uuid) -> Self {
        Self(instance.builds_dir().join(image.to_string()))
    }

    /// The images whose builds are noted.
    pub(super) async fn list(instance: &Instance) -> Result<Vec<Uuid>, ImageError> {
        let folder = instance.builds_dir();
        let names = files("listing what builds made", move || names_in(&folder)).await?;
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    pub(super) async fn read(&self) -> Result<Option<Noted>, ImageError> {
        let path = self.0.clone();
        let read = files("reading what a build made", move || match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            read => read.map(Some),
        });
        // It is written whole; what cannot be read was written by somebody else.
        Ok(read.await?.and_then(|text| serde_json::from_slice(&text).ok()))
    }

    pub(super) async fn write(&self, noted: &Noted) -> Result<(), ImageError> {
        let (path, text) = (self.0.clone(), serde_json::json!(noted).to_string());
        files("noting what a build makes", move || put(&path, text.as_bytes())).await
    }

    pub(super) async fn remove(&self) -> Result<(), ImageError> {
        let path = self.0.clone();
        files("forgetting what a build made", move || gone(std::fs::remove_file(path))).await
    }
}
