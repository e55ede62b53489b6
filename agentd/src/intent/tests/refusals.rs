//! What is refused, under which code and field, and that nothing is left of it.

use super::*;

#[tokio::test]
async fn each_bad_field_of_a_vm_is_named() {
    let world = World::new().await;
    let long = "x".repeat(1 << 20);
    for (more, field) in [
        (json!({"memory": "1GB2"}), "spec.memory"),
        (json!({"memory": 1024}), "spec.memory"),
        (json!({"cpus": 0}), "spec.cpus"),
        (json!({"cpus": -1}), "spec.cpus"),
        (json!({"cpus": 257}), "spec.cpus"),
        (json!({"disk": "1"}), "spec.disk"),
        (json!({"user_data": long}), "spec.user_data"),
        (json!({"cpu": 1}), "spec.cpu"),
        (json!({"image": "../../etc/shadow"}), "spec.image"),
        (json!({"image": "<domain>"}), "spec.image"),
        (json!({"image": "nothing-like-it"}), "spec.image"),
        (json!({"networks": [{"network": "nowhere"}]}), "spec.networks[0].network"),
        (json!({"networks": [{"network": "default", "ip": "10.78.0.2"}]}), "spec.networks[0].ip"),
        (json!({"networks": [{"network": "default", "ip": "10.77.0.0"}]}), "spec.networks[0].ip"),
        (json!({"networks": [{"network": "default", "ip": "10.77.0.1"}]}), "spec.networks[0].ip"),
        (json!({"networks": [{"network": "default", "ip": "10.77.0.255"}]}), "spec.networks[0].ip"),
        (json!({"networks": [{"network": "default", "mac": "53:54:00:00:00:01"}]}), "spec.networks[0].mac"),
        (json!({"ssh_keys": ["nobody"]}), "spec.ssh_keys[0]"),
        (json!({"publish": [{"host": 0, "guest": 80}]}), "spec.publish[0]"),
        (json!({"desired": "flying"}), "spec.desired"),
    ] {
        let problem = world.refused_vm(more.clone()).await;
        assert_eq!(code(&problem), ErrorCode::Invalid, "{more}");
        assert_eq!(fields(&problem), [field], "{more}: {problem}");
    }
}

#[tokio::test]
async fn names_are_checked_before_anything_else_is_done() {
    let world = World::new().await;
    for bad in [&"a".repeat(64), "../x", "A", "", "a_b", "<name/>", "a&b", "a'b\""] {
        let problem = world.refused("vm", json!({"name": bad, "spec": vm_spec(json!({}))})).await;
        assert_eq!((code(&problem), fields(&problem)), (ErrorCode::Invalid, vec!["name"]), "{bad}");
    }
    let problem = world.refused("vm", json!({"spec": vm_spec(json!({}))})).await;
    assert_eq!(fields(&problem), ["name"]);
    assert_eq!(fields(&world.refused("vm", json!({"name": "x"})).await), ["spec"]);
    assert_eq!(fields(&world.refused("vm", json!(["x"])).await), [""]);
}

#[tokio::test]
async fn unknown_fields_are_named_all_at_once() {
    let world = World::new().await;
    let draft = json!({"name": "web", "speck": {}, "spec": {"image": "micro"}, "lables": {}});
    let problem = world.refused("vm", draft).await;
    let mut named = fields(&problem);
    named.sort_unstable();
    assert_eq!(named, ["lables", "speck"]);
}

#[tokio::test]
async fn more_memory_than_the_host_has_is_capacity() {
    let world = World::new().await;
    let problem = world.refused_vm(json!({"memory": "5GiB"})).await;
    assert_eq!((code(&problem), problem.status), (ErrorCode::InsufficientCapacity, 507));
    assert_eq!(fields(&problem), ["spec.memory"]);
    world.vm("big", json!({"memory": "4GiB"})).await.expect("all of it is not more than all of it");
    let problem =
        world.patch(&key("vm", "big"), json!({"spec": {"memory": "8GiB"}})).await.expect_err("refused");
    assert_eq!(code(&problem), ErrorCode::InsufficientCapacity);
}

