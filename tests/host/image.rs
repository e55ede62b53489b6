//! Images that containers are made of, built by the whole way: the command, the daemon, the engine.

use std::path::Path;
use std::time::Duration;

use agent_tests::host::engine::docker;
use agent_tests::host::{Agentd, wait_until};
use agent_tests::host_test;

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
