//! Policies and limits that this host cannot keep, and the host's own shutdown.

use agentd_api::Timestamp;

use super::*;

#[tokio::test]
async fn what_this_host_cannot_give_is_refused_by_field_and_code() {
    let world = World::new().await;
    for (more, field, is) in [
        (json!({"cpu_pinning": ["0-4"]}), "spec.cpu_pinning[0]", ErrorCode::Invalid),
        (json!({"cpus": 2, "cpu_pinning": ["0", "7"]}), "spec.cpu_pinning[1]", ErrorCode::Invalid),
        (json!({"cpus": 2, "cpu_pinning": ["0", "1"]}), "spec.cpu_pinning", ErrorCode::Unsupported),
        (json!({"nested": true}), "spec.nested", ErrorCode::Unsupported),
        (json!({"huge_pages": true, "memory": "512MiB"}), "spec.huge_pages", ErrorCode::InsufficientCapacity),
        (json!({"firmware": "uefi"}), "spec.firmware", ErrorCode::Unsupported),
        (json!({"tpm": true}), "spec.tpm", ErrorCode::Unsupported),
        (json!({"expires_at": "2001-01-01T00:00:00Z"}), "spec.expires_at", ErrorCode::Invalid),
    ] {
        let problem = world.refused_vm(more.clone()).await;
        assert_eq!((code(&problem), fields(&problem)), (is, vec![field]), "{more}: {problem}");
    }
    let problem = world.refused_vm(json!({"huge_pages": true, "memory": "512MiB"})).await;
    assert!(problem.hint.is_some_and(|hint| hint.contains("vm.nr_hugepages=256")));
    let fits = json!({"huge_pages": true, "memory": "256MiB", "cpu_pinning": ["0-3"]});
    world.vm("fits", fits).await.expect("created");
    let problem = world.patch(&key("vm", "fits"), json!({"spec": {"memory": "257MiB"}})).await;
    assert_eq!(code(&problem.expect_err("refused")), ErrorCode::InsufficientCapacity);
}

#[tokio::test]
async fn an_expiry_can_be_set_changed_and_taken_off() {
    let world = World::new().await;
    let web = key("vm", "web");
    world.vm("web", json!({"expires_at": "1970-01-01T00:00:00Z"})).await.expect("a zero expiry is none");
    let at = Timestamp::now().plus(Duration::from_secs(60)).to_string();
    world.patch(&web, json!({"spec": {"expires_at": at}})).await.expect("set");
    assert_eq!(world.get(&web)["spec"]["expires_at"], json!(at));
    world.patch(&web, json!({"spec": {"expires_at": null}})).await.expect("taken off");
    assert!(world.get(&web)["spec"]["expires_at"].is_null());
}

#[tokio::test]
async fn limits_of_an_interface_are_changed_while_its_guest_runs() {
    let world = World::new().await;
    let web = key("vm", "web");
    world.vm("web", json!({})).await.expect("created");
    world.set_status(&web, json!({"state": "running"})).await;
    let before = world.get(&web)["status"]["addresses"].clone();
    let limited = json!([{"network": "default", "limits": {"inbound": "1MiB"}}]);
    world.patch(&web, json!({"spec": {"networks": limited}})).await.expect("changed");
    assert_eq!(world.get(&web)["status"]["addresses"], before);
}

#[tokio::test]
async fn stopped_until_the_next_boot_it_is_wanted_all_the_same() {
    let world = World::new().await;
    let web = key("vm", "web");
    world.vm("web", json!({"desired": "running"})).await.expect("created");
    world.set_status(&web, json!({"state": "running"})).await;
    assert_eq!(world.act(&web, "stop-until-boot").await.expect("taken on").status, 202);
    let vm = world.get(&web);
    assert_eq!((&vm["spec"]["desired"], &vm["status"]["held_boot"]), (&json!("running"), &json!("boot-1")));
    assert_eq!(world.act(&web, "stop-until-boot").await.expect("so already").status, 200);
    assert_eq!(world.act(&web, "start").await.expect("taken on").status, 202);
    let vm = world.get(&web);
    assert!(vm["status"]["held_boot"].is_null(), "{vm}");
    assert_eq!(vm["generation"], 2, "a start by hand is a new try");
    world.act(&web, "stop").await.expect("taken on");
    assert_eq!(world.act(&web, "stop-until-boot").await.expect("so already").status, 200);
    assert!(world.get(&web)["status"]["held_boot"].is_null(), "what is to be off stays off");
}

