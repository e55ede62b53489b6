//! On the fake engine, opened as a caller does.

use std::collections::BTreeMap;
use std::sync::Arc;

use agentd_api::container::{Container, ContainerCommitted, ContainerTop, ContainerWaited};
use agentd_api::frame::Frame;
use agentd_api::kind::SubDef;
use agentd_api::{ErrorCode, Kind, ObjectKey, Problem};
use agentd_drivers::container::{ContainerDef, ContainerLife};
use agentd_store::{Expect, NewObject, Update};
use bytes::Bytes;
use futures_util::StreamExt;
use serde_json::json;

use crate::daemon::subs::frames::frames;
use crate::daemon::subs::testing::{Bed, Stream};
use crate::http::{SubCall, SubReply, Subresources};
use crate::intent::{Caller, Principal};

struct Tool {
    bed: Bed,
    key: ObjectKey,
    id: uuid::Uuid,
}

fn sub(name: &str) -> &'static SubDef {
    Container::DEF.sub(name).expect("declared")
}

impl Tool {
    /// The container `tool`, which runs.
    async fn new() -> Self {
        let bed = Bed::new(false, false, "").await;
        let key =
            ObjectKey::of::<Container>("default".parse().expect("a name"), "tool".parse().expect("a name"));
        let mut new = NewObject::new(
            key.clone(),
            json!({"image": "tool", "networks": [], "desired": "running",
            "restart": "never", "grace": "10s", "privileged": false}),
        );
        new.status = json!({"state": "running", "observed_generation": 1});
        bed.store.transact(move |tx| tx.create(new.clone()).map(|_| ())).await.expect("created");
        let id = bed.store.get(&key).expect("there").id();
        let def = ContainerDef::new(id, (key.project.clone(), key.name.clone()), "tool");
        bed.fakes.container.ensure_created(&def).await.expect("made");
        bed.fakes.container.start(id).await.expect("started");
        Self { bed, key, id }
    }

