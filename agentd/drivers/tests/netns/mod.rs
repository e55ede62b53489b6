//! A host of its own for a test: the test binary starts itself again within new network, mount and process namespaces.
//!
//! Nothing of the outer host is seen or touched there, and everything ends with the namespace, a dnsmasq that made
//! itself a daemon included. Where the namespaces cannot be made the test fails, and says why.

mod talk;

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Duration;

use agentd_drivers::exec::Program;
use tokio::time::Instant;

pub use talk::{arrives, ask, ask_udp, resolve, serve, serve_names, serve_udp};

const INSIDE: &str = "AGENTD_TEST_INSIDE";
const LIMIT: &str = "180";

/// Runs the body of a test within namespaces of its own.
#[expect(clippy::disallowed_methods, reason = "a harness starts itself; the rule is for the daemon")]
pub fn inside<B: AsyncFnOnce()>(body: B) {
    // "netns_network::ports::netns_x::{{closure}}": what the test is called without the crate and the closure.
    let path = std::any::type_name::<B>();
    let name = path.split_once("::").and_then(|(_, rest)| rest.rsplit_once("::")).expect("a test's path").0;
    if std::env::var(INSIDE).as_deref() == Ok(name) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        return runtime.expect("a runtime").block_on(async {
            settle().await;
            body().await;
        });
    }
    let output = Command::new("timeout")
        .args(["--kill-after=5", LIMIT, "unshare", "--net", "--mount", "--pid", "--fork", "--kill-child"])
        .args(["--mount-proc", "--propagation", "private"])
        .arg(std::env::current_exe().expect("the test's own path"))
        .args(["--exact", name, "--include-ignored", "--nocapture", "--test-threads=1"])
        .env(INSIDE, name)
        .output()
        .expect("timeout and unshare can be started");
    let said = |output: &Output| {
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        format!("{out}\n{err}")
    };
    assert!(
        output.status.success(),
        "within its namespaces, {name} ended with {}:\n{}",
        output.status,
        said(&output)
    );
    assert!(said(&output).contains("1 passed"), "{name} did not run:\n{}", said(&output));
    print!("{}", said(&output));
}

/// A fresh /run, and loopback up. Refuses to go on where it is not alone.
async fn settle() {
    let links = run("ip -o link").await.expect("links are listed");
    assert_eq!(links.lines().count(), 1, "this is no network namespace of its own:\n{links}");
    run("mount -t tmpfs -o mode=755 tmpfs /run && ip link set lo up").await.expect("a host is settled");
    let script = "#!/bin/sh\n[ \"$1\" = bound ] || exit 0\nip addr flush dev $interface\n\
        ip addr add $ip/$mask dev $interface\nip route replace default via $router\n\
        echo \"search $search domain $domain dns $dns\" > /run/told-$ip\n";
    std::fs::write("/run/udhcpc", script).expect("a script");
    std::fs::set_permissions("/run/udhcpc", std::fs::Permissions::from_mode(0o755)).expect("a script");
}

/// A shell line on the test's host. Err with what it said where it fails.
pub async fn run(line: &str) -> Result<String, String> {
    let shell = Program::new("sh").args(["-c", line]).deadline(Duration::from_secs(20));
    shell
        .run()
        .await
        .map(|out| String::from_utf8_lossy(&out).into_owned())
        .map_err(|e| format!("{line}: {e}"))
}

pub async fn ok(line: &str) -> String {
    run(line).await.unwrap_or_else(|error| panic!("{error}"))
}

/// Waits for what must come by itself; shows the last state that was seen.
pub async fn wait_until<T>(
    what: &str,
    limit: Duration,
    mut look: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let end = Instant::now() + limit;
    loop {
        match look().await {
            Ok(value) => return value,
            Err(seen) if Instant::now() > end => panic!("not within {limit:?}: {what}; last seen: {seen}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

/// Another host beside the test's: a network namespace with a link to it.
#[derive(Debug, Clone)]
pub struct Peer {
    pub name: String,
}

impl Peer {
    /// A guest: its link is a port of the bridge, and it has no address until it asks for one.
    pub async fn guest(name: &str, bridge: &str, mac: &str) -> Self {
        let peer = Self { name: name.to_owned() };
        ok(&format!(
            "ip netns add {name} && ip link add p-{name} type veth peer name eth0 address {mac} netns {name} && \
             ip link set p-{name} master {bridge} up && ip -n {name} link set lo up && \
             ip -n {name} link set eth0 up"
        ))
        .await;
        peer
    }

    /// Somebody out there: 198.51.100.2 with a link to the host's 198.51.100.1. Knows no way to guests.
    pub async fn outside() -> Self {
        ok("ip netns add outside && ip link add uplink type veth peer name eth0 netns outside && \
            ip addr add 198.51.100.1/24 dev uplink && ip link set uplink up && ip -n outside link set lo up && \
            ip -n outside addr add 198.51.100.2/24 dev eth0 && ip -n outside link set eth0 up && \
            ip route add default via 198.51.100.2")
        .await;
        Self { name: "outside".to_owned() }
    }

    /// Puts the guest's link back on its bridge, which was made anew.
    pub async fn replug(&self, bridge: &str) {
        ok(&format!("ip link set p-{} master {bridge}", self.name)).await;
    }

    pub async fn run(&self, line: &str) -> Result<String, String> {
        run(&format!("ip netns exec {} {line}", self.name)).await
    }

    /// Asks for an address as a guest does when it boots. The address, or None where nobody gave it one.
    pub async fn dhcp(&self) -> Option<String> {
        let asked = self.run("busybox udhcpc -i eth0 -n -q -f -t 3 -T 1 -O search -s /run/udhcpc").await;
        asked.ok()?;
        let addresses = self.run("ip -4 -o addr show dev eth0").await.expect("addresses are listed");
        let address = addresses.split_whitespace().skip_while(|word| *word != "inet").nth(1)?;
        address.split_once('/').map(|(address, _)| address.to_owned())
    }

    fn namespace(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }
}
