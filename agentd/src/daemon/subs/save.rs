//! `images/{name}/save`: a container's image as an archive, handed on piece by piece.

use std::sync::Arc;

use agentd_api::image::{Image, ImageFormat, SaveFormat};
use agentd_api::{ErrorCode, Object, Problem};
use agentd_drivers::Classed;
use agentd_drivers::fault::chain;
use agentd_drivers::image::container::{ContainerImageDriver, SaveAs};
use async_trait::async_trait;

use super::Opener;
use crate::http::{SubCall, SubReply};

pub struct Save {
    pub images: Arc<dyn ContainerImageDriver>,
}

#[async_trait]
impl Opener for Save {
    async fn open(&self, call: SubCall) -> Result<SubReply, Problem> {
        let image: Object<Image> =
            call.object.object().map_err(|e| Problem::new(ErrorCode::Internal, e.to_string()))?;
        let key = image.meta.key();
        if image.spec.format() == ImageFormat::Disk {
            let detail = format!("{key} is a disk; only images for containers are saved");
            return Err(Problem::new(ErrorCode::Unsupported, detail)
                .hint("`agentctl vm export` packs a VM with its disks"));
        }
        let Some(id) = image.status.digest else {
            let why = image.status.common.reason.map(|why| format!(": {why}")).unwrap_or_default();
            return Err(Problem::new(ErrorCode::Conflict, format!("{key} is not ready{why}")));
        };
        let wanted = match call.text("format").and_then(SaveFormat::by_name).unwrap_or_default() {
            SaveFormat::Docker => SaveAs::Docker,
            SaveFormat::Oci => SaveAs::Oci { name: image.meta.name.as_str() },
        };
        let saved = self.images.save(&id, wanted).await.map_err(|e| Problem::new(e.code(), chain(&e)))?;
        Ok(SubReply::Content(saved))
    }
}
