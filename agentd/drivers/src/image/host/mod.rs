//! The image driver of a real host: qemu-img for what is sent or fetched, the distribution's packages for what is built.
//!
//! Every way ends in [`store::publish`]: a folder with a disk goes to its place under its digest, by one rename. What
//! was not finished is below `incoming/<image id>/`, where the next try finds it; scratch space there is emptied first.

pub(crate) mod archived;
mod convert;
mod fetch;
mod incoming;
mod meter;
pub(crate) mod run;
pub(crate) mod store;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use agentd_api::image::{Recipe, UploadSource, UrlSource};
use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::io::AsyncRead;
use uuid::Uuid;

use self::run::{blocking, broken, files, report};
use super::recipe::{self, Kitchen, Tree};
use super::{ImageContent, ImageDriver, ImageError, Work};
use crate::Instance;

#[derive(Debug, Clone, Default)]
pub struct ImageOptions {
    /// Where packages of Debian are fetched from in place of what the host's own sources say.
    pub mirror: Option<String>,
    /// agentd's program for guests, which images that are built carry. They are built without it where it is not there.
    pub guest_program: Option<PathBuf>,
}

#[derive(Debug)]
pub struct HostImage {
    instance: Instance,
    options: ImageOptions,
    receiving: Arc<Mutex<BTreeSet<Uuid>>>,
}

impl HostImage {
    pub fn new(instance: Instance, options: ImageOptions) -> Arc<Self> {
        if let Err(error) = store::sweep(&instance.images_dir()) {
            tracing::warn!(%error, "what an earlier removal of an image left cannot be removed");
        }
        Arc::new(Self { instance, options, receiving: Arc::default() })
    }

    fn incoming(&self, image: Uuid) -> PathBuf {
        self.instance.incoming_dir(image)
    }

    /// Empty scratch space, and what recipes need beside it.
    async fn kitchen<'a>(&self, work: &'a Work) -> Result<Kitchen<'a>, ImageError> {
        let scratch = self.incoming(work.image).join("work");
        let made = scratch.clone();
        files("making room", move || store::fresh_folder(made)).await?;
        let guest_program = match &self.options.guest_program {
            None => None,
            Some(path) => {
                let read = tokio::fs::read(path).await;
                Some(read.map_err(|e| broken("reading the program for guests", &e))?)
            }
        };
        Ok(Kitchen { scratch, mirror: self.options.mirror.clone(), guest_program, work })
    }

    /// A recipe's tree of files for containers, as a tar archive in scratch space.
    pub(in crate::image) async fn tree(&self, recipe: Recipe, work: &Work) -> Result<Tree, ImageError> {
        recipe::tree(recipe, &self.kitchen(work).await?).await
    }

    /// A file for what only passes through, which nobody has to remove.
    pub(in crate::image) async fn nameless(&self) -> Result<std::fs::File, ImageError> {
        let folder = self.instance.state_dir().join("incoming");
        files("making room", move || incoming::nameless(&folder)).await
    }

    /// Stores a folder of which all is there.
    async fn publish(&self, folder: PathBuf, format: &str, work: &Work) -> Result<ImageContent, ImageError> {
        let (images, format, work) = (self.instance.images_dir(), format.to_owned(), work.clone());
        blocking("storing the image", move || {
            let total = total_length(&folder);
            let mut done = 0;
            let mut told = |n| {
                done += n;
                report(&work, "storing", done, Some(total), "bytes");
            };
            store::publish(&images, &folder, &format, &work.cancel, &mut told)
        })
        .await
    }

    /// An upload that is whole, of the digest that was announced.
    pub(crate) async fn uploaded(&self, source: &UploadSource, work: &Work) -> Result<PathBuf, ImageError> {
        let file = self.incoming(work.image).join(incoming::UPLOAD);
        let received = tokio::fs::metadata(&file).await.map_or(0, |m| m.len());
        if received != source.size {
            return Err(ImageError::Incomplete { received, expected: source.size });
        }
        if let Some(wanted) = &source.sha256 {
            let (path, told) = (file.clone(), work.clone());
            let (_, seen) = blocking("checking the digest", move || {
                let mut done = 0;
                store::digest_file(&path, &told.cancel, &mut |n| {
                    done += n;
                    report(&told, "checking the digest", done, Some(received), "bytes");
                })
            })
            .await?;
            if seen != *wanted {
                return Err(ImageError::Refused(format!("the file has the SHA-256 {seen}, not {wanted}")));
            }
        }
        Ok(file)
    }

    async fn convert(&self, file: &Path, work: &Work) -> Result<ImageContent, ImageError> {
        let scratch = self.incoming(work.image).join("work");
        let (folder, format) = convert::convert(file, &scratch, work).await?;
        let content = self.publish(folder, format.as_str(), work).await?;
        files("tidying up", move || store::gone(std::fs::remove_dir_all(scratch))).await?;
        Ok(content)
    }
}

