//! What was uploaded, and trees of files: streamed to the engine as they are read, a few pieces at a time in memory.

use std::path::{Path, PathBuf};

use agentd_api::image::{Recipe, UploadSource};
use futures_util::StreamExt;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;

use super::DockerImages;
use super::messages::hear;
use super::pieces::pieces;
use crate::engine::wire::{WireBody, query};
use crate::engine::{EngineError, Flavor};
use crate::image::container::ContainerImage;
use crate::image::container::archive::{Inside, Recognised, open_file, recognise, rewrite};
use crate::image::host::run::{blocking, broken, report};
use crate::image::{ImageError, Work};

const PIECE: usize = 256 << 10;

impl DockerImages {
    pub(super) async fn load_upload(
        &self,
        source: &UploadSource,
        work: &Work,
    ) -> Result<ContainerImage, ImageError> {
        let file = self.host.uploaded(source, work).await?;
        report(work, "looking at the archive", 0, None, "steps");
        let path = file.clone();
        let seen = blocking("looking at the archive", move || recognise(&|| open_file(&path))).await?;
        match seen {
            Recognised::Image(inside) => self.load_image(file, source.size, inside, work).await,
            Recognised::Root => self.import_tree(&file, &[], "root tree", work).await,
        }
    }

    async fn load_image(
        &self,
        file: PathBuf,
        size: u64,
        inside: Inside,
        work: &Work,
    ) -> Result<ContainerImage, ImageError> {
        const CALL: &str = "load an image";
        let (id, format) = (inside.id.clone(), inside.format);
        let body = rewritten(file, inside, self.mark(work.image).await?, (work.clone(), size));
        let path = query("/images/load", &[("quiet", "1")]);
        self.sent(CALL, self.wire().await?.exchange(CALL, &path, &[], Some(body)).await, work).await?;
        let made = self.made(work.image, format).await?;
        if made.id == id {
            return Ok(made);
        }
        Err(ImageError::Failed {
            step: "loading the image".to_owned(),
            detail: format!("the engine calls it {}, and the archive {id}", made.id),
        })
    }

    pub(super) async fn import_recipe(
        &self,
        recipe: Recipe,
        work: &Work,
    ) -> Result<ContainerImage, ImageError> {
        let tree = self.host.tree(recipe, work).await?;
        let changes = format!("CMD {}", tree.command);
        // Scratch space goes when what came for the image is discarded.
        self.import_tree(&tree.archive, &[&changes], "built", work).await
    }

    async fn import_tree(
        &self,
        file: &Path,
        changes: &[&str],
        format: &str,
        work: &Work,
    ) -> Result<ContainerImage, ImageError> {
        const CALL: &str = "take a tree of files for an image";
        let linked = self.engine.linked().await?;
        let (mark, repo, tag) =
            (self.mark(work.image).await?, self.repository().await?, work.image.to_string());
        let (door, mut pairs) = match linked.flavor {
            Flavor::Docker => {
                ("/images/create", vec![("fromSrc", "-"), ("repo", repo.as_str()), ("tag", tag.as_str())])
            }
            // By Docker's way in Podman 4.3 takes no tag, and keeps the file that it was sent.
            Flavor::Podman => ("/libpod/images/import", vec![("reference", mark.as_str())]),
        };
        pairs.extend(changes.iter().map(|change| ("changes", *change)));
        let body = streamed(file, work).await?;
        let path = query(door, &pairs);
        self.sent(CALL, linked.wire.exchange(CALL, &path, &[], Some(body)).await, work).await?;
        self.made(work.image, format).await
    }

    /// Hears out what the engine says of something that was sent to it.
    async fn sent(
        &self,
        call: &'static str,
        answer: Result<crate::engine::wire::Content, EngineError>,
        work: &Work,
    ) -> Result<(), ImageError> {
        let content = match answer {
            Err(EngineError::Status { message, .. }) => return Err(refused(&message)),
            other => other?,
        };
        let heard = hear(call, content, |message| {
            if !message.status.is_empty() {
                tracing::debug!(image = %work.image, "the engine: {}", message.status);
            }
        });
        heard.await?.map_err(|why| refused(&why))
    }
}

/// What the engine says of an archive that it cannot take in stays so.
pub(super) fn refused(why: &str) -> ImageError {
    if ["no space left on device", "disk quota exceeded"].iter().any(|text| why.to_lowercase().contains(text))
    {
        return ImageError::Capacity(why.to_owned());
    }
    ImageError::Refused(format!("the container engine refuses it: {why}"))
}

/// A file as it is, and how far it is.
pub(super) async fn streamed(file: &Path, work: &Work) -> Result<WireBody, ImageError> {
    const STEP: &str = "sending it to the engine";
    let opened = tokio::fs::File::open(file).await.map_err(|e| broken(STEP, &e))?;
    let total = opened.metadata().await.map_err(|e| broken(STEP, &e))?.len();
    let (work, mut done) = (work.clone(), 0);
    let pieces = tokio_util::io::ReaderStream::with_capacity(opened, PIECE).map(move |piece| {
        if let Ok(bytes) = &piece {
            done += bytes.len() as u64;
            report(&work, STEP, done, Some(total), "bytes");
        }
        piece.map(Frame::data)
    });
    Ok(BodyExt::boxed(StreamBody::new(pieces)))
}

/// An archive with our name in place of its own.
fn rewritten(file: PathBuf, inside: Inside, mark: String, (work, size): (Work, u64)) -> WireBody {
    let pieces = pieces(move |out| {
        let mut done = 0;
        rewrite(&|| open_file(&file), &inside, &[mark.as_str()], &mut |piece: Vec<u8>| {
            done += piece.len() as u64;
            report(&work, "sending it to the engine", done.min(size), Some(size), "bytes");
            out(piece)
        })
    });
    BodyExt::boxed(StreamBody::new(pieces.map(|piece| piece.map(Frame::data))))
}
