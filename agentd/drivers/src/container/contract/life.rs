//! From nothing to running and back.

use std::time::{Duration, Instant};

use agentd_api::{ByteSize, ObjectName};

use super::{Bed, Does, PROGRAM_LIMIT, gone, run, see, until};
use crate::container::{Change, ContainerError, ContainerState, Created, ExitSeen, Limits, LogKeep};
use crate::fault::{Class, Classed};

pub(super) async fn one_is_made_once_and_left_where_it_differs(bed: &dyn Bed) {
    let (driver, mut def) = (bed.driver(), bed.def("made", Does::Stays));
    def.limits.memory = Some(ByteSize::mib(64));
    assert_eq!(driver.ensure_created(&def).await.expect("made"), Created::Made);
    assert_eq!(driver.ensure_created(&def).await.expect("made"), Created::AlreadySo);
    let seen = see(driver, def.id).await;
    assert_eq!((seen.state, seen.exit.clone(), seen.pid), (ContainerState::Created, None, None));
    assert_eq!(seen.digest, Some(driver.digest(&def)));
    assert_eq!((seen.started_at, seen.finished_at), (None, None));
    assert!(seen.created_at.is_some() && !seen.privileged && seen.endpoints.is_empty(), "{seen:?}");
    assert_eq!(seen.limits, def.limits.settled());
    let listed = driver.list().await.expect("listed");
    let listed = listed.iter().find(|listed| listed.id == def.id).expect("it is listed");
    assert_eq!((&listed.engine_id, listed.state), (&seen.engine_id, ContainerState::Created));
    assert_eq!(listed.digest, seen.digest);

    // Limits are seen by themselves, and make no other container.
    let other = Limits { pids: Some(77), ..Limits::default() };
    let same = crate::container::ContainerDef { limits: other, ..def.clone() };
    assert_eq!(driver.digest(&same), driver.digest(&def));
    assert_eq!(driver.ensure_created(&same).await.expect("there"), Created::AlreadySo);
    let differs = crate::container::ContainerDef {
        log: LogKeep { files: 2, ..def.log },
        env: vec![("COLOR".to_owned(), "red".to_owned())],
        ..def.clone()
    };
    assert_ne!(driver.digest(&differs), driver.digest(&def));
    assert_eq!(driver.ensure_created(&differs).await.expect("there"), Created::Differs);
    assert_eq!(see(driver, def.id).await.engine_id, seen.engine_id, "it was left");
    gone(driver, def.id).await;
    assert_eq!(driver.ensure_created(&differs).await.expect("made"), Created::Made);
    assert_eq!(see(driver, def.id).await.digest, Some(driver.digest(&differs)));
    gone(driver, def.id).await;
}

pub(super) async fn without_its_image_none_is_made(bed: &dyn Bed) {
    let (driver, mut def) = (bed.driver(), bed.def("imageless", Does::Stays));
    let there = driver.image_id(&def.image).await.expect("looked up");
    assert!(there.as_ref().is_some_and(|id| id.starts_with("sha256:")), "{there:?}");
    def.image = format!("sha256:{:064x}", 0xdead_u32);
    assert_eq!(driver.image_id(&def.image).await.expect("looked up"), None);
    let error = driver.ensure_created(&def).await.expect_err("there is no such image");
    assert!(matches!(&error, ContainerError::NoImage(image) if *image == def.image), "{error:?}");
    assert_eq!(driver.observe(def.id).await.expect("observed"), None);
}

pub(super) async fn one_runs_pauses_and_stops(bed: &dyn Bed) {
    let (driver, def) = (bed.driver(), bed.def("runs", Does::Stays));
    let id = def.id;
    driver.ensure_created(&def).await.expect("made");
    for answer in [driver.pause(id).await, driver.unpause(id).await] {
        assert!(matches!(answer, Err(ContainerError::Off(off)) if off == id), "{answer:?}");
    }
    assert!(matches!(driver.signal(id, 10).await, Err(ContainerError::Off(_))));
    for change in [driver.ask_to_stop(id).await, driver.stop(id, Duration::ZERO).await, driver.kill(id).await]
    {
        assert_eq!(change.expect("it is off"), Change::AlreadySo);
    }
    assert_eq!(driver.start(id).await.expect("started"), Change::Made);
    assert_eq!(driver.start(id).await.expect("started"), Change::AlreadySo);
    bed.begun(&def, Does::Stays).await;
    let seen = see(driver, id).await;
    assert_eq!((seen.state, &seen.exit, seen.finished_at), (ContainerState::Running, &None, None));
    assert!(seen.pid.is_some() && seen.started_at >= seen.created_at, "{seen:?}");

    assert_eq!(driver.pause(id).await.expect("paused"), Change::Made);
    assert_eq!(driver.pause(id).await.expect("paused"), Change::AlreadySo);
    assert_eq!(see(driver, id).await.state, ContainerState::Paused);
    assert_eq!(driver.start(id).await.expect("it is on"), Change::AlreadySo);
    assert_eq!(driver.unpause(id).await.expect("goes on"), Change::Made);
    assert_eq!(driver.unpause(id).await.expect("goes on"), Change::AlreadySo);

    assert_eq!(driver.ask_to_stop(id).await.expect("asked"), Change::Made);
    let seen = until(driver, id, PROGRAM_LIMIT, |seen| seen.state == ContainerState::Exited).await;
    assert!(seen.exit.is_some() && seen.pid.is_none() && seen.finished_at >= seen.started_at, "{seen:?}");
    assert_eq!(driver.start(id).await.expect("started again"), Change::Made);
    bed.begun(&def, Does::Stays).await;
    let began = Instant::now();
    assert_eq!(driver.stop(id, PROGRAM_LIMIT).await.expect("stopped"), Change::Made);
    assert!(began.elapsed() < PROGRAM_LIMIT, "it obeyed");
    assert_eq!(see(driver, id).await.state, ContainerState::Exited);

    // Paused, it is stopped all the same, and removed while it runs.
    driver.start(id).await.expect("started");
    driver.pause(id).await.expect("paused");
    assert_eq!(driver.kill(id).await.expect("killed"), Change::Made);
    assert_eq!(see(driver, id).await.state, ContainerState::Exited);
    driver.start(id).await.expect("started");
    gone(driver, id).await;
}

