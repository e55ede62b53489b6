//! What a container needs of others before it can be made and started: its image, its networks, its volumes, what it
//! comes after.
//!
//! What is not there yet is waited for, which is no failure: the pass read it, so that its change wakes the container.

use std::collections::BTreeMap;
use std::path::PathBuf;

use agentd_api::container::{After, Container, ContainerSpec, ContainerStatus, HealthState, MountSource};
use agentd_api::image::{Image, ImageFormat, for_containers};
use agentd_api::network::Network;
use agentd_api::nic::NicAddress;
use agentd_api::vm::Vm;
use agentd_api::volume::Volume;
use agentd_api::{ErrorCode, Object, ObjectName, State};
use agentd_drivers::Class;
use agentd_drivers::container::{ContainerDriver, EngineVolume, Mount};
use agentd_drivers::volume::pool::PoolDriver;

use super::{Containers, define};
use crate::reconcile::guest::needs::{IMAGE_READY, VOLUMES_READY, Waiting, network, not_ready, waiting};
use crate::reconcile::runtime::{Fault, Pass};

/// There only while something that it comes after is not up.
pub const AFTER_READY: &str = "after_ready";

/// All of it, there.
pub struct Needs {
    /// The engine's own id of its image.
    pub image: String,
    /// One for each of its addresses.
    pub nics: Vec<Nic>,
    pub mounts: Vec<Mount>,
    /// The device that its writes go to, where that is to be limited.
    pub disk: Option<PathBuf>,
}

pub struct Nic {
    pub address: NicAddress,
    pub network: Object<Network>,
}

/// Either all that is needed or what is missing first. What it comes after is asked for where it is to be `started`.
pub async fn gather(
    containers: &Containers,
    pass: &Pass,
    object: &Object<Container>,
    status: &ContainerStatus,
    started: bool,
) -> Result<Result<Needs, Waiting>, NeedsFault> {
    let image = match &status.image_digest {
        Some(pinned) => pinned.clone(),
        None => match image(containers.driver(), pass, &object.spec).await? {
            Ok(image) => image,
            Err(waiting) => return Ok(Err(waiting)),
        },
    };
    let nics = match nics(pass, object, status)? {
        Ok(nics) => nics,
        Err(waiting) => return Ok(Err(waiting)),
    };
    if started {
        for after in &object.spec.after {
            if let Some(reason) = missing(pass, after)? {
                let waiting = Waiting { condition: AFTER_READY, reason, failed: false, progress: None };
                return Ok(Err(waiting));
            }
        }
    }
    let volumes = match volumes(containers.drivers.pool.as_ref(), pass, &object.spec).await? {
        Ok(volumes) => volumes,
        Err(waiting) => return Ok(Err(waiting)),
    };
    let mounts = define::mounts(&object.spec, &containers.bind_mounts, &volumes).await?;
    let disk = disk(containers.driver(), &object.spec).await?;
    Ok(Ok(Needs { image, nics, mounts, disk }))
}

/// One for each of its addresses, where their networks are ready.
pub fn nics(
    pass: &Pass,
    object: &Object<Container>,
    status: &ContainerStatus,
) -> Result<Result<Vec<Nic>, Waiting>, Fault> {
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
    Ok(Ok(nics))
}

/// The volumes that it mounts, where they are ready and their passes have given them to containers. A boot of the host has
/// taken their devices away: they are there again when this returns.
async fn volumes(
    pool: &dyn PoolDriver,
    pass: &Pass,
    spec: &ContainerSpec,
) -> Result<Result<BTreeMap<ObjectName, EngineVolume>, Waiting>, Fault> {
    let mut volumes = BTreeMap::new();
    for mount in &spec.mounts {
        let MountSource::Volume(name) = &mount.source else { continue };
        let what = format!("volume '{name}'");
        let Some(volume) = pass.get::<Volume>(name)?.filter(|volume| !volume.meta.deleting()) else {
            return Ok(Err(waiting(VOLUMES_READY, format!("{what} does not exist"), false)));
        };
        let ready = matches!(volume.status.common.state, State::Ready | State::Attached);
        if !ready || volume.status.device.is_none() {
            return Ok(Err(not_ready(VOLUMES_READY, &what, volume.status.common)));
        }
        let (id, device) = (volume.meta.id, pool.attach(volume.meta.id).await?);
        volumes.insert(name.clone(), EngineVolume { id, device });
    }
    Ok(Ok(volumes))
}

