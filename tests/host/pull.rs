//! `agentctl image pull`: fetched from a server of the test's own, resumed, checked.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use agent_tests::host::{guest, namespace, wait_until};
use agent_tests::host_test;

/// A file server that knows ranges, slow so that there is time to kill in the middle, and counts what it sent.
struct Files {
    port: u16,
    sent: Arc<AtomicU64>,
    resumed: Arc<AtomicU64>,
}

fn serve(content: Vec<u8>) -> Files {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a server");
    let port = listener.local_addr().expect("an address").port();
    let (sent, resumed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (count, again) = (sent.clone(), resumed.clone());
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (content, count, again) = (content.clone(), count.clone(), again.clone());
            std::thread::spawn(move || answer(stream, &content, &count, &again));
        }
    });
    Files { port, sent, resumed }
}

fn answer(
    mut stream: TcpStream,
    content: &[u8],
    sent: &AtomicU64,
    resumed: &AtomicU64,
) -> std::io::Result<()> {
    let mut from = 0usize;
    for line in BufReader::new(stream.try_clone()?).lines() {
        let line = line?.to_ascii_lowercase();
        if let Some(range) = line.strip_prefix("range: bytes=") {
            from = range.trim_end_matches('-').parse().unwrap_or(0);
        }
        if line.is_empty() {
            break;
        }
    }
    let rest = &content[from.min(content.len())..];
    let status = if from > 0 { "206 Partial Content" } else { "200 OK" };
    if from > 0 {
        resumed.fetch_max(from as u64, Ordering::SeqCst);
    }
    write!(
        stream,
        "HTTP/1.1 {status}\r\nAccept-Ranges: bytes\r\nContent-Range: bytes {from}-{}/{}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        content.len() - 1,
        content.len(),
        rest.len()
    )?;
    for part in rest.chunks(256 << 10) {
        stream.write_all(part)?;
        sent.fetch_add(part.len() as u64, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(40));
    }
    Ok(())
}

host_test!(vm_image_pull_survives_a_killed_agentd_and_resumes, |host| {
    let mut agentd = host.with_agentd();
    // 16 MiB that do not compress, behind a boot sector.
    let mut content: Vec<u8> =
        (0u32..4 << 20).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    content[510..512].copy_from_slice(&[0x55, 0xaa]);
    let file = host.scratch().join("disk.raw");
    std::fs::write(&file, &content).expect("a file");
    let sum = namespace::run("/usr/bin/sha256sum", &[&file.to_string_lossy()]).expect("sha256sum");
    let sum = sum.split(' ').next().expect("a digest").to_owned();
    let files = serve(content.clone());
    let url = format!("http://127.0.0.1:{}/disk.raw", files.port);

    let mut pull = agentd
        .command(&["image", "pull", &url, "--sha256", &sum, "--name", "pulled"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("agentctl");
    wait_until("a third has been sent", Duration::from_secs(60), || {
        let sent = files.sent.load(Ordering::SeqCst);
        if sent > 5 << 20 { Ok(()) } else { Err(format!("{sent} bytes")) }
    });
    agentd.kill();
    // It would wait for the next agentd, and be told how it ended.
    let _ = pull.kill();
    let _ = pull.wait();
    agentd.start();
    wait_until("the image is ready", Duration::from_secs(120), || {
        let image = agentd.get("image", "pulled").ok_or("it is gone")?;
        if image["status"]["state"] == "ready" { Ok(()) } else { Err(image["status"].to_string()) }
    });
    assert!(files.resumed.load(Ordering::SeqCst) > 1 << 20, "it began anew");

    let wrong = "0".repeat(64);
    let answer = agentd.ctl(&["image", "pull", &url, "--sha256", &wrong, "--name", "wrong"]);
    assert_eq!(answer.status, 1, "{answer:?}");
    assert!(answer.stderr.contains(&sum), "the digest that was found is named: {answer:?}");
    assert_eq!(agentd.get("image", "wrong").expect("it says so")["status"]["state"], "failed");
    agentd.ok(&["image", "rm", "wrong"]);

    // The same bytes are stored once, under however many names.
    agentd.ok(&["image", "import", &file.to_string_lossy(), "--name", "same"]);
    let digest = |name: &str| agentd.get("image", name).expect("an image")["status"]["digest"].clone();
    assert_eq!(digest("same"), digest("pulled"));
    agentd.ok(&["image", "rm", "pulled"]);
    agentd.ok(&["vm", "run", "still", "--image", "same", "--memory", "128MiB"]);
    let _ = guest::console(&agentd, "still");
    agentd.ok(&["vm", "rm", "still"]);
});
