//! Which image a container is made of.
//!
//! | there is                                                | it is                                  |
//! |---------------------------------------------------------|----------------------------------------|
//! | an `image` object of that name, for containers          | that one, once it is ready             |
//! | a recipe of that name, and its image for containers     | that one (`debian-12-container`)       |
//! | a recipe of that name, and its disk for VMs             | an image for containers, created now   |
//! | another disk of that name                               | refused                                |
//! | none, and the engine has an image of that name          | that one, as the engine has it now     |
//! | none, and a recipe has that name                        | an image for containers, created now   |
//! | none of these                                           | refused, with what there is            |
//!
//! What the engine has is asked before the transaction. Nothing is pulled: a name that nobody brought is a mistake, not an
//! order to fetch it from wherever the engine looks.

use agentd_api::container::ImageRef;
use agentd_api::image::Image;
use agentd_api::{ErrorCode, ObjectKey, Problem};

use crate::intent::EngineImage;
use crate::intent::admission::Desk;
use crate::intent::image::{Meant, refer_container};

pub(super) fn check(desk: &mut Desk<'_>, container: &ObjectKey, wanted: &ImageRef) -> Result<(), Problem> {
    let at = "spec.image";
    if let Some(name) = wanted.object() {
        let there = desk.known.engine_image == EngineImage::There;
        match refer_container(desk, container, &name, !there)? {
            Meant::Object => return Ok(()),
            Meant::Disk => {
                let key = ObjectKey::of::<Image>(container.project.clone(), name);
                let what = format!("{key} is a disk for VMs, of which no container can be made");
                return Err(
                    Problem::field(at, what).hint("`agentctl image list` tells which are for containers")
                );
            }
            Meant::None => {}
        }
    }
    match &desk.known.engine_image {
        EngineImage::There => Ok(()),
        EngineImage::NotThere => {
            let what = format!(
                "there is no image '{wanted}' in project '{}', and the engine has none of that name",
                container.project
            );
            Err(Problem::field(at, what).hint("`agentctl image list` shows those that there are; `agentctl image pull`, `load` and `build` bring more"))
        }
        EngineImage::Unknown(why) => {
            let detail = format!("whether the engine has an image '{wanted}' cannot be told: {why}");
            Err(Problem::new(ErrorCode::BackendUnavailable, detail)
                .at(at)
                .hint("`agentctl doctor` says what is amiss with the engine"))
        }
    }
}
