//! What goes to a container and comes from it.

use async_trait::async_trait;
use bollard::models::ContainerInspectResponse;
use serde_json::{Value, json};
use uuid::Uuid;

use super::frames::Frames;
use super::session::{Log, Whose, session};
use super::{EngineContainers, Inner, files, read};
use crate::container::{
    Changed, Commit, ContainerError, ContainerState, ContainerStats, ContainerStreams, ExitSeen, Logs,
    Processes, Sitting,
};
use crate::engine::wire::query;
use crate::engine::{ASK, EngineError};
use crate::vm::guest::{ExecWish, GuestError, GuestIn, GuestOut};

impl Inner {
    /// Of a container that runs, or may be off: the engine's id, and whether it runs.
    async fn running(
        &self,
        id: Uuid,
        off: bool,
    ) -> Result<(ContainerInspectResponse, String, bool), GuestError> {
        let found = self.found(id).await?;
        let runs = match found.state.as_ref().map_or(ContainerState::Created, read::state) {
            ContainerState::Running => true,
            ContainerState::Paused => return Err(GuestError::NotRunning("paused")),
            _ if off => false,
            _ => return Err(GuestError::NotRunning("off")),
        };
        let engine_id = found.id.clone().unwrap_or_default();
        Ok((found, engine_id, runs))
    }

    fn no_session(&self, id: Uuid, error: EngineError) -> GuestError {
        match error.status() {
            Some(409) if error.message().contains("paused") => GuestError::NotRunning("paused"),
            Some(409) => GuestError::NotRunning("off"),
            Some(400) => GuestError::Refused(error.message().to_owned()),
            Some(500) if error.message().contains("unable to find user") => {
                GuestError::Missing(error.message().to_owned())
            }
            _ => self.refused(id, error).into(),
        }
    }

    pub(super) async fn wait(&self, id: Uuid) -> Result<ExitSeen, ContainerError> {
        self.until_off(id).await?;
        let seen = read::seen(id, self.found(id).await?, &self.instance);
        Ok(seen.exit.unwrap_or(ExitSeen { code: 0, oom: false, error: None }))
    }

    async fn log(&self, id: Uuid, logs: Logs) -> Result<Log, GuestError> {
        const CALL: &str = "tell what a container said";
        let found = self.found(id).await?;
        let terminal = found.config.and_then(|config| config.tty).unwrap_or(false);
        let flag = |flag: bool| if flag { "1" } else { "0" };
        let seconds = |time: agentd_api::Timestamp| format!("{}.{:03}", time.0 / 1000, time.0 % 1000);
        let tail = logs.tail.map_or_else(|| "all".to_owned(), |tail| tail.to_string());
        let (since, until) = (logs.since.map(seconds), logs.until.map(seconds));
        let mut pairs = vec![
            ("stdout", flag(logs.out)),
            ("stderr", flag(logs.err)),
            ("follow", flag(logs.follow)),
            ("timestamps", flag(logs.timestamps)),
            ("tail", &tail),
        ];
        pairs.extend(since.as_deref().map(|since| ("since", since)));
        pairs.extend(until.as_deref().map(|until| ("until", until)));
        let path = query(&format!("/containers/{}/logs", found.id.unwrap_or_default()), &pairs);
        let linked = self.engine.linked().await.map_err(ContainerError::from)?;
        let content = linked.wire.get(CALL, &path).await.map_err(|error| self.no_session(id, error))?;
        Ok(Log { content, frames: Frames::new(terminal), bytes: 0 })
    }

    async fn begin(&self, id: Uuid, wish: &ExecWish) -> Result<(String, String), GuestError> {
        let (_, container, _) = self.running(id, false).await?;
        let env: Vec<String> = wish.env.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let body = json!({
            "AttachStdin": wish.input,
            "AttachStdout": true,
            "AttachStderr": true,
            "Tty": wish.terminal.is_some(),
            "Env": env,
            "Cmd": wish.argv,
            "User": wish.user.as_deref().unwrap_or_default(),
            "WorkingDir": wish.cwd.as_deref().unwrap_or_default(),
        });
        let path = format!("/containers/{container}/exec");
        let made = self.post("run a program", ASK, &path, &body).await.map_err(|e| self.no_session(id, e))?;
        let exec = made.get("Id").and_then(Value::as_str).unwrap_or_default().to_owned();
        Ok((exec, container))
    }
}

