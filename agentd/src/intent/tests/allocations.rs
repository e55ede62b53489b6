//! Addresses, MACs and ports: each is had by one VM at a time.

use std::collections::BTreeSet;

use super::*;

fn addresses(vm: &Value) -> Vec<(String, String)> {
    let text = |v: &Value| v.as_str().expect("a string").to_owned();
    let list = vm["status"]["addresses"].as_array().expect("a list");
    list.iter().map(|a| (text(&a["ip"]), text(&a["mac"]))).collect()
}

fn nic(ip: &str) -> Value {
    json!({"networks": [{"network": "default", "ip": ip}]})
}

#[tokio::test]
async fn sixty_four_at_once_get_sixty_four_addresses() {
    let world = Arc::new(World::new().await);
    let tasks: Vec<_> = (0..64)
        .map(|n| {
            let world = world.clone();
            tokio::spawn(async move { world.vm(&format!("vm-{n}"), json!({})).await })
        })
        .collect();
    let (mut ips, mut macs) = (BTreeSet::new(), BTreeSet::new());
    for task in tasks {
        let vm = body(&task.await.expect("joined").expect("created"));
        let (ip, mac) = addresses(&vm).remove(0);
        assert!(mac.starts_with("52:54:00:") && ip.starts_with("10.77.0."));
        assert!(ips.insert(ip) && macs.insert(mac));
    }
    assert_eq!(ips.len(), 64);
}

#[tokio::test]
async fn a_full_network_says_so_and_a_freed_address_is_given_again() {
    let world = World::new().await;
    world.make("network", json!({"name": "tiny", "spec": {"cidr": "10.9.0.0/29"}})).await;
    let on_tiny = json!({"networks": [{"network": "tiny"}]});
    for n in 0..5 {
        world.vm(&format!("vm-{n}"), on_tiny.clone()).await.expect("created");
    }
    let problem = world.refused_vm(on_tiny.clone()).await;
    assert_eq!(
        (code(&problem), fields(&problem)),
        (ErrorCode::InsufficientCapacity, vec!["spec.networks[0]"])
    );
    let gone = key("vm", "vm-2");
    let freed = addresses(&world.get(&gone))[0].0.clone();
    let removed = world.store.transact(move |tx| tx.remove(&gone, agentd_store::Expect::Any)).await;
    removed.expect("removed");
    let vm = body(&world.vm("late", on_tiny).await.expect("created"));
    assert_eq!(addresses(&vm)[0].0, freed);
}

#[tokio::test]
async fn a_fixed_address_or_mac_is_had_by_one() {
    let world = World::new().await;
    world.vm("web", nic("10.77.0.9")).await.expect("created");
    let problem = world.refused_vm(nic("10.77.0.9")).await;
    assert_eq!((code(&problem), fields(&problem)), (ErrorCode::Conflict, vec!["spec.networks[0].ip"]));
    assert!(problem.detail.contains("vm/default/web"), "{problem}");
    let mac = json!({"networks": [{"network": "default", "mac": "52:54:00:00:00:01"}]});
    world.vm("one", mac.clone()).await.expect("created");
    let problem = world.refused_vm(mac).await;
    assert_eq!((code(&problem), fields(&problem)), (ErrorCode::Conflict, vec!["spec.networks[0].mac"]));
}

#[tokio::test]
async fn the_search_passes_over_fixed_addresses() {
    let world = World::new().await;
    world.vm("fixed", nic("10.77.0.2")).await.expect("created");
    let two = json!({"networks": [{"network": "default"}, {"network": "default"}]});
    let vm = body(&world.vm("two", two).await.expect("created"));
    let ips: Vec<_> = addresses(&vm).into_iter().map(|(ip, _)| ip).collect();
    assert_eq!(ips, ["10.77.0.3", "10.77.0.4"]);
}

#[tokio::test]
async fn changed_networks_keep_what_fits_and_give_back_the_rest() {
    let world = World::new().await;
    world.make("network", json!({"name": "back", "spec": {"cidr": "10.9.0.0/24"}})).await;
    let both = json!({"networks": [{"network": "default"}, {"network": "back"}]});
    let before = addresses(&body(&world.vm("web", both).await.expect("created")));
    let web = key("vm", "web");
    let swapped = json!({"spec": {"networks": [{"network": "back"}, {"network": "default"}]}});
    let after = addresses(&body(&world.patch(&web, swapped).await.expect("changed")));
    assert_eq!(after, [before[1].clone(), before[0].clone()]);
    let one = json!({"spec": {"networks": [{"network": "back"}]}});
    let after = addresses(&body(&world.patch(&web, one).await.expect("changed")));
    assert_eq!(after, [before[1].clone()]);
    world.vm("next", nic(&before[0].0)).await.expect("the address is free again");
    let moved = json!({"spec": {"networks": [{"network": "back", "ip": "10.9.0.77"}]}});
    let after = addresses(&body(&world.patch(&web, moved).await.expect("changed")));
    assert_eq!(after[0].0, "10.9.0.77");
    let refused = json!({"spec": {"networks": [{"network": "default", "ip": before[0].0}]}});
    assert_eq!(code(&world.patch(&web, refused).await.expect_err("taken")), ErrorCode::Conflict);
    assert_eq!(addresses(&world.get(&web)), after, "a refused change takes nothing away");
}

