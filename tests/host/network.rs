//! The network of a guest, by packets.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use agent_tests::host::{guest, namespace, traces, wait_until};
use agent_tests::host_test;

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
