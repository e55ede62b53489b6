//! Pulls from a registry on loopback that asks who is there.

#![expect(clippy::disallowed_methods, reason = "a harness starts programs; the rule is for the daemon")]

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use agentd_api::image::RegistryRef;
use agentd_api::{LayerProgress, LayerState, Progress};
use agentd_drivers::image::container::{ContainerImage, ContainerImageDriver};
use agentd_drivers::image::{ImageError, Work};
use uuid::Uuid;

use crate::bed::{Bed, inside};
use crate::images::{Shelf, everything};
use crate::netns::{self, ok, wait_until};

pub const ADDRESS: &str = "127.0.0.1:5000";
pub const PASSWORD: &str = "right-secret";
/// As htpasswd makes it.
const ENTRY: &str = "puller:$2y$05$mozil85Zl/1cwIWG6zxB1OGGpEtCLb36jCym3Hrzn.3Gl3q2u.TcG\n";

/// Ends with this.
pub struct Served(Child);

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A registry that has `team/tool:1`, of two layers.
struct Registry {
    _served: Served,
    digest: String,
}

pub fn secret(bed: &Bed, name: &str, text: &str) -> PathBuf {
    let path = bed.scratch.path().join(name);
    std::fs::write(&path, text).expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("set");
    path
}

/// An empty registry.
pub async fn serve(bed: &Bed) -> Served {
    let at = |name: &str| bed.scratch.path().join(name);
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
    let served = Served(child);
    wait_until("the registry answers", Duration::from_secs(20), async || {
        netns::run(&format!("curl -s -o /dev/null http://{ADDRESS}/v2/")).await
    })
    .await;
    served
}

/// The digest that it has for `team/tool:1`.
pub async fn digest() -> String {
    let asked = format!(
        "curl -sfI -u puller:{PASSWORD} -H 'Accept: application/vnd.docker.distribution.manifest.v2+json' \
             http://{ADDRESS}/v2/team/tool/manifests/1"
    );
    let heads = ok(&asked).await;
    let digest = heads.lines().find_map(|line| line.strip_prefix("Docker-Content-Digest: "));
    digest.unwrap_or_else(|| panic!("no digest: {heads}")).trim().to_owned()
}

impl Registry {
    async fn start(bed: &Bed) -> Self {
        let served = serve(bed).await;
        let at = |name: &str| bed.scratch.path().join(name);
        let login = format!("export DOCKER_CONFIG={}", at("docker-config").display());
        let tool = format!("{ADDRESS}/team/tool:1");
        // The second layer is long enough that its way is seen.
        ok(&format!(
            "{login} && echo {PASSWORD} | docker login -u puller --password-stdin {ADDRESS} && cd {} && mkdir ctx && \
             head -c 30000000 /dev/urandom > ctx/blob && printf 'FROM scratch\\nCOPY blob /blob\\n' > ctx/Dockerfile && \
             DOCKER_BUILDKIT=0 docker build -t {tool} ctx && docker push {tool} && docker rmi {tool} && \
             docker image prune -f",
            bed.scratch.path().display()
        ))
        .await;
        Self { _served: served, digest: digest().await }
    }
}

/// By a registry that has `team/tool:1` alone, whichever engine asks. Nothing of it is left.
pub async fn refused_with_what_to_do(bed: &Bed, everything: impl AsyncFn() -> String) {
    let before = everything().await;
    let right = secret(bed, "right", &format!("puller:{PASSWORD}"));
    let wrong = secret(bed, "wrong", "puller:wrong-secret");
    let none = format!("team/tool@sha256:{}", "0".repeat(64));
    let known = |file: &PathBuf| BTreeMap::from([(ADDRESS.to_owned(), file.clone())]);
    for (files, rest, says) in [
        (known(&wrong), "team/tool:1", "the credentials that the configuration names for it"),
        (BTreeMap::new(), "team/tool:1", "[containers.registries]"),
        (known(&right), "team/tool:2", "has no 127.0.0.1:5000/team/tool:2"),
        (known(&right), "team/nothing:1", "has no 127.0.0.1:5000/team/nothing:1"),
        (known(&right), none.as_str(), "has no 127.0.0.1:5000/team/tool@sha256:000"),
    ] {
        let shelf = Shelf::new(bed, files);
        let (image, made, seen) = pull(&shelf, &format!("{ADDRESS}/{rest}")).await;
        let error = made.expect_err(rest);
        assert!(matches!(&error, ImageError::Refused(why) if why.contains(says)), "{rest}: {error:?}");
        let told = format!("{error:?} {error} {seen:?}");
        assert!(!told.contains("secret"), "{told}");
        shelf.images.remove(image).await.expect("nothing to remove");
        assert_eq!(everything().await, before, "{rest}");
    }
}

