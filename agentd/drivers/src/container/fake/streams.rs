//! What goes to the fake's containers and comes from them. Programs are those of the fake's VMs.

use agentd_api::stats::{CpuFigures, MemoryFigures, NetworkFigures};
use async_trait::async_trait;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::state::{Kept, Line};
use super::{FakeContainers, Inner};
use crate::container::{
    Changed, ChangedHow, Commit, ContainerError, ContainerState, ContainerStats, ContainerStreams, ExitSeen,
    Logs, Processes, Sitting, Wired,
};
use crate::vm::fake::programs::{self, Say};
use crate::vm::guest::{ExecWish, GuestError, GuestIn, GuestOut, Said};

impl Inner {
    fn running(&self, id: Uuid) -> Result<(), GuestError> {
        let world = self.world.lock();
        match world.find(id).ok_or(ContainerError::Missing(id))?.state {
            ContainerState::Running => Ok(()),
            ContainerState::Paused => Err(GuestError::NotRunning("paused")),
            _ => Err(GuestError::NotRunning("off")),
        }
    }

    fn there<T>(&self, id: Uuid, look: impl FnOnce(&mut Kept) -> T) -> Result<T, ContainerError> {
        Ok(look(self.world.lock().find_mut(id).ok_or(ContainerError::Missing(id))?))
    }

    /// What it has said from the `at`-th word on, and how its run ended, where it has.
    fn said(&self, id: Uuid, at: usize) -> Option<(Vec<Line>, Option<ExitSeen>)> {
        let world = self.world.lock();
        let kept = world.find(id)?;
        let lines = kept.log.get(at..).unwrap_or_default().to_vec();
        let over = (!kept.state.is_on())
            .then(|| kept.exit.clone().unwrap_or(ExitSeen { code: 0, oom: false, error: None }));
        Some((lines, over))
    }
}

impl FakeContainers {
    async fn guest_call<T: Send + 'static>(
        &self,
        method: &'static str,
        work: impl FnOnce(&Inner) -> Result<T, GuestError> + Send + 'static,
    ) -> Result<T, GuestError> {
        // Its own failures are the outer ones, the session's the inner.
        self.call(method, move |inner| Ok(work(inner))).await?
    }

    /// Waits until it is on; whether it came to that.
    async fn comes_up(&self, id: Uuid) -> bool {
        let mut turns = self.inner.turns.subscribe();
        loop {
            match self.inner.said(id, 0) {
                None => return false,
                Some((_, None)) => return true,
                Some((_, Some(_))) if turns.changed().await.is_err() => return false,
                Some(_) => {}
            }
        }
    }

    /// Says what the container has said and says, from the `at`-th word on, as long as it is on and `follow` is.
    async fn tell(self, id: Uuid, mut at: usize, logs: Logs, say: Say) -> Option<ExitSeen> {
        let mut turns = self.inner.turns.subscribe();
        loop {
            let (lines, over) = self.inner.said(id, at)?;
            at += lines.len();
            for line in lines.iter().filter(|line| wanted(line, &logs)) {
                say.send(Ok(piece(line, &logs))).await.ok()?;
            }
            if over.is_some() || !logs.follow {
                return over.or(Some(ExitSeen { code: 0, oom: false, error: None }));
            }
            turns.changed().await.ok()?;
        }
    }
}

fn wanted(line: &Line, logs: &Logs) -> bool {
    (if line.err { logs.err } else { logs.out })
        && logs.since.is_none_or(|since| line.at >= since)
        && logs.until.is_none_or(|until| line.at <= until)
}

fn piece(line: &Line, logs: &Logs) -> Said {
    let mut bytes = if logs.timestamps { format!("{} ", line.at).into_bytes() } else { Vec::new() };
    bytes.extend_from_slice(&line.text);
    if line.err { Said::Err(bytes) } else { Said::Out(bytes) }
}

#[async_trait]
impl ContainerStreams for FakeContainers {
    async fn exec(&self, id: Uuid, wish: ExecWish) -> Result<(GuestIn, GuestOut), GuestError> {
        self.guest_call("exec", move |inner| {
            inner.running(id)?;
            programs::run(wish)
        })
        .await
    }

    async fn attach(&self, id: Uuid, sitting: Sitting) -> Result<(GuestIn, GuestOut), GuestError> {
        let fake = self.clone();
        self.guest_call("attach", move |inner| {
            let early = match inner.running(id) {
                Err(GuestError::NotRunning("off")) if sitting.early => true,
                runs => runs.map(|()| false)?,
            };
            let at = inner.there(id, |kept| kept.log.len())?;
            let (ends, came, say) = programs::session();
            tokio::spawn(swallow(came));
            tokio::spawn(async move {
                let logs = Logs { follow: true, out: true, err: true, ..Logs::default() };
                if early && !fake.comes_up(id).await {
                    return;
                }
                if let Some(exit) = fake.tell(id, at, logs, say.clone()).await {
                    let _ = say.send(Ok(Said::Exit(exit.code))).await;
                }
            });
            Ok(ends)
        })
        .await
    }

