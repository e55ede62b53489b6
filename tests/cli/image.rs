//! Images: built, pulled, sent from a file.

use agent_tests::sim::Sim;

/// The head of a qcow2 of 64 MiB: enough to be recognised.
fn qcow2() -> Vec<u8> {
    let mut file = vec![0u8; 4096];
    file[..4].copy_from_slice(b"QFI\xfb");
    file[4..8].copy_from_slice(&3u32.to_be_bytes());
    file[20..24].copy_from_slice(&16u32.to_be_bytes());
    file[24..32].copy_from_slice(&(64u64 << 20).to_be_bytes());
    file[100..104].copy_from_slice(&104u32.to_be_bytes());
    file
}

#[test]
fn a_file_becomes_an_image() {
    let sim = Sim::start(&[]);
    let file = sim.file("My_Disk.qcow2", qcow2());
    let answer = sim.ctl(&["image", "import", &file]);
    assert_eq!(answer.status, 0, "{answer:?}\n{}", sim.log());
    assert!(answer.stdout.contains("my-disk"), "named after its file: {answer:?}");
    for step in ["image/my-disk: hashing", "image/my-disk: sending", "image/my-disk: ready"] {
        assert!(answer.stderr.contains(step), "{step} in {answer:?}");
    }
    let image = sim.get("image/my-disk").expect("it is there");
    assert_eq!(
        (&image["status"]["source_format"], &image["status"]["virtual_size"]),
        (&"qcow2".into(), &"64MiB".into())
    );
    let again = sim.ctl(&["image", "import", &file]);
    assert_eq!(again.status, 4, "{again:?}");
    assert_eq!(sim.state("image/my-disk"), "ready", "a second import takes nothing back that is not its own");
}

#[test]
fn what_is_no_image_leaves_none() {
    let sim = Sim::start(&[]);
    let text = sim.file("text.qcow2", "this is a text file\n".repeat(100));
    let mut backed = qcow2();
    backed[8..16].copy_from_slice(&512u64.to_be_bytes());
    backed[16..20].copy_from_slice(&11u32.to_be_bytes());
    backed[512..523].copy_from_slice(b"/etc/shadow");
    let backed = sim.file("backed.qcow2", backed);
    let empty = sim.file("empty.img", "");
    for file in [&text, &backed, &empty] {
        let answer = sim.ctl(&["image", "import", file, "--name", "bad"]);
        assert!((1..=2).contains(&answer.status), "{file}: {answer:?}");
        assert!(answer.stderr.contains("error: image/bad: "), "{file}: {answer:?}");
        agent_tests::host::wait_until("nothing is left", agent_tests::sim::LIMIT, || {
            match sim.get("image/bad") {
                None => Ok(()),
                Some(image) => Err(image.to_string()),
            }
        });
    }
    let missing = sim.ctl(&["image", "import", "/nowhere/disk.img"]);
    assert!(missing.status == 1 && missing.stderr.contains("/nowhere/disk.img"), "{missing:?}");
    assert_eq!(sim.ok(&["get", "image", "-o", "name"]), "");
}

#[test]
fn images_are_built_and_pulled_by_name() {
    let sim = Sim::start(&[]);
    sim.ok(&["image", "build", "micro", "--name", "mine"]);
    let digest = "0".repeat(64);
    sim.ok(&["image", "pull", "https://example.com/Disk.qcow2", "--sha256", &digest]);
    assert_eq!(sim.ok(&["get", "image", "-o", "name"]), "image/disk\nimage/mine\n");
    for (line, exit, word) in [
        (&["image", "build", "windows"][..], 2, "spec.source"),
        (&["image", "pull", "ftp://example.com/a", "--sha256", &digest], 2, "spec.source.url.url"),
        (&["image", "pull", "https://example.com/b", "--sha256", "abc"], 2, "spec.source.url.sha256"),
        (&["image", "build", "micro", "--name", "mine"], 4, "mine"),
    ] {
        let answer = sim.ctl(line);
        assert_eq!(answer.status, exit, "{line:?}: {answer:?}");
        assert!(answer.stderr.contains(word), "{line:?}: {answer:?}");
    }
    sim.ok(&["image", "rm", "disk", "mine"]);
    assert_eq!(sim.ok(&["get", "image", "-o", "name"]), "");
}

#[test]
fn images_for_containers_are_pulled_built_saved_and_loaded() {
    let sim = Sim::start(&[]);
    sim.ok(&["image", "pull", "registry.example.com:5000/team/tool:1"]);
    let image = sim.get("image/tool").expect("it is there");
    assert_eq!(
        (&image["status"]["format"], &image["status"]["state"]),
        (&"container".into(), &"ready".into())
    );
    sim.ok(&["container", "run", "web", "--image", "tool"]);
    let used = sim.ctl(&["image", "rm", "tool"]);
    assert!(used.status == 4 && used.stderr.contains("container/default/web"), "{used:?}");

    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    std::fs::write(at("Dockerfile"), "FROM scratch\nCOPY a /a\n").expect("written");
    sim.ok(&["image", "build", &at("."), "--name", "mine"]);
    assert_eq!(sim.get("image/mine").expect("there")["status"]["source_format"], "dockerfile");
    sim.ok(&["image", "save", "mine", &at("mine.tar")]);
    assert!(std::fs::metadata(at("mine.tar")).expect("written").len() > 512);
    sim.ok(&["image", "save", "mine", &at("oci.tar"), "--format", "oci"]);
    assert!(std::fs::read(at("oci.tar")).expect("written").starts_with(b"oci-layout\0"));
    for (file, format) in [("mine.tar", "docker archive"), ("oci.tar", "oci archive")] {
        sim.ok(&["image", "load", &at(file), "--name", "again"]);
        let (mine, again) = (sim.get("image/mine").expect("there"), sim.get("image/again").expect("there"));
        assert_eq!(again["status"]["digest"], mine["status"]["digest"]);
        assert_eq!(again["status"]["source_format"], format);
        sim.ok(&["image", "rm", "again"]);
    }
    sim.ok(&["image", "build", "micro", "--container"]);
    sim.ok(&["image", "build", "micro"]);
    for (line, status, says) in [
        (&["image", "pull", "team/Other:1"][..], 2, "reference"),
        (&["image", "pull", "team/tool:1", "--sha256", "abc"], 2, "sha256"),
        (&["image", "save", "micro", &at("disk.tar")], 5, "is a disk"),
        (&["image", "save", "mine", &at("disk.tar"), "--format", "zip"], 2, "--format"),
        (&["image", "build", &at("."), "--file", "/etc/passwd", "--name", "x"], 1, "is not below"),
        (&["vm", "run", "vm", "--image", "mine"], 2, "spec.image"),
    ] {
        let answer = sim.ctl(line);
        assert!(answer.status == status && answer.stderr.contains(says), "{line:?}: {answer:?}");
    }
    assert!(!std::fs::exists(at("disk.tar")).expect("looked"), "nothing is left of what failed");
    assert!(!std::fs::exists(at("disk.tar.part")).expect("looked"), "nothing is left of what failed");
}
