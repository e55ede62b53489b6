//! How a driver of containers fails.

use agentd_api::ErrorCode;
use uuid::Uuid;

use crate::engine::EngineError;
use crate::fault::{Class, Classed, code_of};

#[derive(Debug, thiserror::Error)]
pub enum ContainerError {
    /// The engine is away, late, or failed in a way that has no name here.
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("container {0} is not there")]
    Missing(Uuid),
    #[error("container {0} does not run")]
    Off(Uuid),
    #[error("the engine has no image '{0}'")]
    NoImage(String),
    #[error("the engine has no network of {0}")]
    NoNetwork(Uuid),
    #[error("network {0} has containers on it")]
    InUse(Uuid),
    #[error("the engine has no volume of {0}")]
    NoVolume(Uuid),
    #[error("the engine's volume of {volume} has a container on it: {detail}")]
    VolumeInUse { volume: Uuid, detail: String },
    #[error("something that is not ours is in the way: {0}")]
    Conflict(String),
    /// What was asked for is wrong, and stays so.
    #[error("the engine refuses this container: {0}")]
    Refused(String),
    #[error("this engine cannot do this: {0}")]
    Unsupported(String),
    #[error("the host has no room for this container: {0}")]
    Capacity(String),
}

impl Classed for ContainerError {
    fn class(&self) -> Class {
        match self {
            Self::Engine(error) => error.class(),
            Self::Missing(_) | Self::Off(_) | Self::NoNetwork(_) | Self::InUse(_) => Class::Transient,
            Self::NoVolume(_) | Self::VolumeInUse { .. } => Class::Transient,
            Self::NoImage(_) | Self::Refused(_) => Class::Permanent,
            Self::Conflict(_) => Class::Conflict,
            Self::Unsupported(_) => Class::Unsupported,
            Self::Capacity(_) => Class::Capacity,
        }
    }

    fn code(&self) -> ErrorCode {
        match self {
            Self::Engine(error) => error.code(),
            Self::NoImage(_) => ErrorCode::NotFound,
            Self::InUse(_) | Self::VolumeInUse { .. } => ErrorCode::InUse,
            other => code_of(other.class()),
        }
    }
}
