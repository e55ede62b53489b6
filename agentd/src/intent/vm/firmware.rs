//! Whether a VM can be started as its spec says: directly only where its image has a kernel; and whether that can be changed
//! now.

use agentd_api::image::Image;
use agentd_api::vm::{Firmware, Vm, VmSpec};
use agentd_api::{ErrorCode, Object, ObjectKey, Problem, State};

use crate::intent::admission::{Desk, object};

pub(super) fn check(
    desk: &mut Desk<'_>,
    vm: &ObjectKey,
    is: Option<&Object<Vm>>,
    spec: &VmSpec,
) -> Result<(), Problem> {
    if let Some(is) = is {
        check_memory(is, spec)?;
    }
    if spec.firmware != Some(Firmware::Direct) || is.is_some_and(|is| is.spec.firmware == spec.firmware) {
        return Ok(());
    }
    // One that is not ready is judged when it is.
    let key = ObjectKey::of::<Image>(vm.project.clone(), spec.image.clone());
    let Some(image) = desk.tx.get(&key) else { return Ok(()) };
    let status = object::<Image>(&image)?.status;
    if status.common.state == State::Ready && !status.direct_boot {
        let detail = format!("image '{}' has no kernel of its own to start directly", spec.image);
        return Err(Problem::field("spec.firmware", detail).hint("`bios` and `uefi` start its disk"));
    }
    Ok(())
}

/// A memory goes on only in the machine that it is of.
fn check_memory(is: &Object<Vm>, spec: &VmSpec) -> Result<(), Problem> {
    let field = if is.spec.firmware != spec.firmware {
        "firmware"
    } else if is.spec.tpm != spec.tpm {
        "tpm"
    } else {
        return Ok(());
    };
    if is.status.saved.is_none() {
        return Ok(());
    }
    let detail =
        "cannot be changed while its memory is on disk, which goes on only in the machine that it is of";
    Err(Problem::new(ErrorCode::Conflict, detail).at(format!("spec.{field}")).hint(format!(
        "`agentctl vm start {0}` lets it go on, `agentctl vm start --fresh {0}` throws its memory away",
        is.meta.name
    )))
}
