//! What a VM needs of other objects before it can be made: its image, its networks, its keys.
//!
//! What is not there yet is waited for, which is no failure: the pass read it, so that its change wakes the VM.

use agentd_api::image::Image;
use agentd_api::network::Network;
use agentd_api::ssh_key::SshKey;
use agentd_api::vm::{NicAddress, Vm, VmStatus, VmVolume};
use agentd_api::volume::{ATTACHED, Volume};
use agentd_api::{ErrorCode, Object, ObjectName, State};
use agentd_drivers::Drivers;
use agentd_drivers::image::{ImageContent, ImageDriver};
use agentd_drivers::vm::DomainDisk;
use agentd_drivers::vm::disks::volume_serial;
use agentd_drivers::volume::pool::PoolDriver;
use std::path::PathBuf;

use crate::reconcile::guest::needs::{IMAGE_READY, VOLUMES_READY, Waiting, network, not_ready, waiting};
use crate::reconcile::runtime::{Fault, Pass};

/// All of it, there.
pub struct Needs {
    pub content: ImageContent,
    /// One for each of the VM's addresses.
    pub nics: Vec<Nic>,
    pub ssh_keys: Vec<String>,
    pub volumes: Vec<DomainDisk>,
    /// The disc for its drive.
    pub medium: Option<PathBuf>,
}

pub struct Nic {
    pub address: NicAddress,
    pub network: Object<Network>,
}

/// There only while a key is missing.
pub const KEYS_READY: &str = "ssh_keys_ready";

/// There only while the ISO is missing.
pub const ISO_READY: &str = "iso_ready";
/// The format of an image that is a disc.
const ISO: &str = "iso";

/// Either all that is needed or what is missing first.
pub async fn gather(
    pass: &Pass,
    drivers: &Drivers,
    object: &Object<Vm>,
    status: &VmStatus,
) -> Result<Result<Needs, Waiting>, Fault> {
    let digest = match &status.image_digest {
        Some(pinned) => pinned.clone(),
        None => match image(pass, &object.spec.image)? {
            Ok(digest) => digest,
            Err(waiting) => return Ok(Err(waiting)),
        },
    };
    if status.addresses.len() != object.spec.networks.len() {
        return Err(Fault::internal("it has no addresses on its networks"));
    }
    let mut nics = Vec::new();
    for address in &status.addresses {
        match network(pass, &address.network)? {
            Ok(network) => nics.push(Nic { address: address.clone(), network }),
            Err(waiting) => return Ok(Err(waiting)),
        }
    }
    let mut ssh_keys = Vec::new();
    for name in &object.spec.ssh_keys {
        match pass.get::<SshKey>(name)? {
            Some(key) => ssh_keys.push(key.spec.public_key.trim_end().to_owned()),
            None => return Ok(Err(waiting(KEYS_READY, format!("ssh key '{name}' does not exist"), false))),
        }
    }
    let mut volumes = Vec::new();
    for wanted in &object.spec.volumes {
        match volume(pass, drivers.pool.as_ref(), wanted).await? {
            Ok(disk) => volumes.push(disk),
            Err(waiting) => return Ok(Err(waiting)),
        }
    }
    let medium = match medium(pass, drivers.image.as_ref(), object).await? {
        Ok(medium) => medium,
        Err(waiting) => return Ok(Err(waiting)),
    };
    let Some(content) = drivers.image.observe(&digest).await? else {
        let message = format!("the content {digest} of image '{}' is gone from the disk", object.spec.image);
        return Err(Fault::permanent(ErrorCode::NotFound, message));
    };
    Ok(Ok(Needs { content, nics, ssh_keys, volumes, medium }))
}

/// The digest that a new disk stands on.
fn image(pass: &Pass, name: &ObjectName) -> Result<Result<String, Waiting>, Fault> {
    let Some(image) = pass.get::<Image>(name)?.filter(|i| !i.meta.deleting()) else {
        return Ok(Err(waiting(IMAGE_READY, format!("image '{name}' does not exist"), false)));
    };
    if image.status.source_format.as_deref() == Some(ISO) {
        let reason =
            format!("image '{name}' is an ISO, which no disk can start as; it can be given as `iso`");
        return Ok(Err(waiting(IMAGE_READY, reason, true)));
    }
    if let (State::Ready, Some(digest)) = (image.status.common.state, image.status.digest) {
        return Ok(Ok(digest));
    }
    Ok(Err(not_ready(IMAGE_READY, &format!("image '{name}'"), image.status.common)))
}

/// A volume, as a disk of the domain.
pub async fn volume(
    pass: &Pass,
    pool: &dyn PoolDriver,
    wanted: &VmVolume,
) -> Result<Result<DomainDisk, Waiting>, Fault> {
    let what = format!("volume '{}'", wanted.volume);
    let Some(volume) = pass.get::<Volume>(&wanted.volume)? else {
        return Ok(Err(waiting(VOLUMES_READY, format!("{what} does not exist"), false)));
    };
    if !matches!(volume.status.common.state, State::Ready | State::Attached) {
        return Ok(Err(not_ready(VOLUMES_READY, &what, volume.status.common)));
    }
    let id = volume.meta.id;
    if pass.store().owner_of(ATTACHED, &id.to_string()).as_ref() != Some(pass.key()) {
        return Ok(Err(waiting(VOLUMES_READY, format!("{what} is not this VM's"), false)));
    }
    let Some(there) = pool.observe(id).await? else {
        return Ok(Err(waiting(VOLUMES_READY, format!("the content of {what} is gone from the pool"), true)));
    };
    let (serial, read_only) = (volume_serial(id), wanted.read_only);
    Ok(Ok(DomainDisk { serial, source: there.source, format: there.format, read_only }))
}

/// The disc that the spec wants in the drive, if any.
pub async fn medium(
    pass: &Pass,
    images: &dyn ImageDriver,
    object: &Object<Vm>,
) -> Result<Result<Option<PathBuf>, Waiting>, Fault> {
    let Some(name) = &object.spec.iso else { return Ok(Ok(None)) };
    let what = format!("image '{name}'");
    let Some(image) = pass.get::<Image>(name)? else {
        return Ok(Err(waiting(ISO_READY, format!("{what} does not exist"), false)));
    };
    let (State::Ready, Some(digest)) = (image.status.common.state, &image.status.digest) else {
        return Ok(Err(not_ready(ISO_READY, &what, image.status.common)));
    };
    if image.status.source_format.as_deref() != Some(ISO) {
        return Ok(Err(waiting(ISO_READY, format!("{what} is a disk and not an ISO"), true)));
    }
    match images.observe(digest).await? {
        Some(content) => Ok(Ok(Some(content.disk))),
        None => Ok(Err(waiting(ISO_READY, format!("the content of {what} is gone from the disk"), true))),
    }
}
