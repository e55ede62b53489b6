//! The one way out of a test's namespace: an HTTP proxy that leads to the host's own package mirrors and nowhere else.
//!
//! Outside, [`serve`] answers on a Unix socket in the test's scratch folder; inside, [`open`] listens on loopback and
//! hands each connection on. Guests have no route to the namespace's loopback, so none of this is theirs. A host that is
//! not in the machine's apt sources is answered 403.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result, bail};

/// What `http_proxy` is set to inside.
pub const PROXY: &str = "http://127.0.0.1:3128";

/// Outside: answers on `socket` until the process ends.
pub fn serve(socket: &Path) -> Result<()> {
    let mirrors = mirrors()?;
    let listener = UnixListener::bind(socket).with_context(|| format!("the door at {}", socket.display()))?;
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mirrors = mirrors.clone();
            thread::spawn(move || {
                if let Err(error) = proxy(stream, &mirrors) {
                    eprintln!("door: {error:#}");
                }
            });
        }
    });
    Ok(())
}

/// Inside: listens on loopback and hands connections to the socket outside.
pub fn open(socket: &Path) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:3128").context("the door's inner side")?;
    let socket = PathBuf::from(socket);
    thread::spawn(move || {
        for inner in listener.incoming().map_while(Result::ok) {
            let socket = socket.clone();
            thread::spawn(move || -> Result<()> {
                let outer = UnixStream::connect(&socket)?;
                let (from, to) = (inner.try_clone()?, outer.try_clone()?);
                let up = thread::spawn(move || pump(from, to));
                pump(outer, inner);
                let _ = up.join();
                Ok(())
            });
        }
    });
    Ok(())
}

trait Half: Read + Write + Send + 'static {
    fn end(&self);
}
impl Half for TcpStream {
    fn end(&self) {
        let _ = self.shutdown(std::net::Shutdown::Write);
    }
}
impl Half for UnixStream {
    fn end(&self) {
        let _ = self.shutdown(std::net::Shutdown::Write);
    }
}

fn pump(mut from: impl Half, mut to: impl Half) {
    let _ = std::io::copy(&mut from, &mut to);
    to.end();
}

/// The hosts of the machine's apt sources.
fn mirrors() -> Result<BTreeSet<String>> {
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(folder) = std::fs::read_dir("/etc/apt/sources.list.d") {
        files.extend(folder.filter_map(|entry| entry.ok().map(|e| e.path())));
    }
    let mut hosts = BTreeSet::new();
    for file in files {
        let Ok(text) = std::fs::read_to_string(&file) else { continue };
        for word in text.split_whitespace() {
            if let Some(rest) = word.strip_prefix("http://") {
                hosts.extend(rest.split('/').next().map(str::to_owned));
            }
        }
    }
    if hosts.is_empty() {
        bail!("no http:// mirror in this machine's apt sources: images cannot be built in a namespace");
    }
    Ok(hosts)
}

/// One connection, one request after the other to the same mirror is not needed: apt reconnects.
fn proxy(client: UnixStream, mirrors: &BTreeSet<String>) -> Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let host = target.strip_prefix("http://").and_then(|r| r.split('/').next()).unwrap_or_default();
    let mut answer = client;
    if !mirrors.contains(host) || !matches!(method, "GET" | "HEAD") {
        answer.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")?;
        bail!("refused {line:?}");
    }
    let port = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
    let mut mirror = TcpStream::connect(&port).with_context(|| format!("mirror {port}"))?;
    let path = &target["http://".len() + host.len()..];
    let mut request = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\n");
    for header in reader.by_ref().lines() {
        let header = header?;
        if header.is_empty() {
            break;
        }
        let name = header.split(':').next().unwrap_or_default().to_ascii_lowercase();
        if !matches!(name.as_str(), "connection" | "proxy-connection") {
            request.push_str(&header);
            request.push_str("\r\n");
        }
    }
    request.push_str("\r\n");
    mirror.write_all(request.as_bytes())?;
    std::io::copy(&mut mirror, &mut answer)?;
    answer.end();
    Ok(())
}
