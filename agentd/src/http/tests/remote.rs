//! Other machines: who gets past the handshake, as whom, for how long, and that those who do not hold up nobody.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use agentd_api::frame::Frame;
use rcgen::ExtendedKeyUsagePurpose as Usage;
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, ClientConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::served::{LIMIT, Line, Lines, Served, ssh_key, vm};
use crate::http::testing::{Authority, Pair, Wish};
use crate::http::{Limits, Trust};

/// A server that other machines reach too, and its authority.
struct Remote {
    served: Served,
    at: SocketAddr,
    authority: Authority,
    server: Pair,
    trust: watch::Sender<Arc<Trust>>,
}

impl Remote {
    async fn start(limits: Limits) -> Self {
        let served = Served::limited(limits).await;
        let authority = Authority::new();
        let server = authority.server();
        let trust = Trust::new(&authority.pems(&server, &[])).expect("good files");
        let (trust, trusted) = watch::channel(Arc::new(trust));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let at = listener.local_addr().expect("an address");
        tokio::spawn(served.server.clone().serve_remote(listener, trusted, served.cancel.clone()));
        Self { served, at, authority, server, trust }
    }

    async fn shake(&self, config: Arc<ClientConfig>) -> std::io::Result<TlsStream<TcpStream>> {
        shake(self.at, config).await
    }

    async fn line(&self, pair: &Pair) -> Line {
        let stream = self.shake(self.authority.caller(Some(pair))).await.expect("let in");
        Line::over(stream).await
    }

    /// What one is told who asks without being let in.
    async fn refused(&self, config: Arc<ClientConfig>) -> rustls::Error {
        let asked = async {
            let mut stream = self.shake(config).await?;
            stream.write_all(b"GET /v1 HTTP/1.1\r\nhost: a\r\n\r\n").await?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await?;
            Ok::<_, std::io::Error>(String::from_utf8_lossy(&answer).into_owned())
        };
        let error = asked.await.expect_err("it was answered");
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        tls.unwrap_or_else(|| panic!("it is not told why: {error}")).clone()
    }
}

async fn shake(at: SocketAddr, config: Arc<ClientConfig>) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(at).await?;
    let name = ServerName::try_from("localhost").expect("a name");
    timeout(LIMIT, TlsConnector::from(config).connect(name, stream)).await.expect("in time")
}

#[tokio::test]
async fn who_has_a_certificate_of_ours_is_answered_and_stands_in_events_by_its_name() {
    let remote = Remote::start(Limits::default()).await;
    let mut line = remote.line(&remote.authority.client("laptop")).await;
    let headers = [("content-type", "application/json")];
    let made = line.send("POST", "/v1/ssh-keys", &headers, &ssh_key("me").to_string()).await;
    assert_eq!(made.status, 201, "{:?}", made.body);
    let events = line.send("GET", "/v1/events", &[], "").await.json();
    assert_eq!(events["items"][0]["actor"], "remote:laptop", "{events}");
    // The Unix socket is beside it as it was, and knows its callers as it did.
    assert_eq!(remote.served.json("POST", "/v1/ssh-keys", &ssh_key("you")).await.status, 201);
    let events = remote.served.call("GET", "/v1/events?name=you").await.json();
    assert_eq!(events["items"][0]["actor"], format!("uid:{}", nix::unistd::geteuid()), "{events}");
}

#[tokio::test]
async fn an_idempotency_key_is_one_client_s_own() {
    let remote = Remote::start(Limits::default()).await;
    let headers = [("content-type", "application/json"), ("idempotency-key", "k")];
    let body = ssh_key("me").to_string();
    let mut one = remote.line(&remote.authority.client("one")).await;
    let mut two = remote.line(&remote.authority.client("two")).await;
    for (line, status) in [(&mut one, 201), (&mut two, 409)] {
        assert_eq!(line.send("POST", "/v1/ssh-keys", &headers, &body).await.status, status);
    }
    assert_eq!(one.send("POST", "/v1/ssh-keys", &headers, &body).await.status, 201, "the same answer again");
}

