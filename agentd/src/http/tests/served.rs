//! A server of a test's own, and a client that says what it sends and shows what came back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use agentd_api::doctor::{Finding, FindingSort, Repair, Report};
use agentd_api::kind::SubAnswer;
use agentd_api::server::{HostInfo, Readiness, ServerInfo};
use agentd_api::stats::{CpuFigures, DiskFigures, Figures, MemoryFigures, StatsList};
use agentd_api::vm::{Accel, CpuSet};
use agentd_api::{ByteSize, Cidr, ErrorCode, ObjectKey, ObjectName, Problem, Timestamp};
use agentd_store::{Expect, NewObject, Options, Store, Stored, TxError, Update};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::http::{
    App, Backup, Content, Facts, GuestFigures, HostSides, HttpServer, Import, ImportWish, Limits, Metrics,
    PeerRules, SubCall, SubReply, Subresources, Upload,
};
use crate::intent::{Caller, HostFacts, Intents, Reply, Wake};

/// No test waits longer than this for anything.
pub const LIMIT: Duration = Duration::from_secs(20);

pub struct Served {
    pub dir: TempDir,
    pub socket: PathBuf,
    pub store: Store,
    pub known: Arc<Known>,
    pub cancel: CancellationToken,
    pub task: JoinHandle<()>,
    pub server: Arc<HttpServer>,
}

/// What the daemon would know of itself, and what the hooks were given.
#[derive(Default)]
pub struct Known {
    pub reasons: Mutex<Vec<String>>,
    /// The doctor panics.
    pub broken: AtomicBool,
    pub uploads: Mutex<Vec<Uploaded>>,
    pub woken: Mutex<Vec<(ObjectKey, Option<Duration>)>>,
}

/// Who uploaded to what, how many bytes were announced, and how many came.
pub type Uploaded = (Caller, ObjectKey, Option<u64>, usize);

#[async_trait]
impl Facts for Known {
    async fn foreign(&self) -> Result<agentd_api::container::ForeignList, agentd_api::Problem> {
        Ok(Default::default())
    }
    fn server(&self) -> ServerInfo {
        let host = HostInfo {
            hostname: "test".to_owned(),
            kernel: "6".to_owned(),
            cpus: 2,
            memory: ByteSize::gib(4),
            accel: None,
            accel_reason: None,
        };
        ServerInfo {
            name: "agentd".to_owned(),
            version: "0".to_owned(),
            revision: 0,
            instance: "test".to_owned(),
            started_at: Timestamp::now(),
            state_dir: "/nowhere".to_owned(),
            host,
            backends: Vec::new(),
        }
    }
    fn readiness(&self) -> Readiness {
        let reasons = self.reasons.lock().clone();
        Readiness { ready: reasons.is_empty(), reasons }
    }
    async fn doctor(&self) -> Report {
        assert!(!self.broken.load(Ordering::Relaxed), "the test wants this to panic");
        Report::default()
    }
}

#[async_trait]
impl HostSides for Known {
    async fn findings(&self) -> Vec<Finding> {
        let subject = "domain/x".to_owned();
        vec![Finding { sort: FindingSort::Orphan, subject, detail: String::new(), fix: None, by_hand: None }]
    }
    async fn repair(&self, subjects: Vec<String>, caller: Caller) -> Vec<Repair> {
        let detail = caller.principal.actor();
        subjects.into_iter().map(|subject| Repair { subject, done: true, detail: detail.clone() }).collect()
    }
}

#[async_trait]
impl Backup for Known {
    async fn back_up(&self) -> Result<crate::http::Pieces, Problem> {
        let pieces = ["one, ", "two"].map(|piece| Ok(Bytes::from(piece)));
        Ok(futures_util::stream::iter(pieces).boxed())
    }
}

