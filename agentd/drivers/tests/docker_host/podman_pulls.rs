//! Podman's pulls from a registry on loopback that asks who is there. It asks no registry for a digest: a tag is pulled by
//! its name, which goes again.

use std::collections::BTreeMap;

use agentd_drivers::image::container::ContainerImageDriver;

use crate::bed::{Bed, Kind, with};
use crate::images::Shelf;
use crate::netns::{self, ok};
use crate::podman_images::{everything, images};
use crate::registry::{ADDRESS, PASSWORD, Served, digest, pull, refused_with_what_to_do, secret, serve};

/// Has `team/tool:1`.
async fn registry(bed: &Bed) -> (Served, String) {
    let served = serve(bed).await;
    let (podman, tool) = (bed.podman(), format!("{ADDRESS}/team/tool:1"));
    ok(&format!(
        "cd {} && mkdir ctx && head -c 3000000 /dev/urandom > ctx/blob && \
         printf 'FROM scratch\\nCOPY blob /blob\\n' > ctx/Dockerfile && {podman} build --format docker -t {tool} ctx && \
         {podman} push --creds puller:{PASSWORD} --tls-verify=false {tool} && {podman} rmi {tool} && \
         {podman} image prune -f",
        bed.scratch.path().display()
    ))
    .await;
    (served, digest().await)
}

#[test]
#[ignore = "needs the test host: run by tests/run"]
fn podman_an_image_is_pulled_by_tag_and_by_digest_and_keeps_no_name_but_our_mark() {
    netns::inside(async || {
        with(Kind::Podman, async |bed: &Bed| {
            let (_served, digest) = registry(bed).await;
            let file = secret(bed, "secret", &format!("puller:{PASSWORD}\n"));
            let shelf = Shelf::new(bed, BTreeMap::from([(ADDRESS.to_owned(), file)]));
            let (tag, pinned) = (format!("{ADDRESS}/team/tool:1"), format!("{ADDRESS}/team/tool@{digest}"));
            let before = everything(bed).await;

            let (by_tag, made, seen) = pull(&shelf, &tag).await;
            let made = made.expect("pulled");
            assert_eq!(made.registry_digest.as_deref(), Some(pinned.as_str()));
            assert!(made.size.0 >= 3_000_000, "{made:?}");
            assert!(seen.iter().any(|s| s.unit == "bytes" && !s.layers.is_empty()), "{seen:?}");
            let (by_digest, same, _) = pull(&shelf, &pinned).await;
            assert_eq!(same.expect("pulled").id, made.id);
            assert!(!images(bed).await.contains("team/tool"), "no name but our marks: {}", images(bed).await);
            shelf.images.remove(by_tag).await.expect("removed");
            assert!(shelf.images.observe(by_digest, &made.id).await.expect("observed").is_some());
            shelf.images.remove(by_tag).await.expect("again, with another on the same image");
            assert!(shelf.images.observe(by_digest, &made.id).await.expect("observed").is_some());
            shelf.images.remove(by_digest).await.expect("removed");
            assert_eq!(everything(bed).await, before);

            // A digest that is not there yet is a name of its own in Podman.
            let (alone, made, _) = pull(&shelf, &pinned).await;
            assert_eq!(made.expect("pulled").registry_digest, Some(pinned));
            assert!(!images(bed).await.contains("team/tool"), "no name but our mark: {}", images(bed).await);
            shelf.images.remove(alone).await.expect("removed");
            assert_eq!(everything(bed).await, before);

            // What somebody has under the registry's name stays his.
            let creds = format!("--creds puller:{PASSWORD} --tls-verify=false");
            ok(&format!("{} pull {creds} {tag}", bed.podman())).await;
            let theirs = everything(bed).await;
            let (beside, made, _) = pull(&shelf, &tag).await;
            made.expect("pulled");
            shelf.images.remove(beside).await.expect("removed");
            assert_eq!(everything(bed).await, theirs);
        })
        .await;
    });
}

#[test]
#[ignore = "needs the test host: run by tests/run"]
fn podman_a_registry_that_refuses_is_told_with_what_to_do_and_no_secret() {
    netns::inside(async || {
        with(Kind::Podman, async |bed: &Bed| {
            let _registry = registry(bed).await;
            refused_with_what_to_do(bed, async || everything(bed).await).await;
        })
        .await;
    });
}
