//! What an image says of the containers that are made of it, on a real dockerd; and which image a name leads to.

use std::fs;
use std::path::Path;
use std::time::Duration;

use agent_tests::host::engine::{STAY, docker};
use agent_tests::host::registry::{ADDRESS, PASSWORD, Registry, USER};
use agent_tests::host::{Agentd, Host, namespace, wait_until};
use agent_tests::host_test;
use serde_json::Value;

use crate::container::{container, engine_name, until};

const SOON: Duration = Duration::from_secs(20);

const DOCKERFILE: &str = r#"FROM box:1
COPY serve /serve
STOPSIGNAL SIGUSR1
HEALTHCHECK --interval=1s --timeout=5s --retries=1 CMD if [ -e /ill ]; then echo it aches; exit 1; fi
ENTRYPOINT ["sh", "/serve"]
CMD ["one", "two"]
"#;

/// Says what it was given, and by which signal it was asked to end.
const SERVE: &str = r#"trap 'echo asked by USR1; exit 0' USR1
trap 'echo asked by USR2; exit 5' USR2
trap 'echo asked by TERM; exit 6' TERM
echo "given: $*"
while :; do sleep 1000 & wait $!; done
"#;

fn build(agentd: &Agentd, folder: &Path) {
    fs::create_dir_all(folder).expect("a folder");
    fs::write(folder.join("Dockerfile"), DOCKERFILE).expect("written");
    fs::write(folder.join("serve"), SERVE).expect("written");
    agentd.ok(&["image", "build", &folder.to_string_lossy(), "--name", "own"]);
}

/// What its program says that it was given: it hears signals from then on.
fn given(agentd: &Agentd, name: &str) -> String {
    wait_until(&format!("{name} says what it was given"), SOON, || {
        let said = agentd.ok(&["container", "logs", name]);
        let found = said.lines().find_map(|line| line.strip_prefix("given: ").map(ToOwned::to_owned));
        found.ok_or(said)
    })
}

/// Its program and the arguments of that, as the kernel has them.
fn program(agentd: &Agentd, name: &str) -> String {
    let words = agentd.ok(&["container", "exec", name, "--", "cat", "/proc/1/cmdline"]);
    words.trim_end_matches('\0').replace('\0', " ")
}

/// Stops it, and has it have ended with that code and that last word.
fn stops(agentd: &Agentd, name: &str, code: i32, word: &str) {
    agentd.ok(&["container", "stop", name]);
    let status = container(agentd, name)["status"].clone();
    assert_eq!(status["exit_code"], code, "{status}");
    assert_eq!(status["last_stop"]["how"], "stopped", "it was not killed: {status}");
    let said = agentd.ok(&["container", "logs", name]);
    assert_eq!(said.lines().last(), Some(word), "{said}");
}

host_test!(docker_what_an_image_says_of_itself_holds_until_something_else_is_said, |host| {
    let _dockerd = host.start_docker();
    let agentd = host.bare_agentd("state");
    agentd.wait_ready();
    build(&agentd, &host.scratch().join("own"));

    agentd.ok(&["container", "run", "plain", "--image", "own"]);
    assert_eq!(given(&agentd, "plain"), "one two");
    assert_eq!(program(&agentd, "plain"), "sh /serve one two");
    let is = |state: &'static str| move |c: &Value| c["status"]["health"]["state"] == state;
    until(&agentd, "plain", "healthy", SOON, is("healthy"));
    agentd.ok(&["container", "exec", "plain", "--", "touch", "/ill"]);
    let ill = until(&agentd, "plain", "ill", SOON, is("unhealthy"));
    assert!(ill["status"]["health"]["output"].to_string().contains("it aches"), "{ill}");
    stops(&agentd, "plain", 0, "asked by USR1");

    // What it is given is in place of the image's command, and its entry point stays.
    let line = ["container", "run", "other", "--image", "own", "--no-health", "--stop-signal", "SIGUSR2"];
    agentd.ok(&[&line[..], &["--", "three", "and four"]].concat());
    assert_eq!(given(&agentd, "other"), "three and four");
    assert_eq!(program(&agentd, "other"), "sh /serve three and four");
    let other = container(&agentd, "other");
    assert!(other["status"]["health"].is_null(), "{other}");
    stops(&agentd, "other", 5, "asked by USR2");

    // Another entry point is given nothing of the image's.
    agentd.ok(&["container", "run", "bare", "--image", "own", "--entrypoint", "echo", "--no-wait"]);
    assert_eq!(agentd.ok(&["container", "wait", "bare"]), "0\n");
    assert_eq!(agentd.ok(&["container", "logs", "bare"]), "\n");
});

/// The registry's tag leads to an image that holds that word from now on, of which the engine keeps nothing.
fn push(host: &Host, registry: &Registry, word: &str) {
    let (root, image) = (host.scratch().join("box"), format!("{word}:1"));
    fs::write(root.join("word"), word).expect("written");
    let script = format!("tar -C {} -c . | docker import - {image}", root.display());
    namespace::run("/bin/sh", &["-c", &script]).expect("an image");
    registry.take(&image, "team/tool:1");
    docker(&["rmi", &image]).expect("gone from the engine");
}

fn start(agentd: &Agentd, name: &str, image: &str) {
    let line = ["container", "run", name, "--image", image, "--restart", "always"];
    agentd.ok(&[&line[..], &["--", "sh", "-c", STAY]].concat());
}

fn word(agentd: &Agentd, name: &str) -> String {
    agentd.ok(&["container", "exec", name, "--", "cat", "/word"])
}

fn digest(agentd: &Agentd, image: &str) -> Value {
    let digest = agentd.get("image", image).expect("an image")["status"]["digest"].clone();
    assert!(digest.is_string(), "{image}: {digest}");
    digest
}

host_test!(docker_an_image_stays_what_it_was_when_its_tag_moves, |host| {
    let _dockerd = host.start_docker();
    let registry = host.start_registry();
    push(host, &registry, "first");
    let config = registry.config(&format!("{USER}:{PASSWORD}\n"));
    fs::write(host.scratch().join("state.toml"), config).expect("written");
    let agentd = host.bare_agentd("state");
    agentd.wait_ready();
    let from = format!("{ADDRESS}/team/tool:1");
    agentd.ok(&["image", "pull", &from]);
    start(&agentd, "web", "tool");
    assert_eq!(word(&agentd, "web"), "first");
    let first = digest(&agentd, "tool");

    push(host, &registry, "second");
    agentd.ok(&["image", "pull", &from, "--name", "moved"]);
    assert_ne!(digest(&agentd, "moved"), first);
    start(&agentd, "new", "moved");
    assert_eq!(word(&agentd, "new"), "second", "the tag leads there");

    // Restarted, made anew by policy, and made anew by name.
    agentd.ok(&["container", "restart", "web"]);
    assert_eq!(word(&agentd, "web"), "first");
    let before = engine_name(&agentd, "web");
    docker(&["rm", "-f", &before]).expect("docker rm");
    let again = |c: &Value| c["status"]["state"] == "running" && c["status"]["engine_id"] != before.as_str();
    until(&agentd, "web", "made again", SOON, again);
    assert_eq!(word(&agentd, "web"), "first");
    agentd.ok(&["container", "rm", "web"]);
    start(&agentd, "web", "tool");
    assert_eq!(word(&agentd, "web"), "first");
    assert_eq!(container(&agentd, "web")["status"]["image_digest"], first);
    assert_eq!(digest(&agentd, "tool"), first);
});