#[async_trait]
impl Upload for Known {
    async fn receive(
        &self,
        caller: &Caller,
        key: &ObjectKey,
        length: Option<u64>,
        mut content: Content,
    ) -> Result<Reply, Problem> {
        let mut bytes = 0;
        while let Some(piece) = content.next().await {
            let piece = piece.map_err(|e| Problem::new(ErrorCode::Invalid, e.to_string()))?;
            bytes += piece.len();
        }
        self.uploads.lock().push((caller.clone(), key.clone(), length, bytes));
        Ok(Reply { status: 202, json: Bytes::from_static(b"{}"), revision: 7 })
    }
}

/// Answers with what was asked for, once all has come.
#[async_trait]
impl Import for Known {
    async fn import(&self, wish: ImportWish, mut content: Content) -> Result<Reply, Problem> {
        let mut bytes = 0;
        while let Some(piece) = content.next().await {
            bytes += piece.map_err(|e| Problem::new(ErrorCode::Invalid, e.to_string()))?.len();
        }
        let json = json!({"bytes": bytes, "change": wish.change, "dry_run": wish.caller.dry_run});
        Ok(Reply { status: 201, json: Bytes::from(json.to_string()), revision: 7 })
    }
}

/// Streams come back as they are sent, content comes in two pieces, and a document says what was asked.
#[async_trait]
impl Subresources for Known {
    async fn open(&self, call: SubCall) -> Result<SubReply, Problem> {
        Ok(match call.sub.answer {
            SubAnswer::Json | SubAnswer::JsonList => {
                SubReply::Json(Bytes::from(json!(call.params).to_string()))
            }
            SubAnswer::Content(_) => {
                let pieces = ["one", "two"].map(|piece| Ok(Bytes::from_static(piece.as_bytes())));
                SubReply::Content(futures_util::stream::iter(pieces).boxed())
            }
            SubAnswer::Frames | SubAnswer::Bytes => SubReply::Session(Box::new(|channel| {
                Box::pin(async move {
                    let (mut from, mut to) = tokio::io::split(channel);
                    // A peer that goes away ends it.
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                })
            })),
        })
    }
}

#[async_trait]
impl GuestFigures for Known {
    async fn now(&self) -> Arc<StatsList> {
        let figures = |name: &str, project: &str| Figures {
            kind: "vm".to_owned(),
            project: project.parse().expect("a name"),
            name: name.parse().expect("a name"),
            id: uuid::Uuid::nil(),
            cpu: CpuFigures { count: 2, nanoseconds: 1_500_000_000 },
            memory: MemoryFigures { limit_bytes: 64, given_bytes: 32, ..MemoryFigures::default() },
            disks: vec![DiskFigures { device: "vda".to_owned(), read_bytes: 5, ..DiskFigures::default() }],
            networks: Vec::new(),
        };
        let items = vec![figures("web", "default"), figures("web", "other")];
        Arc::new(StatsList { at: Timestamp::now(), items, missing: Vec::new() })
    }
}

#[async_trait]
impl HostFacts for Known {
    fn memory(&self) -> ByteSize {
        ByteSize::gib(4)
    }
    fn processors(&self) -> CpuSet {
        "0-3".parse().expect("a set")
    }
    fn huge_pages(&self) -> Option<ByteSize> {
        Some(ByteSize::mib(256))
    }
    fn accel(&self) -> Option<Accel> {
        Some(Accel::Tcg)
    }
    fn boot_id(&self) -> &str {
        "boot-1"
    }
    async fn taken(&self) -> Result<Vec<Cidr>, String> {
        Ok(Vec::new())
    }
}

impl Wake for Known {
    fn wake(&self, key: ObjectKey) {
        self.woken.lock().push((key, None));
    }
    fn wake_after(&self, key: ObjectKey, delay: Duration) {
        self.woken.lock().push((key, Some(delay)));
    }
}

impl Served {
    pub async fn start() -> Self {
        Self::with(Limits::default(), PeerRules::default()).await
    }

    pub async fn limited(limits: Limits) -> Self {
        Self::with(limits, PeerRules::default()).await
    }

