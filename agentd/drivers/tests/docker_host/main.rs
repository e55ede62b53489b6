//! The driver of containers with a dockerd of its own, each test on a host of its own: what the kernel, the container and
//! the packet show of it.

#[path = "../netns/mod.rs"]
#[expect(unused_imports, dead_code, reason = "this test needs less of it than others")]
mod netns;

mod bed;
mod cut;
mod images;
mod limits;
mod long;
mod outage;
mod podman;
mod podman_builds;
mod podman_images;
mod podman_pulls;
mod registry;
mod safe;
mod volumes;
mod wired;

use agentd_drivers::container::contract;
use bed::{Bed, inside};

#[test]
#[ignore = "needs the test host: run by tests/run"]
fn docker_the_engine_holds_the_contract() {
    netns::inside(async || inside(async |bed: &Bed| contract::hold(bed).await).await);
}