pub async fn pull(
    shelf: &Shelf,
    reference: &str,
) -> (Uuid, Result<ContainerImage, ImageError>, Vec<Progress>) {
    let work = Work::detached(Uuid::now_v7());
    let mut progress = work.progress.subscribe();
    let watching = tokio::spawn(async move {
        let mut seen = Vec::new();
        while progress.changed().await.is_ok() {
            seen.push(progress.borrow_and_update().clone());
        }
        seen
    });
    let from: RegistryRef = reference.parse().expect("a reference");
    let made = shelf.images.pull(&from, &work).await;
    let image = work.image;
    drop(work);
    (image, made, watching.await.expect("joined"))
}

#[test]
#[ignore = "needs the test host: run by tests/run"]
fn docker_an_image_is_pulled_by_tag_and_by_digest_with_credentials_from_a_file() {
    netns::inside(async || {
        inside(async |bed: &Bed| {
            let registry = Registry::start(bed).await;
            let file = secret(bed, "secret", &format!("puller:{PASSWORD}\n"));
            let shelf = Shelf::new(bed, BTreeMap::from([(ADDRESS.to_owned(), file)]));
            let before = everything().await;

            let (by_tag, made, seen) = pull(&shelf, &format!("{ADDRESS}/team/tool:1")).await;
            let made = made.expect("pulled");
            let pinned = format!("{ADDRESS}/team/tool@{}", registry.digest);
            assert_eq!(made.registry_digest.as_deref(), Some(pinned.as_str()));
            assert!(made.size.0 >= 30_000_000, "{made:?}");
            assert!(seen.iter().any(|s| s.step.starts_with("pulling, ") && s.unit == "bytes"), "{seen:?}");
            // The last that is told of layers: each is there.
            let layers = &seen.iter().rev().find(|s| !s.layers.is_empty()).expect("layers").layers;
            assert!(layers.iter().any(|layer| layer.total >= Some(30_000_000)), "{layers:?}");
            let whole = |l: &LayerProgress| l.state == LayerState::Done && Some(l.done) == l.total;
            assert!(layers.iter().all(whole), "{layers:?}");
            let way = [LayerState::Downloading, LayerState::Extracting];
            for state in way {
                let met = |s: &Progress| s.layers.iter().any(|l| l.state == state && Some(l.done) < l.total);
                assert!(seen.iter().any(met), "{state:?}: {seen:?}");
            }
            let names = ok("docker image ls --digests --format '{{.Repository}}:{{.Tag}}@{{.Digest}}'").await;
            assert!(!names.contains("team/tool"), "no name but our mark: {names}");
            assert!(names.contains(&by_tag.to_string()), "{names}");

            let (by_digest, same, _) = pull(&shelf, &pinned).await;
            assert_eq!(same.expect("pulled").id, made.id);
            shelf.images.remove(by_tag).await.expect("removed");
            assert!(shelf.images.observe(by_digest, &made.id).await.expect("observed").is_some());
            shelf.images.remove(by_digest).await.expect("removed");
            assert_eq!(everything().await, before);

            // What somebody has under the registry's name stays his.
            ok(&format!(
                "DOCKER_CONFIG={}/docker-config docker pull {ADDRESS}/team/tool:1",
                bed.scratch.path().display()
            ))
            .await;
            let theirs = everything().await;
            let (beside, made, _) = pull(&shelf, &format!("{ADDRESS}/team/tool:1")).await;
            made.expect("pulled");
            shelf.images.remove(beside).await.expect("removed");
            assert_eq!(everything().await, theirs);
        })
        .await;
    });
}

#[test]
#[ignore = "needs the test host: run by tests/run"]
fn docker_a_registry_that_refuses_is_told_with_what_to_do_and_no_secret() {
    netns::inside(async || {
        inside(async |bed: &Bed| {
            let _registry = Registry::start(bed).await;
            refused_with_what_to_do(bed, async || everything().await).await;
        })
        .await;
    });
}
