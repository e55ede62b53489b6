//! One guest in the emulator, its console in a file, its power button at hand.

use std::io::Write;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use agentd_drivers::exec::{ExecError, Program};
use agentd_drivers::vm::DirectBoot;
use agentd_drivers::vm::guest::link::Links;
use agentd_drivers::vm::guest::{ExecWish, Said, SessionOut};
use agentd_guest_wire::Wish;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub struct Guest {
    folder: TempDir,
    began: Instant,
    port: u16,
    stop: CancellationToken,
    run: JoinHandle<Result<Vec<u8>, ExecError>>,
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Guest {
    /// Boots it with these disks; `guest_port` of it is reached at a port of loopback.
    pub fn start(boot: &DirectBoot, disks: [&Path; 2], memory: &str, guest_port: u16) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let port = free_port();
        let stop = CancellationToken::new();
        let [disk, seed] = disks.map(|path| path.display().to_string());
        let (console, monitor) = (folder.path().join("console"), folder.path().join("monitor"));
        let agent = folder.path().join("agent");
        let net = format!(
            "user,id=n,restrict=on,domainname=default.agentd,hostfwd=tcp:127.0.0.1:{port}-:{guest_port}"
        );
        let program = Program::new("qemu-system-x86_64")
            .args(["-machine", "q35", "-accel", "tcg", "-smp", "1", "-m", memory, "-display", "none"])
            .args(["-nodefaults", "-no-reboot", "-sandbox", "on"])
            .arg("-kernel")
            .arg(&boot.kernel)
            .arg("-initrd")
            .arg(&boot.initrd)
            .arg("-append")
            .arg(&boot.cmdline)
            .args(["-drive".to_owned(), format!("file={disk},if=virtio,format=qcow2")])
            .args(["-drive".to_owned(), format!("file={seed},if=virtio,format=raw,readonly=on")])
            .args(["-netdev".to_owned(), net])
            .args(["-device", "virtio-net-pci,netdev=n,mac=52:54:00:12:34:56,romfile="])
            .args(["-device", "virtio-rng-pci", "-device", "virtio-balloon-pci"])
            .args(["-device", "virtio-serial-pci"])
            .args([
                "-chardev".to_owned(),
                format!("socket,id=agent,path={},server=on,wait=off", agent.display()),
            ])
            .args([
                "-device".to_owned(),
                format!("virtserialport,chardev=agent,name={}", agentd_guest_wire::PORT),
            ])
            .args(["-serial".to_owned(), format!("file:{}", console.display())])
            .args(["-monitor".to_owned(), format!("unix:{},server,nowait", monitor.display())])
            .deadline(Duration::from_secs(2400))
            .cancel(stop.clone());
        let run = tokio::spawn(program.run());
        Self { folder, began: Instant::now(), port, stop, run }
    }

    /// Has agentd's program in the guest run a shell's script, once it answers; what that wrote.
    pub async fn exec(&self, script: &str, limit: Duration) -> String {
        let (links, vm, agent) = (Links::default(), Uuid::now_v7(), self.folder.path().join("agent"));
        let until = Instant::now() + limit;
        let channel = loop {
            match links.channel(vm, &agent).await {
                Ok(channel) => break channel,
                Err(error) => assert!(Instant::now() < until, "{error}\n{}", self.console()),
            }
        };
        let argv = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        let wish = Wish::Exec(ExecWish { argv, ..ExecWish::default() });
        let (_input, mut output) = channel.open("run a program", wish).await.expect("a session");
        output.started(limit).await.expect("it runs");
        let mut text = Vec::new();
        loop {
            match output.next().await.expect("an answer") {
                Said::Out(bytes) | Said::Err(bytes) => text.extend(bytes),
                Said::Exit(status) => {
                    let text = String::from_utf8_lossy(&text).into_owned();
                    assert_eq!(status, 0, "{script}: {text}");
                    return text;
                }
                other => panic!("{other:?}"),
            }
        }
    }

    pub fn age(&self) -> Duration {
        self.began.elapsed()
    }

    pub fn console(&self) -> String {
        let bytes = std::fs::read(self.folder.path().join("console")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until the console shows `text`.
    pub async fn says(&mut self, text: &str, limit: Duration) {
        let until = Instant::now() + limit;
        loop {
            let console = self.console();
            if console.contains(text) {
                return;
            }
            assert!(!self.run.is_finished(), "the guest ended before it said {text:?}:\n{console}");
            assert!(Instant::now() < until, "the guest did not say {text:?} within {limit:?}:\n{console}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub async fn get(&self, path: &str) -> String {
        let url = format!("http://127.0.0.1:{}{path}", self.port);
        let program = Program::new("curl").args(["-q", "-sS", "--fail", "--max-time", "20"]).arg(url);
        match program.run().await {
            Ok(text) => String::from_utf8_lossy(&text).into_owned(),
            Err(error) => panic!("{path}: {error}\n{}", self.console()),
        }
    }

    /// As ACPI does it.
    pub async fn press_power(&self) {
        let mut monitor = UnixStream::connect(self.folder.path().join("monitor")).expect("the monitor");
        monitor.write_all(b"system_powerdown\n").expect("the monitor listens");
        // The monitor drops what it has not read when its peer goes away.
        tokio::time::timeout(
            Duration::from_secs(5),
            tokio::task::spawn_blocking(move || {
                use std::io::Read;
                let mut answer = [0u8; 512];
                let mut seen = String::new();
                while seen.matches("(qemu)").count() < 2 {
                    match monitor.read(&mut answer) {
                        Ok(n @ 1..) => seen.push_str(&String::from_utf8_lossy(&answer[..n])),
                        _ => break,
                    }
                }
            }),
        )
        .await
        .expect("the monitor answers")
        .expect("joined");
    }

    /// Waits until the emulator has ended by itself.
    pub async fn ends(&mut self, limit: Duration) {
        let ended = tokio::time::timeout(limit, &mut self.run).await;
        let console = self.console();
        ended
            .unwrap_or_else(|_| panic!("the guest goes on:\n{console}"))
            .expect("joined")
            .expect("ended well");
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").port()
}