#[tokio::test]
async fn an_address_that_a_running_guest_uses_is_kept_for_it_until_it_has_let_go() {
    let world = World::new().await;
    world.make("network", json!({"name": "back", "spec": {"cidr": "10.9.0.0/24"}})).await;
    let on = |networks: Value| json!({"networks": networks});
    let both = on(
        json!([{"network": "default"}, {"network": "back", "ip": "10.9.0.7", "mac": "52:54:00:00:00:07"}]),
    );
    let before = addresses(&body(&world.vm("web", both).await.expect("created")));
    let web = key("vm", "web");
    world.set_status(&web, json!({"state": "running"})).await;

    let one = json!({"spec": {"networks": [{"network": "default"}]}});
    let after = body(&world.patch(&web, one).await.expect("changed"));
    assert_eq!(addresses(&after), [before[0].clone()]);
    assert_eq!(after["status"]["leaving"][0]["ip"], "10.9.0.7", "{after:#}");
    let theirs = on(json!([{"network": "back", "ip": "10.9.0.7"}]));
    assert_eq!(code(&world.vm("other", theirs.clone()).await.expect_err("in use")), ErrorCode::Conflict);

    // Another interface cannot have it either, the same one can be put back.
    for (nic, field) in [
        (json!({"network": "back", "ip": "10.9.0.7", "mac": "52:54:00:00:00:08"}), "spec.networks[1].ip"),
        (json!({"network": "default", "mac": "52:54:00:00:00:07"}), "spec.networks[1].mac"),
        (json!({"network": "default", "ip": before[0].0}), "spec.networks[1].ip"),
    ] {
        let twice = json!({"spec": {"networks": [{"network": "default"}, nic]}});
        let problem = world.patch(&web, twice).await.expect_err("held");
        assert_eq!((code(&problem), fields(&problem)), (ErrorCode::Conflict, vec![field]));
    }
    let back = json!({"spec": {"networks": [{"network": "default"}, {"network": "back"}]}});
    let back = body(&world.patch(&web, back).await.expect("changed"));
    assert_eq!((addresses(&back), back["status"]["leaving"].clone()), (before, Value::Null));
}

#[tokio::test]
async fn a_port_on_one_address_and_on_all_exclude_each_other() {
    let world = World::new().await;
    let publish = |address: Option<&str>, host: u16, protocol: &str| {
        let mut port = json!({"host": host, "guest": 80, "protocol": protocol});
        if let Some(address) = address {
            port["address"] = json!(address);
        }
        json!({"publish": [port]})
    };
    world.vm("one", publish(Some("127.0.0.1"), 8080, "tcp")).await.expect("created");
    world.vm("all", publish(None, 9090, "tcp")).await.expect("created");
    for taken in [
        publish(Some("127.0.0.1"), 8080, "tcp"),
        publish(None, 8080, "tcp"),
        publish(Some("0.0.0.0"), 8080, "tcp"),
        publish(Some("127.0.0.1"), 9090, "tcp"),
        publish(None, 9090, "tcp"),
    ] {
        let problem = world.refused_vm(taken.clone()).await;
        assert_eq!(
            (code(&problem), fields(&problem)),
            (ErrorCode::Conflict, vec!["spec.publish[0].host"]),
            "{taken}"
        );
    }
    world.vm("udp", publish(None, 8080, "udp")).await.expect("another protocol");
    world.vm("two", publish(Some("127.0.0.2"), 8080, "tcp")).await.expect("another address");
    let web = key("vm", "all");
    world
        .patch(&web, json!({"spec": {"publish": [{"host": 9090, "guest": 81}]}}))
        .await
        .expect("its own port");
    world.patch(&web, json!({"spec": {"publish": null}})).await.expect("changed");
    world.vm("next", publish(Some("127.0.0.1"), 9090, "tcp")).await.expect("given back");
}

#[tokio::test]
async fn ports_are_one_set_for_all_projects() {
    let world = World::new().await;
    world.vm("one", json!({"publish": [{"host": 80, "guest": 80}]})).await.expect("created");
    let def = |kind| registry::by_kind(kind).expect("a kind");
    let other = name("other");
    let net = json!({"name": "default", "spec": {"cidr": "10.9.0.0/24"}});
    world.intents.create(&caller(), def("network"), &other, net).await.expect("created");
    let vm = json!({"name": "one", "spec": {"image": "micro", "publish": [{"host": 80, "guest": 80}]}});
    let problem = world.intents.create(&caller(), def("vm"), &other, vm).await.expect_err("refused");
    assert!(problem.detail.contains("vm/default/one"), "{problem}");
}
