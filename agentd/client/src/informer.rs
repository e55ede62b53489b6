//! A copy of a kind's objects that keeps itself current: a list, then a watch from the list's revision.
//!
//! ```text
//! list --> watch --line--> watch ...
//!   ^        | connection lost: watch again from the last revision, after a pause
//!   +--------+ revision_compacted: list again; what is gone from it is reported as removed
//! ```
//!
//! A daemon that goes away is reported once as [`InformerEvent::Disconnected`] and then waited for without end: how
//! long is the caller's to say. An error that waiting cannot mend is returned.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use agentd_api::list::WatchKind;
use agentd_api::{ErrorCode, KindDef, ObjectName};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::client::Client;
use crate::error::ClientError;
use crate::object::Item;
use crate::options::ListOptions;
use crate::transport::decode;
use crate::watch::{WatchLine, WatchLines};

const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(2);

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
    revision: Option<u64>,
    lines: Option<WatchLines>,
    waiting: VecDeque<InformerEvent<T>>,
    pause: Duration,
    lost: bool,
}

impl<T: Item> Informer<T> {
    pub fn new(client: &Client, def: &'static KindDef, options: ListOptions) -> Self {
        Self {
            client: client.clone(),
            def,
            options: ListOptions { limit: None, after: None, ..options },
            known: BTreeMap::new(),
            revision: None,
            lines: None,
            waiting: VecDeque::new(),
            pause: PAUSE_MIN,
            lost: false,
        }
    }

    pub fn get(&self, project: &ObjectName, name: &ObjectName) -> Option<&T> {
        self.known.get(&(project.clone(), name.clone()))
    }
    pub fn items(&self) -> impl Iterator<Item = &T> {
        self.known.values()
    }
    /// The revision up to which the copy is current; none before the first list.
    pub fn revision(&self) -> Option<u64> {
        self.revision
    }

    /// Waits for the next thing that happens. Cancel-safe: a call that was given up loses nothing.
    pub async fn next(&mut self) -> Result<InformerEvent<T>, ClientError> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Ok(event);
            }
            match self.step().await {
                Ok(()) => {
                    self.pause = PAUSE_MIN;
                    self.lost = false;
                }
                Err(error) if error.code() == Some(ErrorCode::RevisionCompacted) => {
                    self.lines = None;
                    self.revision = None;
                }
                Err(error) if error.passes() => {
                    self.lines = None;
                    if self.lost {
                        tokio::time::sleep(self.pause).await;
                        self.pause = (self.pause * 2).min(PAUSE_MAX);
                    }
                    if !std::mem::replace(&mut self.lost, true) {
                        return Ok(InformerEvent::Disconnected(error));
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// One list, one opening of a watch, or one line of it.
    async fn step(&mut self) -> Result<(), ClientError> {
        let Some(revision) = self.revision else { return self.relist().await };
        let Some(lines) = &mut self.lines else {
            let opened = self.client.kind(self.def).watch(Some(revision), &self.options).await?;
            self.lines = Some(opened);
            return Ok(());
        };
        match lines.next().await {
            // The daemon closed it in good order: the next step opens another.
            None => {
                self.lines = None;
                tokio::time::sleep(PAUSE_MIN).await;
                Ok(())
            }
            Some(line) => {
                let line: WatchLine<T> = decode(&lines.name(), &line?)?;
                self.take(line);
                Ok(())
            }
        }
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
        self.revision = Some(revision.unwrap_or(0));
        self.waiting.push_back(InformerEvent::Synced);
        Ok(())
    }

    fn take(&mut self, line: WatchLine<T>) {
        self.revision = self.revision.max(Some(line.revision));
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
