//! What is refused names its field and leaves nothing behind.

use std::path::{Path, PathBuf};
use std::time::Duration;

use agent_tests::host::{Agentd, guest, namespace, traces, virsh};
use agent_tests::host_test;

fn nothing_made(agentd: &Agentd, what: &str) {
    assert_eq!(traces::of_vms(agentd), Vec::<String>::new(), "{what}");
    assert_eq!(agentd.ok(&["get", "vm", "-o", "name"]).trim(), "", "{what}");
}

fn refused(agentd: &Agentd, arguments: &[&str], field: &str) {
    let answer = agentd.ctl(arguments);
    assert_ne!(answer.status, 0, "{arguments:?}: {answer:?}");
    assert!(answer.stderr.contains(field), "{arguments:?} does not name {field}: {answer:?}");
    nothing_made(agentd, &format!("{arguments:?}"));
}

/// By this host's own memory, and by the status that HTTP has for it.
fn more_memory_than_the_host_has_is_507(agentd: &Agentd) {
    let info = std::fs::read_to_string("/proc/meminfo").expect("meminfo");
    let total = info.lines().find_map(|l| l.strip_prefix("MemTotal:")).expect("MemTotal");
    let kib: u64 = total.split_whitespace().next().and_then(|n| n.parse().ok()).expect("a number");
    let more = kib / (1 << 20) + 1;
    let body = format!(r#"{{"name":"a","spec":{{"image":"micro","memory":"{more}GiB"}}}}"#);
    let answer = namespace::run(
        "/usr/bin/curl",
        &[
            "-sS",
            "--unix-socket",
            &agentd.socket().to_string_lossy(),
            "-H",
            "content-type: application/json",
            "-d",
            &body,
            "-w",
            "\n%{http_code}",
            "http://agentd/v1/vms",
        ],
    )
    .expect("curl");
    let (problem, status) = answer.rsplit_once('\n').expect("a status");
    assert_eq!(status, "507", "{answer}");
    assert!(problem.contains("\"code\":\"insufficient_capacity\""), "{problem}");
    assert!(problem.contains("\"field\":\"spec.memory\""), "{problem}");
    nothing_made(agentd, "more memory than there is");
}

host_test!(vm_refusals_leave_nothing_on_the_host, |host| {
    let agentd = host.with_agentd();
    let run = |name: &'static str, more: &[&'static str]| {
        let mut all = vec!["vm", "run", name];
        all.extend(more);
        all
    };
    refused(&agentd, &run("a", &["--image", "nothing-of-this-name"]), "spec.image");
    refused(&agentd, &run("a", &["--image", "micro", "--memory", "1GB2"]), "memory");
    refused(&agentd, &run("a", &["--image", "micro", "--cpus", "0"]), "cpus");
    refused(&agentd, &run("a", &["--image", "micro", "--memory", "900TiB"]), "spec.memory");
    more_memory_than_the_host_has_is_507(&agentd);
    refused(&agentd, &run("a", &["--image", "micro", "--network", "nowhere"]), "spec.networks[0].network");
    refused(
        &agentd,
        &run("a", &["--image", "micro", "--network", "default,ip=192.0.2.1"]),
        "spec.networks[0].ip",
    );
    refused(&agentd, &run("a<b>&\"'", &["--image", "micro"]), "name");
    refused(&agentd, &run("../a", &["--image", "micro"]), "name");
    let long = "a".repeat(64);
    refused(&agentd, &["vm", "run", &long, "--image", "micro"], "name");

    let big = host.scratch().join("user-data");
    std::fs::write(&big, vec![b'#'; 1 << 20]).expect("a file");
    refused(
        &agentd,
        &["vm", "run", "a", "--image", "micro", "--user-data", &big.to_string_lossy()],
        "user_data",
    );

    // Metacharacters where any text may stand: kept as they are, and harmless.
    let odd = host.scratch().join("odd-user-data");
    std::fs::write(&odd, "#cloud-config\n# </domain>&lt;\"']]>\n").expect("a file");
    agentd.ok(&[
        "vm",
        "run",
        "odd",
        "--image",
        "micro",
        "--memory",
        "128MiB",
        "--user-data",
        &odd.to_string_lossy(),
    ]);
    guest::answers(&agentd, "odd");
    assert_eq!(virsh(&["list", "--name"]).expect("virsh").split_whitespace().count(), 1);

    let twice = agentd.ctl(&["vm", "run", "odd", "--image", "micro"]);
    assert_eq!(twice.status, 4, "{twice:?}");
    guest::get(&agentd.address("odd"), 80, "/").expect("the first of that name goes on");
    let used = agentd.ctl(&["image", "rm", "micro"]);
    assert_eq!(used.status, 4, "{used:?}");
    agentd.ok(&["vm", "rm", "odd"]);
    nothing_made(&agentd, "at the end");
});

