//! Admission of volumes: they fit into the pool, never shrink, and stay while a VM or a container has them; and of those
//! who want one, that it is of the sort that they can have.

use std::sync::Arc;

use agentd_api::container::Container;
use agentd_api::image::Image;
use agentd_api::volume::{Volume, VolumeFormat, VolumeMode, VolumeSpec, VolumeStatus};
use agentd_api::{ByteSize, ErrorCode, FieldError, Kind, Object, ObjectKey, Problem};
use agentd_store::Stored;

use super::admission::{Admission, Desk, not_found, object};
use super::guest::{refuse_users, users};

/// Where it is written down which VM has a volume: the volume's id is taken by the VM.
pub(super) const SPACE: &str = agentd_api::volume::ATTACHED;

impl Admission for Volume {
    const FINALIZERS: &'static [&'static str] = &["content"];

    /// A file system is kept raw, so that it has what it is promised.
    fn resolve(
        _: &mut Desk<'_>,
        _: &ObjectKey,
        _: Option<&VolumeSpec>,
        mut spec: VolumeSpec,
        given: &[String],
    ) -> Result<VolumeSpec, Problem> {
        if spec.mode == VolumeMode::Filesystem && spec.format != VolumeFormat::Raw {
            if given.iter().any(|field| field == "format") {
                let message = format!("must be raw for a file system, not {}", spec.format.as_str());
                return Err(Problem::field("spec.format", message));
            }
            spec.format = VolumeFormat::Raw;
        }
        Ok(spec)
    }

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
        if spec.mode != is.spec.mode {
            let message =
                format!("cannot be changed from {}: what is on it would be lost", is.spec.mode.as_str());
            errors.push(FieldError::new("spec.mode", message));
        } else if spec.format != is.spec.format {
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
            // Those that are off have it too, and those on their way out until they have gone.
            None => refuse_users(key, &users(desk, key, Container::DEF, "volume", key.name.as_str())),
            Some(vm) => Err(Problem::new(ErrorCode::InUse, format!("{key} is attached to {vm}"))
                .hint(format!("detach it first: agentctl volume detach {}", key.name))),
        }
    }
}

/// The volume that a VM or a container names, where there is one and it is of that mode.
pub(super) fn wanted(desk: &Desk<'_>, key: &ObjectKey, mode: VolumeMode) -> Result<Arc<Stored>, Problem> {
    let Some(volume) = desk.tx.get(key) else {
        let what = format!("there is no volume '{}' in project '{}'", key.name, key.project);
        return Err(Problem::new(ErrorCode::Invalid, what)
            .hint("`agentctl volume list` shows those that there are, `agentctl volume create` makes one"));
    };
    if volume.deleting() {
        return Err(Problem::new(ErrorCode::Conflict, format!("{key} is being deleted")));
    }
    let is = object::<Volume>(&volume)?.spec.mode;
    if is == mode {
        return Ok(volume);
    }
    let (what, hint) = match is {
        VolumeMode::Block => {
            ("a disk for VMs, and no file system that a container could mount", "filesystem")
        }
        VolumeMode::Filesystem => ("a file system for containers, and no disk that a VM could have", "block"),
    };
    Err(Problem::new(ErrorCode::Unsupported, format!("{key} is {what}"))
        .hint(format!("`agentctl volume create NAME --size SIZE --mode {hint}` makes one that is")))
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
