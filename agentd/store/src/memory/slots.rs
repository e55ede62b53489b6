//! Where the objects are. A slot is an object's for as long as it exists, so that what finds objects (names, ids, fields,
//! labels) holds slots and need not be touched when an object is replaced by its next snapshot.

use std::hash::{BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

use crate::stored::Stored;

pub(crate) type Slot = u32;

/// Slots in no order. Its hasher has no seed of its own: slots are given out here and chosen by nobody else.
pub(super) type SlotSet = std::collections::HashSet<Slot, BuildHasherDefault<DefaultHasher>>;

#[derive(Default)]
pub(crate) struct Slots {
    all: Vec<Option<Arc<Stored>>>,
    /// Those of objects that are gone.
    free: Vec<Slot>,
}

impl Slots {
    pub(super) fn with_capacity(count: usize) -> Self {
        Self { all: Vec::with_capacity(count), free: Vec::new() }
    }

    pub(super) fn add(&mut self, object: Arc<Stored>) -> Slot {
        if let Some(slot) = self.free.pop() {
            self.all[at(slot)] = Some(object);
            return slot;
        }
        let slot = Slot::try_from(self.all.len()).expect("fewer than four thousand million objects");
        self.all.push(Some(object));
        slot
    }

    pub(super) fn replace(&mut self, slot: Slot, object: Arc<Stored>) {
        self.all[at(slot)] = Some(object);
    }

    pub(super) fn remove(&mut self, slot: Slot) {
        if self.all[at(slot)].take().is_some() {
            self.free.push(slot);
        }
    }

    pub(super) fn get(&self, slot: Slot) -> &Arc<Stored> {
        self.all[at(slot)].as_ref().expect("an index holds only slots of objects that are there")
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Stored>> {
        self.all.iter().flatten()
    }
}

const fn at(slot: Slot) -> usize {
    slot as usize
}
