//! The driver on Podman's service, which speaks Docker's API: found by itself, since dockerd's socket is not there.

use std::time::Duration;

use agentd_api::ErrorCode;
use agentd_drivers::container::{
    Change, ContainerDriver, ContainerError, ContainerEvent, ContainerLife, ContainerLook, ContainerNetworks,
    ContainerState, Userns, contract,
};
use agentd_drivers::engine::Flavor;
use agentd_drivers::fault::Classed;
use tokio::time::timeout;

use crate::bed::{Bed, Kind, def, staying, with};
use crate::netns::{self, ok};
use crate::safe::users;
use crate::wired::Scene;

#[test]
#[ignore = "needs the test host: run by tests/run"]
fn podman_holds_the_contract() {
    netns::inside(async || with(Kind::Podman, async |bed: &Bed| contract::hold(bed).await).await);
}

#[test]
#[ignore = "needs the test host: run by tests/run"]
fn podmans_containers_share_a_network_with_vms_and_keep_it_without_podman() {
    netns::inside(async || {
        with(Kind::Podman, async |bed: &Bed| {
            assert_eq!(bed.driver.probe().await.expect("it is there").flavor, Flavor::Podman);
            let scene = Scene::new(bed).await;
            let (id, host) = (scene.container.id, &scene.setup.hosts[1]);
            let link = bed.says(id, "ip -o addr; cat /sys/class/net/eth0/address; ip route").await;
            for part in [format!("{}/24", host.ip), host.mac.to_string(), "default via 10.231.1.1".to_owned()]
            {
                assert!(link.contains(&part), "no {part}: {link}");
            }
            assert!(!link.contains("fe80"), "an address that nobody gave it: {link}");
            scene.all_is_well(bed, "at first").await;

            // Its service is no more than its door: what runs goes on.
            let mut events = bed.driver.events();
            bed.kill_dockerd();
            let anything = ContainerEvent { id: None };
            let gone = async { while events.recv().await.expect("told") != anything {} };
            timeout(Duration::from_secs(2), gone).await.expect("told in time");
            let error = bed.driver.observe(id).await.expect_err("away");
            assert_eq!(error.code(), ErrorCode::BackendUnavailable, "{error}");
            scene.vm_is_well("without podman");
            bed.start_dockerd().await;
            scene.all_is_well(bed, "with podman again").await;
            let seen = bed.driver.observe(id).await.expect("observed").expect("it is there");
            assert_eq!(seen.state, ContainerState::Running);

            // Off and on again, also by somebody else, it is where it was: also what the test serves in its namespace.
            bed.driver.kill(id).await.expect("killed");
            assert_eq!(bed.driver.start(id).await.expect("started"), Change::Made);
            bed.ready(id).await;
            scene.find(bed).await;
            scene.all_is_well(bed, "started again").await;
            bed.other.restart_container(&seen.engine_id, None).await.expect("restarted");
            bed.ready(id).await;
            scene.find(bed).await;
            scene.all_is_well(bed, "restarted by somebody else").await;

            bed.driver.remove(id).await.expect("removed");
            assert_eq!(bed.driver.remove_network(scene.setup.id).await.expect("removed"), Change::Made);
            assert_eq!(ok("ip -o link | grep -c agentd-plug; true").await.trim(), "0");
            assert_eq!(
                ok("find /run/agentd/netns -type f; grep netns/ /proc/mounts | grep agentd; true").await,
                ""
            );
            scene.vm_is_well("after the container");
        })
        .await;
    });
}

#[test]
#[ignore = "needs the test host: run by tests/run"]
fn podmans_container_has_its_place_again_after_what_was_taken_from_it() {
    netns::inside(async || {
        with(Kind::Podman, async |bed: &Bed| {
            let scene = Scene::new(bed).await;
            let (id, endpoint) = (scene.container.id, scene.container.endpoints[0].clone());
            let link = ok("ip -o link | grep agentd-plug | cut -d' ' -f2 | cut -d@ -f1").await;
            for harm in
                [format!("ip link set {} nomaster", link.trim()), format!("ip link del {}", link.trim())]
            {
                let mut events = bed.driver.events();
                ok(&harm).await;
                contract::told(&mut events, id).await;
                let seen = bed.driver.observe(id).await.expect("observed").expect("it is there");
                assert_eq!(seen.endpoints, [], "{harm}");
                assert_eq!(bed.driver.connect(id, &endpoint).await.expect("plugged"), Change::Made);
                scene.all_is_well(bed, &harm).await;
            }
            // As after a boot of the host: no links, no namespace.
            bed.driver.kill(id).await.expect("killed");
            ok("ip link del $(ip -o link | grep agentd-plug | cut -d' ' -f2 | cut -d@ -f1)").await;
            ok("for n in $(find /run/agentd/netns -type f); do umount $n && rm $n; done").await;
            let seen = bed.driver.observe(id).await.expect("observed").expect("it is there");
            assert_eq!((seen.state, seen.endpoints), (ContainerState::Exited, Vec::new()));
            assert_eq!(bed.driver.connect(id, &endpoint).await.expect("plugged"), Change::Made);
            bed.driver.start(id).await.expect("started");
            bed.ready(id).await;
            scene.serve(bed).await;
            scene.all_is_well(bed, "after a boot").await;
        })
        .await;
    });
}

#[test]
#[ignore = "needs the test host: run by tests/run"]
fn podmans_container_is_refused_user_ids_of_its_own_by_name() {
    netns::inside(async || {
        with(Kind::Podman, async |bed: &Bed| {
            let mut own = def("own", staying(""));
            own.security.userns = Userns::Own;
            let error = bed.driver.ensure_created(&own).await.expect_err("it is wired by us");
            assert!(matches!(error, ContainerError::Unsupported(_)), "{error:?}");
            assert!(
                error.to_string().contains("spec.userns") && error.to_string().contains("Podman"),
                "{error}"
            );
            assert_eq!(bed.driver.observe(own.id).await.expect("observed"), None);
            assert_eq!(
                ok("find /run/agentd/netns -type f 2>/dev/null; true").await,
                "",
                "nothing is left behind"
            );
            own.security.userns = Userns::Engine;
            bed.up(&own).await;
            assert_eq!(
                users(bed, own.id).await,
                ("0 0 4294967295".to_owned(), 0),
                "it is as the engine does it"
            );
        })
        .await;
    });
}