#[tokio::test]
async fn nobody_else_gets_past_the_handshake_and_each_is_told_why() {
    let remote = Remote::start(Limits::default()).await;
    let ours = &remote.authority;
    let of = |usage: Usage, days| ours.pair(Wish { name: "laptop", usage, days });
    let (revoked, good) = (ours.client("laptop"), ours.client("laptop"));
    remote
        .trust
        .send_replace(Arc::new(Trust::new(&ours.pems(&remote.server, &[&revoked])).expect("good files")));
    for (what, pair, alert) in [
        ("no certificate", None, AlertDescription::CertificateRequired),
        ("another authority's", Some(Authority::new().client("laptop")), AlertDescription::UnknownCA),
        ("expired", Some(of(Usage::ClientAuth, -30..-1)), AlertDescription::CertificateExpired),
        ("of the future", Some(of(Usage::ClientAuth, 1..30)), AlertDescription::CertificateExpired),
        ("revoked", Some(revoked), AlertDescription::CertificateRevoked),
        ("a daemon's", Some(of(Usage::ServerAuth, -1..30)), AlertDescription::UnsupportedCertificate),
    ] {
        let told = remote.refused(ours.caller(pair.as_ref())).await;
        assert_eq!(told, rustls::Error::AlertReceived(alert), "{what}");
    }
    assert_eq!(remote.line(&good).await.send("GET", "/v1", &[], "").await.status, 200);
}

#[tokio::test]
async fn a_certificate_of_nobody_is_answered_403() {
    let remote = Remote::start(Limits::default()).await;
    for name in ["", "two words", "a\u{1b}[2J"] {
        let mut line = remote.line(&remote.authority.client(name)).await;
        line.send("GET", "/v1", &[], "").await.problem(403, "forbidden");
    }
}

