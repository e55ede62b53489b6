//! The batch that is being made: what its transactions changed, laid over what is committed. Nobody else sees it.
//!
//! Every change of the stage leaves a note of what was there before, so that a transaction that is refused, or that
//! panics, is taken back alone.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use agentd_api::event::Event;
use agentd_api::list::WatchKind;
use agentd_api::{ObjectKey, ObjectName, Timestamp};
use uuid::Uuid;

use crate::engine::Counters;
use crate::history::Change;
use crate::json::ObjectJson;
use crate::query::Query;
use crate::shared::Shared;
use crate::stored::{Interner, Stored};
use crate::tx::{Expect, NewEvent, NewObject, Remembered, Tx, TxError, Update};
use crate::wire;

type Claim = (String, String);

pub(crate) struct Stage<'a> {
    shared: &'a Shared,
    interner: &'a mut Interner,
    pub(super) counters: Counters,
    /// None where the object is gone.
    pub(super) objects: BTreeMap<ObjectKey, Option<Arc<Stored>>>,
    ids: HashMap<Uuid, Option<Arc<Stored>>>,
    /// None where the value is free.
    pub(super) claims: BTreeMap<Claim, Option<ObjectKey>>,
    pub(super) answers: BTreeMap<String, (u64, Remembered)>,
    pub(super) changes: Vec<Arc<Change>>,
    pub(super) events: Vec<Event>,
    begun: Begun,
    undo: Vec<Undo>,
}

/// Where the transaction that is running began.
#[derive(Default)]
struct Begun {
    counters: Counters,
    changes: usize,
    events: usize,
}

/// What was in the stage before: none where nothing was.
enum Undo {
    Object(ObjectKey, Option<Option<Arc<Stored>>>),
    Id(Uuid, Option<Option<Arc<Stored>>>),
    Claim(Claim, Option<Option<ObjectKey>>),
    Answer(String, Option<(u64, Remembered)>),
}

impl<'a> Stage<'a> {
    pub(crate) fn new(shared: &'a Shared, interner: &'a mut Interner, counters: Counters) -> Self {
        Self {
            shared,
            interner,
            counters,
            objects: BTreeMap::new(),
            ids: HashMap::new(),
            claims: BTreeMap::new(),
            answers: BTreeMap::new(),
            changes: Vec::new(),
            events: Vec::new(),
            begun: Begun::default(),
            undo: Vec::new(),
        }
    }

    pub(crate) fn begin(&mut self) {
        self.undo.clear();
        self.begun =
            Begun { counters: self.counters, changes: self.changes.len(), events: self.events.len() };
    }

    /// Ends the transaction that succeeded.
    pub(crate) fn keep(&mut self) {
        let orphans: Vec<Claim> = self
            .undo
            .iter()
            .filter_map(|undo| match undo {
                Undo::Claim(claim, _) => Some(claim),
                _ => None,
            })
            .filter(|claim| {
                let owner = self.claims.get(*claim).and_then(Option::as_ref);
                owner.is_some_and(|owner| self.get(owner).is_none())
            })
            .cloned()
            .collect();
        for claim in orphans {
            self.set_claim(claim, None);
        }
        self.undo.clear();
    }

    /// Takes back all that the transaction did.
    pub(crate) fn roll_back(&mut self) {
        while let Some(undo) = self.undo.pop() {
            match undo {
                Undo::Object(key, was) => put_back(&mut self.objects, key, was),
                Undo::Claim(claim, was) => put_back(&mut self.claims, claim, was),
                Undo::Answer(key, was) => put_back(&mut self.answers, key, was),
                Undo::Id(id, Some(was)) => drop(self.ids.insert(id, was)),
                Undo::Id(id, None) => drop(self.ids.remove(&id)),
            }
        }
        self.changes.truncate(self.begun.changes);
        self.events.truncate(self.begun.events);
        self.counters = self.begun.counters;
    }

    fn set_claim(&mut self, claim: Claim, owner: Option<ObjectKey>) {
        let was = self.claims.insert(claim.clone(), owner);
        self.undo.push(Undo::Claim(claim, was));
    }

