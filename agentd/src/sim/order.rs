//! What the fakes can be told, as JSON and as arguments.

use std::net::IpAddr;
use std::str::FromStr;

use agentd_api::{Cidr, Protocol, Span};
use agentd_drivers::archive::fake::FakeArchive;
use agentd_drivers::container::fake::FakeContainers;
use agentd_drivers::image::container::fake::FakeContainerImages;
use agentd_drivers::image::fake::FakeImage;
use agentd_drivers::network::fake::FakeNetwork;
use agentd_drivers::vm::fake::FakeVm;
use agentd_drivers::volume::fake::FakeVolume;
use agentd_drivers::volume::pool::fake::FakePool;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// One line on the control socket, such as `{"do":"fail","target":"vm.start","times":3}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Order {
    /// The next calls fail.
    Fail {
        target: String,
        #[serde(default = "once")]
        times: usize,
        #[serde(default)]
        how: How,
    },
    /// Calls do not return until they are released.
    Hang {
        target: String,
    },
    Release {
        target: String,
    },
    /// Calls take this much longer.
    Slow {
        target: String,
        by: Span,
    },
    /// Answers how often that was called.
    Calls {
        target: String,
    },
    /// Whether libvirt answers at all.
    Available {
        available: bool,
    },
    /// Whether the container engine does.
    Engine {
        available: bool,
    },
    /// Whether the engine has an image of that name.
    EngineImage {
        image: String,
        there: bool,
    },
    /// Something happens to a container that agentd did not ask for. `container` is the object's id.
    Container {
        container: Uuid,
        does: ContainerDoes,
    },
    /// Somebody makes a container, which runs, on the engine's own network.
    Foreign {
        name: String,
        image: String,
        command: Vec<String>,
        /// Something of it that no spec can say, as `HostConfig.NetworkMode`.
        #[serde(default)]
        beyond: Option<String>,
        #[serde(default)]
        privileged: bool,
    },
    /// The networks that the host has.
    Taken {
        cidrs: Vec<Cidr>,
    },
    /// The programs of the host that listen on ports of it, and no others.
    Listeners {
        listeners: Vec<Listens>,
    },
    /// Something happens to a guest that agentd did not ask for. `vm` is the object's id.
    Guest {
        vm: Uuid,
        does: GuestDoes,
    },
    /// Somebody removes that network's bridge. `network` is the object's id.
    BreakNetwork {
        network: Uuid,
    },
}

fn once() -> usize {
    1
}

/// Such as `{"program":"nginx","pid":812,"address":"0.0.0.0","port":8080}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listens {
    pub program: String,
    pub pid: u32,
    #[serde(default)]
    pub protocol: Protocol,
    pub address: IpAddr,
    pub port: u16,
}

/// The class of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    #[default]
    Transient,
    Conflict,
    Capacity,
    Permanent,
    Unsupported,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GuestDoes {
    PowerOff,
    Crash,
    Destroyed,
    Undefined,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContainerDoes {
    Exit { code: i32 },
    OutOfMemory,
    Say { text: String },
    Removed,
    Stopped,
    Healthy,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    #[error(
        "'{0}' is no method of a driver; write one such as vm.start, image.build, volume.ensure_disk, network.ensure"
    )]
    Target(String),
    #[error("'{0}' is no fault; write DRIVER.METHOD=fail[:TIMES[:CLASS]] or DRIVER.METHOD=hang")]
    Fault(String),
    #[error("'{0}' is no delay; write DRIVER.METHOD=DURATION, as in vm.start=200ms")]
    Delay(String),
}

/// A method of one of the drivers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    pub driver: &'static str,
    pub method: &'static str,
}

/// The drivers, and the methods that their fakes know by name.
const METHODS: [(&str, &[&str]); 8] = [
    ("vm", FakeVm::METHODS),
    ("container", FakeContainers::METHODS),
    ("image", FakeImage::METHODS),
    ("container_image", FakeContainerImages::METHODS),
    ("volume", FakeVolume::METHODS),
    ("pool", FakePool::METHODS),
    ("archive", FakeArchive::METHODS),
    ("network", FakeNetwork::METHODS),
];

impl FromStr for Target {
    type Err = OrderError;
    fn from_str(text: &str) -> Result<Self, OrderError> {
        let found = text.split_once('.').and_then(|(driver, method)| {
            let (driver, methods) = METHODS.iter().find(|(d, _)| *d == driver)?;
            let method = methods.iter().find(|m| **m == method)?;
            Some(Self { driver, method })
        });
        found.ok_or_else(|| OrderError::Target(text.to_owned()))
    }
}

impl Order {
    /// `vm.start=fail:3:permanent`, `network.ensure=hang`
    pub fn fault(text: &str) -> Result<Self, OrderError> {
        let bad = || OrderError::Fault(text.to_owned());
        let (target, what) = text.split_once('=').ok_or_else(bad)?;
        Target::from_str(target)?;
        let target = target.to_owned();
        let mut words = what.split(':');
        let order = match words.next() {
            Some("hang") => Self::Hang { target },
            Some("fail") => {
                let times = words.next().map_or(Ok(1), str::parse).map_err(|_| bad())?;
                let how = match words.next() {
                    None => How::default(),
                    Some(class) => serde_json::from_value(class.into()).map_err(|_| bad())?,
                };
                Self::Fail { target, times, how }
            }
            _ => return Err(bad()),
        };
        if words.next().is_some() { Err(bad()) } else { Ok(order) }
    }

    /// `vm.start=200ms`
    pub fn delay(text: &str) -> Result<Self, OrderError> {
        let bad = || OrderError::Delay(text.to_owned());
        let (target, by) = text.split_once('=').ok_or_else(bad)?;
        Target::from_str(target)?;
        Ok(Self::Slow { target: target.to_owned(), by: by.parse().map_err(|_| bad())? })
    }
}
