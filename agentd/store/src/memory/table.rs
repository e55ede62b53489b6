//! The objects of one kind: by name, and by each declared field and label, so that a selector costs what it finds.
//!
//! Only the names are in order. What stands in an index of values is in none, so that to add to it costs the same
//! however much is in it; what a selector finds there is put in order when it is asked for.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use agentd_api::{ObjectKey, registry};

use super::slots::{Slot, SlotSet, Slots};
use crate::query::{LabelSelector, Query};
use crate::stored::{NAME_FIELD, Stored};

/// In the order of project and name.
type Names = BTreeMap<ByName, Slot>;
type ByValue = HashMap<Arc<str>, SlotSet>;

/// An index that finds more than one in so many of all is not used: to look at all in their order costs less than to
/// put what it finds in order, and the first page does not wait for the last.
const SELECTIVE: usize = 4;

#[derive(Default)]
pub(crate) struct Table {
    names: Names,
    /// By the position of the field in the kind's declaration.
    fields: HashMap<u8, ByValue>,
    labels: HashMap<Arc<str>, ByValue>,
}

impl Table {
    /// From objects in their order, with their slots.
    pub(super) fn build(objects: &[(Slot, &Arc<Stored>)]) -> Self {
        let names =
            objects.iter().map(|(slot, object)| (ByName(object.shared_key().clone()), *slot)).collect();
        let mut table = Self { names, ..Self::default() };
        for (slot, object) in objects {
            table.index(*slot, object, None);
        }
        table
    }

    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    pub(super) fn get(&self, project: &str, name: &str) -> Option<Slot> {
        let place: &dyn Place = &(project, name);
        self.names.get(place).copied()
    }

    /// Takes in a new object.
    pub(super) fn add(&mut self, slot: Slot, object: &Stored) {
        self.names.insert(ByName(object.shared_key().clone()), slot);
        self.index(slot, object, None);
    }

    /// The object in this slot was `before` and is `now`.
    pub(super) fn change(&mut self, slot: Slot, now: &Stored, before: &Stored) {
        self.unindex(slot, before, Some(now));
        self.index(slot, now, Some(before));
    }

    pub(super) fn remove(&mut self, slot: Slot, object: &Stored) {
        self.unindex(slot, object, None);
        let place: &dyn Place = &(object.project().as_str(), object.name().as_str());
        self.names.remove(place);
    }

    /// Puts an object into the indexes of its values, but for those that it had `before`.
    fn index(&mut self, slot: Slot, object: &Stored, before: Option<&Stored>) {
        for (at, value) in object.interned_fields() {
            if !before.is_some_and(|before| has_field(before, *at, value)) {
                self.fields.entry(*at).or_default().entry(value.clone()).or_default().insert(slot);
            }
        }
        for (key, value) in object.interned_labels() {
            if before.and_then(|before| before.label(key)) != Some(value) {
                self.labels.entry(key.clone()).or_default().entry(value.clone()).or_default().insert(slot);
            }
        }
    }

    /// Takes an object out of the indexes of its values, but for those that it has `now`.
    fn unindex(&mut self, slot: Slot, object: &Stored, now: Option<&Stored>) {
        for (at, value) in object.interned_fields() {
            let stays = now.is_some_and(|now| has_field(now, *at, value));
            if !stays && self.fields.get_mut(at).is_some_and(|values| take(values, value, slot)) {
                self.fields.remove(at);
            }
        }
        for (key, value) in object.interned_labels() {
            let stays = now.and_then(|now| now.label(key)) == Some(value);
            if !stays && self.labels.get_mut(key).is_some_and(|values| take(values, value, slot)) {
                self.labels.remove(key);
            }
        }
    }

