//! Builds that end in the middle, by an end of ours or of the engine's.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use agentd_api::image::BuildSource;
use agentd_drivers::image::container::ContainerImageDriver;
use agentd_drivers::image::container::contract::{announced, tar};
use agentd_drivers::image::{ImageDriver, ImageError, Work};
use uuid::Uuid;

use crate::bed::{Bed, inside};
use crate::images::{Shelf, everything};
use crate::netns::{self, ok, wait_until};

/// Takes 4 seconds; the first stage is no part of what comes of it.
fn context() -> Vec<u8> {
    tar(&[
        (
            "Dockerfile",
            b"FROM box:1 AS tools\nCOPY word /word\nRUN sleep 1; echo one > /one\nENV A=b\nRUN sleep 1; echo two > /two\n\
              FROM box:1\nCOPY --from=tools /two /word /\nRUN sleep 1\nRUN sleep 1\n",
        ),
        ("word", b"hello\n"),
    ])
}

fn source(context: &[u8]) -> BuildSource {
    let upload = announced(context);
    let (dockerfile, args, target) = (None, BTreeMap::new(), None);
    BuildSource { size: upload.size, sha256: upload.sha256, dockerfile, args, target }
}

async fn received(shelf: &Shelf, image: Uuid) -> BuildSource {
    let context = context();
    let source = source(&context);
    shelf.host.receive(image, &source.upload(), &mut &context[..]).await.expect("received");
    source
}

/// What a build of somebody else's leaves that fails: images without a name, and a container. Known by what the build
/// itself says it made: the engine may still be ending the one that was cut off, and that is not theirs.
async fn theirs(bed: &Bed) -> BTreeSet<String> {
    let folder = bed.scratch.path().join("theirs");
    let script = format!(
        "mkdir -p {0} && date +%s%N > {0}/word && printf 'FROM box:1\\nCOPY word /word\\nRUN sleep 1\\nRUN exit 1\\n' > {0}/Dockerfile && \
         ! DOCKER_BUILDKIT=0 docker build {0} 2>/dev/null",
        folder.display()
    );
    let said = ok(&script).await;
    let of_it = |line: &String| {
        let id = line.strip_prefix("sha256:").unwrap_or(line);
        said.split_whitespace().any(|word| word.len() == 12 && id.starts_with(word))
    };
    let theirs: BTreeSet<String> = there().await.into_iter().filter(of_it).collect();
    assert!(theirs.len() >= 4, "what it stood on, two steps and a container: {theirs:?} of {said}");
    theirs
}

/// Until the copy that comes first is under way, or the container of that step. What the engine begins in the moment
/// that it is hung up on nobody hears of.
async fn has_noted(bed: &Bed, image: Uuid, containers: usize) {
    let journal = bed.state().builds_dir().join(image.to_string());
    wait_until("the step is noted", Duration::from_secs(30), async || {
        let text = tokio::fs::read(&journal).await.map_err(|error| error.to_string())?;
        let noted: serde_json::Value = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
        let many = |list: &str| noted.get(list).and_then(|list| list.as_array()).map_or(0, Vec::len);
        let at_it =
            many("containers") >= containers.max(1) || containers == 0 && many("copies") + many("images") > 0;
        if at_it { Ok(()) } else { Err(noted.to_string()) }
    })
    .await;
}

async fn there() -> BTreeSet<String> {
    everything().await.lines().map(str::to_owned).collect()
}

#[test]
#[ignore = "needs the test host: run by tests/run"]
fn docker_what_a_build_left_that_was_cut_off_is_taken_away_and_nothing_of_anybody_elses() {
    netns::inside(async || {
        inside(async |bed: &Bed| {
            let mut left = 0;
            for containers in 0..5 {
                let image = Uuid::now_v7();
                let shelf = Shelf::new(bed, BTreeMap::new());
                let source = received(&shelf, image).await;
                let work = Work::detached(image);
                let before = there().await;
                // As an end of the process: nobody hears the engine out, and it is hung up on.
                tokio::select! {
                    built = shelf.images.build(&source, &work) => panic!("it was done before {containers}: {built:?}"),
                    () = has_noted(bed, image, containers) => {}
                }
                drop(shelf);

                let next = Shelf::new(bed, BTreeMap::new());
                left += usize::from(there().await != before);
                assert_eq!(
                    next.images.clear(&BTreeSet::from([image])).await.expect("asked"),
                    Vec::<Uuid>::new()
                );
                // Of the same time, on the same image.
                let theirs = theirs(bed).await;
                assert_eq!(next.images.clear(&BTreeSet::new()).await.expect("cleared"), [image]);
                assert_eq!(there().await, &before | &theirs, "cut off at container {containers}");
                assert_eq!(next.images.clear(&BTreeSet::new()).await.expect("again"), Vec::<Uuid>::new());
                next.host.discard(image).await.expect("discarded");
            }
            assert!(left >= 4, "{left} of the builds left something");
        })
        .await;
    });
}

