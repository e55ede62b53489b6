//! The listener by what a caller sees: files that come, change, are wrong, and a port that is somebody else's.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use agentd_api::remote;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::*;
use crate::http::Pems;
use crate::http::testing::{Authority, Pair};

fn write(dir: &Path, pems: &Pems) {
    for (name, content, mode) in [
        (remote::CA, &pems.ca, 0o644),
        (remote::REVOKED, &pems.revoked, 0o644),
        (remote::SERVER, &pems.server, 0o644),
        (remote::SERVER_KEY, &pems.server_key, 0o600),
    ] {
        let beside = dir.join(format!(".{name}"));
        std::fs::write(&beside, content).expect("written");
        std::fs::set_permissions(&beside, PermissionsExt::from_mode(mode)).expect("chmod");
        std::fs::rename(&beside, dir.join(name)).expect("renamed");
    }
}

async fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address")
}

fn keeper(listen: SocketAddr, dir: &Path) -> Keeper {
    let remote = Remote::new(&RemoteConfig { listen: Some(listen), dir: dir.to_owned() });
    Keeper { remote, listen, look: Look::at(dir.to_owned()), trust: None, listening: false }
}

fn amiss(keeper: &Keeper) -> String {
    keeper.remote.seen().expect("wanted").amiss.unwrap_or_default()
}

#[tokio::test]
async fn nothing_is_listened_on_unless_it_is_said_where() {
    assert_eq!(Remote::new(&RemoteConfig::default()).seen(), None);
}

#[tokio::test]
async fn files_are_waited_for_and_a_key_that_others_can_read_is_refused_with_what_to_do() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut keeper = keeper(free_port().await, dir.path());
    assert!(keeper.round().await.is_none());
    assert!(amiss(&keeper).contains("agentctl remote init"), "{}", amiss(&keeper));
    let authority = Authority::new();
    write(dir.path(), &authority.pems(&authority.server(), &[]));
    let key = dir.path().join(remote::SERVER_KEY);
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o640)).expect("chmod");
    assert!(keeper.round().await.is_none());
    assert!(amiss(&keeper).contains(&format!("chmod 600 {}", key.display())), "{}", amiss(&keeper));
    std::fs::set_permissions(&key, PermissionsExt::from_mode(0o600)).expect("chmod");
    assert!(keeper.round().await.is_some(), "{}", amiss(&keeper));
    assert_eq!(amiss(&keeper), "");
    assert!(keeper.round().await.is_none(), "it listens once");
}

#[tokio::test]
async fn a_port_that_is_somebody_else_s_is_told_and_taken_once_it_is_free() {
    let dir = tempfile::tempdir().expect("a folder");
    let authority = Authority::new();
    write(dir.path(), &authority.pems(&authority.server(), &[]));
    let other = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = other.local_addr().expect("an address");
    let mut keeper = keeper(at, dir.path());
    assert!(keeper.round().await.is_none());
    assert!(amiss(&keeper).contains(&format!("sport = :{}", at.port())), "{}", amiss(&keeper));
    assert!(keeper.remote.seen().expect("wanted").serves.is_none());
    drop(other);
    assert!(keeper.round().await.is_some(), "{}", amiss(&keeper));
    assert_eq!(keeper.remote.seen().expect("wanted").serves.map(|serves| serves.listen), Some(at));
}

#[tokio::test]
async fn bad_files_leave_those_in_use_that_were_good_until_they_are_mended() {
    let dir = tempfile::tempdir().expect("a folder");
    let authority = Authority::new();
    let (server, client) = (authority.server(), authority.client("laptop"));
    write(dir.path(), &authority.pems(&server, &[]));
    let mut keeper = keeper(free_port().await, dir.path());
    let (_listener, trusted) = keeper.round().await.expect("it listens");
    let chain = [client.der()];
    std::fs::write(dir.path().join(remote::REVOKED), "nothing").expect("written");
    keeper.round().await;
    assert!(amiss(&keeper).contains("stay in use"), "{}", amiss(&keeper));
    assert!(trusted.borrow().admits(&chain).is_ok());
    write(dir.path(), &authority.pems(&server, &[&client]));
    keeper.round().await;
    assert_eq!(amiss(&keeper), "");
    assert!(trusted.borrow().admits(&chain).is_err(), "what was mended holds");
}

/// Asks the whole daemon for its own description, as that client.
async fn asked(at: SocketAddr, authority: &Authority, pair: &Pair) -> std::io::Result<String> {
    let stream = TcpStream::connect(at).await?;
    let name = ServerName::try_from("localhost").expect("a name");
    let mut stream = TlsConnector::from(authority.caller(Some(pair))).connect(name, stream).await?;
    stream.write_all(b"GET /v1 HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_whole_daemon_is_reached_says_so_and_takes_up_what_changes_while_it_runs() {
    use crate::config::{Config, Flags};
    let dir = tempfile::tempdir().expect("a folder");
    let (authority, at) = (Authority::new(), free_port().await);
    let (server, client) = (authority.server(), authority.client("laptop"));
    write(dir.path(), &authority.pems(&server, &[]));
    let mut config = Config::default();
    config.daemon.state_dir = dir.path().join("state");
    config.daemon.socket = dir.path().join("agentd.sock");
    config.remote = RemoteConfig { listen: Some(at), dir: dir.path().to_owned() };
    let reload = crate::daemon::Reload::without_log(Flags::default());
    let daemon = crate::daemon::Daemon::start(config, reload, |_, instance| {
        Ok(crate::sim::Fakes::new(instance).drivers())
    });
    let daemon = daemon.await.expect("started");
    let limit = tokio::time::Instant::now() + Duration::from_secs(20);
    let answer = loop {
        match asked(at, &authority, &client).await {
            Ok(answer) => break answer,
            Err(error) => assert!(tokio::time::Instant::now() < limit, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.contains(&format!("listens on {at} with a certificate until ")), "{answer}");
    write(dir.path(), &authority.pems(&server, &[&client]));
    loop {
        match asked(at, &authority, &client).await {
            Err(error) if error.to_string().contains("CertificateRevoked") => break,
            other => assert!(tokio::time::Instant::now() < limit, "{other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let from = std::time::Instant::now();
    daemon.stop().await.expect("stopped");
    assert!(from.elapsed() < Duration::from_secs(1), "it took {:?}", from.elapsed());
}
