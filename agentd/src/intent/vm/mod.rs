//! Admission of VMs: what they refer to is there, what they need is free.

mod actions;
pub(super) mod clone;
mod disks;
mod firmware;
mod policies;

use agentd_api::image::Image;
use agentd_api::network::Network;
use agentd_api::ssh_key::SshKey;
use agentd_api::vm::{NicLimits, NicSpec, Vm, VmSpec, VmStatus};
use agentd_api::{FieldError, Object, ObjectKey, Problem};

use super::admission::{Acted, Admission, Desk, Known, object};
use super::guest::addresses::{self, Assigned, Has};
use super::guest::{self, names, ports};
use super::{archive, flavor, image, snapshot};
use crate::schedule::Schedule;

impl Admission for Vm {
    const FINALIZERS: &'static [&'static str] = &["domain", "network", "volume"];

    fn resolve(
        desk: &mut Desk<'_>,
        key: &ObjectKey,
        is: Option<&VmSpec>,
        spec: VmSpec,
        given: &[String],
    ) -> Result<VmSpec, Problem> {
        if is.is_none() && desk.known.imported.is_some() {
            return archive::resolve(desk, key, spec);
        }
        match spec.source.clone().filter(|_| is.is_none()) {
            Some(source) => {
                let spec = clone::resolve(desk, key, &source, spec, given)?;
                // What it takes over of its source's flavor is what that said when the source was made.
                let own = given.iter().any(|field| field == "flavor");
                if own { flavor::resolve(desk, key, None, spec, given) } else { Ok(spec) }
            }
            None => flavor::resolve(desk, key, is, spec, given),
        }
    }

    fn create(desk: &mut Desk<'_>, key: &ObjectKey, spec: &VmSpec) -> Result<VmStatus, Problem> {
        check_memory(desk, spec)?;
        policies::check(desk.known, None, spec)?;
        check_schedule(spec)?;
        check_references(desk, key, spec)?;
        let (origin, image_digest) = match (&desk.known.imported, &spec.source) {
            (Some(imported), _) => (Some(imported.origin()), Some(imported.digest.clone())),
            // The image is beneath its source's disks already, and stays for those.
            (None, Some(source)) => {
                let (origin, digest) = clone::admit(desk, key, source, spec)?;
                (Some(origin), digest)
            }
            (None, None) => {
                image::refer(desk, key, &spec.image)?;
                (None, None)
            }
        };
        // What came in an archive has its kernel with it, whatever an image of that name has here.
        if desk.known.imported.is_none() {
            firmware::check(desk, key, None, spec)?;
        }
        disks::admit(desk, key, None, spec)?;
        ports::publish(desk, key, &[], &spec.publish)?;
        let addresses = addresses::assign(desk, key, Has::default(), &spec.networks)?.addresses;
        Ok(VmStatus { addresses, origin, image_digest, ..VmStatus::default() })
    }

    fn change(desk: &mut Desk<'_>, is: &Object<Self>, spec: &VmSpec) -> Result<Option<VmStatus>, Problem> {
        let key = is.meta.key();
        check_fixed(&is.spec, spec)?;
        check_above_image(desk, is, spec)?;
        check_memory(desk, spec)?;
        policies::check(desk.known, Some(&is.spec), spec)?;
        check_schedule(spec)?;
        check_references(desk, &key, spec)?;
        firmware::check(desk, &key, Some(is), spec)?;
        disks::admit(desk, &key, Some(&is.spec), spec)?;
        if is.spec.publish != spec.publish {
            ports::publish(desk, &key, &is.spec.publish, &spec.publish)?;
        }
        if same_places(&is.spec, spec) {
            return Ok(None);
        }
        let VmStatus { addresses, leaving, .. } = &is.status;
        let has = Has { addresses, leaving, in_use: is.status.may_run() };
        let Assigned { addresses, leaving } = addresses::assign(desk, &key, has, &spec.networks)?;
        Ok(Some(VmStatus { addresses, leaving, ..is.status.clone() }))
    }

    /// Nothing needs a VM but its snapshots, and clones that are still made of it.
    fn delete(desk: &mut Desk<'_>, key: &ObjectKey) -> Result<(), Problem> {
        clone::needed(desk, key, key, None)?;
        snapshot::of_deleted_vm(desk, key)
    }

    fn act(known: &Known, is: &Object<Self>, action: &str) -> Result<Acted<Self>, Problem> {
        actions::act(known, is, action)
    }
}