/// Why needs could not be gathered.
pub enum NeedsFault {
    Fault(Fault),
    Driver(agentd_drivers::container::ContainerError),
}

impl From<Fault> for NeedsFault {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<agentd_drivers::container::ContainerError> for NeedsFault {
    fn from(error: agentd_drivers::container::ContainerError) -> Self {
        Self::Driver(error)
    }
}

/// The engine's id of what the spec names: an image of the project's, else what the engine has under that name. It is pinned
/// before the container is made of it.
async fn image(
    driver: &dyn ContainerDriver,
    pass: &Pass,
    spec: &ContainerSpec,
) -> Result<Result<String, Waiting>, NeedsFault> {
    for name in spec.image.object().iter().flat_map(for_containers) {
        let image = pass.get::<Image>(&name)?.filter(|image| !image.meta.deleting());
        let Some(image) = image.filter(|image| image.spec.format() == ImageFormat::Container) else {
            continue;
        };
        return Ok(match (image.status.common.state, image.status.digest) {
            (State::Ready, Some(id)) => Ok(id),
            _ => Err(not_ready(IMAGE_READY, &format!("image '{name}'"), image.status.common)),
        });
    }
    let found = driver.image_id(spec.image.as_str()).await?;
    let found = found.ok_or_else(|| {
        let text = format!("the engine has no image '{}'", spec.image);
        NeedsFault::Fault(Fault::permanent(ErrorCode::NotFound, text))
    });
    found.map(Ok)
}

/// Why what it comes after is not as far yet.
fn missing(pass: &Pass, after: &After) -> Result<Option<String>, Fault> {
    let (what, state, healthy) = match (&after.container, &after.vm) {
        (Some(name), _) => {
            let what = format!("container '{name}'");
            let Some(other) = pass.get::<Container>(name)?.filter(|o| !o.meta.deleting()) else {
                return Ok(Some(format!("it comes after {what}, which does not exist")));
            };
            let health = other.status.health.map(|health| health.state);
            (what, other.status.common.state, health == Some(HealthState::Healthy))
        }
        (None, Some(name)) => {
            let what = format!("VM '{name}'");
            let Some(other) = pass.get::<Vm>(name)?.filter(|o| !o.meta.deleting()) else {
                return Ok(Some(format!("it comes after {what}, which does not exist")));
            };
            (what, other.status.common.state, other.status.guest.is_some())
        }
        (None, None) => return Ok(None),
    };
    Ok(match (state, after.healthy && !healthy) {
        (State::Running, false) => None,
        (State::Running, true) => Some(format!("it comes after {what}, which is not healthy yet")),
        (other, _) => Some(format!("it comes after {what}, which is {other}")),
    })
}

/// The device beneath the engine's own folder, where the container's writes go.
async fn disk(driver: &dyn ContainerDriver, spec: &ContainerSpec) -> Result<Option<PathBuf>, NeedsFault> {
    if spec.disk_limits.is_default() {
        return Ok(None);
    }
    let root = driver.probe().await?.root;
    let found = tokio::task::spawn_blocking(move || crate::host::disk_of(&root)).await;
    match found.map_err(|e| Fault::internal(e.to_string()))? {
        Ok(device) => Ok(Some(device)),
        Err(why) => {
            let text = format!("spec.disk_limits: {why}");
            Err(Fault::new(Class::Unsupported, ErrorCode::Unsupported, text).into())
        }
    }
}
