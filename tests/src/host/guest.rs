//! What a guest shows: its web server, its console.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::{Agentd, virsh, wait_or_tell, wait_until};

/// How long a guest may take to come up on a busy machine without KVM.
pub const BOOT: Duration = Duration::from_secs(90);

/// One HTTP GET; the body.
pub fn get(address: &str, port: u16, path: &str) -> Result<String, String> {
    let to: SocketAddr = format!("{address}:{port}").parse().map_err(|e| format!("{address}: {e}"))?;
    let seconds = Duration::from_secs(5);
    let mut stream = TcpStream::connect_timeout(&to, seconds).map_err(|e| format!("{to}: {e}"))?;
    stream.set_read_timeout(Some(seconds)).map_err(|e| e.to_string())?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").map_err(|e| e.to_string())?;
    let mut text = String::new();
    stream.read_to_string(&mut text).map_err(|e| format!("{to}{path}: {e}"))?;
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(|| format!("no answer: {text:?}"))?;
    if head.starts_with("HTTP/1.0 200") || head.starts_with("HTTP/1.1 200") {
        Ok(body.to_owned())
    } else {
        Err(head.to_owned())
    }
}

/// Whether somebody takes a connection. A packet that came before the guest did is sent again only after a second, and
/// then after three: it is asked anew instead.
fn listens(address: &str, port: u16) -> Result<(), String> {
    let to: SocketAddr = format!("{address}:{port}").parse().map_err(|e| format!("{address}: {e}"))?;
    let soon = Duration::from_millis(150);
    TcpStream::connect_timeout(&to, soon).map(drop).map_err(|e| format!("{to}: {e}"))
}

/// Waits until the guest's own server answers, and gives its front page.
pub fn answers(agentd: &Agentd, name: &str) -> String {
    answers_within(agentd, name, BOOT)
}

/// For guests that boot beside many others.
pub fn answers_within(agentd: &Agentd, name: &str, limit: Duration) -> String {
    let address = agentd.address(name);
    let asks = || listens(&address, 80).and_then(|()| get(&address, 80, "/"));
    wait_or_tell(&format!("{name} answers at {address}"), limit, asks, || doing(agentd, name))
}

/// What a guest is at that does not do what it should: what it said, and what its emulator does twice in three seconds.
fn doing(agentd: &Agentd, name: &str) -> String {
    let id = agentd.vm(name)["id"].as_str().unwrap_or_default().to_owned();
    let look = || {
        let figures = virsh(&["domstats", "--state", "--vcpu", "--block", "--interface", &id]);
        let registers = virsh(&["qemu-monitor-command", &id, "--hmp", "info registers"]);
        [figures, registers].map(|said| said.unwrap_or_else(|error| error)).join("\n")
    };
    let first = look();
    std::thread::sleep(Duration::from_secs(3));
    format!("console:\n{}\n{first}\n3 seconds later:\n{}", console(agentd, name), look())
}

/// Waits until its agent answers, which is started after its web server.
pub fn runs_programs(agentd: &Agentd, name: &str) {
    wait_until("the guest runs programs", 2 * BOOT, || {
        let answer = agentd.ctl(&["vm", "exec", name, "--", "true"]);
        if answer.status == 0 { Ok(()) } else { Err(answer.stderr) }
    });
}

/// A page of the guest's own server, once it answers.
pub fn page(agentd: &Agentd, name: &str, path: &str) -> String {
    answers(agentd, name);
    get(&agentd.address(name), 80, path).expect("an answer")
}

/// Has a guest of `micro` with a further disk write `text` to both of its disks.
pub fn write_both(agentd: &Agentd, name: &str, text: &str) {
    assert_eq!(page(agentd, name, &format!("/cgi-bin/write?{text}")).trim(), text);
    let second = page(agentd, name, &format!("/cgi-bin/disk?disk-1={text}"));
    assert!(second.contains("status: 0"), "{second}");
}

/// What is on both of its disks.
pub fn read_both(agentd: &Agentd, name: &str) -> (String, String) {
    let first = page(agentd, name, "/cgi-bin/write").trim().to_owned();
    let second = page(agentd, name, "/cgi-bin/disk?disk-1");
    (first, second.lines().next().unwrap_or_default().to_owned())
}

/// What [`read_both`] answers where `text` is on both.
pub fn both(text: &str) -> (String, String) {
    (text.to_owned(), text.to_owned())
}

/// All that the guest has said on its console.
pub fn console(agentd: &Agentd, name: &str) -> String {
    let vm = agentd.vm(name);
    let path = vm["status"]["console_log"].as_str().unwrap_or_default().to_owned();
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

/// A raw disk whose boot sector says hello on the serial port and halts for good: it hears no power button.
pub fn speaking_disk() -> Vec<u8> {
    let mut disk = vec![0u8; 1 << 20];
    let program: &[u8] = &[
        0xbe, 0x15, 0x7c, // mov si, text
        0xba, 0xf8, 0x03, // mov dx, the first serial port
        0xac, // next: lodsb
        0x84, 0xc0, // test al, al
        0x74, 0x03, // jz end
        0xee, // out dx, al
        0xeb, 0xf8, // jmp next
        0xf4, // end: hlt
        0xeb, 0xfd, // jmp end
    ];
    disk[..program.len()].copy_from_slice(program);
    disk[0x15..0x15 + 20].copy_from_slice(b"hello from a sector\n");
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    disk
}
