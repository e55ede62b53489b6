//! Volumes of containers, on a host whose kernel lets agentd do all that root may, and whose Docker is systemd's.

use std::time::Duration;

use agent_tests::host::engine::{IMAGE, STAY};
use agent_tests::host::namespace::run;
use agent_tests::host::{Agentd, wait_until};

fn says(agentd: &Agentd, script: &str) -> String {
    agentd.ok(&["container", "exec", "one", "--", "sh", "-c", script]).trim().to_owned()
}

/// How large the file system at /data is, in MiB.
fn size(agentd: &Agentd) -> u64 {
    let said = says(agentd, "df -kP /data");
    let size: Option<u64> = said.lines().last().and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    size.unwrap_or_else(|| panic!("{said}")) >> 10
}

pub fn volumes_grow_under_containers_that_run(agentd: &mut Agentd) {
    agentd.ok(&["volume", "create", "data", "--mode", "filesystem", "--size", "64MiB"]);
    let line = ["container", "run", "one", "--image", IMAGE, "--volume", "data:/data", "--timeout", "5m"];
    agentd.ok(&[&line[..], &["--", "sh", "-c", STAY]].concat());
    says(agentd, "echo kept >/data/file");
    let first = size(agentd);
    assert!((50..=64).contains(&first), "{first} MiB");

    // The container has it open all the while.
    agentd.ok(&["volume", "resize", "data", "160MiB", "--timeout", "5m"]);
    let second = size(agentd);
    assert!((140..=160).contains(&second), "{second} MiB");
    assert_eq!(
        says(agentd, "yes 0123456789 | head -c 100000000 >/data/much; ls /data; cat /data/file"),
        "file\nmuch\nkept"
    );

    // Killed while it grows it, again and again: the next one goes on.
    for (wait, size) in [(0, "192MiB"), (20, "224MiB"), (60, "256MiB"), (150, "288MiB")] {
        agentd.ok(&["volume", "resize", "data", size, "--no-wait"]);
        std::thread::sleep(Duration::from_millis(wait));
        agentd.kill();
        agentd.start();
        wait_until(&format!("it is {size}"), Duration::from_secs(120), || {
            let status = agentd.get("volume", "data").expect("a volume")["status"].clone();
            if status["size"] == size { Ok(()) } else { Err(status.to_string()) }
        });
    }
    let third = size(agentd);
    assert!((260..=288).contains(&third), "{third} MiB");
    assert_eq!(says(agentd, "cat /data/file"), "kept");
    let there = agentd.get("volume", "data").expect("a volume");
    let file = there["status"]["path"].as_str().expect("a path").to_owned();
    agentd.ok(&["container", "rm", "one", "--timeout", "5m"]);
    wait_until("its device is taken away", Duration::from_secs(60), || {
        let left = run("losetup", &["--associated", &file]).map_err(|e| e.to_string())?;
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
    run("e2fsck", &["-f", "-n", &file]).expect("a sound file system");
    agentd.ok(&["volume", "rm", "data"]);
}