#[tokio::test]
async fn what_is_no_tls_is_not_answered_as_http() {
    let remote = Remote::start(Limits::default()).await;
    let mut stream = TcpStream::connect(remote.at).await.expect("connected");
    stream.write_all(b"GET /v1 HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("sent");
    let mut answer = Vec::new();
    // Reset or closed: either is an end.
    let _ = timeout(LIMIT, stream.read_to_end(&mut answer)).await.expect("closed in time");
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
}

#[tokio::test]
async fn new_certificates_hold_for_the_next_and_end_nobody_who_would_be_let_in_still() {
    let remote = Remote::start(Limits::default()).await;
    let laptop = remote.authority.client("laptop");
    let mut line = remote.line(&laptop).await;
    assert_eq!(line.send("GET", "/v1", &[], "").await.status, 200);
    let renewed = remote.authority.server();
    remote
        .trust
        .send_replace(Arc::new(Trust::new(&remote.authority.pems(&renewed, &[])).expect("good files")));
    let next = remote.shake(remote.authority.caller(Some(&laptop))).await.expect("let in");
    let shown = next.get_ref().1.peer_certificates().expect("a certificate");
    assert_eq!(shown[0], renewed.der(), "the new one is shown");
    assert_eq!(line.send("GET", "/v1", &[], "").await.status, 200, "the one before goes on");
}

const UPGRADE: &str = "connection: upgrade\r\nupgrade: agentd-frames\r\n";

/// Opens a stream that sends back what it is sent, and sees that it does.
async fn echoing(remote: &Remote, pair: &Pair) -> TlsStream<TcpStream> {
    let mut stream = remote.shake(remote.authority.caller(Some(pair))).await.expect("let in");
    let ask = format!("GET /v1/vms/web/console HTTP/1.1\r\nhost: a\r\n{UPGRADE}\r\n");
    stream.write_all(ask.as_bytes()).await.expect("sent");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(timeout(LIMIT, stream.read_u8()).await.expect("in time").expect("a head"));
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
    echo(&mut stream).await.expect("it comes back");
    stream
}

async fn echo(stream: &mut TlsStream<TcpStream>) -> std::io::Result<()> {
    let sent = Frame::In(vec![7; 100_000]).to_bytes();
    let mut back = vec![0; sent.len()];
    let (mut from, mut to) = tokio::io::split(stream);
    let both = async {
        tokio::try_join!(
            async {
                to.write_all(&sent).await?;
                to.flush().await
            },
            from.read_exact(&mut back)
        )
    };
    timeout(LIMIT, both).await.expect("in time")?;
    assert!(back == sent);
    Ok(())
}

#[tokio::test]
async fn a_revoked_client_s_connections_are_closed_whatever_they_are_at_and_nobody_else_s() {
    let remote = Remote::start(Limits::default()).await;
    remote.served.put(vec![vm("web")]).await;
    let (lost, good) = (remote.authority.client("lost"), remote.authority.client("good"));
    let mut resting = remote.line(&lost).await;
    assert_eq!(resting.send("GET", "/v1", &[], "").await.status, 200);
    let mut watch = Lines::on(remote.line(&lost).await, "/v1/vms?watch=true").await;
    assert_eq!(watch.next().await.1, "web");
    let (mut upgraded, mut other) = (echoing(&remote, &lost).await, echoing(&remote, &good).await);
    let mut others = remote.line(&good).await;

    let pems = remote.authority.pems(&remote.server, &[&lost]);
    remote.trust.send_replace(Arc::new(Trust::new(&pems).expect("good files")));
    // Each ends as it does where the server stops: a watch in order, a stream by its end or by a cut.
    while watch.line().await.is_some() {}
    let mut rest = Vec::new();
    let _ = timeout(LIMIT, upgraded.read_to_end(&mut rest)).await.expect("it is closed in time");
    timeout(LIMIT, resting.closed()).await.expect("it is closed in time");
    echo(&mut other).await.expect("the other client's stream goes on");
    assert_eq!(others.send("GET", "/v1", &[], "").await.status, 200);
}

#[tokio::test]
async fn a_handshake_that_does_not_come_to_its_end_is_given_up() {
    let remote = Remote::start(Limits { head: Duration::from_millis(200), ..Limits::default() }).await;
    let mut silent = TcpStream::connect(remote.at).await.expect("connected");
    let begun = Instant::now();
    let mut rest = Vec::new();
    let _ = timeout(LIMIT, silent.read_to_end(&mut rest)).await.expect("closed in time");
    assert!(begun.elapsed() >= Duration::from_millis(200), "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_who_say_nothing_take_a_bounded_place_and_hold_up_nobody() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, most, most).expect("as many as may be");
    let remote = Remote::start(Limits { head: Duration::from_secs(600), ..Limits::default() }).await;
    let mut silent = Vec::new();
    for _ in 0..1000 {
        silent.push(TcpStream::connect(remote.at).await.expect("connected"));
    }
    let mut line = remote.line(&remote.authority.client("laptop")).await;
    assert_eq!(line.send("GET", "/v1", &[], "").await.status, 200);
    // Those that came first made room for the rest; a lane is kept, and no more.
    let closed = async |stream: &mut TcpStream| {
        let ended = timeout(Duration::from_millis(20), stream.read_u8()).await;
        ended.is_ok()
    };
    for stream in &mut silent[..1000 - 256] {
        timeout(LIMIT, stream.read_u8()).await.expect("it made room").expect_err("nothing is said");
    }
    let mut open = 0;
    for stream in &mut silent[1000 - 255..] {
        open += usize::from(!closed(stream).await);
    }
    assert_eq!(open, 255, "the others may still say who they are");
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let server = ours.server();
    let good = || ours.pems(&server, &[]);
    let why = |pems| super::super::Trust::new(&pems).expect_err("refused").to_string();
    for (file, pems) in [
        ("ca.pem", crate::http::Pems { ca: b"nothing".to_vec(), ..good() }),
        ("revoked.pem", crate::http::Pems { revoked: Vec::new(), ..good() }),
        ("server.pem", crate::http::Pems { server: good().server_key, ..good() }),
        ("server-key.pem", crate::http::Pems { server_key: theirs.server().key.into_bytes(), ..good() }),
        ("server-key.pem", crate::http::Pems { server_key: good().server, ..good() }),
    ] {
        assert!(why(pems).starts_with(file), "{file}");
    }
    Trust::new(&good()).expect("good files");
}
