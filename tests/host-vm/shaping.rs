//! Limits of a guest's interfaces, where the kernel can hold them.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use agent_tests::host::{Agentd, virsh, wait_until};

const PIECE: usize = 768 << 10;
/// What `web` is run with.
pub const LIMITED: &str = "default,in=128KiB,out=128KiB";

/// Seconds that the guest takes to fetch PIECE from this host.
fn fetches(agentd: &Agentd) -> f64 {
    let gateway =
        agentd.address("web").rsplit_once('.').map(|(net, _)| format!("{net}.1")).expect("an address");
    let listener = TcpListener::bind((gateway.as_str(), 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("the guest");
        let from = Instant::now();
        let mut asked = [0u8; 4096];
        let _ = stream.read(&mut asked);
        let head = format!("HTTP/1.0 200 OK\r\nContent-Length: {PIECE}\r\n\r\n");
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&vec![b'x'; PIECE])).expect("sent");
        stream.shutdown(std::net::Shutdown::Write).expect("sent");
        // The guest closes when it has all.
        while stream.read(&mut asked).is_ok_and(|n| n > 0) {}
        from.elapsed().as_secs_f64()
    });
    agentd.ok(&[
        "vm",
        "exec",
        "web",
        "--",
        "wget",
        "-q",
        "-O",
        "/dev/null",
        &format!("http://{gateway}:{port}/"),
    ]);
    server.join().expect("a server")
}

/// Seconds that this host takes to fetch PIECE from the guest.
fn serves(agentd: &Agentd) -> f64 {
    let from = Instant::now();
    let mut stream = TcpStream::connect((agentd.address("web").as_str(), 80)).expect("the guest answers");
    stream.write_all(b"GET /piece HTTP/1.0\r\n\r\n").expect("asked");
    let mut all = Vec::new();
    stream.read_to_end(&mut all).expect("an answer");
    assert!(all.len() >= PIECE, "{}", String::from_utf8_lossy(&all[..all.len().min(300)]));
    from.elapsed().as_secs_f64()
}

/// Waits until the guest's interface has a limit, or has none.
fn until_limited(limited: bool) {
    wait_until(&format!("that it is limited is {limited}"), Duration::from_secs(30), || {
        let xml = virsh(&["list", "--name"]).and_then(|name| virsh(&["dumpxml", name.trim()]))?;
        if xml.contains("<bandwidth>") == limited { Ok(()) } else { Err(xml) }
    });
}

/// Of `web`, which runs with them.
pub fn interfaces_carry_what_their_limits_let_through(agentd: &Agentd) {
    let piece = format!("dd if=/dev/zero of=/www/piece bs=1024 count={} 2>/dev/null", PIECE >> 10);
    agentd.ok(&["vm", "exec", "web", "--", "sh", "-c", &piece]);
    let slow = (fetches(agentd), serves(agentd));
    agentd.ok(&["vm", "set", "web", "--network-limit", "default,none"]);
    until_limited(false);
    let free = (fetches(agentd), serves(agentd));
    agentd.ok(&["vm", "set", "web", "--network-limit", LIMITED]);
    until_limited(true);
    let again = (fetches(agentd), serves(agentd));
    println!(
        "seconds for {PIECE} bytes in and out: limited {slow:?}, free {free:?}, limited while it runs {again:?}"
    );
    // Six seconds at that rate, of which a burst is free.
    for (way, limited, free) in [
        ("in", slow.0, free.0),
        ("out", slow.1, free.1),
        ("in, set while it runs", again.0, free.0),
        ("out, set while it runs", again.1, free.1),
    ] {
        assert!(limited > 3.0, "{way}: {limited} s");
        assert!(free < limited * 0.6, "{way}: {limited} s with the limit, {free} s without");
    }
}
