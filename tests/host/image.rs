//! Images that containers are made of, by the whole way: the command, the daemon, the engine, a registry.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use agent_tests::host::engine::{IMAGE, docker};
use agent_tests::host::registry::{ADDRESS, PASSWORD, USER};
use agent_tests::host::{Agentd, wait_until};
use agent_tests::host_test;
use serde_json::Value;

use crate::image_context;

/// All that the engine has, with what has no name, in an order of its own: of two images without a date either may be
/// said first.
pub fn images() -> String {
    let format = "{{.ID}} {{.Repository}}:{{.Tag}} {{.Digest}}";
    let listed =
        docker(&["images", "-a", "--digests", "--no-trunc", "--format", format]).expect("docker images");
    let mut lines: Vec<_> = listed.lines().collect();
    lines.sort_unstable();
    lines.join("\n")
}

/// What a program says in a container of that image, which goes again.
pub fn says(agentd: &Agentd, image: &str, program: &[&str]) -> String {
    agentd.ok(&["container", "run", "once", "--image", image, "--", "sh", "-c", "sleep 1000"]);
    let mut line = vec!["container", "exec", "once", "--"];
    line.extend(program);
    let said = agentd.ok(&line);
    agentd.ok(&["container", "rm", "once"]);
    said.trim().to_owned()
}

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

pub fn write(folder: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, text).expect("written");
    }
}

host_test!(docker_an_image_is_built_saved_and_loaded_again, |host| {
    let _dockerd = host.start_docker();
    let before = images();
    let agentd = host.bare_agentd("state");
    agentd.wait_ready();
    let folder = host.scratch().join("my-app");
    write(
        &folder,
        &[
            (
                "Dockerfile.tool",
                "FROM box:1\nARG WHO\nCOPY . /app\nRUN echo $WHO > /who\nCMD [\"sleep\", \"1000\"]\n",
            ),
            (".dockerignore", "*.log\nsecrets\n!secrets/public\n"),
            ("main.sh", "echo hello"),
            ("debug.log", "x"),
            ("secrets/key", "x"),
            ("secrets/public", "x"),
        ],
    );
    let at = folder.display().to_string();
    let built = agentd.ctl(&["image", "build", &at, "--file", "Dockerfile.tool", "--build-arg", "WHO=me"]);
    assert_eq!(built.status, 0, "{built:?}");
    assert_eq!(says(&agentd, "my-app", &["cat", "/who"]), "me");
    assert_eq!(
        says(&agentd, "my-app", &["ls", "/app", "/app/secrets"]).replace('\n', " "),
        "/app: Dockerfile.tool main.sh secrets  /app/secrets: public"
    );
    // Its own command runs where nobody says another.
    agentd.ok(&["container", "run", "own", "--image", "my-app"]);
    agentd.ok(&["container", "rm", "own"]);

    let file = host.scratch().join("saved.tar").display().to_string();
    agentd.ok(&["image", "save", "my-app", &file]);
    agentd.ok(&["image", "load", &file, "--name", "loaded"]);
    let digest = |name: &str| agentd.get("image", name).expect("there")["status"]["digest"].clone();
    assert_eq!(digest("loaded"), digest("my-app"));
    agentd.ok(&["image", "rm", "my-app"]);
    assert_eq!(says(&agentd, "loaded", &["cat", "/who"]), "me");
    agentd.ok(&["image", "rm", "loaded"]);

    image_context::is_passed_on(&agentd, &host.scratch().join("large"));

    write(&folder, &[("Dockerfile", "FROM box:1\nRUN touch /x\nRUN echo the reason; exit 7\n")]);
    let failed = agentd.ctl(&["image", "build", &at]);
    assert!(failed.status == 1 && failed.stderr.contains("the reason"), "{failed:?}");
    wait_until("it is taken back", Duration::from_secs(20), || match agentd.get("image", "my-app") {
        None => Ok(()),
        Some(still) => Err(still["status"].to_string()),
    });
    assert_eq!(images(), before);
});

