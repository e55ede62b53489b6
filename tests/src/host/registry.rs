//! A registry of Debian's on loopback, which gives nothing to who is not its one user.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::namespace::run;
use super::{Host, wait_until};

pub const ADDRESS: &str = "127.0.0.1:5000";
pub const USER: &str = "puller";
pub const PASSWORD: &str = "right-secret";
/// As htpasswd makes it.
const ENTRY: &str = "puller:$2y$05$mozil85Zl/1cwIWG6zxB1OGGpEtCLb36jCym3Hrzn.3Gl3q2u.TcG\n";

pub struct Registry {
    child: Child,
    scratch: PathBuf,
}

impl Host {
    #[expect(clippy::disallowed_methods, reason = "a harness starts programs; the rule is for the daemon")]
    pub fn start_registry(&self) -> Registry {
        let at = |name: &str| self.scratch().join(name);
        std::fs::write(at("htpasswd"), ENTRY).expect("written");
        let config = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '{ADDRESS}'}}\n\
             auth: {{htpasswd: {{realm: test, path: {}}}}}\n",
            at("registry").display(),
            at("htpasswd").display()
        );
        std::fs::write(at("registry.yml"), config).expect("written");
        let log = std::fs::File::create(at("registry.log")).expect("a log");
        let child = Command::new("/usr/bin/docker-registry")
            .arg("serve")
            .arg(at("registry.yml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("docker-registry (packaging/host-packages test)");
        wait_until("the registry answers", Duration::from_secs(20), || {
            let asked = run("/usr/bin/curl", &["-s", "-o", "/dev/null", &format!("http://{ADDRESS}/v2/")]);
            asked.map_err(|e| format!("{e:#}"))
        });
        Registry { child, scratch: self.scratch().to_owned() }
    }
}

impl Registry {
    /// Has it take an image that the engine has, which keeps no name of it.
    pub fn take(&self, image: &str, as_name: &str) {
        let script = format!(
            "export DOCKER_CONFIG={}/docker-config && echo {PASSWORD} | \
             docker login -u {USER} --password-stdin {ADDRESS} && docker tag {image} {ADDRESS}/{as_name} && \
             docker push {ADDRESS}/{as_name} && docker rmi {ADDRESS}/{as_name}",
            self.scratch.display()
        );
        run("/bin/sh", &["-c", &script]).expect("pushed");
    }

    /// What agentd's configuration says of it, with a file of that content.
    pub fn config(&self, content: &str) -> String {
        let file = self.scratch.join("credentials");
        write_secret(&file, content);
        format!("[containers.registries.\"{ADDRESS}\"]\nauth_file = \"{}\"\n", file.display())
    }

    /// The file has other content from now on.
    pub fn credentials(&self, content: &str) {
        write_secret(&self.scratch.join("credentials"), content);
    }
}

fn write_secret(file: &Path, content: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(file, content).expect("written");
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).expect("set");
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
