//! Images for containers in Podman, which puts registries before names, calls things by other ids in its events, and takes
//! trees of files by a way of its own.

use std::collections::BTreeMap;
use std::time::Duration;

use agentd_drivers::engine::Subject;
use agentd_drivers::image::ImageError;
use agentd_drivers::image::container::contract::{self, docker_archive};
use agentd_drivers::image::container::{ContainerImageDriver, SaveAs};
use tokio::time::timeout;
use uuid::Uuid;

use crate::bed::{Bed, Kind, with};
use crate::images::{Shelf, read};
use crate::netns::{self, ok};

/// All images that Podman has, also those that have no name.
pub async fn images(bed: &Bed) -> String {
    let format = "{{.ID}} {{.Repository}}:{{.Tag}} {{.Digest}}";
    ok(&format!("{} images -a --digests --no-trunc --format '{format}' | sort", bed.podman())).await
}

/// And all containers, also those that builds leave: what must be the same before and after.
pub async fn everything(bed: &Bed) -> String {
    images(bed).await + &ok(&format!("{} ps -aq --external --no-trunc | sort", bed.podman())).await
}

/// What a program says in a container of that image.
pub async fn says(bed: &Bed, id: &str, program: &str) -> String {
    let id = id.trim_start_matches("sha256:");
    let run = "run --rm --network none --log-driver k8s-file";
    ok(&format!("{} {run} {id} {program}", bed.podman())).await.trim().to_owned()
}

#[test]
#[ignore = "needs the test host: run by tests/run"]
fn podmans_images_hold_the_contract_and_leave_nothing() {
    netns::inside(async || {
        with(Kind::Podman, async |bed: &Bed| {
            let before = everything(bed).await;
            contract::all(Shelf::new(bed, BTreeMap::new()).bench()).await;
            assert_eq!(everything(bed).await, before);
        })
        .await;
    });
}

#[test]
#[ignore = "needs the test host: run by tests/run"]
fn podman_what_podman_saved_is_loaded_saved_and_loaded_again_under_no_name_of_its_own() {
    netns::inside(async || {
        with(Kind::Podman, async |bed: &Bed| {
            let shelf = Shelf::new(bed, BTreeMap::new());
            let (podman, name) = (bed.podman(), "docker.io/library/box:1");
            let at = |name: &str| bed.scratch.path().join(name);
            let id_of = async |name: &str| {
                let id = ok(&format!("{podman} image inspect -f '{{{{.ID}}}}' {name}")).await;
                format!("sha256:{}", id.trim())
            };
            let id = id_of(name).await;
            ok(&format!("{podman} save -o {0} {name} && gzip -k {0}", at("box.tar").display())).await;
            // The name is somebody else's now, and stays so.
            ok(&format!(
                "{podman} rmi {name} && {podman} import -c ENV=A=b {} {name}",
                at("img.tar").display()
            ))
            .await;
            let other = id_of(name).await;
            assert_ne!(other, id);
            let before = everything(bed).await;

            let (first, made) = shelf.bench().load(&read(&at("box.tar.gz"))).await;
            let made = made.expect("loaded");
            assert_eq!((made.id.as_str(), made.source_format.as_str()), (id.as_str(), "docker archive"));
            assert!(made.size.0 > 100_000, "{made:?}");
            assert_eq!(id_of(name).await, other);
            assert_eq!(says(bed, &id, "echo it runs").await, "it runs");
            assert_eq!(shelf.images.list().await.expect("listed"), [first]);

            let saved = shelf.bench().save(&made.id, SaveAs::Docker).await;
            assert!(
                !String::from_utf8_lossy(&saved).contains("localhost/agentd-"),
                "no name is in it, ours neither"
            );
            shelf.images.remove(first).await.expect("removed");
            assert_eq!(everything(bed).await, before);
            let (second, made) = shelf.bench().load(&saved).await;
            assert_eq!(made.expect("loaded").id, id);
            ok(&format!("{podman} image prune -f")).await;
            assert!(shelf.images.observe(second, &id).await.expect("observed").is_some());

            let bare = id.trim_start_matches("sha256:");
            ok(&format!("{podman} create --name user --network none {bare} true")).await;
            let error = shelf.images.remove(second).await.expect_err("used");
            assert!(matches!(&error, ImageError::InUse(who) if who.contains("user")), "{error:?}");
            ok(&format!("{podman} rm user")).await;
            shelf.images.remove(second).await.expect("removed");
            assert_eq!(everything(bed).await, before);

            // A tree of files is an image too.
            let (root, made) = shelf.bench().load(&read(&at("img.tar"))).await;
            let made = made.expect("taken");
            assert_eq!(made.source_format, "root tree");
            assert_eq!(shelf.images.list().await.expect("listed"), [root]);
            assert_eq!(says(bed, &made.id, "/bin/echo it runs too").await, "it runs too");
            shelf.images.remove(root).await.expect("removed");
            assert_eq!(everything(bed).await, before);
        })
        .await;
    });
}

#[test]
#[ignore = "needs the test host: run by tests/run"]
fn podman_tells_by_its_id_that_our_mark_was_taken_away_and_it_is_put_back() {
    netns::inside(async || {
        with(Kind::Podman, async |bed: &Bed| {
            let shelf = Shelf::new(bed, BTreeMap::new());
            let mut events = shelf.images.events();
            let mut told = async || events.recv().await.expect("told");
            // It listens from here on, and nothing has happened yet.
            let everything = async { while told().await.subject != Subject::Everything {} };
            timeout(Duration::from_secs(10), everything).await.expect("told in time");
            let (image, made) = shelf.bench().load(&docker_archive(1, "taken:1")).await;
            let id = made.expect("loaded").id;
            let bare = id.trim_start_matches("sha256:");
            ok(&format!("{} tag {bare} localhost/theirs:1", bed.podman())).await;
            let names =
                ok(&format!("{} images --format '{{{{.Repository}}}}:{{{{.Tag}}}}'", bed.podman())).await;
            let mark = names.lines().find(|name| name.contains(&image.to_string())).expect("our mark");
            assert!(mark.starts_with("localhost/agentd-"), "{mark}");
            let socket = bed.socket();
            ok(&format!(
                "curl -sf -X DELETE --unix-socket {} http://d/v1.41/images/{mark}",
                socket.display()
            ))
            .await;
            let untagged = async {
                loop {
                    let event = told().await;
                    if (event.subject, event.action.as_str()) == (Subject::Image, "untag") {
                        return event.id;
                    }
                }
            };
            assert_eq!(timeout(Duration::from_secs(2), untagged).await.expect("told in time"), id);
            assert_eq!(shelf.images.list().await.expect("listed"), Vec::<Uuid>::new());
            assert!(shelf.images.observe(image, &id).await.expect("observed").is_some());
            assert_eq!(shelf.images.list().await.expect("listed"), [image]);
            shelf.images.remove(image).await.expect("removed");
            assert!(images(bed).await.contains("localhost/theirs:1"), "theirs stays");
        })
        .await;
    });
}
