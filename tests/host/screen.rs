//! What is on a guest's screen, and who may view it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use agent_tests::host::{Agentd, guest, virsh, wait_until};
use agent_tests::host_test;
use des::Des;
use des::cipher::{BlockCipherEncrypt, KeyInit};

const SOON: Duration = Duration::from_secs(30);

/// The handshake of RFB 3.8 with a password, up to the screen's size; what the server says where it refuses.
fn rfb(address: &str, password: &str) -> Result<(u16, u16), String> {
    let fail = |e: std::io::Error| e.to_string();
    let mut stream = TcpStream::connect(address).map_err(fail)?;
    stream.set_read_timeout(Some(SOON)).map_err(fail)?;
    let mut exact = |size: usize| {
        let mut bytes = vec![0; size];
        stream.read_exact(&mut bytes).map(|()| bytes).map_err(fail)
    };
    assert_eq!(exact(12)?, b"RFB 003.008\n");
    let mut to = stream.try_clone().map_err(fail)?;
    to.write_all(b"RFB 003.008\n").map_err(fail)?;
    let mut exact = |size: usize| {
        let mut bytes = vec![0; size];
        stream.read_exact(&mut bytes).map(|()| bytes).map_err(fail)
    };
    let count = exact(1)?[0];
    let kinds = exact(usize::from(count))?;
    assert_eq!(kinds, [2], "a password is the only way in");
    to.write_all(&[2]).map_err(fail)?;
    let challenge: [u8; 16] = exact(16)?.try_into().expect("sixteen");
    to.write_all(&answer(challenge, password)).map_err(fail)?;
    if exact(4)? != [0; 4] {
        return Err("refused".to_owned());
    }
    to.write_all(&[1]).map_err(fail)?;
    let init = exact(24)?;
    Ok((u16::from_be_bytes([init[0], init[1]]), u16::from_be_bytes([init[2], init[3]])))
}

/// The challenge, enciphered with the password as VNC does: DES, each of the key's bytes with its bits reversed.
fn answer(challenge: [u8; 16], password: &str) -> Vec<u8> {
    let mut key = [0u8; 8];
    for (to, from) in key.iter_mut().zip(password.bytes()) {
        *to = from.reverse_bits();
    }
    let des = Des::new(&key.into());
    let mut out = Vec::new();
    for half in challenge.chunks_exact(8) {
        let mut block: [u8; 8] = half.try_into().expect("eight");
        des.encrypt_block((&mut block).into());
        out.extend_from_slice(&block);
    }
    out
}

/// agentctl that has opened a port for a viewer: the port's address, and the ticket.
fn vnc(agentd: &Agentd) -> (Child, String, String) {
    // One viewer at a time: the one before may be on its way out still.
    wait_until("a port for a viewer", SOON, || {
        let mut command = agentd.command(&["vm", "vnc", "web", "-o", "json"]);
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("agentctl starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("its output")).read_line(&mut line).expect("a line");
        let Ok(told) = serde_json::from_str::<serde_json::Value>(&line) else {
            return Err(format!("{line:?}, {:?}", child.wait()));
        };
        let text = |key: &str| told[key].as_str().expect(key).to_owned();
        Ok((child, text("address"), text("password")))
    })
}

/// What libvirt pictures: PNG from one version on, PPM before.
fn size_of(picture: &Path) -> (u32, u32) {
    let bytes = std::fs::read(picture).expect("a picture");
    if !bytes.starts_with(b"P6") {
        return png_size(picture);
    }
    let head = String::from_utf8_lossy(&bytes[..bytes.len().min(32)]).into_owned();
    let mut words = head.split_whitespace().skip(1).map_while(|word| word.parse::<u32>().ok());
    (words.next().expect("a width"), words.next().expect("a height"))
}

fn png_size(file: &Path) -> (u32, u32) {
    let png = std::fs::read(file).expect("a picture");
    assert!(png.starts_with(b"\x89PNG\r\n\x1a\n"), "{:?}", &png[..png.len().min(16)]);
    let number = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().expect("four bytes"));
    (number(16), number(20))
}

host_test!(vm_screen_is_pictured_and_viewed_by_one_with_a_ticket, |host| {
    let agentd = host.with_agentd();
    agentd.ok(&["vm", "run", "web", "--image", "micro", "--memory", "128MiB", "--graphics"]);
    guest::answers(&agentd, "web");
    let (ours, theirs) = (host.scratch().join("ours.png"), host.scratch().join("theirs"));
    agentd.ok(&["vm", "screenshot", "web", &ours.to_string_lossy()]);
    let domain = virsh(&["list", "--name"]).expect("virsh").trim().to_owned();
    virsh(&["screenshot", &domain, &theirs.to_string_lossy()]).expect("virsh screenshot");
    let size = size_of(&theirs);
    assert_eq!(png_size(&ours), size);
    assert!(size.0 >= 640 && size.1 >= 400, "{size:?}");

    // The right ticket, once; while it is used there is no port, and no other viewer.
    let listening = || std::fs::read_to_string("/proc/net/tcp").expect("sockets").matches(" 0A ").count();
    let before = listening();
    let (mut child, address, ticket) = vnc(&agentd);
    assert!(address.starts_with("127.0.0.1:"), "{address}");
    assert_eq!(listening(), before + 1);
    assert_eq!(agentd.ctl(&["vm", "vnc", "web"]).status, 4, "a second viewer");
    let seen = rfb(&address, &ticket).expect("let in");
    assert_eq!((u32::from(seen.0), u32::from(seen.1)), size);
    assert_eq!(listening(), before, "nothing listens once the one has come");
    wait_until("agentctl ends with its viewer", SOON, || match child.try_wait().expect("a child") {
        Some(status) if status.success() => Ok(()),
        other => Err(format!("{other:?}")),
    });
    assert!(rfb(&address, &ticket).is_err(), "the port is closed");

    // A wrong ticket lets nobody in, and one that was used no more.
    let (mut child, address, new) = vnc(&agentd);
    assert_ne!(new, ticket);
    assert_eq!(rfb(&address, &ticket), Err("refused".to_owned()));
    wait_until("its one connection was used up", SOON, || match child.try_wait().expect("a child") {
        Some(_) => Ok(()),
        None => Err("agentctl still waits".to_owned()),
    });
});