#[tokio::test]
async fn an_unknown_image_is_answered_with_those_that_are_there() {
    let world = World::new().await;
    let hint = world.refused_vm(json!({"image": "windows"})).await.hint.expect("a hint");
    assert!(
        hint.contains("micro") && hint.contains("debian-12") && hint.contains("agentctl image build"),
        "{hint}"
    );
}

#[tokio::test]
async fn an_image_with_a_recipe_comes_with_its_vm_or_not_at_all() {
    let world = World::empty();
    let lost = json!({"name": "web", "spec": {"image": "debian-12"}});
    assert_eq!(fields(&world.refused("vm", lost.clone()).await), ["spec.networks[0].network"]);
    assert!(world.store.get(&key("image", "debian-12")).is_none(), "the image went with its VM");
    world.make("network", json!({"name": "default", "spec": {"cidr": "10.77.0.0/24"}})).await;
    // Refused only after the image was made in the same transaction.
    let astray = json!({"image": "debian-12", "networks": [{"network": "default", "ip": "10.99.0.2"}]});
    assert_eq!(fields(&world.refused_vm(astray).await), ["spec.networks[0].ip"]);
    assert!(world.store.get(&key("image", "debian-12")).is_none(), "the image went with its VM");
    world.make("vm", lost).await;
    let image = world.get(&key("image", "debian-12"));
    assert_eq!(image["spec"]["source"]["recipe"], "debian-12");
    assert_eq!(image["finalizers"], json!(["content"]));
}

#[tokio::test]
async fn a_taken_name_is_already_exists() {
    let world = World::new().await;
    world.vm("web", json!({})).await.expect("created");
    let problem = world.refused("vm", json!({"name": "web", "spec": vm_spec(json!({"cpus": 2}))})).await;
    assert_eq!((code(&problem), problem.status), (ErrorCode::AlreadyExists, 409));
    world.create_in("other", "web").await;
}

#[tokio::test]
async fn labels_and_annotations_have_limits() {
    let world = World::new().await;
    let draft = |part: &str, value: Value| {
        let mut draft = json!({"name": "web", "spec": {"image": "micro"}});
        draft[part] = value;
        draft
    };
    let many: Value =
        (0..65).map(|n| (format!("k{n}"), json!("v"))).collect::<serde_json::Map<_, _>>().into();
    for (part, value, field) in [
        ("labels", json!({"a b": "c"}), "labels.a b"),
        ("labels", json!({"a": "b c"}), "labels.a"),
        ("labels", json!({"a": 1}), "labels.a"),
        ("labels", json!([]), "labels"),
        ("labels", many, "labels"),
        ("annotations", json!({"note": "x".repeat(65 << 10)}), "annotations"),
        ("annotations", json!({"": "x"}), "annotations"),
        ("annotations", json!({"note": {}}), "annotations.note"),
    ] {
        assert_eq!(fields(&world.refused("vm", draft(part, value.clone())).await), [field], "{value}");
    }
    world.make("vm", draft("annotations", json!({"note": "<&>\"' ü\n", "long": "x".repeat(60 << 10)}))).await;
}

#[tokio::test]
async fn networks_do_not_overlap_each_other_or_the_host() {
    let world = World::new().await;
    let net = |name: &str, cidr: &str| json!({"name": name, "spec": {"cidr": cidr}});
    for (cidr, by) in [
        ("10.77.0.0/24", "network/default/default"),
        ("10.77.0.128/25", "network/default/default"),
        ("10.77.0.0/16", "network/default/default"),
        ("192.168.0.0/16", "192.168.1.0/24"),
    ] {
        let problem = world.refused("network", net("other", cidr)).await;
        assert_eq!((code(&problem), fields(&problem)), (ErrorCode::Conflict, vec!["spec.cidr"]), "{cidr}");
        assert!(problem.detail.contains(by), "{cidr}: {problem}");
    }
    for bad in ["10.0.0.0/8", "10.9.0.0/30", "10.9.0.1/24", "127.0.0.0/24", "224.0.0.0/24", "x"] {
        let problem = world.refused("network", net("other", bad)).await;
        assert_eq!((code(&problem), fields(&problem)[0]), (ErrorCode::Invalid, "spec.cidr"), "{bad}");
    }
    world.make("network", net("other", "10.78.0.0/24")).await;
    let change = world.patch(&key("network", "other"), json!({"spec": {"cidr": "10.79.0.0/24"}})).await;
    assert_eq!(fields(&change.expect_err("refused")), ["spec.cidr"]);
    world.patch(&key("network", "other"), json!({"spec": {"nat": false}})).await.expect("changed");
}

