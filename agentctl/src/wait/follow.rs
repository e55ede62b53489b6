//! A few objects of one kind, followed by a watch. What they were is known or read; every change of them comes.
//!
//! Unlike the client's informer it never lists the kind, of which there may be 50,000. Where changes may have been
//! missed, it asks for the revision first, then reads each object, and watches from that revision, so that nothing falls
//! between.

use std::collections::VecDeque;

use agentd_api::KindDef;
use agentd_api::list::WatchKind;
use agentd_client::{AnyObject, ClientError, ListOptions, ResumedWatch, decode};
use uuid::Uuid;

use crate::app::App;

pub enum Seen {
    /// The object with this number, as it is now.
    Object(usize, Box<AnyObject>),
    /// The object with this number is no more.
    Gone(usize),
    /// The daemon does not answer. It is tried again.
    Away(ClientError),
}

struct Followed {
    name: String,
    /// Once it is known, another object of the same name is not this one.
    id: Option<Uuid>,
}

pub struct Follow<'a> {
    app: &'a App,
    def: &'static KindDef,
    followed: Vec<Followed>,
    /// Without a revision to go on from, the objects have to be read again.
    watch: ResumedWatch,
    queue: VecDeque<Seen>,
}

impl<'a> Follow<'a> {
    /// Objects that are known as of now.
    pub fn known(app: &'a App, def: &'static KindDef, objects: &[AnyObject]) -> Self {
        let followed =
            objects.iter().map(|o| Followed { name: o.meta.name.to_string(), id: Some(o.meta.id) }).collect();
        let since = objects.iter().map(|o| o.meta.revision).min();
        Self::new(app, def, followed, since)
    }

    /// Objects that may have changed or gone since they were answered: read once more, then followed.
    pub fn reread(app: &'a App, def: &'static KindDef, objects: &[AnyObject]) -> Self {
        let followed = Self::known(app, def, objects).followed;
        Self::new(app, def, followed, None)
    }

    /// An object that is known by its name only, and may come to be later.
    pub fn named(app: &'a App, def: &'static KindDef, name: &str) -> Self {
        Self::new(app, def, vec![Followed { name: name.to_owned(), id: None }], None)
    }

    fn new(app: &'a App, def: &'static KindDef, followed: Vec<Followed>, since: Option<u64>) -> Self {
        let watch = ResumedWatch::new(&app.client, def, app.list(), since);
        Self { app, def, followed, watch, queue: VecDeque::new() }
    }

    /// Waits for the next change. An error is one that waiting does not mend. Cancel-safe: the state changes only
    /// between waits.
    pub async fn next(&mut self) -> Result<Seen, ClientError> {
        loop {
            if let Some(seen) = self.queue.pop_front() {
                return Ok(seen);
            }
            let step = self.step().await;
            if let Some(error) = self.watch.mended(step).await? {
                return Ok(Seen::Away(error));
            }
        }
    }

    async fn step(&mut self) -> Result<(), ClientError> {
        if self.watch.since().is_none() {
            return self.read().await;
        }
        let Some((_, line)) = self.watch.step::<AnyObject>().await? else { return Ok(()) };
        if let Some(object) = line.object {
            self.take(object, line.event == WatchKind::Deleted);
        }
        Ok(())
    }

    async fn read(&mut self) -> Result<(), ClientError> {
        let kind = self.app.client.kind(self.def);
        let since = self.now().await?;
        let mut read = Vec::new();
        for followed in &self.followed {
            match kind.get_as::<AnyObject>(Some(&self.app.project), &followed.name).await {
                Ok(object) => read.push(Some(object)),
                Err(error) if error.is_not_found() => read.push(None),
                Err(error) => return Err(error),
            }
        }
        self.watch.begin(since);
        for (n, object) in read.into_iter().enumerate() {
            match object {
                Some(object) if self.followed[n].id.is_none_or(|id| id == object.meta.id) => {
                    self.take(object, false);
                }
                _ if self.followed[n].id.is_some() => self.queue.push_back(Seen::Gone(n)),
                _ => {}
            }
        }
        Ok(())
    }

    /// The store's revision, as the shortest list tells it. A watch without one would bring the whole kind first.
    async fn now(&self) -> Result<u64, ClientError> {
        #[derive(serde::Deserialize)]
        struct Head {
            revision: u64,
        }
        let options = ListOptions { limit: Some(1), ..self.app.list() };
        let head: Head = decode("list", &self.app.client.kind(self.def).page(&options).await?)?;
        Ok(head.revision)
    }

    fn take(&mut self, object: AnyObject, gone: bool) {
        let found = self.followed.iter_mut().enumerate().find(|(_, followed)| {
            followed.name == object.meta.name.as_str() && followed.id.is_none_or(|id| id == object.meta.id)
        });
        let Some((n, followed)) = found else { return };
        followed.id = Some(object.meta.id);
        self.queue.push_back(if gone { Seen::Gone(n) } else { Seen::Object(n, Box::new(object)) });
    }
}
