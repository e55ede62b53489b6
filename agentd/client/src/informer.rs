//! A copy of a kind's objects that keeps itself current: a list, then a watch from the list's revision.
//!
//! ```text
//! list --> watch --line--> line ...
//!   ^        | connection lost: the watch is resumed
//!   +--------+ revision_compacted: list again; what is gone from it is reported as removed
//! ```
//!
//! A daemon that goes away is reported once as [`InformerEvent::Disconnected`] and then waited for without end: how
//! long is the caller's to say. An error that waiting cannot mend is returned.

use std::collections::{BTreeMap, VecDeque};

use agentd_api::list::WatchKind;
use agentd_api::{KindDef, ObjectName};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::client::Client;
use crate::error::ClientError;
use crate::object::Item;
use crate::options::ListOptions;
use crate::resume::ResumedWatch;
use crate::transport::decode;
use crate::watch::WatchLine;

type Key = (ObjectName, ObjectName);

#[derive(Debug)]
pub enum InformerEvent<T> {
    /// The copy is whole. Comes once after the first list and once after each list that became necessary.
    Synced,
    /// New or changed; read it with [`Informer::get`].
    Changed { project: ObjectName, name: ObjectName },
    /// Gone, with its last state.
    Removed(Box<T>),
    /// The daemon does not answer; it is tried again.
    Disconnected(ClientError),
}

#[derive(Deserialize)]
#[serde(bound = "T: DeserializeOwned")]
struct Page<T> {
    items: Vec<T>,
    revision: u64,
}

/// Objects of `T` by project and name. `T` is `Object<Vm>` or, for any kind, [`AnyObject`](crate::AnyObject).
pub struct Informer<T> {
    client: Client,
    def: &'static KindDef,
    options: ListOptions,
    known: BTreeMap<Key, T>,
    watch: ResumedWatch,
    waiting: VecDeque<InformerEvent<T>>,
}

impl<T: Item> Informer<T> {
    pub fn new(client: &Client, def: &'static KindDef, options: ListOptions) -> Self {
        let options = ListOptions { limit: None, after: None, ..options };
        let watch = ResumedWatch::new(client, def, options.clone(), None);
        let client = client.clone();
        Self { client, def, options, known: BTreeMap::new(), watch, waiting: VecDeque::new() }
    }

    pub fn get(&self, project: &ObjectName, name: &ObjectName) -> Option<&T> {
        self.known.get(&(project.clone(), name.clone()))
    }
    pub fn items(&self) -> impl Iterator<Item = &T> {
        self.known.values()
    }
    /// The revision up to which the copy is current; none before the first list.
    pub fn revision(&self) -> Option<u64> {
        self.watch.since()
    }

    /// Waits for the next thing that happens. Cancel-safe: a call that was given up loses nothing.
    pub async fn next(&mut self) -> Result<InformerEvent<T>, ClientError> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Ok(event);
            }
            let step = self.step().await;
            if let Some(error) = self.watch.mended(step).await? {
                return Ok(InformerEvent::Disconnected(error));
            }
        }
    }

    /// One list, or one step of the watch.
    async fn step(&mut self) -> Result<(), ClientError> {
        if self.watch.since().is_none() {
            return self.relist().await;
        }
        if let Some((_, line)) = self.watch.step().await? {
            self.take(line);
        }
        Ok(())
    }

    async fn relist(&mut self) -> Result<(), ClientError> {
        let pages = self.client.kind(self.def).pages(&self.options).await?;
        let mut fresh = BTreeMap::new();
        let mut revision = None;
        for page in pages {
            let page: Page<T> = decode(&format!("GET /v1/{}", self.def.plural), &page)?;
            // The first page's: what changed while the others were read comes again with the watch.
            revision.get_or_insert(page.revision);
            fresh.extend(page.items.into_iter().map(|item| (key(&item), item)));
        }
        let old = std::mem::replace(&mut self.known, fresh);
        for (key, item) in &self.known {
            let before = old.get(key).map(|o| (o.meta().id, o.meta().revision));
            if before != Some((item.meta().id, item.meta().revision)) {
                self.waiting
                    .push_back(InformerEvent::Changed { project: key.0.clone(), name: key.1.clone() });
            }
        }
        for (key, item) in old {
            if !self.known.contains_key(&key) {
                self.waiting.push_back(InformerEvent::Removed(Box::new(item)));
            }
        }
        self.watch.begin(revision.unwrap_or(0));
        self.waiting.push_back(InformerEvent::Synced);
        Ok(())
    }

    fn take(&mut self, line: WatchLine<T>) {
        let Some(object) = line.object else { return };
        let key = key(&object);
        match line.event {
            WatchKind::Added | WatchKind::Modified => {
                self.known.insert(key.clone(), object);
                self.waiting.push_back(InformerEvent::Changed { project: key.0, name: key.1 });
            }
            WatchKind::Deleted => {
                self.known.remove(&key);
                self.waiting.push_back(InformerEvent::Removed(Box::new(object)));
            }
            WatchKind::Bookmark => {}
        }
    }
}

fn key<T: Item>(item: &T) -> Key {
    (item.meta().project.clone(), item.meta().name.clone())
}
