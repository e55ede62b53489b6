//! Folders of the host in containers of a real dockerd: shared where the configuration allows it, refused elsewhere.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use agent_tests::host::engine::{self, IMAGE, STAY, docker};
use agent_tests::host::{Agentd, Answer};
use agent_tests::host_test;

use crate::container::container;

/// Asks for a container with that folder.
fn with(agentd: &Agentd, folder: &Path) -> Answer {
    let bind = format!("{}:/data", folder.display());
    agentd.ctl(&["container", "run", "bad", "--image", IMAGE, "--bind", &bind, "--", "sh", "-c", STAY])
}

host_test!(docker_a_folder_of_the_host_is_shared_where_the_configuration_allows_it, |host| {
    let at = |name: &str| host.scratch().join(name);
    for folder in ["open/data", "opened", "shut"] {
        fs::create_dir_all(at(folder)).expect("a folder");
    }
    symlink(at("shut"), at("open/out")).expect("a link");
    let config = format!("[containers]\nbind_mounts = [\"{}\"]\n", at("open").display());
    fs::write(at("state.toml"), config).expect("written");
    let _dockerd = host.start_docker();
    let agentd = host.bare_agentd("state");
    agentd.wait_ready();

    let data = at("open/data").display().to_string();
    let (data, still) = (format!("{data}:/data"), format!("{data}:/still:ro"));
    let line = ["container", "run", "web", "--image", IMAGE, "--bind", &data, "--bind", &still];
    agentd.ok(&[&line[..], &["--", "sh", "-c", STAY]].concat());
    let exec = |script: &str| agentd.ctl(&["container", "exec", "web", "--", "sh", "-c", script]);
    assert_eq!(exec("echo from the container >/data/out").status, 0);
    assert_eq!(fs::read_to_string(at("open/data/out")).expect("a file"), "from the container\n");
    fs::write(at("open/data/in"), "from the host\n").expect("written");
    assert_eq!(exec("cat /data/in /still/in").stdout, "from the host\nfrom the host\n");
    let refused = exec("touch /still/more");
    assert!(refused.status != 0 && refused.stderr.contains("Read-only file system"), "{refused:?}");
    assert!(!at("open/data/more").exists());

    // Outside, also by a name that begins as an allowed one does.
    for folder in ["shut", "opened"] {
        let refused = with(&agentd, &at(folder));
        assert!(refused.status == 6 && refused.stderr.contains("spec.mounts[0].source.bind"), "{refused:?}");
        assert!(agentd.get("container", "bad").is_none());
    }
    // Inside, from where a link leads out.
    let shut = at("shut").display().to_string();
    let led = |answer: &Answer| answer.stderr.contains("spec.mounts[0]") && answer.stderr.contains(&shut);
    let refused = with(&agentd, &at("open/out"));
    assert!(refused.status == 1 && led(&refused), "{refused:?}");
    let status = container(&agentd, "bad")["status"].clone();
    assert_eq!((&status["state"], &status["attempts"]["code"]), (&"failed".into(), &"forbidden".into()));
    assert_eq!(engine::containers().len(), 1, "nothing is made of it");
    agentd.ok(&["container", "rm", "bad"]);

    // A link that has come into the place of what was allowed: it is looked up anew at each start.
    agentd.ok(&["container", "stop", "web"]);
    fs::rename(at("open/data"), at("open/was")).expect("moved");
    symlink(at("shut"), at("open/data")).expect("a link");
    let refused = agentd.ctl(&["container", "start", "web"]);
    assert!(refused.status == 1 && led(&refused), "{refused:?}");
    assert_eq!(docker(&["ps", "-q"]).as_deref(), Ok(""), "it is not started");
});
