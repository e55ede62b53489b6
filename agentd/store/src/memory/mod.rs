//! All that is committed, as reads see it. Only the writer changes it, a batch at a time.

pub(crate) mod answers;
pub(crate) mod claims;
pub(crate) mod table;

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use agentd_api::ObjectKey;
use agentd_api::list::WatchKind;
use uuid::Uuid;

use crate::history::Change;
use crate::query::{Listing, Query, token};
use crate::stored::Stored;
use claims::Claims;
use table::Table;

#[derive(Default)]
pub(crate) struct Memory {
    kinds: BTreeMap<String, Table>,
    ids: HashSet<ById>,
    pub claims: Claims,
    /// Of the last change that is in here.
    pub revision: u64,
}

impl Memory {
    /// From all objects there are. An error names one that cannot be beside another.
    pub(crate) fn build(mut objects: Vec<Arc<Stored>>) -> Result<Self, String> {
        objects.sort_unstable_by(|a, b| a.key().cmp(b.key()));
        if let Some(pair) = objects.windows(2).find(|pair| pair[0].key() == pair[1].key()) {
            return Err(format!("there are two objects {}", pair[0].key()));
        }
        let mut memory = Self::default();
        memory.ids.reserve(objects.len());
        for object in &objects {
            if !memory.ids.insert(ById(object.clone())) {
                return Err(format!("{} has the id of another, {}", object.key(), object.id()));
            }
        }
        let mut rest = objects.as_slice();
        while let Some(first) = rest.first() {
            let count = rest.partition_point(|object| object.kind() == first.kind());
            let (of_kind, others) = rest.split_at(count);
            memory.kinds.insert(first.kind().to_owned(), Table::build(of_kind));
            rest = others;
        }
        Ok(memory)
    }

    pub(crate) fn get(&self, key: &ObjectKey) -> Option<&Arc<Stored>> {
        self.kinds.get(&key.kind)?.get(key.project.as_str(), key.name.as_str())
    }

    pub(crate) fn by_id(&self, id: Uuid) -> Option<&Arc<Stored>> {
        self.ids.get(&id).map(|found| &found.0)
    }

    /// All, in no order.
    pub(crate) fn objects(&self) -> impl Iterator<Item = &Arc<Stored>> {
        self.ids.iter().map(|found| &found.0)
    }

    /// All that answer to the query from where its page begins on, in order.
    pub(crate) fn scan<'a>(&'a self, query: &'a Query) -> impl Iterator<Item = &'a Arc<Stored>> {
        self.kinds.get(&query.kind).into_iter().flat_map(|table| table.scan(query))
    }

    pub(crate) fn list(&self, query: &Query) -> Listing {
        let mut found = self.scan(query);
        let items: Vec<_> = found.by_ref().take(query.page()).cloned().collect();
        let next = found.next().and(items.last()).map(|last| token(last));
        Listing { items, revision: self.revision, next }
    }

    pub(crate) fn apply(&mut self, change: &Change) {
        let object = &change.object;
        if !self.kinds.contains_key(object.kind()) {
            self.kinds.insert(object.kind().to_owned(), Table::default());
        }
        let table = self.kinds.get_mut(object.kind()).expect("it was just put there");
        if change.what == WatchKind::Deleted {
            self.ids.remove(&object.id());
            table.remove(object);
        } else {
            self.ids.replace(ById(object.clone()));
            table.put(object, change.before.as_deref());
        }
        self.revision = change.revision;
    }

    /// Takes a value for an object that exists. False where it does not.
    pub(crate) fn claim(&mut self, space: &str, value: &str, owner: &ObjectKey) -> bool {
        let Some(owner) = self.get(owner).map(|object| object.shared_key().clone()) else { return false };
        self.claims.put(space, value, owner);
        true
    }

    pub(crate) fn count(&self) -> usize {
        self.ids.len()
    }

    pub(crate) fn counts(&self) -> impl Iterator<Item = (&str, usize)> {
        self.kinds.iter().map(|(kind, table)| (kind.as_str(), table.len()))
    }
}

/// An object that is found by its id, without a copy of the id.
struct ById(Arc<Stored>);

impl PartialEq for ById {
    fn eq(&self, other: &Self) -> bool {
        self.0.id() == other.0.id()
    }
}
impl Eq for ById {}
impl Hash for ById {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.id().hash(state);
    }
}
impl Borrow<Uuid> for ById {
    fn borrow(&self) -> &Uuid {
        self.0.id_ref()
    }
}
