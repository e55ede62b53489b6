//! The image driver of a real host.

use std::sync::Arc;

use agentd_api::image::{Recipe, UploadSource, UrlSource};
use async_trait::async_trait;
use tokio::io::AsyncRead;
use uuid::Uuid;

use super::{ImageContent, ImageDriver, ImageError, Work};
use crate::Instance;

#[derive(Debug, Clone, Default)]
pub struct ImageOptions {
    /// Where packages of Debian are fetched from where the host's own sources are not Debian's.
    pub mirror: Option<String>,
}

#[derive(Debug)]
pub struct HostImage {
    #[expect(dead_code, reason = "the methods that use it follow")]
    instance: Instance,
    #[expect(dead_code, reason = "the methods that use it follow")]
    options: ImageOptions,
}

impl HostImage {
    pub fn new(instance: Instance, options: ImageOptions) -> Arc<Self> {
        Arc::new(Self { instance, options })
    }
}

fn missing<T>(what: &str) -> Result<T, ImageError> {
    Err(ImageError::Failed { step: what.to_owned(), detail: "this driver does not do it yet".to_owned() })
}

#[async_trait]
impl ImageDriver for HostImage {
    async fn missing(&self) -> Vec<(String, String)> {
        Vec::new()
    }
    async fn build(&self, _: Recipe, _: &Work) -> Result<ImageContent, ImageError> {
        missing("build")
    }
    async fn pull(&self, _: &UrlSource, _: &Work) -> Result<ImageContent, ImageError> {
        missing("pull")
    }
    async fn receive(
        &self,
        _: Uuid,
        _: &UploadSource,
        _: &mut (dyn AsyncRead + Send + Unpin),
    ) -> Result<u64, ImageError> {
        missing("receive")
    }
    async fn received(&self, _: Uuid) -> Result<u64, ImageError> {
        missing("received")
    }
    async fn import(&self, _: &UploadSource, _: &Work) -> Result<ImageContent, ImageError> {
        missing("import")
    }
    async fn observe(&self, _: &str) -> Result<Option<ImageContent>, ImageError> {
        missing("observe")
    }
    async fn list(&self) -> Result<Vec<String>, ImageError> {
        missing("list")
    }
    async fn remove(&self, _: &str) -> Result<(), ImageError> {
        missing("remove")
    }
    async fn discard(&self, _: Uuid) -> Result<(), ImageError> {
        missing("discard")
    }
    async fn list_incoming(&self) -> Result<Vec<Uuid>, ImageError> {
        missing("list_incoming")
    }
}