fn qemu_img(arguments: &[&str]) {
    namespace::run("/usr/bin/qemu-img", arguments).expect("qemu-img");
}

fn no_image(agentd: &Agentd, before: usize, what: &str) {
    let images = std::fs::read_dir(agentd.state().join("images")).expect("images").count();
    assert_eq!(images, before, "{what}: content was kept");
    let incoming: Vec<String> = std::fs::read_dir(agentd.state().join("incoming"))
        .map(|all| all.filter_map(Result::ok).map(|e| e.path().display().to_string()).collect())
        .unwrap_or_default();
    assert_eq!(incoming, Vec::<String>::new(), "{what}: something is left in incoming");
}

host_test!(vm_images_that_are_none_are_refused, |host| {
    let agentd = host.with_agentd();
    let before = std::fs::read_dir(agentd.state().join("images")).expect("images").count();
    let file = |name: &str| -> PathBuf { host.scratch().join(name) };
    let text = file("text.qcow2");
    std::fs::write(&text, "this is a text file\n".repeat(1000)).expect("a file");
    let backed = file("backed.qcow2");
    qemu_img(&[
        "create",
        "-q",
        "-u",
        "-f",
        "qcow2",
        "-F",
        "raw",
        "-b",
        "/etc/shadow",
        &backed.to_string_lossy(),
        "1M",
    ]);
    let cut = file("cut.qcow2");
    qemu_img(&["create", "-q", "-f", "qcow2", &cut.to_string_lossy(), "64M"]);
    let bytes = std::fs::read(&cut).expect("a file");
    std::fs::write(&cut, &bytes[..600]).expect("a file");
    for path in [&text, &backed, &cut] {
        let path: &Path = path;
        let answer = agentd.ctl(&["image", "import", &path.to_string_lossy(), "--name", "bad"]);
        assert_ne!(answer.status, 0, "{}: {answer:?}", path.display());
        assert!(answer.stderr.contains("bad"), "{answer:?}");
        let vm = agentd.ctl(&["vm", "run", "a", "--image", "bad", "--timeout", "5s"]);
        assert_ne!(vm.status, 0, "a VM ran from {}: {vm:?}", path.display());
        agentd.ctl(&["vm", "rm", "a"]);
        assert_eq!(agentd.get("image", "bad"), None, "agentctl takes back an import that was refused");
        no_image(&agentd, before, &path.display().to_string());
        nothing_made(&agentd, &path.display().to_string());
    }
});

host_test!(vm_imported_disk_is_what_the_guest_sees, |host| {
    let agentd = host.with_agentd();
    // A raw disk with a boot sector that says hello on the serial port and powers nothing: what firmware boots.
    let raw = host.scratch().join("hello.raw");
    std::fs::write(&raw, guest::speaking_disk()).expect("a file");
    for format in ["raw", "qcow2", "vmdk", "vhdx"] {
        let file = host.scratch().join(format!("hello.{format}.img"));
        if format == "raw" {
            std::fs::copy(&raw, &file).expect("a copy");
        } else {
            qemu_img(&[
                "convert",
                "-f",
                "raw",
                "-O",
                format,
                &raw.to_string_lossy(),
                &file.to_string_lossy(),
            ]);
        }
        agentd.ok(&["image", "import", &file.to_string_lossy(), "--name", format]);
        let image = agentd.get("image", format).expect("the image");
        assert_eq!(image["status"]["source_format"], format, "{image}");
    }
    for format in ["raw", "vmdk"] {
        agentd.ok(&["vm", "run", "hello", "--image", format, "--memory", "128MiB"]);
        agent_tests::host::wait_until("the boot sector speaks", Duration::from_secs(60), || {
            let console = guest::console(&agentd, "hello");
            if console.contains("hello from a sector") { Ok(()) } else { Err(console) }
        });
        agentd.ok(&["vm", "rm", "hello"]);
    }
    nothing_made(&agentd, "at the end");
});
