//! Who has taken which value in which space, both ways.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use agentd_api::ObjectKey;

pub(crate) type Text = Arc<str>;

#[derive(Default)]
pub(crate) struct Claims {
    spaces: HashMap<Text, BTreeMap<Text, Arc<ObjectKey>>>,
    owners: HashMap<Arc<ObjectKey>, Vec<(Text, Text)>>,
    count: usize,
}

impl Claims {
    pub(crate) fn owner(&self, space: &str, value: &str) -> Option<&ObjectKey> {
        self.spaces.get(space)?.get(value).map(|owner| &**owner)
    }

    pub(crate) fn of(&self, owner: &ObjectKey) -> &[(Text, Text)] {
        self.owners.get(owner).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn taken_of(&self, space: &str) -> usize {
        self.spaces.get(space).map_or(0, BTreeMap::len)
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str, &ObjectKey)> {
        self.spaces.iter().flat_map(|(space, values)| values.iter().map(move |(v, o)| (&**space, &**v, &**o)))
    }

    /// All, sharing what they hold.
    pub(crate) fn shared(&self) -> impl Iterator<Item = (Text, Text, Arc<ObjectKey>)> {
        let of = |(space, values): (&Text, &BTreeMap<Text, Arc<ObjectKey>>)| {
            let space = space.clone();
            let all = values.iter().map(move |(value, owner)| (space.clone(), value.clone(), owner.clone()));
            all.collect::<Vec<_>>()
        };
        self.spaces.iter().flat_map(of)
    }

    /// What nobody has.
    pub(crate) fn put(&mut self, space: &str, value: &str, owner: Arc<ObjectKey>) {
        let space: Text =
            self.spaces.get_key_value(space).map_or_else(|| space.into(), |(known, _)| known.clone());
        let value: Text = value.into();
        let taken = self.owners.entry(owner.clone()).or_default();
        // Most owners have one or two.
        taken.reserve_exact(1);
        taken.push((space.clone(), value.clone()));
        let before = self.spaces.entry(space).or_default().insert(value, owner);
        debug_assert!(before.is_none(), "it was taken");
        self.count += 1;
    }

    pub(crate) fn take(&mut self, space: &str, value: &str) {
        let Some(values) = self.spaces.get_mut(space) else { return };
        let Some(owner) = values.remove(value) else { return };
        if values.is_empty() {
            self.spaces.remove(space);
        }
        if let Some(taken) = self.owners.get_mut(&owner) {
            taken.retain(|(s, v)| (&**s, &**v) != (space, value));
            if taken.is_empty() {
                self.owners.remove(&owner);
            }
        }
        self.count -= 1;
    }
}
