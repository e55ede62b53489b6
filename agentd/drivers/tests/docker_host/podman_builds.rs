//! Builds by a Dockerfile in Podman: what they leave when they are through, fail, are cancelled, or lose Podman.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use agentd_api::image::BuildSource;
use agentd_drivers::image::container::ContainerImageDriver;
use agentd_drivers::image::container::contract::{announced, tar};
use agentd_drivers::image::{ImageDriver, ImageError, Work};
use uuid::Uuid;

use crate::bed::{Bed, Kind, with};
use crate::images::{Shelf, plain};
use crate::netns::{self, ok, wait_until};
use crate::podman_images::{everything, images, says};

#[test]
#[ignore = "needs the test host: run by tests/run"]
fn podman_a_build_runs_its_steps_and_one_that_fails_says_why_and_leaves_nothing() {
    netns::inside(async || {
        with(Kind::Podman, async |bed: &Bed| {
            let shelf = Shelf::new(bed, BTreeMap::new());
            let before = everything(bed).await;
            let good = tar(&[
                (
                    "Dockerfile",
                    b"FROM box:1 AS first\nARG WHO\nCOPY word /word\nRUN echo $WHO >> /word\nFROM first\nRUN echo last >> /word\n",
                ),
                ("word", b"hello\n"),
            ]);
            let args = BTreeMap::from([("WHO".to_owned(), "me".to_owned())]);
            let source = BuildSource { args, ..plain() };
            let (image, made) = shelf.bench().build(&good, source.clone()).await;
            let heard = says(bed, &made.expect("built").id, "cat /word").await;
            assert_eq!(heard.lines().collect::<Vec<_>>(), ["hello", "me", "last"]);
            assert!(!images(bed).await.contains("<none>"), "no image but what came of it");
            assert_eq!(shelf.images.list().await.expect("listed"), [image]);
            let target = Some("first".to_owned());
            let (stage, made) = shelf.bench().build(&good, BuildSource { target, ..source }).await;
            let heard = says(bed, &made.expect("built").id, "cat /word").await;
            assert_eq!(heard.lines().collect::<Vec<_>>(), ["hello", "me"]);
            for made in [stage, image] {
                shelf.images.remove(made).await.expect("removed");
            }
            assert_eq!(everything(bed).await, before);

            let copied = tar(&[(
                "Dockerfile",
                b"FROM box:1 AS tools\nRUN echo one > /one\nFROM box:1\nCOPY --from=tools /one /two\n",
            )]);
            let (image, made) = shelf.bench().build(&copied, plain()).await;
            assert_eq!(says(bed, &made.expect("built").id, "cat /two").await, "one");
            shelf.images.remove(image).await.expect("removed");
            assert_eq!(everything(bed).await, before);

            let bad = tar(&[(
                "Dockerfile",
                b"FROM box:1 AS first\nRUN echo one > /one\nFROM first\nRUN echo two > /two\nRUN echo the reason; exit 7\n",
            )]);
            let (_, made) = shelf.bench().build(&bad, plain()).await;
            let error = made.expect_err("a step fails");
            let says = |why: &str| why.contains("the reason") && why.contains('7');
            assert!(matches!(&error, ImageError::Refused(why) if says(why)), "{error:?}");
            assert_eq!(everything(bed).await, before);
        })
        .await;
    });
}

/// Takes 4 seconds; the last stage stands on the image of the first.
fn context() -> Vec<u8> {
    let text =
        b"FROM box:1 AS first\nRUN sleep 1; echo one > /one\nFROM first\nRUN sleep 2\nRUN sleep 1; echo two > /two\n";
    tar(&[("Dockerfile", text)])
}

async fn received(shelf: &Shelf, image: Uuid) -> BuildSource {
    let context = context();
    let upload = announced(&context);
    shelf.host.receive(image, &upload, &mut &context[..]).await.expect("received");
    BuildSource { size: upload.size, sha256: upload.sha256, ..plain() }
}

async fn until_step(work: &Work, wanted: &str) {
    wait_until(&format!("{wanted} is at hand"), Duration::from_secs(30), async || {
        let step = work.progress.borrow().step.clone();
        if step.starts_with(wanted) { Ok(()) } else { Err(step) }
    })
    .await;
}

#[test]
#[ignore = "needs the test host: run by tests/run"]
fn podman_a_build_that_is_cancelled_is_heard_out_and_then_leaves_nothing() {
    netns::inside(async || {
        with(Kind::Podman, async |bed: &Bed| {
            let before = everything(bed).await;
            let shelf = Shelf::new(bed, BTreeMap::new());
            for wanted in ["RUN sleep 1; echo one", "RUN sleep 2"] {
                let work = Work::detached(Uuid::now_v7());
                let source = received(&shelf, work.image).await;
                let (built, ()) = tokio::join!(shelf.images.build(&source, &work), async {
                    until_step(&work, wanted).await;
                    work.cancel.cancel();
                });
                assert!(matches!(built, Err(ImageError::Cancelled)), "{built:?}");
                assert_ne!(everything(bed).await, before, "Podman goes on with it");
                shelf.images.remove(work.image).await.expect("there is nothing that bears the mark");
                let cleared = wait_until("it is cleared away", Duration::from_secs(30), async || {
                    let cleared = shelf.images.clear(&BTreeSet::new()).await.expect("asked");
                    if cleared.is_empty() { Err(everything(bed).await) } else { Ok(cleared) }
                })
                .await;
                assert_eq!(cleared, [work.image]);
                assert_eq!(everything(bed).await, before, "in {wanted}");
                assert_eq!(shelf.images.list().await.expect("listed"), Vec::<Uuid>::new());
                shelf.host.discard(work.image).await.expect("discarded");
            }
        })
        .await;
    });
}

#[test]
#[ignore = "needs the test host: run by tests/run"]
fn podman_a_build_is_made_again_after_podman_was_killed_and_no_image_is_left_of_both() {
    netns::inside(async || {
        with(Kind::Podman, async |bed: &Bed| {
            let (before, all) = (images(bed).await, everything(bed).await);
            let shelf = Shelf::new(bed, BTreeMap::new());
            let image = Uuid::now_v7();
            let source = received(&shelf, image).await;
            let work = Work::detached(image);
            let (built, ()) = tokio::join!(shelf.images.build(&source, &work), async {
                until_step(&work, "RUN sleep 2").await;
                bed.kill_dockerd();
            });
            let error = built.expect_err("the engine is away");
            assert!(matches!(error, ImageError::Engine(_)), "{error:?}");
            bed.start_dockerd().await;
            assert_ne!(images(bed).await, before, "the first stage's image is left");
            let left = ok(&format!("{} ps -aq --external --no-trunc", bed.podman())).await;
            assert_ne!(left, "", "and the step's container, which bears no mark");

            let made = shelf.images.build(&source, &work).await.expect("built again");
            assert_eq!(says(bed, &made.id, "cat /two").await, "two");
            shelf.images.remove(image).await.expect("removed");
            // As whoever has the host does.
            ok(&format!("{} rm -f {}", bed.podman(), left.split_whitespace().collect::<Vec<_>>().join(" ")))
                .await;
            shelf.images.clear(&BTreeSet::new()).await.expect("cleared");
            assert_eq!(everything(bed).await, all);
        })
        .await;
    });
}