    async fn logs(&self, id: Uuid, logs: Logs) -> Result<GuestOut, GuestError> {
        let fake = self.clone();
        self.guest_call("logs", move |inner| {
            let words = inner.there(id, |kept| kept.log.len())?;
            let at = logs.tail.map_or(0, |tail| words.saturating_sub(usize::try_from(tail).unwrap_or(words)));
            let ((_, out), came, say) = programs::session();
            tokio::spawn(async move {
                drop(came);
                fake.tell(id, at, logs, say.clone()).await;
                let _ = say.send(Ok(Said::Done { count: 0, bytes: 0 })).await;
            });
            Ok(out)
        })
        .await
    }

    async fn pack(&self, id: Uuid, path: String) -> Result<GuestOut, GuestError> {
        self.guest_call("pack", move |inner| {
            let none = || GuestError::Missing(format!("there is no {path}"));
            let archive = inner.there(id, |kept| kept.files.get(&path).cloned())?.ok_or_else(none)?;
            Ok(programs::archive(archive))
        })
        .await
    }

    async fn unpack(&self, id: Uuid, path: String) -> Result<(GuestIn, GuestOut), GuestError> {
        let fake = self.clone();
        self.guest_call("unpack", move |inner| {
            inner.there(id, |_| ())?;
            Ok(programs::collect(move |archive| {
                // One that was removed meanwhile takes none.
                let _ = fake.inner.there(id, |kept| kept.files.insert(path, archive));
            }))
        })
        .await
    }

    async fn stats(&self) -> Result<Vec<ContainerStats>, ContainerError> {
        self.call("stats", |inner| {
            let world = inner.world.lock();
            let on = world.list().into_iter().filter(|listed| listed.state.is_on());
            Ok(on.filter_map(|listed| Some(figures(listed.id, world.find(listed.id)?))).collect())
        })
        .await
    }

    async fn top(&self, id: Uuid) -> Result<Processes, ContainerError> {
        self.call("top", move |inner| {
            let program = inner.there(id, |kept| {
                let command = kept.ours().and_then(|def| def.command.clone()).unwrap_or_default();
                kept.state.is_on().then(|| command.join(" "))
            })?;
            let program = program.ok_or(ContainerError::Off(id))?;
            let titles = vec!["PID".to_owned(), "CMD".to_owned()];
            Ok(Processes { titles, rows: vec![vec!["4242".to_owned(), program]] })
        })
        .await
    }

    async fn diff(&self, id: Uuid) -> Result<Vec<Changed>, ContainerError> {
        self.call("diff", move |inner| {
            let added = |path: &String| Changed { path: path.clone(), how: ChangedHow::Added };
            inner.there(id, |kept| kept.files.keys().map(added).collect())
        })
        .await
    }

    async fn commit(&self, id: Uuid, _: &Commit) -> Result<String, ContainerError> {
        self.call("commit", move |inner| {
            inner.there(id, |_| ())?;
            Ok(format!("sha256:{:064x}", id.as_u128()))
        })
        .await
    }

    async fn wait(&self, id: Uuid) -> Result<ExitSeen, ContainerError> {
        let mut turns = self.inner.turns.subscribe();
        self.call("wait", |_| Ok(())).await?;
        loop {
            let (_, over) = self.inner.said(id, usize::MAX).ok_or(ContainerError::Missing(id))?;
            if let Some(exit) = over {
                return Ok(exit);
            }
            // The sender lives in self.
            let _ = turns.changed().await;
        }
    }
}

/// Takes what is put in, and does nothing with it.
async fn swallow<T>(mut came: mpsc::Receiver<T>) {
    while came.recv().await.is_some() {}
}

fn figures(id: Uuid, kept: &Kept) -> ContainerStats {
    let up = kept.started_at.map(agentd_api::Timestamp::age).unwrap_or_default();
    let limit = kept.limits.memory.map_or(1 << 30, |memory| memory.bytes());
    let ours = kept.endpoints.iter().filter(|e| matches!(e.network, Wired::Ours(_))).count();
    ContainerStats {
        id,
        cpu: CpuFigures { count: 1, nanoseconds: u64::try_from(up.as_nanos() / 4).unwrap_or(u64::MAX) },
        memory: MemoryFigures {
            limit_bytes: limit,
            given_bytes: limit,
            resident_bytes: Some(limit / 2),
            guest: None,
        },
        disks: Vec::new(),
        networks: (0..ours)
            .map(|n| NetworkFigures { device: format!("eth{n}"), ..NetworkFigures::default() })
            .collect(),
        pids: 1,
    }
}