pub(super) async fn one_that_does_not_obey_is_killed(bed: &dyn Bed) {
    let driver = bed.driver();
    let def = run(bed, "deaf", Does::StaysDeaf).await;
    assert_eq!(driver.stop(def.id, Duration::from_secs(1)).await.expect("stopped"), Change::Made);
    let seen = see(driver, def.id).await;
    assert_eq!(seen.state, ContainerState::Exited);
    assert_eq!(seen.exit, Some(ExitSeen { code: 137, oom: false, error: None }));
    gone(driver, def.id).await;
}

pub(super) async fn an_exit_is_seen_with_its_status(bed: &dyn Bed) {
    let driver = bed.driver();
    let def = bed.def("exits", Does::Exits(7));
    driver.ensure_created(&def).await.expect("made");
    let mut events = driver.events();
    driver.start(def.id).await.expect("started");
    let exit = ExitSeen { code: 7, oom: false, error: None };
    super::told(&mut events, def.id).await;
    assert_eq!(driver.wait(def.id).await.expect("it ends"), exit);
    assert_eq!(driver.wait(def.id).await.expect("it has ended"), exit);
    assert_eq!(see(driver, def.id).await.exit, Some(exit));
    gone(driver, def.id).await;
    assert!(matches!(driver.wait(def.id).await, Err(ContainerError::Missing(_))));
}

pub(super) async fn a_name_is_given_and_given_again(bed: &dyn Bed) {
    let driver = bed.driver();
    let mut def = run(bed, "before", Does::Stays).await;
    let before = see(driver, def.id).await;
    assert!(before.name.contains("before"), "{}", before.name);
    assert_eq!(driver.rename(&def).await.expect("named"), Change::AlreadySo);
    def.name = ObjectName::parse("after").expect("a name");
    assert_eq!(driver.digest(&def), before.digest.clone().expect("ours"), "a name makes no other");
    assert_eq!(driver.rename(&def).await.expect("renamed"), Change::Made);
    let after = see(driver, def.id).await;
    assert_eq!(after.engine_id, before.engine_id);
    assert!(after.name.contains("after") && after.state == ContainerState::Running, "{after:?}");

    let mut taken = bed.def("after", Does::Stays);
    taken.project.clone_from(&def.project);
    let error = driver.ensure_created(&taken).await.expect_err("the name is taken");
    assert_eq!(error.class(), Class::Conflict, "{error}");
    gone(driver, def.id).await;
}

pub(super) async fn limits_are_changed_while_it_runs(bed: &dyn Bed) {
    let driver = bed.driver();
    let mut def = bed.def("limited", Does::Stays);
    def.limits = Limits { nanocpus: Some(500_000_000), memory: Some(ByteSize::mib(64)), ..Limits::default() };
    driver.ensure_created(&def).await.expect("made");
    driver.start(def.id).await.expect("started");
    assert_eq!(see(driver, def.id).await.limits, def.limits.settled());
    assert_eq!(driver.update(def.id, &def.limits).await.expect("so"), Change::AlreadySo);
    let more = Limits {
        nanocpus: Some(1_500_000_000),
        memory: Some(ByteSize::mib(96)),
        swap: Some(ByteSize(0)),
        pids: Some(50),
        ..Limits::default()
    };
    if !bed.changes_limits() {
        let error = driver.update(def.id, &more).await.expect_err("not by this engine");
        assert_eq!(error.class(), Class::Unsupported, "{error}");
        assert_eq!(see(driver, def.id).await.limits, def.limits.settled());
        return gone(driver, def.id).await;
    }
    assert_eq!(driver.update(def.id, &more).await.expect("more"), Change::Made);
    let seen = see(driver, def.id).await;
    assert_eq!((&seen.limits, seen.state), (&more, ContainerState::Running));
    assert_eq!(driver.update(def.id, &more).await.expect("so"), Change::AlreadySo);
    for bad in [
        Limits { pids: Some(0), ..Limits::default() },
        Limits { swap: Some(ByteSize::mib(1)), ..Limits::default() },
    ] {
        let error = driver.update(def.id, &bad).await.expect_err("no such limits");
        assert_eq!(error.class(), Class::Permanent, "{error}");
    }
    assert_eq!(see(driver, def.id).await.limits, more);
    gone(driver, def.id).await;
}
