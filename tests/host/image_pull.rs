//! Images that are pulled: what a registry has, what is shown meanwhile, and what is left where somebody dies.

use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::{Duration, Instant};

use agent_tests::host::engine::{IMAGE, docker};
use agent_tests::host::registry::{ADDRESS, PASSWORD, USER};
use agent_tests::host::{Agentd, wait_until};
use agent_tests::host_test;
use serde_json::Value;

use crate::image::images;

host_test!(docker_an_image_comes_from_a_registry_and_stays_while_it_is_used, |host| {
    let _dockerd = host.start_docker();
    let registry = host.start_registry();
    registry.take(IMAGE, "team/tool:1");
    let before = images();
    let config = registry.config(&format!("{USER}:wrong-secret\n"));
    std::fs::write(host.scratch().join("state.toml"), config).expect("written");
    let agentd = host.bare_agentd("state");
    agentd.wait_ready();
    let from = format!("{ADDRESS}/team/tool:1");

    let refused = agentd.ctl(&["image", "pull", &from]);
    assert_eq!(refused.status, 1, "{refused:?}");
    let why = "the credentials that the configuration names for it are not enough";
    assert!(refused.stderr.contains(why), "{refused:?}");
    registry.credentials(&format!("{USER}:{PASSWORD}\n"));
    agentd.ok(&["retry", "image/tool"]);
    wait_until("it is pulled", Duration::from_secs(60), || match agentd.get("image", "tool") {
        Some(image) if image["status"]["state"] == "ready" => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let image = agentd.get("image", "tool").expect("there");
    let pinned = image["status"]["registry_digest"].as_str().expect("pinned").to_owned();
    assert!(pinned.starts_with(&format!("{ADDRESS}/team/tool@sha256:")), "{pinned}");
    agentd.ok(&["image", "pull", &pinned, "--name", "same"]);
    let same = agentd.get("image", "same").expect("there");
    assert_eq!(same["status"]["digest"], image["status"]["digest"]);
    let none = agentd.ctl(&["image", "pull", &format!("{ADDRESS}/team/tool:2"), "--name", "none"]);
    assert!(none.status == 1 && none.stderr.contains("has no 127.0.0.1:5000/team/tool:2"), "{none:?}");
    agentd.ok(&["image", "rm", "none", "same"]);

    agentd.ok(&["container", "run", "web", "--image", "tool", "--", "sh", "-c", "sleep 1000"]);
    let made = agentd.get("container", "web").expect("there");
    assert_eq!(made["status"]["image_digest"], image["status"]["digest"]);
    let used = agentd.ctl(&["image", "rm", "tool"]);
    assert!(used.status == 4 && used.stderr.contains("container/default/web"), "{used:?}");
    let unknown = agentd.ctl(&["container", "run", "bad", "--image", "nothing:1", "--", "true"]);
    assert!(unknown.status == 2 && unknown.stderr.contains("spec.image"), "{unknown:?}");

    let told = [
        agentd.log_text(),
        agentd.ok(&["get", "image", "-o", "json"]),
        agentd.ok(&["events", "-o", "json"]),
        refused.stderr,
    ];
    for text in &told {
        assert!(!text.contains("wrong-secret") && !text.contains(PASSWORD), "{text}");
    }
    agentd.ok(&["container", "rm", "web"]);
    agentd.ok(&["image", "rm", "tool"]);
    assert_eq!(images(), before);
});

/// An image whose one layer takes a while to be fetched, in the registry and not in the engine.
fn large(host: &agent_tests::host::Host, registry: &agent_tests::host::registry::Registry) {
    let folder = host.scratch().join("large");
    let script = format!(
        "mkdir {0} && head -c 300000000 /dev/urandom >{0}/much && tar -C {0} -c . | docker import - large:1 && rm -r {0}",
        folder.display()
    );
    agent_tests::host::namespace::run("/bin/sh", &["-c", &script]).expect("an image");
    registry.take("large:1", "team/large:1");
    docker(&["rmi", "large:1"]).expect("gone from the engine");
}

host_test!(docker_an_image_on_its_way_outlives_a_killed_daemon_and_a_killed_engine, |host| {
    let mut dockerd = host.start_docker();
    let registry = host.start_registry();
    large(host, &registry);
    let before = images();
    let config = registry.config(&format!("{USER}:{PASSWORD}\n"));
    std::fs::write(host.scratch().join("state.toml"), config).expect("written");
    let mut agentd = host.bare_agentd("state");
    agentd.wait_ready();
    let from = format!("{ADDRESS}/team/large:1");
    let mut cut = 0;
    for (n, wait) in [0, 150, 400, 900, 1600].into_iter().enumerate() {
        agentd.ok(&["image", "pull", &from, "--no-wait"]);
        std::thread::sleep(Duration::from_millis(wait));
        let state = agentd.get("image", "large").expect("there")["status"]["state"].clone();
        cut += usize::from(state != "ready");
        if n % 2 == 0 {
            agentd.kill();
            agentd.start();
        } else {
            dockerd.kill();
            dockerd.start();
        }
        wait_until("it is pulled", Duration::from_secs(120), || match agentd.get("image", "large") {
            Some(image) if image["status"]["state"] == "ready" => Ok(()),
            other => Err(format!("{other:?}")),
        });
        assert_ne!(images(), before);
        agentd.ok(&["image", "rm", "large"]);
        assert_eq!(images(), before, "after {wait} ms");
    }
    assert!(cut >= 2, "it was on its way {cut} times when something was killed");
});

/// An image of three layers on one that the engine has, in the registry and not in the engine.
fn layered(host: &agent_tests::host::Host, registry: &agent_tests::host::registry::Registry) {
    let script = format!(
        "mkdir {0} && cd {0} && for n in 1 2 3; do head -c 60000000 /dev/urandom > $n; done && \
         printf 'FROM box:1\\nCOPY 1 /1\\nCOPY 2 /2\\nCOPY 3 /3\\n' > Dockerfile && \
         DOCKER_BUILDKIT=0 docker build -t layered:1 . && rm -r {0}",
        host.scratch().join("layered").display()
    );
    agent_tests::host::namespace::run("/bin/sh", &["-c", &script]).expect("an image");
    registry.take("layered:1", "team/layered:1");
    docker(&["rmi", "layered:1"]).expect("gone from the engine");
}

/// What the status of an image was from that revision until it was ready.
fn story(agentd: &Agentd, image: &str, since: &str) -> Vec<Value> {
    let mut watch = agentd
        .command(&["watch", &format!("image/{image}"), "--since", since, "-o", "json"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("agentctl");
    let mut seen = Vec::new();
    for line in BufReader::new(watch.stdout.take().expect("piped")).lines() {
        let line: Value = serde_json::from_str(&line.expect("a line")).expect("JSON");
        let status = line["object"]["status"].clone();
        let ready = status["state"] == "ready";
        seen.push(status);
        if ready {
            break;
        }
    }
    watch.kill().expect("a process of ours");
    watch.wait().expect("a process of ours");
    seen
}

host_test!(docker_a_pull_shows_how_far_each_layer_is, |host| {
    let _dockerd = host.start_docker();
    let registry = host.start_registry();
    layered(host, &registry);
    let before = images();
    let config = registry.config(&format!("{USER}:{PASSWORD}\n"));
    std::fs::write(host.scratch().join("state.toml"), config).expect("written");
    let agentd = host.bare_agentd("state");
    agentd.wait_ready();
    let now: Value = serde_json::from_str(&agentd.raw("/v1/images?limit=1")).expect("a list");
    let began = Instant::now();
    let pulled = agentd.ctl(&["image", "pull", &format!("{ADDRESS}/team/layered:1")]);
    let took = began.elapsed();
    assert_eq!(pulled.status, 0, "{pulled:?}");
    assert!(pulled.stderr.contains("layers here"), "a line for all of it: {pulled:?}");

    let story = story(&agentd, "layered", &now["revision"].to_string());
    let told: Vec<&Vec<Value>> =
        story.iter().filter_map(|status| status["progress"]["layers"].as_array()).collect();
    let most = took.as_millis() / 500 + 4;
    assert!(told.len() as u128 <= most, "{} writes in {took:?}", told.len());
    let on_its_way = |layer: &Value| {
        let (done, total) = (layer["done"].as_u64(), layer["total"].as_u64());
        layer["state"] == "downloading" && done > Some(0) && done < total
    };
    assert!(told.iter().any(|layers| layers.iter().any(on_its_way)), "{told:#?}");
    let last = told.last().expect("layers were told of");
    assert!(
        last.iter().filter(|layer| layer["total"].as_u64() >= Some(60_000_000)).count() == 3,
        "{last:#?}"
    );
    for layer in *last {
        assert!(layer["id"].as_str().is_some_and(|id| id.len() == 12), "{layer}");
        assert!(layer["state"] == "done" && layer["done"] == layer["total"], "{layer}");
    }
    let image = agentd.get("image", "layered").expect("there");
    assert!(image["status"]["progress"].is_null(), "{image}");
    agentd.ok(&["image", "rm", "layered"]);
    assert_eq!(images(), before);
});
