//! Answers each connection with the next reply of a script, and keeps what was asked.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use agentd_api::{ErrorCode, Problem};
use agentd_client::Client;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

pub enum Reply {
    /// The whole answer, and the end of the connection.
    Text(String),
    /// The same in pieces, so that the client reads them one by one.
    Pieces(Vec<String>),
    /// The connection ends without an answer.
    HangUp,
    /// The connection stays open without an answer.
    Silence,
    /// It stays open after a part of the answer.
    Stall(String),
}

impl Reply {
    pub fn json(status: u16, body: &Value) -> Self {
        let body = body.to_string();
        Self::Text(format!(
            "HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        ))
    }

    /// A stream of a watch, cut into chunks of `size`, that ends in good order.
    pub fn chunked(text: &str, size: usize) -> Self {
        let mut pieces =
            vec!["HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n".to_owned()];
        let chunk = |part: &[u8]| format!("{:x}\r\n{}\r\n", part.len(), String::from_utf8_lossy(part));
        pieces.extend(text.as_bytes().chunks(size).map(chunk));
        pieces.push("0\r\n\r\n".to_owned());
        Self::Pieces(pieces)
    }

    /// The same, cut off without its end.
    pub fn cut(text: &str) -> Self {
        match Self::chunked(text, text.len().max(1)) {
            Self::Pieces(mut pieces) => {
                pieces.pop();
                Self::Pieces(pieces)
            }
            other => other,
        }
    }
}

pub fn problem(code: ErrorCode) -> Reply {
    let problem = Problem::new(code, "because");
    Reply::json(problem.status, &serde_json::to_value(problem).expect("json"))
}

pub fn list(items: &[Value], revision: u64, next: Option<&str>) -> Reply {
    // Written as the daemon writes it: `continue` comes last.
    let items: Vec<String> = items.iter().map(ToString::to_string).collect();
    let body =
        format!("{{\"items\":[{}],\"revision\":{revision},\"continue\":{}}}", items.join(","), json!(next));
    Reply::Text(format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    ))
}

/// An ssh-key of that name.
pub fn key(name: &str, revision: u64) -> Value {
    json!({"kind": "ssh-key", "project": "default", "name": name, "revision": revision, "generation": 1,
        "id": "01970000-0000-7000-8000-000000000000", "created_at": "2026-01-02T03:04:05Z",
        "spec": {"public_key": "ssh-ed25519 AAAA"}, "status": {"state": "ready"}})
}

#[derive(Debug, Clone)]
pub struct Asked {
    /// `GET /v1 HTTP/1.1`
    pub line: String,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Asked {
    pub fn header(&self, name: &str) -> Option<String> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    }
}

pub struct Server {
    folder: TempDir,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    pub fn new(script: impl IntoIterator<Item = Reply>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let listener = UnixListener::bind(folder.path().join("a.sock")).expect("a socket");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (script, log): (Vec<Reply>, _) = (script.into_iter().collect(), Arc::clone(&asked));
        tokio::spawn(async move {
            for reply in script {
                let Ok((mut stream, _)) = listener.accept().await else { return };
                let Some(request) = read(&mut stream).await else { continue };
                log.lock().expect("a lock").push(request);
                tokio::spawn(answer(stream, reply));
            }
        });
        Self { folder, asked }
    }
    pub fn client(&self) -> Client {
        Client::new(self.folder.path().join("a.sock"))
    }
    pub fn requests(&self) -> Vec<Asked> {
        self.asked.lock().expect("a lock").clone()
    }
}

async fn read(stream: &mut UnixStream) -> Option<Asked> {
    let mut data = Vec::new();
    let head = loop {
        if stream.read_buf(&mut data).await.ok()? == 0 {
            return None;
        }
        if let Some(at) = data.windows(4).position(|w| w == b"\r\n\r\n") {
            break at;
        }
    };
    let text = String::from_utf8(data[..head].to_vec()).ok()?;
    let mut lines = text.split("\r\n").map(str::to_owned);
    let line = lines.next()?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|l| l.split_once(": ").map(|(k, v)| (k.to_ascii_lowercase(), v.to_owned())))
        .collect();
    let length =
        headers.iter().find(|(k, _)| k == "content-length").and_then(|(_, v)| v.parse().ok()).unwrap_or(0);
    let mut body = data[head + 4..].to_vec();
    while body.len() < length {
        if stream.read_buf(&mut body).await.ok()? == 0 {
            break;
        }
    }
    Some(Asked { line, headers, body })
}

async fn answer(mut stream: UnixStream, reply: Reply) {
    let forever = Duration::from_secs(60);
    match reply {
        Reply::Text(text) => {
            let _ = stream.write_all(text.as_bytes()).await;
        }
        Reply::Pieces(pieces) => {
            for piece in pieces {
                let _ = stream.write_all(piece.as_bytes()).await;
                tokio::task::yield_now().await;
            }
        }
        Reply::HangUp => {}
        Reply::Silence => tokio::time::sleep(forever).await,
        Reply::Stall(text) => {
            let _ = stream.write_all(text.as_bytes()).await;
            tokio::time::sleep(forever).await;
        }
    }
}
