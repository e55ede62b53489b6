//! What a container may have mounted: volumes with a file system, and of the host folders below those that the
//! configuration allows, and nothing else.

use std::path::Path;

use agentd_api::container::{ContainerSpec, MountSource};
use agentd_api::volume::{Volume, VolumeMode};
use agentd_api::{ErrorCode, ObjectKey, Problem};

use crate::intent::admission::Desk;
use crate::intent::volume;

/// What the spec had before is not refused again: the configuration may have changed since.
pub(super) fn check(
    desk: &mut Desk<'_>,
    container: &ObjectKey,
    is: Option<&ContainerSpec>,
    spec: &ContainerSpec,
) -> Result<(), Problem> {
    for (n, mount) in spec.mounts.iter().enumerate() {
        if is.is_some_and(|is| is.mounts.contains(mount)) {
            continue;
        }
        let field = |name: &str| format!("spec.mounts[{n}].source.{name}");
        match &mount.source {
            MountSource::Tmpfs(_) => {}
            MountSource::Bind(path) => check_bind(desk, path).map_err(|problem| problem.at(field("bind")))?,
            MountSource::Volume(name) => {
                let key = ObjectKey::of::<Volume>(container.project.clone(), name.clone());
                let there = volume::wanted(desk, &key, VolumeMode::Filesystem);
                there.map_err(|problem| problem.at(field("volume")))?;
            }
        }
    }
    Ok(())
}

fn check_bind(desk: &Desk<'_>, path: &str) -> Result<(), Problem> {
    let allowed = &desk.known.bind_mounts;
    // By whole names: /srv/data does not allow /srv/database. Links are followed when it is started, by the driver.
    if allowed.iter().any(|folder| Path::new(path).starts_with(folder)) {
        return Ok(());
    }
    let hint = match allowed.as_slice() {
        [] => "agentd's configuration allows no folder: [containers] bind_mounts".to_owned(),
        folders => {
            let all: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
            format!("agentd's configuration allows those below {}", all.join(", "))
        }
    };
    let detail = format!("{path} is not below a folder of the host that containers may have");
    Err(Problem::new(ErrorCode::Forbidden, detail).hint(hint))
}
