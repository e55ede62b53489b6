//! A VM's further disks, its volumes and its ISO. That a VM has a volume is an allocation row: the volume's id is taken
//! by the VM. It is taken with the spec, and given back by the reconciler, once the guest has let go of the volume.

use agentd_api::image::Image;
use agentd_api::vm::{VmSpec, VmVolume};
use agentd_api::volume::{Volume, VolumeMode};
use agentd_api::{ByteSize, ErrorCode, FieldError, ObjectKey, Problem};
use agentd_store::TxError;

use crate::intent::admission::{Desk, refused};
use crate::intent::volume::{self, SPACE, check_room};

/// Takes what `spec` names over what `had` did.
pub(super) fn admit(
    desk: &mut Desk<'_>,
    vm: &ObjectKey,
    had: Option<&VmSpec>,
    spec: &VmSpec,
) -> Result<(), Problem> {
    let was = |n: usize| had.and_then(|had| had.disks.get(n)).map_or(0, |disk| disk.size.bytes());
    for (n, disk) in spec.disks.iter().enumerate() {
        let more = ByteSize(disk.size.bytes().saturating_sub(was(n)));
        check_room(desk, more, &format!("spec.disks[{n}].size"))?;
    }
    if let Some(name) = &spec.iso
        && had.is_none_or(|had| had.iso.as_ref() != Some(name))
    {
        let key = ObjectKey::of::<Image>(vm.project.clone(), name.clone());
        let there = desk.tx.get(&key).filter(|image| !image.deleting());
        if there.is_none() {
            let what = format!("there is no image '{name}' in project '{}'", vm.project);
            return Err(Problem::field("spec.iso", what)
                .hint(format!("`agentctl image import FILE.iso --name {name}` brings it")));
        }
    }
    for (n, wanted) in spec.volumes.iter().enumerate() {
        attach(desk, vm, wanted).map_err(|problem| problem.at(format!("spec.volumes[{n}].volume")))?;
    }
    Ok(())
}

fn attach(desk: &mut Desk<'_>, vm: &ObjectKey, wanted: &VmVolume) -> Result<(), Problem> {
    let key = ObjectKey::of::<Volume>(vm.project.clone(), wanted.volume.clone());
    let volume = volume::wanted(desk, &key, VolumeMode::Block)?;
    desk.tx.allocate(SPACE, &volume.id().to_string(), vm).map_err(|error| match error {
        TxError::Taken { owner, .. } => {
            Problem::new(ErrorCode::Conflict, format!("{key} is attached to {owner}"))
                .hint(format!("detach it first: agentctl volume detach {}", key.name))
        }
        other => refused(other),
    })
}

/// Further disks are known by their place in the list, and their content goes with the VM only.
pub(super) fn check_fixed(is: &VmSpec, spec: &VmSpec, errors: &mut Vec<FieldError>) {
    if spec.disks.len() < is.disks.len() {
        let message = format!("cannot be taken away: it has {}; a volume can be", is.disks.len());
        errors.push(FieldError::new("spec.disks", message));
    }
    for (n, (was, wanted)) in is.disks.iter().zip(&spec.disks).enumerate() {
        if wanted.size < was.size {
            let message = format!("cannot shrink from {} to {}", was.size, wanted.size);
            errors.push(FieldError::new(format!("spec.disks[{n}].size"), message));
        }
    }
}
