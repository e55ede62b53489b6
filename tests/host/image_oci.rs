//! An image in OCI's layout, as other programs see it; and what is left of that where somebody goes away, or dies.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use agent_tests::host::namespace::run;
use agent_tests::host::{Agentd, wait_until};
use agent_tests::host_test;
use serde_json::{Value, json};

use crate::exec::peak_kib;
use crate::image::{below, images, says, write};

/// Two of its layers are one and the same, and one is much larger than agentd may grow.
const DOCKERFILE: &str = "FROM box:1\nCOPY word /word\nCOPY word /word\n\
    RUN head -c 200000000 /dev/zero > /much\nCMD [\"sleep\", \"1000\"]\n";
/// Most of what agentd may grow by.
const GROWTH_KIB: u64 = 32 << 10;

fn document(archive: &str, name: &str) -> Value {
    let text = run("/usr/bin/tar", &["-xOf", archive, name]).expect("tar");
    serde_json::from_str(&text).expect("JSON")
}

fn blob(described: &Value) -> String {
    let digest = described["digest"].as_str().expect("a digest");
    format!("blobs/sha256/{}", digest.trim_start_matches("sha256:"))
}

/// It is what OCI says of such an archive, of the image of that id.
fn look_at(archive: &str, id: &Value) {
    let index = document(archive, "index.json");
    let one = &index["manifests"][0];
    assert_eq!(one["annotations"]["org.opencontainers.image.ref.name"], "app", "{index}");
    let manifest = document(archive, &blob(one));
    assert_eq!(manifest["config"]["digest"], *id, "{manifest}");
    let config = document(archive, &blob(&manifest["config"]));
    let layers = manifest["layers"].as_array().expect("layers");
    let digests: Vec<&Value> = layers.iter().map(|layer| &layer["digest"]).collect();
    assert_eq!(json!(digests), config["rootfs"]["diff_ids"]);
    assert_eq!(layers.len(), 4, "{manifest}");

    let listed = run("/usr/bin/tar", &["-tf", archive]).expect("tar");
    let names: Vec<&str> = listed.lines().collect();
    let mut expected: BTreeSet<String> = layers.iter().map(blob).collect();
    expected.extend([blob(one), blob(&manifest["config"]), "index.json".to_owned(), "oci-layout".to_owned()]);
    assert_eq!(names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>(), expected);
    assert_eq!(names.len(), expected.len(), "each is there once: {names:?}");
    let script = format!(
        "mkdir {archive}.d && tar -C {archive}.d -xf {archive} && cd {archive}.d/blobs/sha256 && \
         for file in *; do echo \"$file  $file\"; done | sha256sum --check --quiet && rm -r {archive}.d"
    );
    run("/bin/sh", &["-c", &script]).expect("each is named by its digest");
}

/// The head of an answer, and the connection past it.
fn ask(agentd: &Agentd, query: &str) -> (String, UnixStream) {
    let mut stream = UnixStream::connect(agentd.socket()).expect("the socket");
    write!(stream, "GET /v1/images/app/save?{query} HTTP/1.0\r\nHost: agentd\r\n\r\n").expect("a request");
    let (mut head, mut byte) = (Vec::<u8>::new(), [0u8]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).expect("a head");
        head.extend(byte);
    }
    (String::from_utf8_lossy(&head).into_owned(), stream)
}

/// The files below its `incoming` that agentd has open, those without a name among them.
fn kept(agentd: &Agentd) -> usize {
    let files = std::fs::read_dir(format!("/proc/{}/fd", agentd.pid())).expect("its files");
    let paths = files.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok());
    paths.filter(|path| path.starts_with(agentd.state().join("incoming"))).count()
}

fn until_nothing_is_left(agentd: &Agentd) {
    wait_until("nothing is left", Duration::from_secs(20), || {
        match (below(agentd, "incoming"), kept(agentd)) {
            (names, 0) if names.is_empty() => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
}

host_test!(docker_an_image_is_saved_in_ocis_layout_and_is_the_same_when_it_is_loaded, |host| {
    let _dockerd = host.start_docker();
    let before = images();
    let mut agentd = host.bare_agentd("state");
    agentd.wait_ready();
    let folder = host.scratch().join("app");
    write(&folder, &[("Dockerfile", DOCKERFILE), ("word", "hello")]);
    agentd.ok(&["image", "build", &folder.display().to_string()]);
    let digest =
        |agentd: &Agentd, name: &str| agentd.get("image", name).expect("there")["status"]["digest"].clone();
    let id = digest(&agentd, "app");

    let file = host.scratch().join("saved.tar").display().to_string();
    let most = peak_kib(agentd.pid());
    agentd.ok(&["image", "save", "app", &file, "--format", "oci"]);
    let after = peak_kib(agentd.pid());
    assert!(after < most + GROWTH_KIB, "agentd grew from {most} to {after} KiB");
    look_at(&file, &id);
    until_nothing_is_left(&agentd);

    let (head, mut answer) = ask(&agentd, "format=zip");
    let mut problem = String::new();
    answer.read_to_string(&mut problem).expect("a problem");
    assert!(head.contains(" 400 ") && problem.contains("\"field\":\"format\""), "{head}{problem}");

    // Nobody takes it, and then hangs up.
    let (head, held) = ask(&agentd, "format=oci");
    assert!(head.contains(" 200 "), "{head}");
    assert_eq!((below(&agentd, "incoming"), kept(&agentd)), (Vec::new(), 1), "what is kept has no name");
    drop(held);
    until_nothing_is_left(&agentd);
    let (_, held) = ask(&agentd, "format=oci");
    agentd.kill();
    assert_eq!(below(&agentd, "incoming"), Vec::<String>::new());
    drop(held);
    agentd.start();

    agentd.ok(&["image", "rm", "app"]);
    agentd.ok(&["image", "load", &file, "--name", "other"]);
    assert_eq!(digest(&agentd, "other"), id);
    assert_eq!(agentd.get("image", "other").expect("there")["status"]["source_format"], "oci archive");
    assert_eq!(says(&agentd, "other", &["cat", "/word"]), "hello");
    agentd.ok(&["image", "rm", "other"]);
    assert_eq!(images(), before);
});