    /// Notes a change of an object; `now` is none where it is gone.
    fn change(&mut self, what: WatchKind, was: Option<Arc<Stored>>, now: Option<Arc<Stored>>) {
        let Some(object) = now.clone().or_else(|| was.clone()) else { return };
        let key = object.key().clone();
        let id = object.id();
        self.undo.push(Undo::Object(key.clone(), self.objects.insert(key, now.clone())));
        self.undo.push(Undo::Id(id, self.ids.insert(id, now)));
        self.counters.revision += 1;
        self.changes.push(Arc::new(Change { revision: self.counters.revision, what, object, before: was }));
    }

    fn snapshot(&mut self, born: u64, key: Arc<ObjectKey>, json: ObjectJson) -> Arc<Stored> {
        let parsed = Stored::parse(born, Some(key), json, self.interner);
        Arc::new(parsed.expect("what was just written can be read"))
    }

    fn expected(&self, key: &ObjectKey, expect: Expect) -> Result<Arc<Stored>, TxError> {
        let gone = || TxError::NotFound { key: key.clone() };
        let found = self.get(key).ok_or_else(gone)?;
        match expect {
            Expect::Any => Ok(found),
            Expect::Id(id) if found.id() == id => Ok(found),
            Expect::Id(_) => Err(gone()),
            Expect::Revision(wanted) if found.revision() == wanted => Ok(found),
            Expect::Revision(wanted) => {
                Err(TxError::RevisionMismatch { key: key.clone(), wanted, is: found.revision() })
            }
        }
    }
}

fn put_back<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, was: Option<V>) {
    match was {
        Some(was) => drop(map.insert(key, was)),
        None => drop(map.remove(&key)),
    }
}

