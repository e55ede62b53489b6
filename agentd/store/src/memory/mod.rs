//! All that is committed, as reads see it. Only the writer changes it, a batch at a time.

pub(crate) mod answers;
pub(crate) mod claims;
mod slots;
mod table;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use agentd_api::ObjectKey;
use agentd_api::list::WatchKind;
use uuid::Uuid;

use crate::history::Change;
use crate::query::{Listing, Query, token};
use crate::stored::Stored;
use claims::Claims;
use slots::{Slot, Slots};
use table::Table;

#[derive(Default)]
pub(crate) struct Memory {
    slots: Slots,
    kinds: BTreeMap<String, Table>,
    ids: HashMap<Uuid, Slot>,
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
        let mut memory = Self { slots: Slots::with_capacity(objects.len()), ..Self::default() };
        memory.ids.reserve(objects.len());
        let mut placed = Vec::with_capacity(objects.len());
        for object in &objects {
            let slot = memory.slots.add(object.clone());
            if memory.ids.insert(object.id(), slot).is_some() {
                return Err(format!("{} has the id of another, {}", object.key(), object.id()));
            }
            placed.push((slot, object));
        }
        for of_kind in placed.chunk_by(|(_, a), (_, b)| a.kind() == b.kind()) {
            let [(_, first), ..] = of_kind else { continue };
            memory.kinds.insert(first.kind().to_owned(), Table::build(of_kind));
        }
        Ok(memory)
    }

    pub(crate) fn get(&self, key: &ObjectKey) -> Option<&Arc<Stored>> {
        let slot = self.kinds.get(&key.kind)?.get(key.project.as_str(), key.name.as_str())?;
        Some(self.slots.get(slot))
    }

    pub(crate) fn by_id(&self, id: Uuid) -> Option<&Arc<Stored>> {
        self.ids.get(&id).map(|slot| self.slots.get(*slot))
    }

    /// All, in no order.
    pub(crate) fn objects(&self) -> impl Iterator<Item = &Arc<Stored>> {
        self.slots.iter()
    }

    /// All that answer to the query from where its page begins on, in order.
    pub(crate) fn scan<'a>(&'a self, query: &'a Query) -> impl Iterator<Item = &'a Arc<Stored>> {
        self.kinds.get(&query.kind).into_iter().flat_map(|table| table.scan(&self.slots, query))
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
        let known = self.ids.get(&object.id()).copied();
        match (known, &change.before) {
            (Some(slot), _) if change.what == WatchKind::Deleted => {
                table.remove(slot, object);
                self.ids.remove(&object.id());
                self.slots.remove(slot);
            }
            (Some(slot), Some(before)) => {
                table.change(slot, object, before);
                self.slots.replace(slot, object.clone());
            }
            (None, _) if change.what == WatchKind::Deleted => {}
            _ => {
                let slot = self.slots.add(object.clone());
                self.ids.insert(object.id(), slot);
                table.add(slot, object);
            }
        }
        self.revision = change.revision;
    }

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
