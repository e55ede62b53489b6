//! The network of a guest, by packets.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use agent_tests::host::engine::{self, IMAGE, STAY, docker};
use agent_tests::host::{Agentd, guest, namespace, traces, wait_until};
use agent_tests::host_test;
use serde_json::json;

host_test!(netns_guests_resolve_names_reach_the_host_and_publish_ports, |host| {
    let agentd = host.with_agentd();
    agentd.ok(&["vm", "run", "web", "--image", "micro", "--memory", "192MiB", "--publish", "8080:80"]);
    agentd.ok(&["vm", "run", "peer", "--image", "micro", "--memory", "192MiB"]);
    guest::answers(&agentd, "web");
    guest::answers(&agentd, "peer");
    let (web, peer) = (agentd.address("web"), agentd.address("peer"));
    assert_ne!(web, peer);

    // Names: the guest asks, and what it heard is what the store says.
    let heard = guest::get(&peer, 80, "/cgi-bin/resolve?web").expect("the guest resolves");
    assert!(heard.contains(&web), "{heard}");

    // A server of this test's own, on the host's side of the bridge.
    let network = agentd.get("network", "default").expect("the network");
    let gateway = network["status"]["gateway"].as_str().expect("a gateway").to_owned();
    let listener = TcpListener::bind(format!("{gateway}:9099")).expect("a server on the gateway");
    let server = std::thread::spawn(move || {
        let (mut stream, from) = listener.accept().expect("a caller");
        let mut request = [0u8; 512];
        let n = stream.read(&mut request).expect("a request");
        stream.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 13\r\n\r\nhello, guest\n").expect("an answer");
        (from.ip().to_string(), String::from_utf8_lossy(&request[..n]).into_owned())
    });
    let said =
        guest::get(&web, 80, &format!("/cgi-bin/get?{gateway}:9099/greeting")).expect("the guest fetches");
    assert!(said.contains("hello, guest"), "{said}");
    let (from, request) = server.join().expect("the server");
    assert_eq!(from, web);
    assert!(request.contains("/greeting"), "{request}");

    // The published port, on loopback and on the bridge's own address.
    for address in ["127.0.0.1", gateway.as_str()] {
        let page = wait_until("the published port answers", Duration::from_secs(10), || {
            guest::get(address, 8080, "/")
        });
        assert!(page.contains(&web), "{page}");
    }
    // A port that is taken is refused with who has it, and leaves nothing.
    let refused = agentd.ctl(&["vm", "run", "other", "--image", "micro", "--publish", "8080:80"]);
    assert_eq!(refused.status, 4, "{refused:?}");
    assert!(refused.stderr.contains("web"), "{refused:?}");
    assert!(agentd.get("vm", "other").is_none());

    agentd.ok(&["vm", "rm", "web", "peer"]);
    assert!(guest::get("127.0.0.1", 8080, "/").is_err(), "the port is closed");
    assert_eq!(traces::of_vms(&agentd), Vec::<String>::new());
});

host_test!(netns_what_is_broken_by_hand_is_mended, |host| {
    let agentd = host.with_agentd();
    agentd.ok(&["vm", "run", "web", "--image", "micro", "--memory", "192MiB", "--publish", "8080:80"]);
    guest::answers(&agentd, "web");

    namespace::run("/usr/sbin/nft", &["flush", "ruleset"]).expect("nft flush");
    wait_until("the published port is back", Duration::from_secs(10), || guest::get("127.0.0.1", 8080, "/"));

    let dnsmasq = traces::processes("dnsmasq");
    assert_eq!(dnsmasq.len(), 1, "{dnsmasq:?}");
    let pid = dnsmasq[0].split(' ').next().expect("a pid").to_owned();
    namespace::run("/bin/kill", &["-KILL", &pid]).expect("kill");
    wait_until("dnsmasq is back", Duration::from_secs(10), || {
        let now = traces::processes("dnsmasq");
        if now.len() == 1 && !now[0].starts_with(&format!("{pid} ")) {
            Ok(())
        } else {
            Err(format!("{now:?}"))
        }
    });
    let address = agentd.address("web");
    let heard = guest::get(&address, 80, "/cgi-bin/resolve?web").expect("the guest resolves");
    assert!(heard.contains(&address), "{heard}");
});

/// Of a container and of a VM, that publish this.
fn lines(port: &str) -> [Vec<&str>; 2] {
    let container = ["container", "run", "box", "--image", IMAGE, "--publish", port, "--", "sh", "-c", STAY];
    [container.to_vec(), vec!["vm", "run", "box", "--image", "micro", "--publish", port]]
}

