//! What is there, what others do to it, and what is none of ours.

use std::time::Duration;

use uuid::Uuid;

use super::{Bed, Does, EVENT_LIMIT, gone, run, see, told, until};
use crate::container::{Change, ContainerError, ContainerState, Limits};

pub(super) async fn nothing_is_there_at_first(bed: &dyn Bed) {
    let (driver, id) = (bed.driver(), Uuid::now_v7());
    assert!(!driver.probe().await.expect("it answers").version.is_empty());
    assert_eq!(driver.observe(id).await.expect("observed"), None);
    assert!(driver.list().await.expect("listed").iter().all(|listed| listed.id != id));
    for answer in [
        driver.start(id).await,
        driver.ask_to_stop(id).await,
        driver.stop(id, Duration::ZERO).await,
        driver.kill(id).await,
        driver.pause(id).await,
        driver.unpause(id).await,
        driver.update(id, &Limits::default()).await,
    ] {
        assert!(matches!(answer, Err(ContainerError::Missing(missing)) if missing == id), "{answer:?}");
    }
    assert_eq!(driver.remove(id).await.expect("removed"), Change::AlreadySo);
}

pub(super) async fn what_others_do_is_told(bed: &dyn Bed) {
    let driver = bed.driver();
    let def = run(bed, "meddled", Does::Stays).await;
    let mut events = driver.events();
    bed.stop_behind(&see(driver, def.id).await).await;
    told(&mut events, def.id).await;
    until(driver, def.id, EVENT_LIMIT, |seen| seen.state == ContainerState::Exited).await;
    assert_eq!(driver.start(def.id).await.expect("started again"), Change::Made);

    let mut events = driver.events();
    bed.remove_behind(&see(driver, def.id).await).await;
    told(&mut events, def.id).await;
    assert_eq!(driver.observe(def.id).await.expect("observed"), None);
    assert!(driver.list().await.expect("listed").iter().all(|listed| listed.id != def.id));
    driver.ensure_created(&def).await.expect("made again");
    gone(driver, def.id).await;
}

pub(super) async fn strangers_are_seen_and_one_is_adopted(bed: &dyn Bed) {
    let driver = bed.driver();
    let ours = run(bed, "not-a-stranger", Does::Stays).await;
    let stranger = bed.foreign("stranger").await;
    let engine_id = &stranger.seen.engine_id;
    let foreign = driver.foreign().await.expect("listed");
    let seen = foreign.iter().find(|seen| seen.engine_id == *engine_id).expect("it is listed");
    assert_eq!((seen.name.as_str(), seen.state), ("stranger", ContainerState::Running));
    assert_eq!((&seen.daemon, seen.privileged), (&None, Some(false)));
    let our_id = see(driver, ours.id).await.engine_id;
    assert!(foreign.iter().all(|seen| seen.engine_id != our_id), "{foreign:?}");
    assert!(driver.list().await.expect("listed").iter().all(|listed| listed.engine_id != *engine_id));
    for name in ["stranger", engine_id] {
        let found = driver.foreign_def(name).await.expect("looked up").expect("it is there");
        assert_eq!((&found.seen.engine_id, &found.command), (engine_id, &stranger.command));
    }
    assert_eq!(driver.foreign_def("nobody").await.expect("looked up"), None);
    assert_eq!(driver.foreign_def(&our_id).await.expect("looked up"), None, "it is ours");

    let id = Uuid::now_v7();
    driver.attend(id, engine_id);
    let adopted = see(driver, id).await;
    assert_eq!(
        (&adopted.engine_id, adopted.state, &adopted.digest),
        (engine_id, ContainerState::Running, &None)
    );
    assert!(driver.list().await.expect("listed").iter().any(|listed| listed.id == id));
    assert!(driver.foreign().await.expect("listed").iter().all(|seen| seen.engine_id != *engine_id));
    let mut events = driver.events();
    bed.stop_behind(&adopted).await;
    told(&mut events, id).await;
    until(driver, id, EVENT_LIMIT, |seen| seen.state == ContainerState::Exited).await;
    assert_eq!(driver.start(id).await.expect("started"), Change::Made);
    driver.leave(id);
    assert_eq!(driver.observe(id).await.expect("observed"), None);
    assert!(driver.foreign().await.expect("listed").iter().any(|seen| seen.engine_id == *engine_id));
    driver.attend(id, engine_id);
    gone(driver, id).await;
    driver.leave(id);
    gone(driver, ours.id).await;
}

pub(super) async fn of_a_stranger_it_is_told_whether_it_is_privileged(bed: &dyn Bed) {
    let driver = bed.driver();
    let engine_id = bed.foreign_privileged("root").await;
    for again in [false, true] {
        let foreign = driver.foreign().await.expect("listed");
        let seen = foreign.iter().find(|seen| seen.engine_id == engine_id).expect("it is listed");
        assert_eq!(seen.privileged, Some(true), "asked again: {again}");
    }
    let found = driver.foreign_def(&engine_id).await.expect("looked up").expect("it is there");
    assert_eq!((found.security.privileged, found.seen.privileged), (true, Some(true)));

    let id = Uuid::now_v7();
    driver.attend(id, &engine_id);
    gone(driver, id).await;
    driver.leave(id);
    assert!(driver.foreign().await.expect("listed").iter().all(|seen| seen.engine_id != engine_id));
}
