//! What every driver of containers must do, as one suite: run against the fake beside the unit tests, and against real
//! engines in `tests/docker_host`.
//!
//! A driver is put on a [`Bed`], which knows what programs its images have and how to do things behind its back. A breach
//! panics and names what was seen.

mod life;
mod look;
mod networks;
mod streams;
mod volumes;

use std::path::PathBuf;
use std::pin::Pin;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::broadcast;
use uuid::Uuid;

use super::{
    Change, ContainerDef, ContainerDriver, ContainerEvent, ContainerSeen, Created, EngineNetwork, ForeignDef,
};

/// How soon a change that somebody else made must be told.
const EVENT_LIMIT: Duration = Duration::from_secs(2);
/// For a program to begin, to end or to say something, on a busy host.
const PROGRAM_LIMIT: Duration = Duration::from_secs(20);

/// What a container's program does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Does {
    /// Goes on until it is asked to stop, which it obeys.
    Stays,
    /// Goes on until it is killed.
    StaysDeaf,
    Exits(u8),
    /// Says `to out` and a newline to its output, `to err` and a newline to its errors, and then stays.
    Says,
}

#[async_trait]
pub trait Bed: Send + Sync {
    fn driver(&self) -> &dyn ContainerDriver;
    /// A new definition of that name, without networks, of an image that is there.
    fn def(&self, name: &str, does: Does) -> ContainerDef;
    /// Called once it runs: now it does what it does.
    async fn begun(&self, def: &ContainerDef, does: Does);
    /// What to run in a container, to exit with that.
    fn exits(&self, code: u8) -> Vec<String>;
    /// What to run in a container, to say that to its errors.
    fn says_to_err(&self, text: &str) -> Vec<String>;
    /// A network whose bridge is there. Another for each number.
    async fn network(&self, number: u8) -> EngineNetwork;
    /// A block device of the host's with an ext4 on it.
    async fn device(&self) -> PathBuf;
    /// Whether the engine can change the limits of a container that is there. Refused as Unsupported where not.
    fn changes_limits(&self) -> bool {
        true
    }
    async fn remove_behind(&self, seen: &ContainerSeen);
    async fn stop_behind(&self, seen: &ContainerSeen);
    async fn disconnect_behind(&self, seen: &ContainerSeen, network: Uuid);
    /// Deletes the link that it has there, without a word to the engine.
    async fn unlink_behind(&self, seen: &ContainerSeen, network: Uuid);
    /// A running container that somebody else made: what it was made by, and the engine's id of it in that.
    async fn foreign(&self, name: &str) -> ForeignDef;
    /// The engine's id of a container that somebody else made, which is privileged and never ran: not each host of tests can
    /// run one.
    async fn foreign_privileged(&self, name: &str) -> String;
}

/// The whole suite, with what each part took on stdout.
pub async fn hold(bed: &dyn Bed) {
    type Part<'a> = (&'static str, Pin<Box<dyn Future<Output = ()> + Send + 'a>>);
    let parts: Vec<Part<'_>> = vec![
        ("nothing is there at first", Box::pin(look::nothing_is_there_at_first(bed))),
        ("a container is made once", Box::pin(life::one_is_made_once_and_left_where_it_differs(bed))),
        ("no image", Box::pin(life::without_its_image_none_is_made(bed))),
        ("it runs", Box::pin(life::one_runs_pauses_and_stops(bed))),
        ("it is deaf", Box::pin(life::one_that_does_not_obey_is_killed(bed))),
        ("it exits", Box::pin(life::an_exit_is_seen_with_its_status(bed))),
        ("a name", Box::pin(life::a_name_is_given_and_given_again(bed))),
        ("limits", Box::pin(life::limits_are_changed_while_it_runs(bed))),
        ("behind our back", Box::pin(look::what_others_do_is_told(bed))),
        ("strangers", Box::pin(look::strangers_are_seen_and_one_is_adopted(bed))),
        ("a privileged stranger", Box::pin(look::of_a_stranger_it_is_told_whether_it_is_privileged(bed))),
        ("networks", Box::pin(networks::endpoints_come_and_go(bed))),
        ("volumes", Box::pin(volumes::volumes_are_had_by_several_and_outlive_them(bed))),
        ("programs", Box::pin(streams::programs_run_in_it(bed))),
        ("what it says", Box::pin(streams::what_it_says_is_kept_and_told(bed))),
        ("files", Box::pin(streams::files_go_in_and_come_out(bed))),
        ("figures", Box::pin(streams::figures_processes_and_changes(bed))),
    ];
    for (name, part) in parts {
        let began = Instant::now();
        part.await;
        println!("{name}: held, in {:.1} s", began.elapsed().as_secs_f64());
    }
}

/// Makes and starts a container that does that.
async fn run(bed: &dyn Bed, name: &str, does: Does) -> ContainerDef {
    let (driver, def) = (bed.driver(), bed.def(name, does));
    assert_eq!(driver.ensure_created(&def).await.expect("made"), Created::Made);
    assert_eq!(driver.start(def.id).await.expect("started"), Change::Made);
    bed.begun(&def, does).await;
    def
}

async fn see(driver: &dyn ContainerDriver, id: Uuid) -> ContainerSeen {
    driver.observe(id).await.expect("observed").expect("the container is there")
}

async fn gone(driver: &dyn ContainerDriver, id: Uuid) {
    assert_eq!(driver.remove(id).await.expect("removed"), Change::Made);
    assert_eq!(driver.remove(id).await.expect("removed again"), Change::AlreadySo);
    assert_eq!(driver.observe(id).await.expect("observed"), None);
}

/// Looks until the container is `as_wanted`, or panics with what was seen last.
pub async fn until(
    driver: &dyn ContainerDriver,
    id: Uuid,
    limit: Duration,
    as_wanted: impl Fn(&ContainerSeen) -> bool,
) -> ContainerSeen {
    let began = Instant::now();
    loop {
        match driver.observe(id).await.expect("observed") {
            Some(seen) if as_wanted(&seen) => return seen,
            other => assert!(began.elapsed() < limit, "after {limit:?} it is still {other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits for an event of that container.
pub async fn told(events: &mut broadcast::Receiver<ContainerEvent>, id: Uuid) {
    let wait = async { while events.recv().await.expect("the driver lives").id != Some(id) {} };
    let waited = tokio::time::timeout(EVENT_LIMIT, wait).await;
    assert!(waited.is_ok(), "no event of {id} within {EVENT_LIMIT:?}");
}