/// Refused as a conflict that says so, and nothing of it is there.
fn taken(agentd: &Agentd, line: &[&str], says: &str) {
    let answer = agentd.ctl(line);
    assert_eq!(answer.status, 4, "{line:?}: {answer:?}");
    assert!(answer.stderr.contains(says) && answer.stderr.contains("\nhint: "), "{line:?}: {answer:?}");
    assert_eq!(agentd.ok(&["get", "container", "-o", "name"]), "", "{line:?}");
    assert_eq!(agentd.ok(&["get", "vm", "-o", "name"]), "", "{line:?}");
    assert_eq!(traces::of_vms(agentd), Vec::<String>::new(), "{line:?}");
}

host_test!(docker_a_port_that_a_program_of_the_host_has_is_refused_with_who_it_is, |host| {
    let _dockerd = host.start_docker();
    let agentd = host.with_agentd();
    agentd.wait_ready();
    let me = std::fs::read_to_string("/proc/self/comm").expect("a name");
    let me = format!("is taken on this host by {} (pid {})", me.trim_end(), std::process::id());

    let everywhere = TcpListener::bind("0.0.0.0:8088").expect("a listener");
    let says = format!("spec.publish[0].host: port 8088/tcp {me}");
    for line in lines("8088:80").iter().chain(&lines("127.0.0.1:8088:80")) {
        taken(&agentd, line, &says);
    }
    let wish = json!({"name": "box", "spec": {"image": "micro", "publish": [{"host": 8088, "guest": 80}]}});
    let text = agentd.answer_to_post("/v1/vms", &wish);
    assert!(text.lines().next().is_some_and(|line| line.contains(" 409 ")), "{text}");
    assert!(text.contains(r#""field":"spec.publish[0].host""#) && text.contains(&me), "{text}");
    let socket = UdpSocket::bind("[::]:8089").expect("a socket");
    taken(&agentd, &lines("8089:80/udp")[0], &format!("port 8089/udp {me}"));
    // A network's own name server, where all addresses of the host are meant: its bridge's is one.
    taken(&agentd, &lines("53:53/udp")[0], "port 53/udp is taken on this host by dnsmasq (pid ");
    let docker_run = ["run", "-d", "--name", "theirs", "--publish", "8090:80", IMAGE, "sh", "-c", STAY];
    docker(&docker_run).expect("docker run");
    let answer = agentd.ctl(&lines("8090:80")[0]);
    assert_eq!(answer.status, 4, "{answer:?}");
    assert!(answer.stderr.contains("port 8090/tcp is taken on this host by docker"), "{answer:?}");
    docker(&["rm", "-f", "theirs"]).expect("docker rm");
    assert_eq!(engine::containers(), Vec::<String>::new());

    drop((everywhere, socket));
    for port in ["8088:80", "8089:80/udp", "127.0.0.1:53:53/udp", "8090:80"] {
        for mut line in lines(port) {
            line.insert(2, "--dry-run");
            agentd.ok(&line);
        }
    }
    agentd.ok(&lines("8088:80")[0]);
    agentd.ok(&["container", "rm", "box"]);
    agentd.ok(&["vm", "create", "off", "--image", "micro", "--publish", "8088:80"]);
    agentd.ok(&["vm", "rm", "off"]);

    // A port of all addresses is one of loopback too: whoever listens there alone would be heard no more.
    let own = TcpListener::bind("127.0.0.1:8091").expect("a listener");
    for line in &lines("8091:80") {
        taken(&agentd, line, &format!("port 8091/tcp {me}"));
    }
    // One of another address leaves it alone.
    let network = agentd.get("network", "default").expect("the network");
    let gateway = network["status"]["gateway"].as_str().expect("a gateway").to_owned();
    agentd.ok(&lines(&format!("{gateway}:8091:80"))[0]);
    wait_until("the port is published", Duration::from_secs(10), || {
        let rules = traces::of_vms(&agentd);
        if rules.iter().any(|rule| rule.contains("8091")) { Ok(()) } else { Err(format!("{rules:?}")) }
    });
    own.set_nonblocking(true).expect("no waiting");
    let caller = TcpStream::connect("127.0.0.1:8091").expect("whoever listens there answers");
    let (_, from) = own.accept().expect("a caller");
    assert_eq!(Ok(from), caller.local_addr().map_err(|error| error.to_string()));
    agentd.ok(&["container", "rm", "box"]);
});
