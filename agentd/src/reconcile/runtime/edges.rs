//! Who read what: an object's pass depends on the objects and lists that it read, and is woken when they change.
//!
//! An edge is there from the moment before the read, so that no change falls between, and what the next pass does not
//! read is dropped when it ends. Keys are shared, not copied: there can be many thousands of edges to one network.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use agentd_api::ObjectKey;
use agentd_store::{Query, Stored};

/// What one pass read.
#[derive(Debug, Clone, Default)]
pub struct Read {
    pub objects: HashSet<ObjectKey>,
    pub lists: Vec<Query>,
}

#[derive(Debug, Default)]
pub struct Edges {
    /// Object -> those who read it.
    readers: HashMap<Arc<ObjectKey>, HashSet<Arc<ObjectKey>>>,
    /// Kind -> those who read a list of it.
    lists: HashMap<String, Vec<(Arc<ObjectKey>, Query)>>,
    /// Reader -> the objects it read.
    of: HashMap<Arc<ObjectKey>, Vec<Arc<ObjectKey>>>,
    list_readers: HashSet<Arc<ObjectKey>>,
}

impl Edges {
    pub fn add_object(&mut self, reader: &ObjectKey, object: &ObjectKey) {
        let (reader, object) = (self.share(reader), self.share(object));
        if self.readers.entry(object.clone()).or_default().insert(reader.clone()) {
            self.of.entry(reader).or_default().push(object);
        }
    }

    pub fn add_list(&mut self, reader: &ObjectKey, query: &Query) {
        let reader = self.share(reader);
        self.list_readers.insert(reader.clone());
        self.lists.entry(query.kind.clone()).or_default().push((reader, query.clone()));
    }

    /// The edges of `reader` are exactly these from now on.
    pub fn replace(&mut self, reader: &ObjectKey, read: &Read) {
        if read.objects.is_empty() && read.lists.is_empty() {
            return self.forget(reader);
        }
        let shared = self.share(reader);
        let old = self.of.remove(&shared).unwrap_or_default();
        let (kept, gone): (Vec<_>, Vec<_>) = old.into_iter().partition(|o| read.objects.contains(o.as_ref()));
        gone.iter().for_each(|object| self.drop_reader(object, &shared));
        if !kept.is_empty() {
            self.of.insert(shared.clone(), kept);
        }
        read.objects.iter().for_each(|object| self.add_object(reader, object));
        self.drop_lists(&shared);
        read.lists.iter().for_each(|query| self.add_list(reader, query));
    }

    pub fn forget(&mut self, reader: &ObjectKey) {
        let shared = self.share(reader);
        for object in self.of.remove(&shared).unwrap_or_default() {
            self.drop_reader(&object, &shared);
        }
        self.drop_lists(&shared);
    }

    /// Those who read what changed: `now` is the object after the change, `before` the one before it, either may be
    /// absent. A reader is told once.
    pub fn readers(&self, now: &Stored, before: Option<&Stored>) -> Vec<ObjectKey> {
        let mut found: HashSet<&ObjectKey> = HashSet::new();
        if let Some(readers) = self.readers.get(now.key()) {
            found.extend(readers.iter().map(AsRef::as_ref));
        }
        for (reader, query) in self.lists.get(&now.key().kind).into_iter().flatten() {
            if query.matches(now) || before.is_some_and(|b| query.matches(b)) {
                found.insert(reader);
            }
        }
        // An object that reads a list of its own kind is woken by its own change already.
        found.into_iter().filter(|reader| *reader != now.key()).cloned().collect()
    }

    fn share(&self, key: &ObjectKey) -> Arc<ObjectKey> {
        let known = self.of.get_key_value(key).map(|(k, _)| k);
        let known = known.or_else(|| self.readers.get_key_value(key).map(|(k, _)| k));
        known.cloned().unwrap_or_else(|| Arc::new(key.clone()))
    }

    fn drop_reader(&mut self, object: &Arc<ObjectKey>, reader: &Arc<ObjectKey>) {
        if let Some(readers) = self.readers.get_mut(object) {
            readers.remove(reader);
            if readers.is_empty() {
                self.readers.remove(object);
            }
        }
    }

    fn drop_lists(&mut self, reader: &Arc<ObjectKey>) {
        if self.list_readers.remove(reader) {
            self.lists.retain(|_, all| {
                all.retain(|(r, _)| r != reader);
                !all.is_empty()
            });
        }
    }
}