impl Tx for Stage<'_> {
    fn get(&self, key: &ObjectKey) -> Option<Arc<Stored>> {
        match self.objects.get(key) {
            Some(staged) => staged.clone(),
            None => self.shared.memory.read().get(key).cloned(),
        }
    }

    fn by_id(&self, id: Uuid) -> Option<Arc<Stored>> {
        match self.ids.get(&id) {
            Some(staged) => staged.clone(),
            None => self.shared.memory.read().by_id(id).cloned(),
        }
    }

    fn list(&self, query: &Query) -> Vec<Arc<Stored>> {
        let memory = self.shared.memory.read();
        if !self.objects.keys().any(|key| key.kind == query.kind) {
            return memory.list(query).items;
        }
        let committed = memory.scan(query).filter(|object| !self.objects.contains_key(object.key()));
        let mut found: Vec<_> = committed.cloned().collect();
        let place = |object: &Stored| (object.project().clone(), object.name().clone());
        let behind = |object: &Stored| {
            query.behind().is_none_or(|after| (object.project().as_str(), object.name().as_str()) > after)
        };
        let staged = self.objects.values().flatten();
        found.extend(staged.filter(|object| query.matches(object) && behind(object)).cloned());
        found.sort_by_cached_key(|object| place(object));
        found.truncate(query.page());
        found
    }

    fn create(&mut self, new: NewObject) -> Result<Arc<Stored>, TxError> {
        if self.get(&new.key).is_some() {
            return Err(TxError::AlreadyExists { key: new.key });
        }
        let revision = self.counters.revision + 1;
        let json = wire::created(&new, Uuid::now_v7(), revision);
        let object = self.snapshot(revision, Arc::new(new.key), json);
        self.change(WatchKind::Added, None, Some(object.clone()));
        Ok(object)
    }

    fn update(&mut self, key: &ObjectKey, expect: Expect, change: Update) -> Result<Arc<Stored>, TxError> {
        let was = self.expected(key, expect)?;
        let Some(json) = wire::updated(&was, &change, self.counters.revision + 1) else {
            return Ok(was);
        };
        let now = self.snapshot(was.born(), was.shared_key().clone(), json);
        self.change(WatchKind::Modified, Some(was), Some(now.clone()));
        Ok(now)
    }

    fn rename(&mut self, key: &ObjectKey, name: &ObjectName) -> Result<Arc<Stored>, TxError> {
        let was = self.expected(key, Expect::Any)?;
        let new = ObjectKey { name: name.clone(), ..key.clone() };
        if self.get(&new).is_some() {
            return Err(TxError::AlreadyExists { key: new });
        }
        let claims = self.allocations(key);
        self.change(WatchKind::Deleted, Some(was.clone()), None);
        // To the engine it is another object: what it keeps of the past is of one name.
        let revision = self.counters.revision + 1;
        let json = wire::renamed(&was, name, revision);
        let now = self.snapshot(revision, Arc::new(new.clone()), json);
        self.change(WatchKind::Added, None, Some(now.clone()));
        for claim in claims {
            self.set_claim(claim, Some(new.clone()));
        }
        Ok(now)
    }

    fn remove(&mut self, key: &ObjectKey, expect: Expect) -> Result<(), TxError> {
        let was = self.expected(key, expect)?;
        self.release_all(key);
        self.change(WatchKind::Deleted, Some(was), None);
        Ok(())
    }

    fn allocate(&mut self, space: &str, value: &str, owner: &ObjectKey) -> Result<(), TxError> {
        match self.owner_of(space, value) {
            Some(is) if is == *owner => Ok(()),
            Some(is) => Err(TxError::Taken { space: space.to_owned(), value: value.to_owned(), owner: is }),
            None => {
                self.set_claim((space.to_owned(), value.to_owned()), Some(owner.clone()));
                Ok(())
            }
        }
    }

    fn owner_of(&self, space: &str, value: &str) -> Option<ObjectKey> {
        if !self.claims.is_empty()
            && let Some(staged) = self.claims.get(&(space.to_owned(), value.to_owned()))
        {
            return staged.clone();
        }
        self.shared.memory.read().claims.owner(space, value).cloned()
    }

    fn taken_of(&self, space: &str) -> usize {
        let memory = self.shared.memory.read();
        let mut taken = memory.claims.taken_of(space);
        for ((_, value), by) in self.claims.iter().filter(|((of, _), _)| of == space) {
            match (memory.claims.owner(space, value), by) {
                (None, Some(_)) => taken += 1,
                (Some(_), None) => taken -= 1,
                _ => {}
            }
        }
        taken
    }

    fn allocations(&self, owner: &ObjectKey) -> Vec<(String, String)> {
        let memory = self.shared.memory.read();
        let committed = memory.claims.of(owner).iter().map(|(s, v)| (s.to_string(), v.to_string()));
        let mut found: Vec<_> = committed.filter(|claim| !self.claims.contains_key(claim)).collect();
        let staged = self.claims.iter().filter(|(_, by)| by.as_ref() == Some(owner));
        found.extend(staged.map(|(claim, _)| claim.clone()));
        found.sort_unstable();
        found
    }

    fn release(&mut self, space: &str, value: &str, owner: &ObjectKey) {
        if self.owner_of(space, value).as_ref() == Some(owner) {
            self.set_claim((space.to_owned(), value.to_owned()), None);
        }
    }

    fn release_all(&mut self, owner: &ObjectKey) {
        for claim in self.allocations(owner) {
            self.set_claim(claim, None);
        }
    }

    fn record(&mut self, event: NewEvent) {
        self.counters.event_seq += 1;
        let NewEvent { kind, project, name, id, actor, verb, message, outcome, request_id } = event;
        let (seq, at) = (self.counters.event_seq, Timestamp::now());
        self.events.push(Event {
            seq,
            at,
            kind,
            project,
            name,
            id,
            actor,
            verb,
            message,
            outcome,
            request_id,
        });
    }

    fn remember(&mut self, key: &str, answer: Remembered) {
        let was = self.answers.insert(key.to_owned(), (Timestamp::now().millis(), answer));
        self.undo.push(Undo::Answer(key.to_owned(), was));
    }

    fn recall(&self, key: &str) -> Option<Remembered> {
        match self.answers.get(key) {
            Some((_, staged)) => Some(staged.clone()),
            None => self.shared.answers.lock().get(key, Timestamp::now().millis()).cloned(),
        }
    }
}