    async fn call(
        &self,
        sub: &'static SubDef,
        params: &[(&'static str, &str)],
        body: &str,
    ) -> Result<SubReply, Problem> {
        let principal = Principal::local(7, 7);
        let params: BTreeMap<_, _> = params.iter().map(|(k, v)| (*k, (*v).to_owned())).collect();
        let body = Bytes::from(body.to_owned());
        let caller = Caller {
            principal,
            request_id: "r".to_owned(),
            dry_run: false,
            idempotency_key: None,
            cascade: false,
        };
        let object = self.bed.store.get(&self.key).expect("there");
        let body = futures_util::stream::iter([Ok(body)]).boxed();
        let stop = self.bed.stop.clone();
        self.bed.subs.open(SubCall { caller, object, sub, params, body, length: None, stop }).await
    }

    async fn json<T: serde::de::DeserializeOwned>(&self, name: &str, body: &str) -> T {
        match self.call(sub(name), &[], body).await {
            Ok(SubReply::Json(json)) => serde_json::from_slice(&json).expect("a document"),
            Ok(_) => panic!("{name} is no document"),
            Err(problem) => panic!("{name}: {problem}"),
        }
    }

    async fn stream(&self, name: &str, params: &[(&'static str, &str)]) -> Stream {
        let Ok(SubReply::Session(session)) = self.call(sub(name), params, "").await else {
            panic!("{name} is no stream")
        };
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        tokio::spawn(session(Box::new(theirs)));
        let (from, to) = frames(Box::new(ours));
        Stream::new(from, to)
    }

    async fn set_status(&self, status: serde_json::Value) {
        let key = self.key.clone();
        let update = Update { status: Some(status), ..Update::default() };
        let done =
            self.bed.store.transact(move |tx| tx.update(&key, Expect::Any, update.clone()).map(|_| ()));
        done.await.expect("written");
    }
}

#[tokio::test]
async fn logs_are_both_streams_and_end_or_are_followed() {
    let tool = Tool::new().await;
    tool.bed.fakes.container.program_says(tool.id, false, "one\n");
    tool.bed.fakes.container.program_says(tool.id, true, "oh\n");
    let mut logs = tool.stream("logs", &[]).await;
    assert_eq!(logs.next().await, Some(Frame::Out(b"one\n".to_vec())));
    assert_eq!(logs.next().await, Some(Frame::Err(b"oh\n".to_vec())));
    assert_eq!(logs.next().await, Some(Frame::End));
    let mut logs = tool.stream("logs", &[("follow", "true"), ("tail", "0")]).await;
    tool.bed.fakes.container.program_says(tool.id, false, "two\n");
    assert_eq!(logs.next().await, Some(Frame::Out(b"two\n".to_vec())));
    tool.bed.fakes.container.program_exits(tool.id, 0);
    assert_eq!(logs.next().await, Some(Frame::End));
    let refused = tool.call(sub("logs"), &[("since", "yesterday")], "").await.err().expect("refused");
    assert_eq!((refused.code, refused.errors[0].field.as_str()), (ErrorCode::Invalid, "since"));
}

#[tokio::test]
async fn one_that_is_attached_to_ends_with_its_status() {
    let tool = Tool::new().await;
    let mut attached = tool.stream("attach", &[("watch", "true")]).await;
    tool.bed.fakes.container.program_says(tool.id, false, "hello\n");
    assert_eq!(attached.next().await, Some(Frame::Out(b"hello\n".to_vec())));
    tool.bed.fakes.container.program_exits(tool.id, 4);
    assert_eq!(attached.next().await, Some(Frame::Exit(4)));
}

#[tokio::test]
async fn a_program_is_run_as_in_a_vm() {
    let tool = Tool::new().await;
    let mut stream = tool.stream("exec", &[]).await;
    stream.types(&json!({"argv": ["exit", "7"]}).to_string()).await;
    stream.to.send(&Frame::InEnd).await.expect("sent");
    assert_eq!(stream.next().await, Some(Frame::Exit(7)));
    tool.set_status(json!({"state": "stopped", "observed_generation": 1})).await;
    let refused = tool.call(sub("exec"), &[], "").await.err().expect("refused");
    assert_eq!(refused.code, ErrorCode::Conflict);
    assert!(refused.hint.is_some_and(|h| h.contains("agentctl container start tool")));
}

#[tokio::test]
async fn what_is_asked_of_it_is_answered() {
    let tool = Tool::new().await;
    let top: ContainerTop = tool.json("top", "").await;
    assert!(!top.titles.is_empty());
    let figures: agentd_api::stats::Figures = tool.json("stats", "").await;
    assert_eq!((figures.kind.as_str(), figures.id), ("container", tool.id));
    let _: Vec<agentd_api::container::ContainerChange> = tool.json("diff", "").await;
    let made: ContainerCommitted = tool.json("commit", "{\"image\": \"saved:1\"}").await;
    assert_eq!(made.image, "saved:1");
    for bad in ["", "{\"image\": \"-\"}", "{\"image\": \"a\", \"tag\": 1}", "{\"image\": \"a@sha256:00\"}"] {
        let refused = tool.call(sub("commit"), &[], bad).await.err().expect("refused");
        assert_eq!(refused.code, ErrorCode::Invalid, "{bad}");
    }
}

#[tokio::test]
async fn waiting_ends_with_the_container() {
    let tool = Arc::new(Tool::new().await);
    let late = tool.call(sub("wait"), &[("timeout", "0")], "").await.err().expect("it is up");
    assert_eq!(late.code, ErrorCode::RequestTimeout);
    let waiting = tokio::spawn({
        let tool = tool.clone();
        async move { tool.json::<ContainerWaited>("wait", "").await }
    });
    tokio::task::yield_now().await;
    tool.set_status(json!({"state": "stopped", "observed_generation": 1, "exit_code": 9})).await;
    assert_eq!(waiting.await.expect("waited"), ContainerWaited { exit_code: Some(9), oom_killed: false });
}