/// What the engine begins behind a FROM in the moment that it is hung up on is told to the next try alone, or to none where
/// that copied the same files before the other was through.
#[test]
#[ignore = "needs the test host: run by tests/run"]
fn docker_what_a_try_made_that_nobody_heard_is_known_to_the_next_one() {
    netns::inside(async || {
        inside(async |bed: &Bed| {
            let (image, shelf) = (Uuid::now_v7(), Shelf::new(bed, BTreeMap::new()));
            let source = received(&shelf, image).await;
            let work = Work::detached(image);
            let before = there().await;
            let journal = bed.state().builds_dir().join(image.to_string());
            let begun = wait_until("it is noted that it begins", Duration::from_secs(30), async || {
                tokio::fs::read(&journal).await.map_err(|error| error.to_string())
            });
            tokio::select! {
                built = shelf.images.build(&source, &work) => panic!("it was done before: {built:?}"),
                _ = begun => {}
            }
            drop(shelf);
            // As the engine goes on with its first copy, and again.
            let folder = bed.scratch.path().join("unheard");
            tokio::fs::create_dir(&folder).await.expect("a folder");
            let first = tar(&[("Dockerfile", b"FROM box:1\nCOPY word /word\n"), ("word", b"hello\n")]);
            tokio::fs::write(folder.join("context"), first).await.expect("written");
            for _ in 0..2 {
                let context = folder.join("context");
                ok(&format!("DOCKER_BUILDKIT=0 docker build --no-cache - < {}", context.display())).await;
            }
            assert!(there().await.difference(&before).count() >= 2);

            let next = Shelf::new(bed, BTreeMap::new());
            next.images.build(&source, &work).await.expect("built");
            next.images.remove(image).await.expect("removed");
            next.images.clear(&BTreeSet::new()).await.expect("cleared");
            assert_eq!(there().await, before);
        })
        .await;
    });
}

#[test]
#[ignore = "needs the test host: run by tests/run"]
fn docker_a_build_goes_on_after_the_engine_was_killed_and_in_the_end_nothing_is_left() {
    netns::inside(async || {
        inside(async |bed: &Bed| {
            let before = everything().await;
            let shelf = Shelf::new(bed, BTreeMap::new());
            let image = Uuid::now_v7();
            let source = received(&shelf, image).await;
            let work = Work::detached(image);
            let (built, ()) = tokio::join!(shelf.images.build(&source, &work), async {
                wait_until("its second step runs", Duration::from_secs(20), async || {
                    let steps = ok("docker ps -q --no-trunc").await;
                    let word = work.progress.borrow().step.clone();
                    if word.starts_with("RUN") && !steps.is_empty() { Ok(()) } else { Err(word) }
                })
                .await;
                bed.kill_dockerd();
            });
            let error = built.expect_err("the engine is away");
            assert!(matches!(error, ImageError::Engine(_)), "{error:?}");
            bed.start_dockerd().await;
            assert_ne!(ok("docker ps -aq").await, "", "the step's container is left");

            let (other, done) = tokio::join!(
                async {
                    tokio::time::sleep(Duration::from_millis(500)).await;
                    shelf.images.clear(&BTreeSet::new()).await
                },
                shelf.images.build(&source, &work)
            );
            assert_eq!(
                other.expect("asked"),
                Vec::<Uuid>::new(),
                "nothing is taken away while one is under way"
            );
            let made = done.expect("built");
            assert_eq!(
                ok(&format!("docker run --rm --network none {} cat /two", made.id)).await.trim(),
                "two"
            );
            assert_eq!(ok("docker ps -aq").await, "");
            shelf.images.remove(image).await.expect("removed");
            assert_eq!(everything().await, before);
        })
        .await;
    });
}

#[test]
#[ignore = "needs the test host: run by tests/run"]
fn docker_a_build_that_is_cancelled_leaves_nothing() {
    netns::inside(async || {
        inside(async |bed: &Bed| {
            let before = everything().await;
            let shelf = Shelf::new(bed, BTreeMap::new());
            for wait in [200, 1300, 2500] {
                let work = Work::detached(Uuid::now_v7());
                let source = received(&shelf, work.image).await;
                let (built, ()) = tokio::join!(shelf.images.build(&source, &work), async {
                    tokio::time::sleep(Duration::from_millis(wait)).await;
                    work.cancel.cancel();
                });
                assert!(matches!(built, Err(ImageError::Cancelled)), "{built:?}");
                assert_eq!(everything().await, before, "after {wait} ms");
            }
        })
        .await;
    });
}
