//! The objects of one kind: by name, and by each declared field and label, so that a selector costs what it finds.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use agentd_api::registry;

use crate::query::{LabelSelector, Query};
use crate::stored::{NAME_FIELD, Stored};

/// Objects in the order of project and name.
type Names = BTreeSet<ByName>;
type ByValue = HashMap<Arc<str>, Names>;

#[derive(Default)]
pub(crate) struct Table {
    names: Names,
    /// By the position of the field in the kind's declaration.
    fields: HashMap<u8, ByValue>,
    labels: HashMap<Arc<str>, ByValue>,
}

impl Table {
    /// From objects in their order: sets are filled in one go, not one by one.
    pub(crate) fn build(objects: &[Arc<Stored>]) -> Self {
        let mut fields: HashMap<u8, HashMap<Arc<str>, Vec<ByName>>> = HashMap::new();
        let mut labels: HashMap<Arc<str>, HashMap<Arc<str>, Vec<ByName>>> = HashMap::new();
        for object in objects {
            for (at, value) in object.interned_fields() {
                let found = fields.entry(*at).or_default().entry(value.clone()).or_default();
                found.push(ByName(object.clone()));
            }
            for (key, value) in object.interned_labels() {
                let found = labels.entry(key.clone()).or_default().entry(value.clone()).or_default();
                found.push(ByName(object.clone()));
            }
        }
        fn sets<K: std::hash::Hash + Eq>(
            from: HashMap<K, HashMap<Arc<str>, Vec<ByName>>>,
        ) -> HashMap<K, ByValue> {
            let set = |(value, found): (Arc<str>, Vec<ByName>)| (value, found.into_iter().collect());
            from.into_iter().map(|(key, values)| (key, values.into_iter().map(set).collect())).collect()
        }
        let names = objects.iter().cloned().map(ByName).collect();
        Self { names, fields: sets(fields), labels: sets(labels) }
    }

    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }

    pub(crate) fn get(&self, project: &str, name: &str) -> Option<&Arc<Stored>> {
        let place: &dyn Place = &(project, name);
        self.names.get(place).map(|found| &found.0)
    }

    pub(crate) fn put(&mut self, object: &Arc<Stored>, before: Option<&Stored>) {
        if let Some(before) = before {
            self.forget(
                before,
                |at, value| object.interned_fields().iter().any(|(a, v)| (*a, v) == (at, value)),
                |k, v| object.label(k) == Some(v),
            );
        }
        self.names.replace(ByName(object.clone()));
        for (at, value) in object.interned_fields() {
            put(self.fields.entry(*at).or_default(), value, object);
        }
        for (key, value) in object.interned_labels() {
            put(self.labels.entry(key.clone()).or_default(), value, object);
        }
    }

    pub(crate) fn remove(&mut self, object: &Stored) {
        self.forget(object, |_, _| false, |_, _| false);
        let place: &dyn Place = &(object.project().as_str(), object.name().as_str());
        self.names.remove(place);
    }

    /// Takes an object out of the indexes, but for the values that `field` and `label` say it keeps.
    fn forget(
        &mut self,
        object: &Stored,
        field: impl Fn(u8, &Arc<str>) -> bool,
        label: impl Fn(&str, &str) -> bool,
    ) {
        for (at, value) in object.interned_fields().iter().filter(|(at, value)| !field(*at, value)) {
            if self.fields.get_mut(at).is_some_and(|values| take(values, value, object)) {
                self.fields.remove(at);
            }
        }
        for (key, value) in object.interned_labels().iter().filter(|(key, value)| !label(key, value)) {
            if self.labels.get_mut(key).is_some_and(|values| take(values, value, object)) {
                self.labels.remove(key);
            }
        }
    }

    /// All that answer to the query from where its page begins on, in order.
    pub(crate) fn scan<'a>(&'a self, query: &'a Query) -> impl Iterator<Item = &'a Arc<Stored>> {
        let project = query.project.as_ref().map(|project| project.as_str());
        let first = match (query.behind(), project) {
            (Some(behind), Some(project)) if behind < (project, "") => Bound::Included((project, "")),
            (Some(behind), _) => Bound::Excluded(behind),
            (None, Some(project)) => Bound::Included((project, "")),
            (None, None) => Bound::Unbounded,
        };
        let from = move |names: &'a Names| {
            let first = first.as_ref().map(|place| place as &dyn Place);
            names.range::<dyn Place, _>((first, Bound::Unbounded))
        };
        self.narrowest(query)
            .into_iter()
            .flat_map(from)
            .map(|found| &found.0)
            .take_while(move |object| project.is_none_or(|project| project == object.project().as_str()))
            .filter(|object| query.matches(object))
    }

    /// The smallest set that all answers are in; nothing where there can be none.
    fn narrowest(&self, query: &Query) -> Option<&Names> {
        let mut best = &self.names;
        let def = registry::by_kind(&query.kind);
        let indexed = |(name, equals, _): &&(String, bool, String)| *equals && name != NAME_FIELD;
        for (name, _, value) in query.fields.iter().filter(indexed) {
            let (at, _) = def.and_then(|def| def.field(name))?;
            let values = self.fields.get(&u8::try_from(at).ok()?)?;
            best = smaller(best, values.get(value.as_str())?);
        }
        for selector in &query.labels {
            match selector {
                LabelSelector::Equals(key, value) => {
                    best = smaller(best, self.labels.get(key.as_str())?.get(value.as_str())?);
                }
                LabelSelector::Has(key) if !self.labels.contains_key(key.as_str()) => return None,
                LabelSelector::Has(_) | LabelSelector::NotEquals(..) | LabelSelector::HasNot(_) => {}
            }
        }
        Some(best)
    }
}

fn smaller<'a>(a: &'a Names, b: &'a Names) -> &'a Names {
    if b.len() < a.len() { b } else { a }
}

fn put(values: &mut ByValue, value: &Arc<str>, object: &Arc<Stored>) {
    values.entry(value.clone()).or_default().replace(ByName(object.clone()));
}

/// True where nothing is left.
fn take(values: &mut ByValue, value: &str, object: &Stored) -> bool {
    if let Some(names) = values.get_mut(value) {
        let place: &dyn Place = &(object.project().as_str(), object.name().as_str());
        names.remove(place);
        if names.is_empty() {
            values.remove(value);
        }
    }
    values.is_empty()
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

#[derive(Clone)]
struct ByName(Arc<Stored>);

impl Place for ByName {
    fn place(&self) -> (&str, &str) {
        (self.0.project().as_str(), self.0.name().as_str())
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