host_test!(docker_a_recipe_gives_an_image_for_containers, |host| {
    let _dockerd = host.start_docker();
    let before = images();
    let agentd = host.bare_agentd("state");
    agentd.wait_ready();
    // Named by its recipe alone, it is built with the container.
    agentd.ok(&[
        "container",
        "run",
        "small",
        "--image",
        "micro",
        "--timeout",
        "5m",
        "--",
        "sh",
        "-c",
        "sleep 1000",
    ]);
    assert!(agentd.ok(&["container", "exec", "small", "--", "busybox"]).contains("BusyBox"));
    agentd.ok(&["image", "build", "debian-12", "--container"]);
    let said = says(
        &agentd,
        "debian-12-container",
        &["sh", "-c", "cat /etc/debian_version; apt-get --version | head -n 1"],
    );
    assert!(said.starts_with("12.") && said.contains("apt "), "{said}");
    agentd.ok(&["container", "rm", "small"]);
    agentd.ok(&["image", "rm", "debian-12-container", "micro-container"]);
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

/// What the engine has, with all containers.
fn everything() -> String {
    format!("{}\n{}", images(), docker(&["ps", "-aq"]).expect("docker ps"))
}

/// What agentd has below that folder of its state.
pub fn below(agentd: &Agentd, folder: &str) -> Vec<String> {
    let Ok(there) = std::fs::read_dir(agentd.state().join(folder)) else { return Vec::new() };
    there.map(|one| one.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}

fn wait_built(agentd: &Agentd) {
    wait_until("it is built", Duration::from_secs(120), || match agentd.get("image", "app") {
        Some(image) if image["status"]["state"] == "ready" => Ok(()),
        other => Err(format!("{other:?}")),
    });
}

/// Nothing is left of it, here and in the engine. What somebody else's build left is among what was there before.
fn assert_gone(agentd: &Agentd, before: &str, when: &str) {
    wait_until("nothing is left", Duration::from_secs(20), || {
        let (builds, incoming) = (below(agentd, "builds"), below(agentd, "incoming"));
        if builds.is_empty() && incoming.is_empty() {
            Ok(())
        } else {
            Err(format!("{builds:?} {incoming:?}"))
        }
    });
    assert_eq!(everything(), before, "{when}\n{}", agentd.log_text());
}

host_test!(docker_an_image_build_outlives_a_killed_daemon_and_a_killed_engine_and_leaves_nothing, |host| {
    let mut dockerd = host.start_docker();
    let mut agentd = host.bare_agentd("state");
    agentd.wait_ready();
    // Of somebody else's: an image without a name, which is nobody's and stays.
    let theirs = host.scratch().join("theirs");
    write(&theirs, &[("Dockerfile", "FROM box:1\nRUN echo theirs > /theirs\nRUN exit 1\n")]);
    let failing = format!("! DOCKER_BUILDKIT=0 docker build {} >/dev/null 2>&1", theirs.display());
    agent_tests::host::namespace::run("/bin/sh", &["-c", &failing]).expect("it fails");
    let (before, steps) = (everything(), docker(&["ps", "-aq"]).expect("docker ps"));
    let folder = host.scratch().join("app");
    // Four seconds; of the first stage only a file is in what comes of it.
    write(
        &folder,
        &[
            (
                "Dockerfile",
                "FROM box:1 AS tools\nCOPY word /word\nRUN sleep 1; echo one > /one\nRUN sleep 1; echo two > /two\n\
                 FROM box:1\nCOPY --from=tools /two /word /\nRUN sleep 1\nRUN sleep 1\nCMD [\"sleep\", \"1000\"]\n",
            ),
            ("word", "hello"),
        ],
    );
    let at = folder.display().to_string();
    let begin = |agentd: &Agentd| agentd.ok(&["image", "build", &at, "--no-wait"]);
    let mut cut = 0;
    for wait in [100, 900, 1800, 2700, 3600] {
        begin(&agentd);
        std::thread::sleep(Duration::from_millis(wait));
        let state = agentd.get("image", "app").expect("there")["status"]["state"].clone();
        cut += usize::from(state != "ready");
        agentd.kill();
        agentd.start();
        wait_built(&agentd);
        let events = agentd.ok(&["events", "-o", "json"]);
        assert!(state == "ready" || events.contains("resumed"), "{events}");
        if wait == 900 {
            assert_eq!(says(&agentd, "app", &["cat", "/two", "/word"]), "two\nhello");
        }
        agentd.ok(&["image", "rm", "app"]);
        assert_gone(&agentd, &before, &format!("after {wait} ms"));
    }
    assert!(cut >= 4, "it was under way {cut} times when agentd was killed");

    // The engine ends in the middle of a step, whose container it leaves.
    let begun = |agentd: &Agentd| {
        begin(agentd);
        wait_until("a step runs", Duration::from_secs(20), || match docker(&["ps", "-q"]) {
            Ok(steps) if !steps.is_empty() => Ok(()),
            other => Err(format!("{other:?}")),
        });
    };
    begun(&agentd);
    dockerd.kill();
    dockerd.start();
    wait_built(&agentd);
    assert_eq!(docker(&["ps", "-aq"]).expect("docker ps"), steps, "the step's container is gone");
    agentd.ok(&["image", "rm", "app"]);
    assert_gone(&agentd, &before, "after the engine was killed");

    // Nobody wants it any more once agentd is back. What the engine begins behind a FROM before it is heard is told to the
    // next try alone, and there is none.
    begun(&agentd);
    agentd.kill();
    agentd.start();
    agentd.ok(&["image", "rm", "app"]);
    assert_gone(&agentd, &before, "after it was given up");
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