#[async_trait]
impl ContainerStreams for EngineContainers {
    async fn exec(&self, id: Uuid, wish: ExecWish) -> Result<(GuestIn, GuestOut), GuestError> {
        let inner = &self.inner;
        let (exec, container) = inner.begin(id, &wish).await?;
        let mut body = json!({ "Detach": false, "Tty": wish.terminal.is_some() });
        if let (Some((columns, rows)), Some(fields)) = (wish.terminal, body.as_object_mut()) {
            fields.insert("ConsoleSize".to_owned(), json!([rows, columns]));
        }
        let path = format!("/exec/{exec}/start");
        let linked = inner.engine.linked().await.map_err(ContainerError::from)?;
        let start = linked.wire.upgrade("run a program", &path, Some(&body));
        let both = inner.within("run a program", ASK, start).await.map_err(|e| inner.no_session(id, e))?;
        let whose = Whose::Program { exec, container };
        if let Some((columns, rows)) = wish.terminal {
            // Engines before 1.42 of the API are told now. A program that has ended needs no size.
            let _ = inner.resize(&whose, columns, rows).await;
        }
        let (input, output) = session(inner.clone(), whose, both, wish.terminal.is_some());
        Ok((Box::new(input), Box::new(output)))
    }

    async fn attach(&self, id: Uuid, sitting: Sitting) -> Result<(GuestIn, GuestOut), GuestError> {
        let inner = &self.inner;
        let (found, container, runs) = inner.running(id, sitting.early).await?;
        let config = found.config.unwrap_or_default();
        let terminal = config.tty.unwrap_or(false);
        let input = sitting.input && config.open_stdin.unwrap_or(false);
        let stdin = if input { "1" } else { "0" };
        let pairs = [("stream", "1"), ("stdin", stdin), ("stdout", "1"), ("stderr", "1")];
        let path = query(&format!("/containers/{container}/attach"), &pairs);
        let linked = inner.engine.linked().await.map_err(ContainerError::from)?;
        let upgrade = linked.wire.upgrade("attach to a container", &path, None);
        let both = inner.within("attach to a container", ASK, upgrade).await;
        let both = both.map_err(|error| inner.no_session(id, error))?;
        let (input, mut output) = session(inner.clone(), Whose::Container(id), both, terminal);
        // One that is removed as it ends tells nobody how afterwards.
        output.wait_for_end(&container, if runs { "not-running" } else { "next-exit" });
        Ok((Box::new(input), Box::new(output)))
    }

    async fn logs(&self, id: Uuid, logs: Logs) -> Result<GuestOut, GuestError> {
        Ok(Box::new(self.inner.log(id, logs).await?))
    }

    async fn pack(&self, id: Uuid, path: String) -> Result<GuestOut, GuestError> {
        files::pack(&self.inner, id, &path).await
    }

    async fn unpack(&self, id: Uuid, path: String) -> Result<(GuestIn, GuestOut), GuestError> {
        files::unpack(&self.inner, id, &path).await
    }

    async fn stats(&self) -> Result<Vec<ContainerStats>, ContainerError> {
        self.inner.stats().await
    }

    async fn top(&self, id: Uuid) -> Result<Processes, ContainerError> {
        self.inner.top(id).await
    }

    async fn diff(&self, id: Uuid) -> Result<Vec<Changed>, ContainerError> {
        self.inner.diff(id).await
    }

    async fn commit(&self, id: Uuid, commit: &Commit) -> Result<String, ContainerError> {
        let commit = commit.clone();
        self.detached("make an image of a container", |inner| async move { inner.commit(id, &commit).await })
            .await
    }

    async fn wait(&self, id: Uuid) -> Result<ExitSeen, ContainerError> {
        self.inner.wait(id).await
    }
}