    pub async fn with(limits: Limits, peers: PeerRules) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::open(&dir.path().join("store.db"), Options::default()).expect("a store");
        Self::on(dir, store, limits, peers)
    }

    pub fn on(dir: TempDir, store: Store, limits: Limits, peers: PeerRules) -> Self {
        let socket = dir.path().join("agentd.sock");
        let listener = UnixListener::bind(&socket).expect("a socket");
        let known = Arc::new(Known::default());
        let app = Arc::new(App {
            store: store.clone(),
            intents: Intents::new(store.clone(), known.clone(), known.clone()),
            facts: known.clone(),
            upload: known.clone(),
            import: known.clone(),
            backup: known.clone(),
            sides: known.clone(),
            subs: known.clone(),
            figures: known.clone(),
            metrics: Arc::new(Metrics::default()),
            lines: crate::http::Lines::default(),
            limits,
        });
        let cancel = CancellationToken::new();
        let server = Arc::new(HttpServer::new(app, peers));
        let task = tokio::spawn(server.clone().serve(listener, cancel.clone()));
        Self { dir, socket, store, known, cancel, task, server }
    }

    pub async fn call(&self, method: &str, path: &str) -> Answer {
        Line::open(&self.socket).await.send(method, path, &[], "").await
    }

    pub async fn json(&self, method: &str, path: &str, body: &Value) -> Answer {
        let headers = [("content-type", "application/json")];
        Line::open(&self.socket).await.send(method, path, &headers, &body.to_string()).await
    }

    /// A request with headers.
    pub async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        Line::open(&self.socket).await.send(method, path, headers, body).await
    }

    /// Puts objects into the store, behind the API's back.
    pub async fn put(&self, objects: Vec<NewObject>) {
        self.store
            .transact(move |tx| {
                for new in &objects {
                    tx.create(new.clone())?;
                }
                Ok::<_, TxError>(())
            })
            .await
            .expect("created");
    }

    pub async fn update(&self, key: &ObjectKey, change: Update) -> Arc<Stored> {
        let key = key.clone();
        let changed = self.store.transact(move |tx| tx.update(&key, Expect::Any, change.clone())).await;
        changed.expect("updated")
    }

    pub async fn remove(&self, key: &ObjectKey) {
        let key = key.clone();
        self.store.transact(move |tx| tx.remove(&key, Expect::Any)).await.expect("removed");
    }

    pub async fn set_state(&self, key: &ObjectKey, state: &str) -> Arc<Stored> {
        let status = Some(json!({"state": state}));
        self.update(key, Update { status, ..Update::default() }).await
    }
}

/// A VM as it would stand in the store.
pub fn vm(name: &str) -> NewObject {
    let mut new = NewObject::new(
        vm_key(name),
        json!({"image": "micro", "cpus": 1, "memory": "512MiB", "networks": [], "desired": "running",
               "restart": "never", "grace": "30s"}),
    );
    new.status = json!({"state": "pending"});
    new
}

pub fn labelled(name: &str, labels: &[(&str, &str)]) -> NewObject {
    let labels: BTreeMap<_, _> =
        labels.iter().map(|(k, v)| (k.parse().expect("a key"), v.parse().expect("a value"))).collect();
    NewObject { labels, ..vm(name) }
}

pub fn vm_key(name: &str) -> ObjectKey {
    key("vm", "default", name)
}

pub fn key(kind: &str, project: &str, name: &str) -> ObjectKey {
    let parse = |text| ObjectName::parse(text).expect("a name");
    ObjectKey::new(kind, parse(project), parse(name))
}

/// A key that is accepted as one of OpenSSH's.
pub fn ssh_key(name: &str) -> Value {
    json!({"name": name, "spec": {"public_key": format!("ssh-ed25519 {} {name}", "A".repeat(68))}})
}

