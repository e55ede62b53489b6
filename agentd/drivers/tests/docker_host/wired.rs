//! A container beside a VM on one of our bridges, and Docker's own rules around them.

use std::sync::Arc;
use std::time::Duration;

use agentd_drivers::container::{
    Change, ContainerDef, ContainerLife, ContainerLook, ContainerNetworks, Endpoint, EngineNetwork, Wired,
    contract::told,
};
use agentd_drivers::network::host::{HostNetwork, NetworkOptions};
use agentd_drivers::network::{FirewallSetup, NetworkDriver, NetworkSetup, contract};
use tokio::time::timeout;

use crate::bed::{Bed, def, inside, instance, staying};
use crate::netns::{self, Peer, ask, ok, serve};

/// A network of ours with host 2 as a VM (a namespace, as far as packets are concerned) and host 3 as a container.
pub struct Scene {
    pub networks: Arc<HostNetwork>,
    pub setup: NetworkSetup,
    firewall: FirewallSetup,
    outside: Peer,
    vm: Peer,
    pub container: ContainerDef,
}

impl Scene {
    pub async fn new(bed: &Bed) -> Self {
        let outside = Peer::outside().await;
        serve(Some(&outside), "0.0.0.0:80", "outside");
        let networks = HostNetwork::new(instance(), NetworkOptions::default());
        let mut setup = contract::network(1);
        setup.hosts.push(contract::host(1, 3));
        networks.ensure(&setup).await.expect("made");
        let mut firewall = contract::firewall(&[&setup]);
        firewall.forwards = vec![
            contract::forward(&setup, &setup.hosts[0], (8080, 80)),
            contract::forward(&setup, &setup.hosts[1], (8081, 80)),
        ];
        networks.ensure_firewall(&firewall).await.expect("a firewall");
        let vm = Peer::guest("vm", &networks.bridge(setup.id), &setup.hosts[0].mac.to_string()).await;
        assert_eq!(vm.dhcp().await, Some(setup.hosts[0].ip.to_string()));
        serve(Some(&vm), "0.0.0.0:80", "vm");

        let gateway = "10.231.1.1".parse().expect("an address");
        let network =
            EngineNetwork { id: setup.id, bridge: networks.bridge(setup.id), cidr: setup.cidr, gateway };
        assert_eq!(bed.driver.ensure_network(&network).await.expect("made"), Change::Made);
        let host = &setup.hosts[1];
        let mut container = def(host.name.as_str(), staying(""));
        container.endpoints = vec![Endpoint { network: setup.id, ip: host.ip, mac: host.mac }];
        (container.dns, container.dns_search) = (vec![gateway], vec![setup.domain.clone()]);
        bed.up(&container).await;
        let scene = Self { networks, setup, firewall, outside, vm, container };
        scene.serve(bed).await;
        scene
    }

    /// The container serves too, in this run of it.
    pub async fn serve(&self, bed: &Bed) {
        self.find(bed).await;
        serve(Some(&self.peer()), "0.0.0.0:80", "box");
    }

    /// Its namespace, in this run of it.
    pub async fn find(&self, bed: &Bed) {
        let seen = bed.driver.observe(self.container.id).await.expect("observed").expect("it is there");
        ok(&format!("ln -sfn /proc/{}/ns/net /run/netns/box", seen.pid.expect("it runs"))).await;
    }

    fn peer(&self) -> Peer {
        Peer { name: "box".to_owned() }
    }

