//! An engine that goes away and comes back, and the figures of the driver beside the engine's own.

use std::time::{Duration, Instant};

use agentd_api::ErrorCode;
use agentd_drivers::container::{
    Change, ContainerDriver, ContainerEvent, ContainerLife, ContainerLook, ContainerState, Created,
};
use agentd_drivers::fault::Classed;
use bollard::exec::{CreateExecOptions, StartExecOptions, StartExecResults};
use bollard::models::{ContainerCreateBody, HostConfig};
use futures_util::StreamExt;

use crate::bed::{Bed, def, inside, staying};
use crate::netns;

#[test]
#[ignore = "needs the test host: run by tests/run"]
fn docker_an_engine_that_goes_away_is_told_and_found_again() {
    netns::inside(async || {
        inside(async |bed: &Bed| {
            let web = def("web", staying(""));
            bed.up(&web).await;
            let mut events = bed.driver.events();
            bed.kill_dockerd();
            let gone = async { while events.recv().await.expect("told") != (ContainerEvent { id: None }) {} };
            tokio::time::timeout(Duration::from_secs(2), gone).await.expect("told in time");
            for error in [
                bed.driver.list().await.expect_err("away"),
                bed.driver.observe(web.id).await.expect_err("away"),
                bed.driver.probe().await.expect_err("away"),
                bed.driver.start(web.id).await.expect_err("away"),
            ] {
                assert_eq!(error.code(), ErrorCode::BackendUnavailable, "{error}");
            }
            bed.start_dockerd().await;
            let back = async { while events.recv().await.expect("told") != (ContainerEvent { id: None }) {} };
            tokio::time::timeout(Duration::from_secs(2), back).await.expect("told in time");
            let seen = bed.driver.observe(web.id).await.expect("observed").expect("it is there");
            println!("after dockerd was killed it is {:?}", seen.state);
            if seen.state != ContainerState::Running {
                assert_eq!(bed.driver.start(web.id).await.expect("started"), Change::Made);
            }
            assert_eq!(bed.driver.ensure_created(&web).await.expect("there"), Created::AlreadySo);
        })
        .await;
    });
}

fn middle(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// Made, started and removed by the engine's own API.
async fn launch_bare(bed: &Bed, name: &str) -> Duration {
    let began = Instant::now();
    let body = ContainerCreateBody {
        image: Some("box:1".to_owned()),
        cmd: Some(staying("")),
        host_config: Some(HostConfig { network_mode: Some("none".to_owned()), ..HostConfig::default() }),
        ..ContainerCreateBody::default()
    };
    let options = bollard::query_parameters::CreateContainerOptionsBuilder::default().name(name).build();
    bed.other.create_container(Some(options), body).await.expect("made");
    bed.other.start_container(name, None).await.expect("started");
    let took = began.elapsed();
    let options = bollard::query_parameters::RemoveContainerOptionsBuilder::default().force(true).build();
    bed.other.remove_container(name, Some(options)).await.expect("removed");
    took
}

async fn launch_ours(bed: &Bed, name: &str) -> Duration {
    let def = def(name, staying(""));
    let began = Instant::now();
    bed.driver.ensure_created(&def).await.expect("made");
    bed.driver.start(def.id).await.expect("started");
    let took = began.elapsed();
    bed.driver.remove(def.id).await.expect("removed");
    took
}

async fn exec_bare(bed: &Bed, name: &str) -> Duration {
    let began = Instant::now();
    let wish = CreateExecOptions {
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        cmd: Some(vec!["true"]),
        ..CreateExecOptions::default()
    };
    let made = bed.other.create_exec(name, wish).await.expect("made");
    let started = bed.other.start_exec(&made.id, None::<StartExecOptions>).await.expect("started");
    let StartExecResults::Attached { mut output, .. } = started else { panic!("it is attached") };
    while output.next().await.is_some() {}
    assert_eq!(bed.other.inspect_exec(&made.id).await.expect("looked at").exit_code, Some(0));
    began.elapsed()
}

#[test]
#[ignore = "needs the test host: run by tests/run"]
fn docker_a_launch_and_an_exec_cost_what_the_engine_costs() {
    netns::inside(async || {
        inside(async |bed: &Bed| {
            let (mut bare, mut ours) = (Vec::new(), Vec::new());
            for n in 0..15 {
                bare.push(launch_bare(bed, &format!("bare-{n}")).await);
                ours.push(launch_ours(bed, &format!("ours-{n}")).await);
            }
            let (bare, ours) = (middle(bare), middle(ours));
            println!("launch: {bare:?} bare, {ours:?} ours: {:.3}", ours.as_secs_f64() / bare.as_secs_f64());
            assert!(ours.as_secs_f64() < bare.as_secs_f64() * 1.25, "{ours:?} beside {bare:?}");

            let web = def("web", staying(""));
            bed.up(&web).await;
            let name = bed.driver.observe(web.id).await.expect("observed").expect("there").engine_id;
            let (mut bare, mut ours) = (Vec::new(), Vec::new());
            for _ in 0..15 {
                bare.push(exec_bare(bed, &name).await);
                let began = Instant::now();
                assert_eq!(bed.exec(web.id, "true").await.1, 0);
                ours.push(began.elapsed());
            }
            let (bare, ours) = (middle(bare), middle(ours));
            println!("exec: {bare:?} bare, {ours:?} ours: {:.3}", ours.as_secs_f64() / bare.as_secs_f64());
            assert!(ours.as_secs_f64() < bare.as_secs_f64() * 1.3, "{ours:?} beside {bare:?}");
        })
        .await;
    });
}