#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("{} is not JSON ({e}): {:?}", self.status, self.body))
    }
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|v| v.to_str().expect("text")).unwrap_or_default()
    }
    /// Asserts that this is a problem of this status and code, as the contract wants one, and gives it.
    #[track_caller]
    pub fn problem(&self, status: u16, code: &str) -> Problem {
        assert_eq!(self.status, status, "{:?}", self.body);
        assert_eq!(self.header("content-type"), "application/problem+json");
        let problem: Problem = serde_json::from_slice(&self.body).expect("a problem");
        assert_eq!((problem.status, problem.code.as_str()), (status, code), "{problem}");
        assert_eq!(problem.request_id, self.header("x-request-id"));
        assert!(!problem.detail.is_empty());
        problem
    }
    /// Asserts that the input was refused for this field.
    #[track_caller]
    pub fn refused(&self, field: &str) -> Problem {
        let problem = self.problem(400, "invalid");
        assert!(problem.errors.iter().any(|e| e.field == field), "{field} in {:?}", problem.errors);
        problem
    }
}

/// One connection.
pub struct Line(SendRequest<Full<Bytes>>);

impl Line {
    pub async fn open(socket: &Path) -> Self {
        Self::over(UnixStream::connect(socket).await.expect("connected")).await
    }

    pub async fn over(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        let (send, connection) = handshake(TokioIo::new(stream)).await.expect("HTTP");
        tokio::spawn(connection);
        Self(send)
    }

    /// Until the server has closed it.
    pub async fn closed(&mut self) {
        while self.0.ready().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub async fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> http::Response<Incoming> {
        let method: Method = method.parse().expect("a method");
        let mut request = Request::builder().method(method).uri(path).header("host", "agentd");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::copy_from_slice(body.as_bytes()))).expect("a request");
        let answered = async {
            self.0.ready().await?;
            self.0.send_request(request).await
        };
        tokio::time::timeout(LIMIT, answered).await.expect("answered in time").expect("answered")
    }

    pub async fn send(&mut self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let answer = self.request(method, path, headers, body).await;
        let (head, body) = answer.into_parts();
        let whole = tokio::time::timeout(LIMIT, body.collect()).await.expect("in time").expect("whole");
        let answer = Answer { status: head.status.as_u16(), headers: head.headers, body: whole.to_bytes() };
        assert!(!answer.header("x-request-id").is_empty(), "every answer has its request's id");
        answer
    }
}

/// An answer that stays open, read by lines.
pub struct Lines {
    pub head: http::response::Parts,
    body: Incoming,
    buffer: Vec<u8>,
    _line: Line,
}

impl Lines {
    pub async fn open(socket: &Path, path: &str, headers: &[(&str, &str)]) -> Self {
        Self::asked(Line::open(socket).await, path, headers).await
    }

    pub async fn on(line: Line, path: &str) -> Self {
        Self::asked(line, path, &[]).await
    }

    async fn asked(mut line: Line, path: &str, headers: &[(&str, &str)]) -> Self {
        let (head, body) = line.request("GET", path, headers, "").await.into_parts();
        Self { head, body, buffer: Vec::new(), _line: line }
    }

    /// The next line without its end; none where the stream ended.
    pub async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(at) = self.buffer.iter().position(|b| *b == b'\n') {
                let rest = self.buffer.split_off(at + 1);
                let line = std::mem::replace(&mut self.buffer, rest);
                return Some(String::from_utf8(line[..at].to_vec()).expect("text"));
            }
            let frame = tokio::time::timeout(LIMIT, self.body.frame()).await.expect("a frame in time")?;
            let data = frame.expect("an orderly stream").into_data().expect("data");
            self.buffer.extend_from_slice(&data);
        }
    }

    pub async fn event(&mut self) -> Value {
        let line = self.line().await.expect("a line");
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{line:?} is not JSON: {e}"))
    }

    /// The next event, what it is of, and its revision: `("added", "web", 3)`. Bookmarks are of "".
    pub async fn next(&mut self) -> (String, String, u64) {
        let event = self.event().await;
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        let revision = event["revision"].as_u64().expect("a revision");
        (text(&event["event"]), text(&event["object"]["name"]), revision)
    }

    /// The next event that is no bookmark.
    pub async fn change(&mut self) -> (String, String, u64) {
        loop {
            let next = self.next().await;
            if next.0 != "bookmark" {
                return next;
            }
        }
    }
}
