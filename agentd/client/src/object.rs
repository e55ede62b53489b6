//! Objects whose kind is known only when the program runs.

use agentd_api::{Kind, Meta, Object, StatusCommon};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What an informer can keep: anything that has an object's envelope.
pub trait Item: DeserializeOwned + Send + 'static {
    fn meta(&self) -> &Meta;
}

impl<K: Kind> Item for Object<K> {
    fn meta(&self) -> &Meta {
        &self.meta
    }
}

/// An object of any kind. Its envelope is typed, its spec and status are as they came.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AnyObject {
    #[serde(flatten)]
    pub meta: Meta,
    #[serde(default)]
    pub spec: Value,
    #[serde(default)]
    pub status: Value,
}

impl AnyObject {
    /// What the status has in common with that of every kind; the defaults where it cannot be read.
    pub fn common(&self) -> StatusCommon {
        StatusCommon::deserialize(&self.status).unwrap_or_default()
    }
}

impl Item for AnyObject {
    fn meta(&self) -> &Meta {
        &self.meta
    }
}
