//! What becomes of a real dockerd and of its containers while agentd is away, or behind its back.

use std::time::{Duration, Instant};

use agent_tests::host::engine::{self, IMAGE, STAY, docker};
use agent_tests::host::{Agentd, guest, lacks, namespace, wait_until};
use agent_tests::host_test;
use serde_json::Value;

use crate::container::{address, container, engine_name, run, until};
use crate::container_events::Following;

/// Of what is done behind its back.
const SEEN: Duration = Duration::from_secs(2);
const SOON: Duration = Duration::from_secs(20);

/// Whether it says that the engine does not answer.
pub fn unseen(container: &Value) -> bool {
    lacks(container, "backend_available")
}

host_test!(docker_that_is_down_when_agentd_starts_is_said_to_be_and_found_when_it_comes, |host| {
    let mut dockerd = host.start_docker();
    let mut agentd = host.bare_agentd("state");
    agentd.wait_ready();
    run(&agentd, "web", &[]);
    let web = address(&agentd, "web");
    wait_until("it answers", SOON, || guest::get(&web, 80, "/"));
    agentd.stop();
    dockerd.kill();

    agentd.start();
    let listed = agentd.ok(&["container", "list", "-o", "name"]);
    assert_eq!(listed, "container/web\n");
    let known = until(&agentd, "web", "unseen", Duration::from_secs(10), unseen);
    assert_eq!(known["status"]["state"], "running", "as it was known last: {known}");
    assert_eq!(address(&agentd, "web"), web);
    let table = agentd.ok(&["container", "list"]);
    assert!(table.lines().any(|line| line.starts_with("web ") && line.contains("running")), "{table}");

    dockerd.start();
    let back = |c: &Value| c["status"]["state"] == "running" && !unseen(c);
    until(&agentd, "web", "up again", Duration::from_secs(30), back);
    let page = wait_until("it answers again", SOON, || guest::get(&web, 80, "/"));
    assert_eq!(page.trim(), "web");
    assert_eq!(agentd.ok(&["container", "exec", "web", "--", "hostname"]), "web\n");
    assert_eq!(engine::containers().len(), 1, "one, and once");
});

host_test!(docker_what_went_with_an_engine_while_agentd_was_away_or_began_is_started_again, |host| {
    let mut dockerd = host.start_docker();
    let mut agentd = host.bare_agentd("state");
    agentd.wait_ready();
    // It ends well when the next engine asks it to, which is by itself no reason to start it.
    agentd.ok(&["container", "run", "web", "--image", IMAGE, "--", "sh", "-c", STAY]);
    let down =
        |c: &Value| c["status"]["last_stop"]["how"] == "host_down" && c["status"]["state"] == "running";
    let started = |c: &Value| c["status"]["started_at"].as_str().map(str::to_owned);
    let mut last = started(&container(&agentd, "web"));
    let mut is_up_again = |agentd: &Agentd, what: &str| {
        let up = until(agentd, "web", what, Duration::from_secs(30), |c| down(c) && started(c) != last);
        last = started(&up);
    };
    agentd.stop();
    dockerd.kill();
    dockerd.start();
    agentd.start();
    is_up_again(&agentd, "up again after both were away");

    // The next engine listens before agentd has begun to look, and answers when it has ended what it found.
    agentd.stop();
    agentd.start();
    dockerd.kill();
    dockerd.start();
    is_up_again(&agentd, "up again after agentd had begun");
});