    /// All that answer to the query from where its page begins on, in order.
    pub(super) fn scan<'a>(
        &'a self,
        slots: &'a Slots,
        query: &'a Query,
    ) -> Box<dyn Iterator<Item = &'a Arc<Stored>> + 'a> {
        match self.narrowest(query) {
            Narrowest::All => Box::new(self.in_order(slots, query).filter(|object| query.matches(object))),
            Narrowest::Of(set) if set.len() * SELECTIVE > self.len() => {
                Box::new(self.in_order(slots, query).filter(|object| query.matches(object)))
            }
            Narrowest::Of(set) => {
                let behind = query.behind();
                let found = set.iter().map(|slot| slots.get(*slot)).filter(|object| {
                    behind.is_none_or(|behind| place(object.key()) > behind) && query.matches(object)
                });
                let mut found: Vec<_> = found.collect();
                found.sort_unstable_by(|a, b| place(a.key()).cmp(&place(b.key())));
                Box::new(found.into_iter())
            }
            Narrowest::Nothing => Box::new(std::iter::empty()),
        }
    }

    /// From where the query's page begins to the end of its project.
    fn in_order<'a>(
        &'a self,
        slots: &'a Slots,
        query: &'a Query,
    ) -> impl Iterator<Item = &'a Arc<Stored>> + 'a {
        let project = query.project.as_ref().map(|project| project.as_str());
        let first = match (query.behind(), project) {
            (Some(behind), Some(project)) if behind < (project, "") => Bound::Included((project, "")),
            (Some(behind), _) => Bound::Excluded(behind),
            (None, Some(project)) => Bound::Included((project, "")),
            (None, None) => Bound::Unbounded,
        };
        let first = first.as_ref().map(|place| place as &dyn Place);
        self.names
            .range::<dyn Place, _>((first, Bound::Unbounded))
            .map(|(_, slot)| slots.get(*slot))
            .take_while(move |object| project.is_none_or(|project| project == object.project().as_str()))
    }

    /// The smallest set that all answers are in.
    fn narrowest(&self, query: &Query) -> Narrowest<'_> {
        let mut best = Narrowest::All;
        let def = registry::by_kind(&query.kind);
        let indexed = |(name, equals, _): &&(String, bool, String)| *equals && name != NAME_FIELD;
        for (name, _, value) in query.fields.iter().filter(indexed) {
            let at = def.and_then(|def| def.field(name)).and_then(|(at, _)| u8::try_from(at).ok());
            let values = at.and_then(|at| self.fields.get(&at));
            best = best.or(values.and_then(|values| values.get(value.as_str())));
        }
        for selector in &query.labels {
            match selector {
                LabelSelector::Equals(key, value) => {
                    let values = self.labels.get(key.as_str());
                    best = best.or(values.and_then(|values| values.get(value.as_str())));
                }
                LabelSelector::Has(key) if !self.labels.contains_key(key.as_str()) => {
                    return Narrowest::Nothing;
                }
                LabelSelector::Has(_) | LabelSelector::NotEquals(..) | LabelSelector::HasNot(_) => {}
            }
        }
        best
    }
}

/// What an answer has to be among.
enum Narrowest<'a> {
    All,
    Of(&'a SlotSet),
    Nothing,
}

impl<'a> Narrowest<'a> {
    /// The answers are in that set too; none is where nothing has the value.
    fn or(self, other: Option<&'a SlotSet>) -> Self {
        match (self, other) {
            (Self::Nothing, _) | (_, None) => Self::Nothing,
            (Self::Of(set), Some(other)) if set.len() <= other.len() => Self::Of(set),
            (_, Some(other)) => Self::Of(other),
        }
    }
}

fn has_field(object: &Stored, at: u8, value: &str) -> bool {
    object.interned_fields().iter().any(|(a, v)| *a == at && **v == *value)
}

/// True where nothing is left.
fn take(values: &mut ByValue, value: &str, slot: Slot) -> bool {
    if let Some(set) = values.get_mut(value) {
        set.remove(&slot);
        if set.is_empty() {
            values.remove(value);
        }
    }
    values.is_empty()
}

fn place(key: &ObjectKey) -> (&str, &str) {
    (key.project.as_str(), key.name.as_str())
}

/// Where an object stands in a list. Lets an object be found by borrowed texts, without a copy of them as its key.
trait Place {
    fn place(&self) -> (&str, &str);
}

impl Place for (&str, &str) {
    fn place(&self) -> (&str, &str) {
        *self
    }
}

struct ByName(Arc<ObjectKey>);

impl Place for ByName {
    fn place(&self) -> (&str, &str) {
        place(&self.0)
    }
}
impl<'a> Borrow<dyn Place + 'a> for ByName {
    fn borrow(&self) -> &(dyn Place + 'a) {
        self
    }
}
impl PartialEq for dyn Place + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.place() == other.place()
    }
}
impl Eq for dyn Place + '_ {}
impl PartialOrd for dyn Place + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for dyn Place + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        self.place().cmp(&other.place())
    }
}
impl PartialEq for ByName {
    fn eq(&self, other: &Self) -> bool {
        self.place() == other.place()
    }
}
impl Eq for ByName {}
impl PartialOrd for ByName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for ByName {
    fn cmp(&self, other: &Self) -> Ordering {
        self.place().cmp(&other.place())
    }
}
