//! Admission of volumes: they fit into the pool, never shrink, and stay while a VM has them.

use agentd_api::image::Image;
use agentd_api::volume::{Volume, VolumeSpec, VolumeStatus};
use agentd_api::{ByteSize, ErrorCode, FieldError, Object, ObjectKey, Problem};

use super::admission::{Admission, Desk, not_found};

/// Where it is written down which VM has a volume: the volume's id is taken by the VM.
pub(super) const SPACE: &str = agentd_api::volume::ATTACHED;

impl Admission for Volume {
    const FINALIZERS: &'static [&'static str] = &["content"];

    fn create(desk: &mut Desk<'_>, key: &ObjectKey, spec: &VolumeSpec) -> Result<VolumeStatus, Problem> {
        check_room(desk, spec.size, "spec.size")?;
        if let Some(name) = &spec.image {
            let image = ObjectKey::of::<Image>(key.project.clone(), name.clone());
            match desk.tx.get(&image) {
                Some(there) if there.deleting() => {
                    let detail = format!("{image} is being deleted");
                    return Err(Problem::new(ErrorCode::Conflict, detail).at("spec.image"));
                }
                Some(_) => {}
                None => {
                    let what = format!("there is no image '{name}' in project '{}'", key.project);
                    return Err(Problem::field("spec.image", what)
                        .hint("`agentctl image list` shows those that there are"));
                }
            }
        }
        Ok(VolumeStatus::default())
    }

    fn change(
        desk: &mut Desk<'_>,
        is: &Object<Self>,
        spec: &VolumeSpec,
    ) -> Result<Option<VolumeStatus>, Problem> {
        let mut errors = Vec::new();
        if spec.format != is.spec.format {
            let message = format!("cannot be changed from {}", is.spec.format.as_str());
            errors.push(FieldError::new("spec.format", message));
        }
        if spec.image != is.spec.image {
            errors
                .push(FieldError::new("spec.image", "cannot be changed: the volume has its content already"));
        }
        if spec.size < is.spec.size {
            let message = format!("cannot shrink from {} to {}", is.spec.size, spec.size);
            errors.push(FieldError::new("spec.size", message));
        }
        if !errors.is_empty() {
            return Err(Problem::invalid(errors));
        }
        check_room(desk, ByteSize(spec.size.bytes() - is.spec.size.bytes()), "spec.size")?;
        Ok(None)
    }

    fn delete(desk: &mut Desk<'_>, key: &ObjectKey) -> Result<(), Problem> {
        let volume = desk.tx.get(key).ok_or_else(|| not_found(key))?;
        match desk.tx.owner_of(SPACE, &volume.id().to_string()) {
            None => Ok(()),
            Some(vm) => Err(Problem::new(ErrorCode::InUse, format!("{key} is attached to {vm}"))
                .hint(format!("detach it first: agentctl volume detach {}", key.name))),
        }
    }
}

/// Disks are sparse, so that all of them together may promise more than there is; one alone may not.
pub(super) fn check_room(desk: &Desk<'_>, more: ByteSize, field: &str) -> Result<(), Problem> {
    let free = desk.known.pool_free;
    if more <= free {
        return Ok(());
    }
    let detail = format!("{more} more are wanted, and the pool has {} MiB free", free.bytes() >> 20);
    Err(Problem::new(ErrorCode::InsufficientCapacity, detail).at(field))
}
