//! Which image a container is made of.
//!
//! | there is                                                | it is                                  |
//! |---------------------------------------------------------|----------------------------------------|
//! | an `image` object of that name                          | refused: those are disks of VMs so far |
//! | none, and the engine has an image of that name          | that one, as the engine has it now     |
//! | neither                                                 | refused, with what there is            |
//!
//! What the engine has is asked before the transaction. Nothing is pulled: a name that nobody brought is a mistake, not an
//! order to fetch it from wherever the engine looks.

use agentd_api::container::ImageRef;
use agentd_api::image::Image;
use agentd_api::{ErrorCode, ObjectKey, Problem};

use crate::intent::EngineImage;
use crate::intent::admission::Desk;

pub(super) fn check(desk: &mut Desk<'_>, container: &ObjectKey, wanted: &ImageRef) -> Result<(), Problem> {
    let at = "spec.image";
    if let Some(name) = wanted.object() {
        let key = ObjectKey::of::<Image>(container.project.clone(), name);
        if let Some(there) = desk.tx.get(&key) {
            if there.deleting() {
                return Err(Problem::new(ErrorCode::Conflict, format!("{key} is being deleted")).at(at));
            }
            let what = format!("{key} is a disk for VMs, of which no container can be made");
            return Err(Problem::field(at, what));
        }
    }
    match &desk.known.engine_image {
        EngineImage::There => Ok(()),
        EngineImage::NotThere => {
            let what = format!(
                "there is no image '{wanted}' in project '{}', and the engine has none of that name",
                container.project
            );
            Err(Problem::field(at, what).hint("`agentctl image list` shows those that there are"))
        }
        EngineImage::Unknown(why) => {
            let detail = format!("whether the engine has an image '{wanted}' cannot be told: {why}");
            Err(Problem::new(ErrorCode::BackendUnavailable, detail)
                .at(at)
                .hint("`agentctl doctor` says what is amiss with the engine"))
        }
    }
}
