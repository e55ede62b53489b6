//! Images that the container engine keeps for us.

use agentd_api::image::{ImageSource, ImageStatus};
use agentd_api::{ErrorCode, State};
use agentd_drivers::image::container::{ContainerImage, ContainerImageDriver};
use agentd_drivers::image::{ImageError, Work};
use uuid::Uuid;

use super::Images;
use crate::reconcile::runtime::{Fault, Outcome};

pub(super) async fn make(
    driver: &dyn ContainerImageDriver,
    source: &ImageSource,
    work: &Work,
) -> Result<ContainerImage, ImageError> {
    match source {
        ImageSource::Recipe(recipe) => driver.build_recipe(*recipe, work).await,
        ImageSource::Upload(source) => driver.load(source, work).await,
        ImageSource::Registry(source) => driver.pull(&source.reference, work).await,
        ImageSource::Build(source) => driver.build(source, work).await,
        // Admission does not let it be for containers.
        ImageSource::Url(_) => Err(ImageError::Refused("no container's image comes of a URL".to_owned())),
    }
}

impl Images {
    /// One that was ready: does the engine still have it? A mark that was taken away is put back.
    pub(super) async fn look_at_engine(
        &self,
        image: Uuid,
        mut status: ImageStatus,
        id: &str,
    ) -> Outcome<ImageStatus> {
        match self.containers.observe(image, id).await {
            Ok(Some(seen)) => ready(status, &seen),
            Ok(None) => {
                // Without a digest a retry makes it again.
                (status.digest, status.common.progress) = (None, None);
                let message = format!("the container engine has {id} no more");
                Outcome::failed(status, Fault::permanent(ErrorCode::NotFound, message))
            }
            Err(error) => Outcome::failed(status, error.into()),
        }
    }
}

pub(super) fn ready(mut status: ImageStatus, image: &ContainerImage) -> Outcome<ImageStatus> {
    (status.common.state, status.common.reason, status.common.progress) = (State::Ready, None, None);
    status.digest = Some(image.id.clone());
    status.stored_size = Some(image.size);
    // What was only looked at tells neither.
    if !image.source_format.is_empty() {
        status.source_format = Some(image.source_format.clone());
        status.registry_digest.clone_from(&image.registry_digest);
    }
    Outcome::settled(status)
}