#[tokio::test]
async fn what_is_in_use_is_not_deleted_and_who_uses_it_is_named() {
    let world = World::new().await;
    let public_key = format!("ssh-ed25519 {} me@host", "A".repeat(68));
    world.make("ssh-key", json!({"name": "me", "spec": {"public_key": public_key}})).await;
    world.vm("web", json!({"ssh_keys": ["me"]})).await.expect("created");
    for used in [key("network", "default"), key("image", "micro"), key("ssh-key", "me")] {
        let problem = world.delete(&used).await.expect_err("refused");
        assert_eq!((code(&problem), problem.status), (ErrorCode::InUse, 409), "{used}");
        assert!(problem.detail.contains("vm/default/web"), "{problem}");
        assert!(!world.store.get(&used).expect("there").deleting());
    }
    world.patch(&key("vm", "web"), json!({"spec": {"ssh_keys": null}})).await.expect("changed");
    world.delete(&key("ssh-key", "me")).await.expect("nobody uses it now");
}

#[tokio::test]
async fn what_is_being_deleted_is_not_referred_to() {
    let world = World::new().await;
    for (gone, field) in
        [(key("network", "default"), "spec.networks[0].network"), (key("image", "micro"), "spec.image")]
    {
        world.delete(&gone).await.expect("marked");
        let problem = world.refused_vm(json!({"networks": if gone.kind == "image" { json!([]) } else { json!([{"network": "default"}]) }})).await;
        assert_eq!((code(&problem), fields(&problem)), (ErrorCode::Conflict, vec![field]));
    }
}

#[tokio::test]
async fn some_fields_of_a_vm_stay_what_they_are() {
    let world = World::new().await;
    world.vm("web", json!({"disk": "2GiB"})).await.expect("created");
    let web = key("vm", "web");
    for (change, field) in [
        (json!({"image": "debian-12"}), "spec.image"),
        (json!({"disk": "1GiB"}), "spec.disk"),
        (json!({"disk": null}), "spec.disk"),
    ] {
        let problem = world.patch(&web, json!({"spec": change})).await.expect_err("refused");
        assert_eq!((code(&problem), fields(&problem)), (ErrorCode::Invalid, vec![field]));
    }
    let change = json!({"disk": "3GiB", "cpus": 2, "memory": "1GiB", "restart": "always", "grace": "5s"});
    let reply = world.patch(&web, json!({"spec": change})).await.expect("changed");
    assert_eq!(body(&reply)["generation"], 2);
}

#[tokio::test]
async fn an_image_stays_what_it_is() {
    let world = World::new().await;
    let change = json!({"spec": {"source": {"recipe": "debian-12"}}});
    let problem = world.patch(&key("image", "micro"), change).await.expect_err("refused");
    // A merge patch replaces the recipe by another one.
    assert_eq!(fields(&problem), ["spec.source"]);
}

impl World {
    /// The same name is free in another project, with an image and a network of its own.
    async fn create_in(&self, project: &str, of: &str) {
        let def = |kind| registry::by_kind(kind).expect("a kind");
        let project = name(project);
        let lone = json!({"name": of, "spec": {"image": "micro", "networks": []}});
        let made = self.intents.create(&caller(), def("vm"), &project, lone).await.expect("created");
        assert_eq!(body(&made)["project"], project.as_str());
    }
}
