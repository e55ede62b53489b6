//! A caller that costs little: HTTP/1.1 on a kept-alive Unix socket, without a library between.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

/// How long an answer may take: a peer may be slow, and a bench must end.
const PATIENCE: Duration = Duration::from_secs(300);

pub struct Caller {
    reader: BufReader<UnixStream>,
    body: Vec<u8>,
}

impl Caller {
    pub fn connect(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket).with_context(|| socket.display().to_string())?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { reader: BufReader::with_capacity(1 << 18, stream), body: Vec::new() })
    }

    /// Sends prepared bytes and reads the answer to its end. Gives the status and the body.
    pub fn call(&mut self, request: &[u8]) -> Result<(u16, &[u8])> {
        self.reader.get_mut().write_all(request)?;
        let mut line = String::new();
        self.reader.read_line(&mut line)?;
        let status =
            line.split(' ').nth(1).and_then(|s| s.parse().ok()).with_context(|| format!("{line:?}"))?;
        let (mut length, mut chunked) = (0usize, false);
        loop {
            line.clear();
            if self.reader.read_line(&mut line)? == 0 {
                bail!("the answer ended in its headers");
            }
            let header = line.trim_end().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(n) = header.strip_prefix("content-length: ") {
                length = n.parse()?;
            }
            chunked |= header == "transfer-encoding: chunked";
        }
        self.body.clear();
        if chunked {
            self.read_chunks()?
        } else {
            self.read_exactly(length)?
        }
        Ok((status, &self.body))
    }

    /// As `call`, of what must be taken: the document that is answered, null where there is none.
    pub fn json(&mut self, request: &[u8]) -> Result<serde_json::Value> {
        let (status, body) = self.call(request)?;
        ensure!((200..300).contains(&status), "{status}: {}", String::from_utf8_lossy(body));
        Ok(if body.is_empty() { serde_json::Value::Null } else { serde_json::from_slice(body)? })
    }

    fn read_exactly(&mut self, length: usize) -> Result<()> {
        let from = self.body.len();
        self.body.resize(from + length, 0);
        Ok(self.reader.read_exact(&mut self.body[from..])?)
    }

    fn read_chunks(&mut self) -> Result<()> {
        loop {
            let mut line = String::new();
            self.reader.read_line(&mut line)?;
            let length = usize::from_str_radix(line.trim_end(), 16)?;
            self.read_exactly(length)?;
            let mut end = [0u8; 2];
            self.reader.read_exact(&mut end)?;
            if length == 0 {
                return Ok(());
            }
        }
    }
}

/// Changes as they come, on a connection of their own.
pub struct Watch {
    reader: BufReader<UnixStream>,
    line: String,
}

impl Watch {
    /// It has begun when this returns. The path is with its query.
    pub fn open(socket: &Path, path: &str) -> Result<Self> {
        Ok(Self { reader: begin(socket, &get(path), 200)?, line: String::new() })
    }

    /// The next line as it comes: a change, or what chunks have between them.
    pub fn line(&mut self) -> Result<&str> {
        self.line.clear();
        ensure!(self.reader.read_line(&mut self.line)? > 0, "the watch ended");
        Ok(&self.line)
    }
}

/// A request on a connection of its own, which is answered with that status: what comes after the answer's head.
pub fn begin(socket: &Path, request: &[u8], expected: u16) -> Result<BufReader<UnixStream>> {
    let mut reader = Caller::connect(socket)?.reader;
    reader.get_mut().write_all(request)?;
    let mut line = String::new();
    reader.read_line(&mut line)?;
    ensure!(line.starts_with(&format!("HTTP/1.1 {expected} ")), "{line:?} and not {expected}");
    while line != "\r\n" {
        line.clear();
        ensure!(reader.read_line(&mut line)? > 0, "the answer ended in its headers");
    }
    Ok(reader)
}

pub fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: agentd\r\n\r\n").into_bytes()
}

pub fn delete(path: &str) -> Vec<u8> {
    format!("DELETE {path} HTTP/1.1\r\nhost: agentd\r\n\r\n").into_bytes()
}

pub fn post(path: &str, body: &str) -> Vec<u8> {
    format!(
        "POST {path} HTTP/1.1\r\nhost: agentd\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// What many calls came to.
pub struct Figures {
    pub per_second: f64,
    pub median: f64,
}

/// `connections` threads, each on a connection of its own, call until `span` is over.
pub fn load(
    socket: &Path,
    connections: usize,
    span: Duration,
    request: impl Fn(usize, usize) -> Vec<u8> + Sync,
    expected: u16,
) -> Result<Figures> {
    let from = Instant::now();
    let all: Result<Vec<Vec<f64>>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..connections)
            .map(|thread| {
                let request = &request;
                scope.spawn(move || -> Result<Vec<f64>> {
                    let mut caller = Caller::connect(socket)?;
                    let mut took = Vec::new();
                    while from.elapsed() < span {
                        let bytes = request(thread, took.len());
                        let start = Instant::now();
                        let (status, body) = caller.call(&bytes)?;
                        if status != expected {
                            bail!("{status}: {}", String::from_utf8_lossy(body));
                        }
                        took.push(start.elapsed().as_secs_f64());
                    }
                    Ok(took)
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().map_err(|_| anyhow::anyhow!("a caller panicked"))?).collect()
    });
    let took = from.elapsed().as_secs_f64();
    let mut all: Vec<f64> = all?.into_iter().flatten().collect();
    all.sort_by(f64::total_cmp);
    let median = all.get(all.len() / 2).copied().unwrap_or_default();
    Ok(Figures { per_second: all.len() as f64 / took, median })
}