    /// Each sees each, by address and by name, and the world, and is seen by it where a port is published.
    pub async fn all_is_well(&self, bed: &Bed, when: &str) {
        self.vm_is_well(when);
        let (vm, container) = (&self.vm, self.peer());
        assert_eq!(ask(Some(vm), "10.231.1.3:80").as_deref(), Some("box 10.231.1.2"), "{when}: from the VM");
        assert_eq!(
            ask(Some(&container), "10.231.1.2:80").as_deref(),
            Some("vm 10.231.1.3"),
            "{when}: to the VM"
        );
        assert_eq!(
            ask(Some(&container), "198.51.100.2:80").as_deref(),
            Some("outside 198.51.100.1"),
            "{when}: its way out"
        );
        assert_eq!(
            ask(Some(&self.outside), "198.51.100.1:8081").as_deref(),
            Some("box 198.51.100.2"),
            "{when}: its published port"
        );
        assert_eq!(
            netns::resolve(Some(vm), "10.231.1.1", "host-3"),
            Ok(self.setup.hosts[1].ip),
            "{when}: its name"
        );
        let found = bed.says(self.container.id, "nslookup host-2.net-1.test").await;
        assert!(found.contains("10.231.1.2"), "{when}: {found}");
    }

    pub fn vm_is_well(&self, when: &str) {
        assert_eq!(
            ask(Some(&self.vm), "198.51.100.2:80").as_deref(),
            Some("outside 198.51.100.1"),
            "{when}: the VM's way out"
        );
        assert_eq!(
            ask(Some(&self.outside), "198.51.100.1:8080").as_deref(),
            Some("vm 198.51.100.2"),
            "{when}: the VM's published port"
        );
    }

    pub async fn mend(&self) {
        self.networks.ensure(&self.setup).await.expect("mended");
        self.networks.ensure_firewall(&self.firewall).await.expect("mended");
    }
}

#[test]
#[ignore = "needs the test host: run by tests/run"]
fn docker_a_container_and_a_vm_share_a_network_and_docker_may_start_again() {
    netns::inside(async || {
        inside(async |bed: &Bed| {
            let scene = Scene::new(bed).await;
            let id = scene.container.id;
            println!(
                "bridged packets are filtered: {}",
                ok("cat /proc/sys/net/bridge/bridge-nf-call-iptables").await
            );
            let host = &scene.setup.hosts[1];
            let link =
                bed.says(id, "ip -o addr show dev eth0; cat /sys/class/net/eth0/address; ip route").await;
            for part in [format!("{}/24", host.ip), host.mac.to_string(), "default via 10.231.1.1".to_owned()]
            {
                assert!(link.contains(&part), "no {part}: {link}");
            }
            assert_eq!(bed.says(id, "ls /sys/class/net | grep -c eth").await, "1", "no other network");
            // What dockerd has changed since is mended as it is told.
            scene.mend().await;
            scene.all_is_well(bed, "at first").await;

            let mut events = scene.networks.events();
            bed.stop_dockerd();
            scene.vm_is_well("without dockerd");
            bed.start_dockerd().await;
            timeout(Duration::from_secs(2), events.recv()).await.expect("told in time").expect("told");
            scene.mend().await;
            scene.vm_is_well("with dockerd again");
            let started = bed.driver.start(id).await.expect("started");
            println!("dockerd was stopped and started: the container's start is {started:?}");
            bed.ready(id).await;
            scene.serve(bed).await;
            scene.all_is_well(bed, "with dockerd again").await;

            // The container goes, and the bridge stays as it was.
            bed.driver.remove(id).await.expect("removed");
            let bridge = scene.networks.bridge(scene.setup.id);
            let before = ok(&format!("ip -d -o addr show dev {bridge}")).await;
            assert_eq!(bed.driver.remove_network(scene.setup.id).await.expect("removed"), Change::Made);
            let same = |text: &str| text.lines().next().map(ToOwned::to_owned);
            assert_eq!(same(&ok(&format!("ip -d -o addr show dev {bridge}")).await), same(&before));
            scene.mend().await;
            scene.vm_is_well("after the container");
        })
        .await;
    });
}

