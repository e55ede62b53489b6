//! Images for containers in a real engine: archives as docker itself writes them, and builds by a Dockerfile.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use agentd_api::image::BuildSource;
use agentd_drivers::engine::{Engine, EngineOptions};
use agentd_drivers::image::ImageError;
use agentd_drivers::image::container::contract::{self, Bench, tar};
use agentd_drivers::image::container::credentials::Registries;
use agentd_drivers::image::container::docker::DockerImages;
use agentd_drivers::image::container::{ContainerImageDriver, SaveAs};
use agentd_drivers::image::host::{HostImage, ImageOptions};

use crate::bed::{Bed, inside};
use crate::netns::{self, ok};

/// The driver of images on the bed's engine.
pub struct Shelf {
    pub host: Arc<HostImage>,
    pub images: Arc<DockerImages>,
}

impl Shelf {
    /// `files` are the credentials for registries.
    pub fn new(bed: &Bed, files: BTreeMap<String, PathBuf>) -> Self {
        let instance = bed.state();
        let host = HostImage::new(instance.clone(), ImageOptions::default());
        let engine = Engine::new(EngineOptions { socket: Some(bed.socket()) });
        let images = DockerImages::new(engine, instance, host.clone(), Registries::new(files));
        Self { host, images }
    }

    pub fn bench(&self) -> Bench<'_> {
        Bench { images: &*self.images, host: &*self.host }
    }
}

/// All that the engine has, with what has no name, and all containers: what must be the same before and after.
pub async fn everything() -> String {
    ok("docker images -a --digests --no-trunc --format '{{.ID}} {{.Repository}}:{{.Tag}} {{.Digest}}' | sort; docker ps -aq").await
}

pub fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).expect("an archive")
}

#[test]
#[ignore = "needs the test host: run by tests/run"]
fn docker_images_hold_the_contract_and_leave_nothing() {
    netns::inside(async || {
        inside(async |bed: &Bed| {
            let before = everything().await;
            contract::all(Shelf::new(bed, BTreeMap::new()).bench()).await;
            assert_eq!(everything().await, before);
        })
        .await;
    });
}

#[test]
#[ignore = "needs the test host: run by tests/run"]
fn docker_what_docker_saved_is_loaded_saved_and_loaded_again_under_no_name_of_its_own() {
    netns::inside(async || {
        inside(async |bed: &Bed| {
            let shelf = Shelf::new(bed, BTreeMap::new());
            let at = |name: &str| bed.scratch.path().join(name);
            let id = ok("docker image inspect -f '{{.Id}}' box:1").await.trim().to_owned();
            ok(&format!("docker save -o {0} box:1 && gzip -k {0}", at("box.tar").display())).await;
            // The name is somebody else's now, and stays so.
            ok(&format!("docker rmi box:1 && docker import {} box:1", at("img.tar").display())).await;
            let other = ok("docker image inspect -f '{{.Id}}' box:1").await.trim().to_owned();
            assert_ne!(other, id);
            let before = everything().await;

            let (first, made) = shelf.bench().load(&read(&at("box.tar.gz"))).await;
            let made = made.expect("loaded");
            assert_eq!((made.id.as_str(), made.source_format.as_str()), (id.as_str(), "docker archive"));
            assert!(made.size.0 > 100_000, "{made:?}");
            assert_eq!(ok("docker image inspect -f '{{.Id}}' box:1").await.trim(), other);
            assert_eq!(
                ok(&format!("docker run --rm --network none {id} echo it runs")).await.trim(),
                "it runs"
            );

            let saved = shelf.bench().save(&made.id, SaveAs::Docker).await;
            shelf.images.remove(first).await.expect("removed");
            assert_eq!(everything().await, before);
            let (second, made) = shelf.bench().load(&saved).await;
            assert_eq!(made.expect("loaded").id, id);
            // docker prune takes nothing that has our mark.
            ok("docker image prune -f").await;
            assert!(shelf.images.observe(second, &id).await.expect("observed").is_some());

            ok(&format!("docker create --name user --network none {id} true")).await;
            let error = shelf.images.remove(second).await.expect_err("used");
            assert!(matches!(&error, ImageError::InUse(who) if who.contains("user")), "{error:?}");
            ok("docker rm user").await;
            shelf.images.remove(second).await.expect("removed");
            assert_eq!(everything().await, before);

            // A tree of files is an image too.
            let (root, made) = shelf.bench().load(&read(&at("img.tar"))).await;
            assert_eq!(made.expect("taken").source_format, "root tree");
            shelf.images.remove(root).await.expect("removed");
            assert_eq!(everything().await, before);
        })
        .await;
    });
}

pub fn plain() -> BuildSource {
    BuildSource { size: 0, sha256: None, dockerfile: None, args: BTreeMap::new(), target: None }
}

#[test]
#[ignore = "needs the test host: run by tests/run"]
fn docker_a_build_runs_its_steps_and_one_that_fails_says_why_and_leaves_nothing() {
    netns::inside(async || {
        inside(async |bed: &Bed| {
            let shelf = Shelf::new(bed, BTreeMap::new());
            let before = everything().await;
            let good = tar(&[
                (
                    "Dockerfile",
                    b"FROM box:1 AS first\nARG WHO\nCOPY word /word\nRUN echo $WHO >> /word\nFROM first\nRUN echo last >> /word\n",
                ),
                ("word", b"hello\n"),
            ]);
            let args = [("WHO".to_owned(), "me".to_owned())].into();
            let (image, made) = shelf.bench().build(&good, BuildSource { args, ..plain() }).await;
            let id = made.expect("built").id;
            let heard = ok(&format!("docker run --rm --network none {id} cat /word")).await;
            assert_eq!(heard.lines().collect::<Vec<_>>(), ["hello", "me", "last"]);
            let args = [("WHO".to_owned(), "me".to_owned())].into();
            let target = Some("first".to_owned());
            let (stage, made) = shelf.bench().build(&good, BuildSource { args, target, ..plain() }).await;
            let heard = ok(&format!("docker run --rm --network none {} cat /word", made.expect("built").id)).await;
            assert_eq!(heard.lines().collect::<Vec<_>>(), ["hello", "me"]);
            for made in [stage, image] {
                shelf.images.remove(made).await.expect("removed");
            }
            assert_eq!(everything().await, before);

            let copied = tar(&[(
                "Dockerfile",
                b"FROM box:1 AS tools\nRUN echo one > /one\nFROM box:1\nCOPY --from=tools /one /two\n",
            )]);
            let (image, made) = shelf.bench().build(&copied, plain()).await;
            let id = made.expect("built").id;
            assert_eq!(ok(&format!("docker run --rm --network none {id} cat /two")).await.trim(), "one");
            shelf.images.remove(image).await.expect("removed");
            assert_eq!(everything().await, before);

            let bad = tar(&[(
                "Dockerfile",
                b"FROM box:1\nRUN echo one > /one\nRUN echo the reason; exit 7\n",
            )]);
            let (_, made) = shelf.bench().build(&bad, plain()).await;
            let error = made.expect_err("a step fails");
            let says = |why: &str| why.contains("the reason") && why.contains('7');
            assert!(matches!(&error, ImageError::Refused(why) if says(why)), "{error:?}");
            assert_eq!(everything().await, before);
        })
        .await;
    });
}
