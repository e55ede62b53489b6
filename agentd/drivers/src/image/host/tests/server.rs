//! An HTTP server on loopback that does to its clients what servers do.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use parking_lot::Mutex;

/// What one request gets. The last one is for all that follow.
#[derive(Debug, Clone, Copy)]
pub(super) enum Answer {
    /// All of the file, or from where it was asked for.
    Ranges,
    /// All of the file whatever was asked for.
    Whole,
    /// So many bytes of what was asked for, then the connection ends.
    Cut(usize),
    Status(u16),
    /// A redirect to somewhere.
    Elsewhere(&'static str),
}

pub(super) struct Server {
    pub(super) url: String,
    /// The offset that each request asked to begin at.
    pub(super) asked: Arc<Mutex<Vec<usize>>>,
}

pub(super) fn serve(file: Vec<u8>, answers: &[Answer]) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/disk.qcow2", listener.local_addr().expect("an address"));
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (noted, answers) = (asked.clone(), answers.to_vec());
    std::thread::spawn(move || {
        for (n, stream) in listener.incoming().enumerate() {
            let answer = answers.get(n).or(answers.last()).copied().expect("an answer");
            // A client that goes away in the middle is what some of the tests are about.
            let _ = stream.and_then(|stream| one(stream, &file, answer, &noted));
        }
    });
    Server { url, asked }
}

fn one(mut stream: TcpStream, file: &[u8], answer: Answer, asked: &Mutex<Vec<usize>>) -> std::io::Result<()> {
    let mut offset = 0;
    for line in BufReader::new(stream.try_clone()?).lines() {
        let line = line?.to_ascii_lowercase();
        if let Some(range) = line.strip_prefix("range: bytes=") {
            offset = range.split('-').next().and_then(|n| n.parse().ok()).unwrap_or(0);
        }
        if line.is_empty() {
            break;
        }
    }
    asked.lock().push(offset);
    let (begin, end, status) = match answer {
        Answer::Status(code) => return write!(stream, "HTTP/1.1 {code} No\r\nContent-Length: 0\r\n\r\n"),
        Answer::Elsewhere(to) => {
            return write!(stream, "HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n");
        }
        Answer::Whole => (0, file.len(), "200 OK".to_owned()),
        Answer::Ranges | Answer::Cut(_) if offset >= file.len() && offset > 0 => {
            return write!(stream, "HTTP/1.1 416 Range Not Satisfiable\r\nContent-Length: 0\r\n\r\n");
        }
        Answer::Ranges => (offset, file.len(), range(offset, file.len())),
        Answer::Cut(n) => (offset, (offset + n).min(file.len()), range(offset, file.len())),
    };
    let length = file.len() - begin;
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n")?;
    stream.write_all(&file[begin..end])
}

fn range(offset: usize, length: usize) -> String {
    match offset {
        0 => "200 OK".to_owned(),
        _ => format!("206 Partial Content\r\nContent-Range: bytes {offset}-{}/{length}", length - 1),
    }
}