#[test]
#[ignore = "needs the test host: run by tests/run"]
fn docker_an_endpoint_that_was_unplugged_is_plugged_again_and_no_other_comes_by_itself() {
    netns::inside(async || {
        inside(async |bed: &Bed| {
            let scene = Scene::new(bed).await;
            let (id, network) = (scene.container.id, scene.setup.id);
            let endpoint = scene.container.endpoints[0].clone();
            bed.driver.disconnect(id, &Wired::Ours(network)).await.expect("unplugged");
            assert_eq!(ask(Some(&scene.vm), "10.231.1.3:80"), None);
            // One that is on no network joins none when it starts.
            bed.driver.kill(id).await.expect("killed");
            bed.driver.start(id).await.expect("started");
            bed.ready(id).await;
            assert_eq!(bed.says(id, "ls /sys/class/net").await, "lo");
            let seen = bed.driver.observe(id).await.expect("observed").expect("there");
            assert_eq!(seen.endpoints, []);
            assert_eq!(bed.driver.connect(id, &endpoint).await.expect("plugged"), Change::Made);
            let macs = bed.says(id, "cat /sys/class/net/eth*/address").await;
            assert_eq!(macs, endpoint.mac.to_string());
            scene.serve(bed).await;
            scene.mend().await;
            // The VM has been told by its own kernel that nobody is there, and asks again in its own time.
            netns::wait_until("it is found again", Duration::from_secs(10), async || {
                ask(Some(&scene.vm), "10.231.1.3:80").map(drop).ok_or("no answer".to_owned())
            })
            .await;
            scene.all_is_well(bed, "plugged again").await;
        })
        .await;
    });
}

#[test]
#[ignore = "needs the test host: run by tests/run"]
fn docker_a_container_has_its_place_again_after_what_was_taken_from_it() {
    netns::inside(async || {
        inside(async |bed: &Bed| {
            let scene = Scene::new(bed).await;
            let (id, network) = (scene.container.id, scene.setup.id);
            let endpoint = scene.container.endpoints[0].clone();
            let linked = async || {
                let seen = bed.driver.observe(id).await.expect("observed").expect("it is there");
                seen.endpoint(network).is_some_and(|endpoint| endpoint.linked)
            };
            let link = "$(ip -o link | grep agentd-plug | cut -d' ' -f2 | cut -d@ -f1)";
            let inner = "$(ip -n box -o link | grep -o 'eth[0-9][0-9]*' | head -n 1)";
            for harm in [
                format!("ip link del {link}"),
                format!("ip link set {link} nomaster"),
                format!("ip -n box link del {inner}"),
            ] {
                assert!(linked().await, "before: {harm}");
                let mut events = bed.driver.events();
                ok(&harm).await;
                told(&mut events, id).await;
                assert!(!linked().await, "{harm}");
                assert_eq!(bed.driver.connect(id, &endpoint).await.expect("plugged"), Change::Made);
                assert!(linked().await, "mended: {harm}");
                let there = bed.says(id, "ip -o addr; cat /sys/class/net/eth*/address; ip route").await;
                for part in
                    [format!("{}/24", endpoint.ip), endpoint.mac.to_string(), "default via".to_owned()]
                {
                    assert!(there.contains(&part), "{harm}: no {part}: {there}");
                }
                scene.mend().await;
                netns::wait_until("it is found again", Duration::from_secs(10), async || {
                    ask(Some(&scene.vm), "10.231.1.3:80").map(drop).ok_or("no answer".to_owned())
                })
                .await;
                scene.all_is_well(bed, &harm).await;
            }
            // Whoever starts it again: its new link is known, and told of.
            let seen = bed.driver.observe(id).await.expect("observed").expect("it is there");
            bed.other.restart_container(&seen.engine_id, None).await.expect("restarted");
            bed.ready(id).await;
            assert!(linked().await, "restarted by somebody else");
            bed.driver.connect(id, &endpoint).await.expect("plugged");
            let macs = bed.says(id, "cat /sys/class/net/eth*/address").await;
            assert_eq!(macs, endpoint.mac.to_string(), "whatever the engine made of it");
            let seen = bed.driver.observe(id).await.expect("observed").expect("it is there");
            assert_eq!(seen.endpoint(network).and_then(|there| there.mac), Some(endpoint.mac));
            assert_eq!(bed.driver.connect(id, &endpoint).await.expect("plugged"), Change::AlreadySo);
            let mut events = bed.driver.events();
            ok(&format!("ip link del {link}")).await;
            told(&mut events, id).await;
            assert!(!linked().await, "of its second run");
        })
        .await;
    });
}
