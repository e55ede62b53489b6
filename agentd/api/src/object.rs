//! The envelope that every object has, whatever its kind.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::kind::Kind;
use crate::name::{LabelKey, LabelValue, ObjectName};
use crate::time::Timestamp;

/// What identifies an object among those that exist now. `id` tells it from an earlier one of the same name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ObjectKey {
    /// The singular name of the kind: "vm".
    pub kind: String,
    pub project: ObjectName,
    pub name: ObjectName,
}

impl ObjectKey {
    pub fn new(kind: impl Into<String>, project: ObjectName, name: ObjectName) -> Self {
        Self { kind: kind.into(), project, name }
    }
    pub fn of<K: Kind>(project: ObjectName, name: ObjectName) -> Self {
        Self::new(K::DEF.kind, project, name)
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.kind, self.project, self.name)
    }
}

pub type Labels = BTreeMap<LabelKey, LabelValue>;

/// Everything of an object but its spec and status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Meta {
    pub kind: String,
    pub project: ObjectName,
    pub name: ObjectName,
    pub id: Uuid,
    /// The store's revision at the object's last change of any sort.
    pub revision: u64,
    /// Counts changes of the spec, from 1.
    pub generation: u64,
    #[serde(default)]
    #[schema(value_type = BTreeMap<String, String>)]
    pub labels: Labels,
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    pub created_at: Timestamp,
    #[serde(default)]
    pub deleting_at: Option<Timestamp>,
    /// What has still to be undone on the host before the object may go, in order: the first is undone first.
    #[serde(default)]
    pub finalizers: Vec<String>,
}

impl Meta {
    pub fn key(&self) -> ObjectKey {
        ObjectKey::new(self.kind.clone(), self.project.clone(), self.name.clone())
    }
    pub fn deleting(&self) -> bool {
        self.deleting_at.is_some()
    }
}

/// An object of kind `K`, as on the wire.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Object<K: Kind> {
    #[serde(flatten)]
    pub meta: Meta,
    pub spec: K::Spec,
    #[serde(default)]
    pub status: K::Status,
}

/// What a client sends to create or replace an object: no status, no revision, nothing that the server decides.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound = "", deny_unknown_fields)]
pub struct Draft<K: Kind> {
    pub name: ObjectName,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: Labels,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    pub spec: K::Spec,
}