/// As the API has it at this moment.
fn read(agentd: &Agentd, path: &str) -> Value {
    let text = agentd.raw(path);
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

/// What happened to the container since that event.
fn happened(agentd: &Agentd, name: &str, since: &Value) -> Vec<Value> {
    let list = read(agentd, &format!("/v1/events?kind=container&name={name}&since={since}"));
    list["items"].as_array().expect("events").clone()
}

/// What is seen of something that is done with docker, and in time: from when it was done.
fn seen<T>(what: &str, done: &[&str], look: impl FnMut() -> Result<T, String>) -> T {
    docker(done).expect("docker");
    let from = Instant::now();
    let found = wait_until(what, SEEN, look);
    println!("{what}: {:?} after docker {}", from.elapsed(), done[0]);
    found
}

host_test!(docker_what_is_unplugged_or_stopped_by_hand_is_shown_within_two_seconds, |host| {
    let _dockerd = host.start_docker();
    let agentd = host.bare_agentd("state");
    agentd.wait_ready();
    let lines = Following::begin(&agentd, "container/web");
    run(&agentd, "web", &[]);
    lines.tells("started", "done");
    let (web, engines) = (address(&agentd, "web"), engine_name(&agentd, "web"));
    wait_until("it answers", SOON, || guest::get(&web, 80, "/"));
    let networks = || {
        let names = "{{range $n, $_ := .NetworkSettings.Networks}}{{$n}}{{end}}";
        docker(&["inspect", "-f", names, &engines]).expect("docker inspect").trim().to_owned()
    };
    let network = networks();

    let since = read(&agentd, "/v1/events?limit=1")["next"].clone();
    let plugged = seen("it is plugged in again", &["network", "disconnect", &network, &engines], || {
        let told = happened(&agentd, "web", &since);
        let found = told.iter().find(|event| event["verb"] == "attached").cloned();
        found.ok_or_else(|| format!("{told:?}"))
    });
    assert!(plugged["message"].as_str().is_some_and(|said| said.contains(&web)), "{plugged}");
    assert_eq!(networks(), network);
    wait_until("it answers again", Duration::from_secs(10), || guest::get(&web, 80, "/"));
    assert_eq!(container(&agentd, "web")["status"]["state"], "running");

    let since = read(&agentd, "/v1/events?limit=1")["next"].clone();
    let off = seen("it is stopped", &["stop", "-t", "5", &engines], || {
        let now = read(&agentd, "/v1/containers/web");
        if now["status"]["state"] == "stopped" { Ok(now) } else { Err(now["status"].to_string()) }
    });
    assert_eq!(off["status"]["last_stop"]["how"], "exited", "{off}");
    assert_eq!(off["status"]["exit_code"], 0, "{off}");
    let told = happened(&agentd, "web", &since);
    assert!(told.iter().any(|e| e["verb"] == "stopped" && e["outcome"] == "seen"), "{told:?}");
    lines.tells("stopped", "seen");
    agentd.ok(&["container", "start", "web"]);
    lines.tells("started", "done");
    wait_until("it answers again", SOON, || guest::get(&web, 80, "/"));
});

/// The name of the host's end of the link of that container, which bears the object's id.
fn link(agentd: &Agentd, name: &str) -> Result<String, String> {
    let id = container(agentd, name)["id"].as_str().expect("an id").to_owned();
    let links = namespace::run("/usr/sbin/ip", &["-o", "link", "show"]).expect("ip link");
    let its = links.lines().find(|line| line.contains("agentd-plug") && line.contains(&id));
    let named = its.and_then(|line| line.split(": ").nth(1)?.split('@').next());
    named.map(ToOwned::to_owned).ok_or_else(|| format!("no link of {id}: {links}"))
}

fn delete(link: &str) {
    namespace::run("/usr/sbin/ip", &["link", "del", link]).expect("ip link del");
}

host_test!(docker_a_link_that_is_deleted_by_hand_is_back_within_two_seconds, |host| {
    let _dockerd = host.start_docker();
    let mut agentd = host.bare_agentd("state");
    agentd.wait_ready();
    for name in ["web", "peer"] {
        run(&agentd, name, &[]);
    }
    let web = address(&agentd, "web");
    let url = format!("http://{web}/");
    let answers = |agentd: &Agentd, when: &str| {
        wait_until(&format!("it answers {when}"), SOON, || guest::get(&web, 80, "/"));
        let page = wait_until(&format!("its neighbour reaches it {when}"), SOON, || {
            let heard = agentd.ctl(&[
                "container",
                "exec",
                "peer",
                "--",
                "busybox",
                "timeout",
                "2",
                "wget",
                "-qO-",
                &url,
            ]);
            if heard.status == 0 { Ok(heard.stdout) } else { Err(format!("{heard:?}")) }
        });
        assert_eq!(page.trim(), "web", "{when}");
    };
    answers(&agentd, "at first");
    let before = wait_until("its link is known", SOON, || link(&agentd, "web"));
    let started = container(&agentd, "web")["status"]["started_at"].clone();

    let since = read(&agentd, "/v1/events?limit=1")["next"].clone();
    delete(&before);
    let from = Instant::now();
    let put_back = wait_until("it is put back", SEEN, || {
        let told = happened(&agentd, "web", &since);
        let found = told.iter().find(|event| event["verb"] == "attached").cloned();
        found.ok_or_else(|| format!("{told:?}"))
    });
    wait_until("it answers again", SEEN.saturating_sub(from.elapsed()), || guest::get(&web, 80, "/"));
    let took = from.elapsed();
    assert!(took <= SEEN, "it answers after {took:?}");
    println!("a link that was deleted: it answers {took:?} later");
    assert!(put_back["message"].as_str().is_some_and(|said| said.contains(&web)), "{put_back}");
    answers(&agentd, "after its link was deleted");
    let now = container(&agentd, "web");
    assert_eq!(now["status"]["state"], "running");
    assert_eq!(now["status"]["started_at"], started, "it ran on");
    assert_eq!(address(&agentd, "web"), web);
    let after = wait_until("its new link is known", SOON, || link(&agentd, "web"));
    assert_ne!(after, before);

    // While agentd is away nobody tells of it.
    agentd.kill();
    delete(&after);
    agentd.start();
    agentd.wait_ready();
    answers(&agentd, "after its link was deleted while agentd was away");
});