#[tokio::test]
async fn a_flavor_is_what_its_vms_are_and_is_not_contradicted() {
    let world = World::new().await;
    let size = json!({"cpus": 2, "memory": "256MiB", "disk": "2GiB", "cpu_shares": 50});
    world.make("flavor", json!({"name": "mine", "spec": size})).await;
    world.make("flavor", json!({"name": "wide", "spec": {"cpus": 3, "memory": "512MiB"}})).await;
    for (more, field) in [
        (json!({"flavor": "mine", "cpus": 4}), "spec.cpus"),
        (json!({"flavor": "mine", "memory": "1GiB"}), "spec.memory"),
        (json!({"flavor": "mine", "disk": "4GiB"}), "spec.disk"),
        (json!({"flavor": "mine", "cpu_shares": 60}), "spec.cpu_shares"),
        (json!({"flavor": "none-such"}), "spec.flavor"),
    ] {
        let problem = world.refused_vm(more.clone()).await;
        assert_eq!(
            (code(&problem), fields(&problem)),
            (ErrorCode::Invalid, vec![field]),
            "{more}: {problem}"
        );
    }
    let web = key("vm", "web");
    world
        .create("vm", json!({"name": "web", "spec": {"image": "micro", "flavor": "mine", "cpus": 2}}))
        .await
        .expect("made");
    let spec = |world: &World| world.get(&web)["spec"].clone();
    let is = spec(&world);
    assert_eq!((&is["cpus"], &is["memory"], &is["disk"]), (&json!(2), &json!("256MiB"), &json!("2GiB")));
    assert_eq!(is["cpu_shares"], 50);

    // A flavor that is in use stays; a change of it is for VMs to come.
    let mine = key("flavor", "mine");
    assert_eq!(code(&world.delete(&mine).await.expect_err("in use")), ErrorCode::InUse);
    world.patch(&mine, json!({"spec": {"cpus": 4}})).await.expect("changed");
    world.patch(&web, json!({"spec": {"restart": "always"}})).await.expect("changed");
    assert_eq!(spec(&world)["cpus"], 2);
    let problem = world.patch(&web, json!({"spec": {"cpus": 4}})).await.expect_err("contradicts");
    assert_eq!(fields(&problem), ["spec.cpus"]);

    // Another flavor, or none.
    world.patch(&web, json!({"spec": {"flavor": "wide"}})).await.expect("changed");
    assert_eq!((&spec(&world)["cpus"], &spec(&world)["memory"]), (&json!(3), &json!("512MiB")));
    world.patch(&web, json!({"spec": {"flavor": null, "cpus": 1}})).await.expect("changed");
    assert_eq!(spec(&world)["cpus"], 1);
    world.delete(&mine).await.expect("no VM is of it any more");
}

