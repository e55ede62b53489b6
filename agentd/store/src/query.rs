//! What a list or a watch asks for, and the pages that a list comes in.

use std::sync::Arc;

use agentd_api::ObjectName;

use crate::stored::Stored;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LabelSelector {
    Equals(String, String),
    /// Also of objects that lack the label.
    NotEquals(String, String),
    Has(String),
    HasNot(String),
}

/// Objects of one kind that answer to all of this.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    pub kind: String,
    /// All projects where absent.
    pub project: Option<ObjectName>,
    pub labels: Vec<LabelSelector>,
    /// A declared field, whether it must (true) or must not have the value, and the value. A field that the kind
    /// does not declare has no values.
    pub fields: Vec<(String, bool, String)>,
    /// At most so many to a page. At least one is given.
    pub limit: Option<usize>,
    /// Where to go on: a listing's `next`.
    pub after: Option<String>,
}

/// A page of a list, in the order of project and name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    pub items: Vec<Arc<Stored>>,
    /// A watch since this revision misses nothing that the page does not show.
    pub revision: u64,
    /// Where the next page begins; absent on the last. It stays good while objects come and go.
    pub next: Option<String>,
}

impl Query {
    pub fn kind(kind: impl Into<String>) -> Self {
        Self { kind: kind.into(), ..Self::default() }
    }

    /// Whether the object is one of those asked for; `limit` and `after` are the page's matter and not looked at.
    pub fn matches(&self, object: &Stored) -> bool {
        self.kind == object.kind()
            && self.project.as_ref().is_none_or(|project| project == object.project())
            && self.labels.iter().all(|selector| selector.matches(object))
            && self
                .fields
                .iter()
                .all(|(name, equals, value)| object.field(name).any(|v| v == value) == *equals)
    }

    /// The project and name that the page begins behind.
    pub(crate) fn behind(&self) -> Option<(&str, &str)> {
        self.after.as_deref().map(|token| token.split_once('/').unwrap_or((token, "")))
    }

    pub(crate) fn page(&self) -> usize {
        self.limit.map_or(usize::MAX, |limit| limit.max(1))
    }

    /// Whether a text can be a continue token, so that a bad one can be refused where it comes in.
    pub fn is_token(text: &str) -> bool {
        text.split_once('/').is_some_and(|(project, name)| {
            ObjectName::parse(project).is_ok() && ObjectName::parse(name).is_ok()
        })
    }
}

impl LabelSelector {
    pub fn matches(&self, object: &Stored) -> bool {
        match self {
            Self::Equals(key, value) => object.label(key) == Some(value),
            Self::NotEquals(key, value) => object.label(key) != Some(value),
            Self::Has(key) => object.label(key).is_some(),
            Self::HasNot(key) => object.label(key).is_none(),
        }
    }
}

/// The token that a page ending with this object goes on from.
pub(crate) fn token(last: &Stored) -> String {
    format!("{}/{}", last.project(), last.name())
}