/// Limits are changed where it is.
fn same_places(is: &VmSpec, spec: &VmSpec) -> bool {
    let place = |nic: &NicSpec| NicSpec { limits: NicLimits::default(), ..nic.clone() };
    is.networks.iter().map(place).eq(spec.networks.iter().map(place))
}

/// What a VM is made of cannot be swapped beneath it, and a disk does not shrink.
fn check_fixed(is: &VmSpec, spec: &VmSpec) -> Result<(), Problem> {
    let mut errors = Vec::new();
    if is.image != spec.image {
        let message = format!("cannot be changed from '{}': the disk stands on it", is.image);
        errors.push(FieldError::new("spec.image", message));
    }
    if is.source != spec.source {
        errors.push(FieldError::new("spec.source", "cannot be changed: its disks are made of it"));
    }
    match (is.disk, spec.disk) {
        (Some(was), Some(wanted)) if wanted < was => {
            errors.push(FieldError::new("spec.disk", format!("cannot shrink from {was} to {wanted}")));
        }
        (Some(was), None) => {
            errors.push(FieldError::new("spec.disk", format!("cannot be taken back; it is {was}")));
        }
        _ => {}
    }
    disks::check_fixed(is, spec, &mut errors);
    if errors.is_empty() { Ok(()) } else { Err(Problem::invalid(errors)) }
}

/// A disk of its image's own size is not made smaller than that.
fn check_above_image(desk: &mut Desk<'_>, is: &Object<Vm>, spec: &VmSpec) -> Result<(), Problem> {
    let (None, Some(wanted)) = (is.spec.disk, spec.disk) else { return Ok(()) };
    let key = ObjectKey::of::<Image>(is.meta.project.clone(), spec.image.clone());
    let Some(image) = desk.tx.get(&key) else { return Ok(()) };
    match object::<Image>(&image)?.status.virtual_size {
        Some(size) if wanted < size => {
            Err(Problem::field("spec.disk", format!("cannot shrink to {wanted}: it is its image's {size}")))
        }
        _ => Ok(()),
    }
}

fn check_memory(desk: &Desk<'_>, spec: &VmSpec) -> Result<(), Problem> {
    guest::check_memory(desk, "spec.memory", spec.memory)?;
    spec.memory_max.map_or(Ok(()), |max| guest::check_memory(desk, "spec.memory_max", max))
}

fn check_schedule(spec: &VmSpec) -> Result<(), Problem> {
    let Some(policy) = &spec.snapshot_policy else { return Ok(()) };
    match Schedule::parse(&policy.schedule) {
        Ok(_) => Ok(()),
        Err(message) => Err(Problem::field("spec.snapshot_policy.schedule", message)),
    }
}

/// Networks and keys must be there.
fn check_references(desk: &mut Desk<'_>, vm: &ObjectKey, spec: &VmSpec) -> Result<(), Problem> {
    let networks = spec.networks.iter().enumerate().map(|(n, nic)| {
        (
            format!("spec.networks[{n}].network"),
            ObjectKey::of::<Network>(vm.project.clone(), nic.network.clone()),
        )
    });
    let keys = spec.ssh_keys.iter().enumerate().map(|(n, name)| {
        (format!("spec.ssh_keys[{n}]"), ObjectKey::of::<SshKey>(vm.project.clone(), name.clone()))
    });
    guest::check_references(desk, vm, networks.chain(keys))?;
    names::check(desk, vm, &spec.networks)
}