#[tokio::test]
async fn a_flavor_limits_each_interface_of_its_vms() {
    let world = World::new().await;
    let size = json!({"cpus": 1, "memory": "256MiB", "nic_limits": {"inbound": "1MiB"}});
    world.make("flavor", json!({"name": "slow", "spec": size})).await;
    let of = |networks: Value| json!({"name": "web", "spec": {"image": "micro", "flavor": "slow", "networks": networks}});
    let other = json!([{"network": "default", "limits": {"inbound": "2MiB"}}]);
    let problem = world.create("vm", of(other.clone())).await.expect_err("contradicts");
    assert_eq!(fields(&problem), ["spec.networks[0].limits"]);
    world.create("vm", of(json!([{"network": "default"}]))).await.expect("made");
    let web = key("vm", "web");
    let limit = |world: &World| world.get(&web)["spec"]["networks"][0]["limits"]["inbound"].clone();
    assert_eq!(limit(&world), "1MiB");
    // Changed later it changes none.
    let slower = json!({"spec": {"nic_limits": {"inbound": "512KiB"}}});
    world.patch(&key("flavor", "slow"), slower).await.expect("changed");
    world.patch(&web, json!({"spec": {"networks": [{"network": "default"}]}})).await.expect("so already");
    assert_eq!(limit(&world), "1MiB");
    world.patch(&web, json!({"spec": {"networks": other}})).await.expect_err("contradicts");
    world.patch(&web, json!({"spec": {"flavor": null, "networks": other}})).await.expect("its own affair");
    assert_eq!(limit(&world), "2MiB");
}

#[tokio::test]
async fn flavors_of_the_project_default_are_there_for_all() {
    let world = World::new().await;
    let make = async |kind: &str, draft: Value| {
        let def = agentd_api::registry::by_kind(kind).expect("a kind");
        world.intents.create(&caller(), def, &name("lab"), draft).await
    };
    let vm = |of: &str| {
        let spec = json!({"image": "micro", "flavor": "wide", "networks": []});
        json!({"name": of, "spec": spec})
    };
    let problem = make("vm", vm("a")).await.expect_err("there is none");
    assert_eq!(fields(&problem), ["spec.flavor"]);
    world.make("flavor", json!({"name": "wide", "spec": {"cpus": 3, "memory": "512MiB"}})).await;
    let made = make("vm", vm("a")).await.expect("of the one in default");
    assert_eq!(body(&made)["spec"]["cpus"], 3);
    let wide = key("flavor", "wide");
    assert_eq!(code(&world.delete(&wide).await.expect_err("used in lab")), ErrorCode::InUse);
    // One of its own comes first.
    make("flavor", json!({"name": "wide", "spec": {"cpus": 2, "memory": "256MiB"}})).await.expect("made");
    let made = make("vm", vm("b")).await.expect("of its own");
    assert_eq!(body(&made)["spec"]["cpus"], 2);
    world.delete(&wide).await.expect("nobody's any more");
}

#[tokio::test]
async fn what_starts_a_vm_must_fit_its_image_and_stays_while_its_memory_is_on_disk() {
    let world = World::new().await;
    world.vm("early", json!({"firmware": "direct"})).await.expect("the image is not known yet");
    world.set_status(&key("image", "micro"), json!({"state": "ready", "direct_boot": false})).await;
    let problem = world.refused_vm(json!({"firmware": "direct"})).await;
    assert_eq!(fields(&problem), ["spec.firmware"]);
    assert!(problem.to_string().contains("'micro'"), "{problem}");
    world.set_status(&key("image", "micro"), json!({"direct_boot": true})).await;
    world.vm("web", json!({"firmware": "direct"})).await.expect("created");

    let web = key("vm", "web");
    let problem = world.patch(&web, json!({"spec": {"firmware": "uefi"}})).await.expect_err("not here");
    assert_eq!(code(&problem), ErrorCode::Unsupported);
    assert!(problem.hint.as_ref().is_some_and(|hint| hint.contains("ovmf")), "{problem:?}");
    world.patch(&web, json!({"spec": {"firmware": "uefi-secure"}})).await.expect("changed");
    world.set_status(&web, json!({"saved": {"at": "2026-01-01T00:00:00Z", "size": "1MiB"}})).await;
    let problem = world.patch(&web, json!({"spec": {"firmware": null}})).await.expect_err("its memory");
    assert_eq!((code(&problem), fields(&problem)), (ErrorCode::Conflict, vec!["spec.firmware"]));
    world.patch(&web, json!({"spec": {"restart": "always"}})).await.expect("another field");
}
