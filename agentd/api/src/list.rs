//! Lists and watches.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::kind::Kind;
use crate::object::Object;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct List<K: Kind> {
    pub items: Vec<Object<K>>,
    /// The store's revision that the list speaks of; a watch since it misses nothing.
    pub revision: u64,
    /// Where the next page begins, or null on the last.
    #[serde(rename = "continue")]
    pub next: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WatchKind {
    Added,
    Modified,
    /// The object is gone; its last state comes with it.
    Deleted,
    /// Nothing changed: all up to this revision has been delivered. Has no object.
    Bookmark,
}

impl WatchKind {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Modified => "modified",
            Self::Deleted => "deleted",
            Self::Bookmark => "bookmark",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct WatchEvent<K: Kind> {
    pub event: WatchKind,
    pub revision: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<Object<K>>,
}