fn total_length(folder: &Path) -> u64 {
    let names = store::names_in(folder).unwrap_or_default();
    names.iter().filter_map(|name| folder.join(name).metadata().ok()).map(|m| m.len()).sum()
}

/// One upload of an image at a time: two would write one file.
struct Receiving<'a>(&'a Mutex<BTreeSet<Uuid>>, Uuid);

impl Drop for Receiving<'_> {
    fn drop(&mut self) {
        self.0.lock().remove(&self.1);
    }
}

#[async_trait]
impl ImageDriver for HostImage {
    async fn missing(&self) -> Vec<(String, String)> {
        let keyring = Path::new(recipe::KEYRING).is_file();
        let keyring = (!keyring).then(|| (recipe::KEYRING.to_owned(), "debian-archive-keyring".to_owned()));
        recipe::NEEDS
            .iter()
            .chain(&[("qemu-img", "qemu-utils"), ("curl", "curl"), ("setpriv", "util-linux")])
            .filter(|(program, _)| crate::exec::find(program).is_err())
            .map(|(program, package)| ((*program).to_owned(), (*package).to_owned()))
            .chain(keyring)
            .collect()
    }

    async fn build(&self, recipe: Recipe, work: &Work) -> Result<ImageContent, ImageError> {
        let images = self.instance.images_dir();
        files("making room", move || store::ensure_folder(&images)).await?;
        let kitchen = self.kitchen(work).await?;
        let folder = recipe::build(recipe, &kitchen).await?;
        let content = self.publish(folder, "built", work).await?;
        let scratch = kitchen.scratch;
        files("tidying up", move || store::gone(std::fs::remove_dir_all(scratch))).await?;
        Ok(content)
    }

    async fn pull(&self, source: &UrlSource, work: &Work) -> Result<ImageContent, ImageError> {
        let file = fetch::fetch(&self.incoming(work.image), source, work).await?;
        self.convert(&file, work).await
    }

    async fn receive(
        &self,
        image: Uuid,
        source: &UploadSource,
        from: &mut (dyn AsyncRead + Send + Unpin),
    ) -> Result<u64, ImageError> {
        if !self.receiving.lock().insert(image) {
            let detail = "another upload of this image is under way".to_owned();
            return Err(ImageError::Failed { step: "receiving the upload".to_owned(), detail });
        }
        let _one = Receiving(&self.receiving, image);
        incoming::receive(&self.incoming(image), source, from).await
    }

    async fn received(&self, image: Uuid) -> Result<u64, ImageError> {
        let (folder, receiving) = (self.incoming(image), self.receiving.clone());
        files("looking at the upload", move || {
            let receiving = receiving.lock();
            if !receiving.contains(&image) {
                // Its sender is gone; the next one begins anew.
                incoming::discard_part(&folder)?;
            }
            incoming::received(&folder)
        })
        .await
    }

    async fn import(&self, source: &UploadSource, work: &Work) -> Result<ImageContent, ImageError> {
        let file = self.uploaded(source, work).await?;
        self.convert(&file, work).await
    }

    async fn observe(&self, digest: &str) -> Result<Option<ImageContent>, ImageError> {
        let Some(hex) = store::digits(digest).map(str::to_owned) else { return Ok(None) };
        let images = self.instance.images_dir();
        files("looking at the image", move || store::observe(&images, &hex)).await
    }

    async fn list(&self) -> Result<Vec<String>, ImageError> {
        let images = self.instance.images_dir();
        files("listing the images", move || store::list(&images)).await
    }

    async fn remove(&self, digest: &str) -> Result<(), ImageError> {
        let Some(hex) = store::digits(digest).map(str::to_owned) else { return Ok(()) };
        let images = self.instance.images_dir();
        files("removing the image", move || store::remove(&images, &hex)).await
    }

    async fn discard(&self, image: Uuid) -> Result<(), ImageError> {
        let folder = self.incoming(image);
        blocking("discarding what came", move || {
            incoming::discard(&folder).map_err(|error| broken("discarding what came", &error))
        })
        .await
    }

    async fn list_incoming(&self) -> Result<Vec<Uuid>, ImageError> {
        let folder = self.instance.state_dir().join("incoming");
        files("listing what came", move || incoming::list(&folder)).await
    }
}

#[cfg(test)]
mod tests;
