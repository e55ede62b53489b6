//! Connections of a test: servers and clients that live in a namespace, as threads that went there.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};

use super::Peer;

const PATIENCE: Duration = Duration::from_millis(1500);

/// What `work` gives when it is done within the network of `at`, or of the test's host where None.
fn there<T: Send + 'static>(at: Option<&Peer>, work: impl FnOnce() -> T + Send + 'static) -> T {
    let namespace = at.map(Peer::namespace);
    let thread = std::thread::spawn(move || {
        if let Some(path) = namespace {
            let namespace = std::fs::File::open(path).expect("the peer's namespace");
            setns(namespace, CloneFlags::CLONE_NEWNET).expect("the peer's network");
        }
        work()
    });
    thread.join().expect("the thread ended well")
}

/// A TCP server that says `<name> <address of who asked>` and hangs up. It goes on until the test ends.
pub fn serve(at: Option<&Peer>, address: &str, name: &str) {
    let bind = address.to_owned();
    let listener = there(at, move || TcpListener::bind(&bind).expect("a listener"));
    let name = name.to_owned();
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let mut connection: TcpStream = connection;
            if let Ok(peer) = connection.peer_addr() {
                let _ = write!(connection, "{name} {}", peer.ip());
            }
        }
    });
}

/// What the TCP server there says, or None where nothing answers.
pub fn ask(from: Option<&Peer>, address: &str) -> Option<String> {
    let to: SocketAddr = address.parse().expect("an address");
    there(from, move || {
        let mut connection = TcpStream::connect_timeout(&to, PATIENCE).ok()?;
        connection.set_read_timeout(Some(PATIENCE)).ok()?;
        let mut said = String::new();
        connection.read_to_string(&mut said).ok()?;
        Some(said)
    })
}

pub fn serve_udp(at: Option<&Peer>, address: &str, name: &str) {
    let bind = address.to_owned();
    let socket = there(at, move || UdpSocket::bind(&bind).expect("a socket"));
    let name = name.to_owned();
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(format!("{name} {}", peer.ip()).as_bytes(), peer);
        }
    });
}

pub fn ask_udp(from: Option<&Peer>, address: &str) -> Option<String> {
    let to: SocketAddr = address.parse().expect("an address");
    exchange(from, to, b"?".to_vec()).map(|said| String::from_utf8_lossy(&said).into_owned())
}

/// Whether a datagram of that peer arrives at a server of the host.
pub fn arrives(from: &Peer, address: &str) -> bool {
    let server = UdpSocket::bind(address).expect("a socket");
    server.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let to: SocketAddr = address.parse().expect("an address");
    there(Some(from), move || {
        let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
        socket.send_to(b"!", to).expect("sent");
    });
    server.recv_from(&mut [0; 16]).is_ok()
}

fn exchange(from: Option<&Peer>, to: SocketAddr, message: Vec<u8>) -> Option<Vec<u8>> {
    there(from, move || {
        let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
        socket.connect(to).ok()?;
        socket.set_read_timeout(Some(PATIENCE)).ok()?;
        socket.send(&message).ok()?;
        let mut buffer = vec![0; 1500];
        let length = socket.recv(&mut buffer).ok()?;
        buffer.truncate(length);
        Some(buffer)
    })
}

/// The address that the name server gives for a name. `Err(true)`: it says that there is none. `Err(false)`: no answer.
pub fn resolve(from: Option<&Peer>, server: &str, name: &str) -> Result<Ipv4Addr, bool> {
    // Header: id, recursion wanted, one question. Then the labels, type A, class IN.
    let mut query = vec![0x5a, 0x5a, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        query.push(u8::try_from(label.len()).expect("a label"));
        query.extend(label.as_bytes());
    }
    query.extend([0, 0, 1, 0, 1]);
    let question = query.len();
    let server = format!("{server}:53").parse().expect("an address");
    let answer = exchange(from, server, query).ok_or(false)?;
    // A compressed name, type, class, time to live, length: 12 bytes before the address of the first answer.
    match answer.get(question + 12..question + 16) {
        Some(&[a, b, c, d]) if answer[7] > 0 => Ok(Ipv4Addr::new(a, b, c, d)),
        _ => Err(true),
    }
}

/// A name server that gives `address` for every name.
pub fn serve_names(at: &Peer, address: Ipv4Addr) {
    let socket = there(Some(at), || UdpSocket::bind("0.0.0.0:53").expect("a socket"));
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            // The question ends with the root label, type and class; what follows it (EDNS) is left out.
            let Some(end) = buffer[12..length].iter().position(|b| *b == 0).map(|n| 12 + n + 5) else {
                continue;
            };
            let mut answer = buffer[..end].to_vec();
            (answer[2], answer[3]) = (0x81, 0x80);
            answer[6..12].copy_from_slice(&[0, 1, 0, 0, 0, 0]);
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
            answer.extend(address.octets());
            let _ = socket.send_to(&answer, peer);
        }
    });
}
