//! A few objects of one kind, followed by a watch. What they were is known or read; every change of them comes.
//!
//! Unlike the client's informer it never lists the kind, of which there may be 50,000. Where changes may have been
//! missed, it opens a watch first and then reads each object, so that nothing falls between.

use std::collections::VecDeque;
use std::time::Duration;

use agentd_api::list::WatchKind;
use agentd_api::{ErrorCode, KindDef};
use agentd_client::{AnyObject, ClientError, ListOptions, WatchLine, WatchLines, decode};
use uuid::Uuid;

use crate::app::App;

const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);

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
    options: ListOptions,
    followed: Vec<Followed>,
    /// The revision from which the next watch begins; none where the objects have to be read again.
    since: Option<u64>,
    lines: Option<WatchLines>,
    queue: VecDeque<Seen>,
    pause: Duration,
    away: bool,
}

impl<'a> Follow<'a> {
    /// Objects that are known as of now.
    pub fn known(app: &'a App, def: &'static KindDef, objects: &[AnyObject]) -> Self {
        let followed =
            objects.iter().map(|o| Followed { name: o.meta.name.to_string(), id: Some(o.meta.id) }).collect();
        Self { since: objects.iter().map(|o| o.meta.revision).min(), ..Self::new(app, def, followed) }
    }

    /// Objects that may have changed or gone since they were answered: read once more, then followed.
    pub fn reread(app: &'a App, def: &'static KindDef, objects: &[AnyObject]) -> Self {
        Self { since: None, ..Self::known(app, def, objects) }
    }

    /// An object that is known by its name only, and may come to be later.
    pub fn named(app: &'a App, def: &'static KindDef, name: &str) -> Self {
        Self::new(app, def, vec![Followed { name: name.to_owned(), id: None }])
    }

    fn new(app: &'a App, def: &'static KindDef, followed: Vec<Followed>) -> Self {
        Self {
            app,
            def,
            options: app.list(),
            followed,
            since: None,
            lines: None,
            queue: VecDeque::new(),
            pause: PAUSE_MIN,
            away: false,
        }
    }

    /// Waits for the next change. An error is one that waiting does not mend. Cancel-safe: the state changes only
    /// between waits.
    pub async fn next(&mut self) -> Result<Seen, ClientError> {
        loop {
            if let Some(seen) = self.queue.pop_front() {
                return Ok(seen);
            }
            match self.step().await {
                Ok(()) => {
                    self.away = false;
                    self.pause = PAUSE_MIN;
                }
                Err(error) if error.code() == Some(ErrorCode::RevisionCompacted) => {
                    self.lines = None;
                    self.since = None;
                }
                Err(error) if error.passes() => {
                    self.lines = None;
                    if !std::mem::replace(&mut self.away, true) {
                        return Ok(Seen::Away(error));
                    }
                    tokio::time::sleep(self.pause).await;
                    self.pause = (self.pause * 2).min(PAUSE_MAX);
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn step(&mut self) -> Result<(), ClientError> {
        let Some(lines) = &mut self.lines else { return self.open().await };
        match lines.next().await {
            None => {
                // Closed in good order, as by a daemon that stops: what comes next is another watch.
                self.lines = None;
                tokio::time::sleep(PAUSE_MIN).await;
                Ok(())
            }
            Some(line) => {
                let line: WatchLine<AnyObject> = decode("watch", &line?)?;
                self.since = self.since.max(Some(line.revision));
                let Some(object) = line.object else { return Ok(()) };
                let gone = line.event == WatchKind::Deleted;
                self.take(object, gone);
                Ok(())
            }
        }
    }

    async fn open(&mut self) -> Result<(), ClientError> {
        let kind = self.app.client.kind(self.def);
        let since = match self.since {
            Some(since) => since,
            None => self.now().await?,
        };
        let lines = kind.watch(Some(since), &self.options).await?;
        let mut read = Vec::new();
        if self.since.is_none() {
            for followed in &self.followed {
                match kind.get_as::<AnyObject>(Some(&self.app.project), &followed.name).await {
                    Ok(object) => read.push(Some(object)),
                    Err(error) if error.is_not_found() => read.push(None),
                    Err(error) => return Err(error),
                }
            }
        }
        self.lines = Some(lines);
        self.since = Some(since);
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
        let options = ListOptions { limit: Some(1), ..self.options.clone() };
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
