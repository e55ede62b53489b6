//! Containers: what they are refused for, and what they share with VMs.

use agentd_api::{ErrorCode, Problem};
use serde_json::{Value, json};

use super::{World, body, caller, code, fields, key};

async fn refused(world: &World, more: Value) -> Problem {
    let before = world.store.revision();
    let problem = world.container("bad", more.clone()).await.expect_err("refused");
    assert_eq!(world.store.revision(), before, "nothing is left of {more}");
    problem
}

#[tokio::test]
async fn a_container_and_a_vm_take_from_the_same_addresses_and_ports() {
    let world = World::new().await;
    let vm =
        body(&world.vm("web", json!({"publish": [{"host": 8080, "guest": 80}]})).await.expect("created"));
    let tool = body(&world.container("tool", json!({})).await.expect("created"));
    let address = |of: &Value, what: &str| of["status"]["addresses"][0][what].to_string();
    assert_eq!(address(&tool, "ip"), "\"10.77.0.3\"");
    assert_ne!(address(&tool, "mac"), address(&vm, "mac"));

    let problem = refused(&world, json!({"publish": [{"host": 8080, "guest": 80}]})).await;
    assert_eq!((code(&problem), fields(&problem)), (ErrorCode::Conflict, vec!["spec.publish[0].host"]));
    assert!(problem.detail.contains("vm/default/web"), "{problem}");
    let problem =
        refused(&world, json!({"publish": [{"address": "127.0.0.1", "host": 8080, "guest": 80}]})).await;
    assert!(problem.detail.contains("vm/default/web"), "{problem}");
    let problem = refused(&world, json!({"networks": [{"network": "default", "ip": "10.77.0.2"}]})).await;
    assert_eq!((code(&problem), fields(&problem)), (ErrorCode::Conflict, vec!["spec.networks[0].ip"]));

    world.container("front", json!({"publish": [{"host": 9000, "guest": 80}]})).await.expect("created");
    let problem =
        world.vm("late", json!({"publish": [{"host": 9000, "guest": 1}]})).await.expect_err("refused");
    assert!(problem.detail.contains("container/default/front"), "{problem}");
    let problem = world.delete(&key("network", "default")).await.expect_err("in use");
    assert!(problem.detail.contains("container/default/front"), "{problem}");
}

#[tokio::test]
async fn a_name_is_one_guests_on_a_network() {
    let world = World::new().await;
    world.vm("web", json!({})).await.expect("created");
    let problem = world.container("web", json!({})).await.expect_err("refused");
    assert_eq!(fields(&problem), ["spec.networks[0].network"]);
    world.container("web", json!({"networks": []})).await.expect("created: it is on no network");
    world.container("db", json!({})).await.expect("created");
    assert_eq!(code(&world.vm("db", json!({})).await.expect_err("refused")), ErrorCode::Conflict);
}

#[tokio::test]
async fn its_image_is_one_that_the_engine_has() {
    let world = World::new().await;
    world.container("good", json!({"image": "tool:1"})).await.expect("created");
    world.make("image", json!({"name": "plain", "spec": {"source": {"recipe": "micro"}}})).await;
    for (image, wanted, says) in [
        ("none", ErrorCode::Invalid, "no image 'none'"),
        ("plain", ErrorCode::Invalid, "a disk for VMs"),
        ("unsaid", ErrorCode::BackendUnavailable, "the engine is away"),
    ] {
        let problem = refused(&world, json!({"image": image})).await;
        assert_eq!((code(&problem), fields(&problem)), (wanted, vec!["spec.image"]), "{image}");
        assert!(problem.detail.contains(says), "{problem}");
    }
}

#[tokio::test]
async fn its_image_may_be_one_of_agentds_which_then_stays() {
    let world = World::new().await;
    let pulled = json!({"source": {"registry": {"reference": "h:5000/tool:1"}}});
    let made = world.make("image", json!({"name": "none", "spec": pulled})).await;
    assert_eq!(made["status"]["format"], "container");
    world.container("of-object", json!({"image": "none"})).await.expect("created");
    // What the engine has under that name does not count, nor whether it is there.
    let pulled = json!({"source": {"registry": {"reference": "h:5000/tool:2"}}});
    world.make("image", json!({"name": "unsaid", "spec": pulled})).await;
    world.container("of-unsaid", json!({"image": "unsaid"})).await.expect("created");

    let problem = world.vm("bad", json!({"image": "none"})).await.expect_err("no disk");
    assert_eq!((code(&problem), fields(&problem)), (ErrorCode::Invalid, vec!["spec.image"]));
    let problem = world.delete(&key("image", "none")).await.expect_err("in use");
    assert_eq!((code(&problem), problem.status), (ErrorCode::InUse, 409));
    assert!(problem.detail.contains("container/default/of-object"), "{problem}");

    // A recipe's name is the VMs' disk, and what is made of the same recipe for containers.
    world.container("of-recipe", json!({"image": "micro"})).await.expect("created");
    let beside = key("image", "micro-container");
    assert_eq!(world.get(&beside)["spec"], json!({"source": {"recipe": "micro"}, "format": "container"}));
    world.container("again", json!({"image": "micro"})).await.expect("created");
    let problem = world.delete(&beside).await.expect_err("in use");
    for user in ["of-recipe", "again"] {
        assert!(problem.detail.contains(&format!("container/default/{user}")), "{problem}");
    }
}

#[tokio::test]
async fn what_this_host_does_not_give_is_refused_by_field() {
    let world = World::new().await;
    let bind = |path: &str| json!({"mounts": [{"path": "/data", "source": {"bind": path}}]});
    world.container("good", bind("/srv/data/a")).await.expect("created");
    world.container("whole", bind("/srv/data")).await.expect("created");
    for path in ["/srv/database", "/srv", "/etc"] {
        let problem = refused(&world, bind(path)).await;
        let field = "spec.mounts[0].source.bind";
        assert_eq!((code(&problem), fields(&problem)), (ErrorCode::Forbidden, vec![field]), "{path}");
    }
    world.make("volume", json!({"name": "disk", "spec": {"size": "16MiB"}})).await;
    for (more, wanted, field) in [
        (json!({"memory": "5GiB"}), ErrorCode::InsufficientCapacity, "spec.memory"),
        (json!({"cpus": 4.5}), ErrorCode::InsufficientCapacity, "spec.cpus"),
        (json!({"cpu_set": "3-4"}), ErrorCode::Invalid, "spec.cpu_set"),
        (json!({"networks": [{"network": "lan"}]}), ErrorCode::Invalid, "spec.networks[0].network"),
        (json!({"expires_at": "2001-01-01T00:00:00Z"}), ErrorCode::Invalid, "spec.expires_at"),
        (
            json!({"mounts": [{"path": "/data", "source": {"volume": "none"}}]}),
            ErrorCode::Invalid,
            "spec.mounts[0].source.volume",
        ),
        (
            json!({"mounts": [{"path": "/data", "source": {"volume": "disk"}}]}),
            ErrorCode::Unsupported,
            "spec.mounts[0].source.volume",
        ),
    ] {
        let problem = refused(&world, more.clone()).await;
        assert_eq!((code(&problem), fields(&problem)), (wanted, vec![field]), "{more}");
    }
}

#[tokio::test]
async fn what_it_comes_after_is_there_and_nobody_waits_for_himself() {
    let world = World::new().await;
    world.vm("db", json!({})).await.expect("created");
    let after = |name: &str| json!({"after": [{"container": name}]});
    let problem = refused(&world, after("none")).await;
    assert_eq!(fields(&problem), ["spec.after[0].container"]);
    let problem = refused(&world, json!({"after": [{"vm": "none"}]})).await;
    assert_eq!(fields(&problem), ["spec.after[0].vm"]);
    let problem = refused(&world, after("bad")).await;
    assert!(problem.detail.contains("itself"), "{problem}");
    world.container("a", json!({"after": [{"vm": "db", "healthy": true}]})).await.expect("created");
    world.container("b", after("a")).await.expect("created");
    world.container("c", after("b")).await.expect("created");
    let problem =
        world.patch(&key("container", "a"), json!({"spec": after("c")})).await.expect_err("refused");
    assert!(problem.detail.contains("a after c after b after a"), "{problem}");
}

#[tokio::test]
async fn what_it_is_made_of_stays_and_what_it_may_use_does_not() {
    let world = World::new().await;
    world.container("web", json!({"command": ["a"]})).await.expect("created");
    let at = key("container", "web");
    for (field, value) in [("command", json!(["b"])), ("image", json!("tool:1")), ("privileged", json!(true))]
    {
        let problem = world.patch(&at, json!({"spec": {field: value}})).await.expect_err("refused");
        assert_eq!(fields(&problem), [format!("spec.{field}")]);
    }
    let change = json!({"spec": {"memory": "64MiB", "cpus": 0.5, "restart": "always"}});
    let changed = body(&world.patch(&at, change).await.expect("changed"));
    assert_eq!((&changed["spec"]["memory"], &changed["spec"]["cpus"]), (&json!("64MiB"), &json!(0.5)));
    // It has an interface in the engine, which keeps its address until it is taken off.
    world.set_status(&at, json!({"engine_id": "abc"})).await;
    let changed = body(&world.patch(&at, json!({"spec": {"networks": []}})).await.expect("changed"));
    assert_eq!(changed["status"]["addresses"], json!([]));
    assert_eq!(changed["status"]["leaving"][0]["ip"], "10.77.0.2");
    assert_eq!(
        world.store.owner_of(
            &crate::claims::ip_space(world.store.get(&key("network", "default")).expect("there").id()),
            "10.77.0.2"
        ),
        Some(at)
    );
}

#[tokio::test]
async fn a_renamed_container_is_the_same_one() {
    let world = World::new().await;
    let made = body(
        &world.container("web", json!({"publish": [{"host": 8080, "guest": 80}]})).await.expect("created"),
    );
    world.container("late", json!({"after": [{"container": "web"}]})).await.expect("created");
    world.vm("db", json!({})).await.expect("created");
    world.set_status(&key("container", "late"), json!({"started_generation": 1})).await;
    let rename = async |name: Value| {
        world.intents.act(&caller(), &key("container", "web"), "rename", json!({"name": name})).await
    };
    for bad in [json!("-"), json!(null), json!(3)] {
        assert_eq!(fields(&rename(bad).await.expect_err("refused")), ["name"]);
    }
    assert_eq!(code(&rename(json!("late")).await.expect_err("taken")), ErrorCode::AlreadyExists);
    assert_eq!(
        code(&rename(json!("db")).await.expect_err("a VM's name on that network")),
        ErrorCode::Conflict
    );
    assert_eq!(rename(json!("web")).await.expect("so already").status, 200);

    let now = body(&rename(json!("front")).await.expect("renamed"));
    assert_eq!((&now["id"], &now["spec"]), (&made["id"], &made["spec"]));
    assert_eq!(now["status"]["addresses"], made["status"]["addresses"]);
    assert_eq!(now["status"]["renamed_from"], json!(["web"]));
    assert!(world.store.get(&key("container", "web")).is_none());
    let late = world.get(&key("container", "late"));
    assert_eq!(late["spec"]["after"][0]["container"], "front");
    assert_eq!((&late["generation"], &late["status"]["started_generation"]), (&json!(2), &json!(2)));
    let problem = refused(&world, json!({"publish": [{"host": 8080, "guest": 80}]})).await;
    assert!(problem.detail.contains("container/default/front"), "{problem}");
    let problem = world.intents.act(&caller(), &key("vm", "db"), "rename", json!({"name": "x"})).await;
    assert_eq!(code(&problem.expect_err("VMs have none")), ErrorCode::NotFound);
}

#[tokio::test]
async fn actions_say_what_is_wanted() {
    let world = World::new().await;
    world.container("web", json!({})).await.expect("created");
    let at = key("container", "web");
    world.set_status(&at, json!({"state": "running", "observed_generation": 1})).await;
    assert_eq!(world.act(&at, "start").await.expect("so already").status, 200);
    assert_eq!(body(&world.act(&at, "pause").await.expect("taken on"))["spec"]["desired"], "paused");
    assert_eq!(body(&world.act(&at, "resume").await.expect("taken on"))["spec"]["desired"], "running");
    assert_eq!(
        body(&world.act(&at, "restart").await.expect("taken on"))["status"]["restart_requested"],
        true
    );
    let held = body(&world.act(&at, "stop-until-boot").await.expect("taken on"));
    assert_eq!(
        (&held["spec"]["desired"], &held["status"]["held_boot"]),
        (&json!("running"), &json!("boot-1"))
    );
    assert_eq!(body(&world.act(&at, "start").await.expect("taken on"))["status"]["held_boot"], Value::Null);
    assert_eq!(body(&world.act(&at, "stop").await.expect("taken on"))["spec"]["desired"], "stopped");
    world.set_status(&at, json!({"state": "stopped"})).await;
    assert_eq!(code(&world.act(&at, "pause").await.expect_err("it is off")), ErrorCode::Conflict);
}

#[tokio::test]
async fn volumes_with_a_file_system_are_for_containers_and_stay_while_one_has_them() {
    let world = World::new().await;
    world.vm("web", json!({})).await.expect("created");
    let data =
        world.make("volume", json!({"name": "data", "spec": {"size": "16MiB", "mode": "filesystem"}})).await;
    assert_eq!(data["spec"]["format"], "raw", "a file system is kept raw");
    let on =
        |path: &str| json!({"mounts": [{"path": path, "source": {"volume": "data"}, "read_only": true}]});
    world.container("one", on("/data")).await.expect("created");
    world.container("two", on("/srv")).await.expect("several may have it");
    let volumes = json!({"spec": {"volumes": [{"volume": "data"}]}});
    let problem = world.patch(&key("vm", "web"), volumes).await.expect_err("it is no disk");
    assert_eq!((code(&problem), fields(&problem)), (ErrorCode::Unsupported, vec!["spec.volumes[0].volume"]));
    assert!(problem.hint.as_ref().is_some_and(|hint| hint.contains("--mode block")), "{problem:?}");

    let at = key("volume", "data");
    let problem = world.delete(&at).await.expect_err("in use");
    assert_eq!(code(&problem), ErrorCode::InUse);
    for user in ["container/default/one", "container/default/two"] {
        assert!(problem.detail.contains(user), "{problem}");
    }
    for (spec, field) in [
        (json!({"mode": "block"}), "spec.mode"),
        (json!({"format": "qcow2"}), "spec.format"),
        (json!({"size": "15MiB"}), "spec.size"),
        (json!({"image": "micro"}), "spec.image"),
    ] {
        let problem = world.patch(&at, json!({"spec": spec})).await.expect_err("refused");
        assert_eq!(fields(&problem), [field], "{problem}");
    }
    world.patch(&at, json!({"spec": {"size": "32MiB"}})).await.expect("it grows");
    let mut whole = json!({"size": "32MiB", "mode": "filesystem"});
    let draft = |spec: &Value| json!({"name": "data", "spec": spec});
    let again = world.intents.replace(&caller(), &at, draft(&whole), None).await;
    again.expect("the same without its format");
    whole["format"] = json!("qcow2");
    let problem = world.intents.replace(&caller(), &at, draft(&whole), None).await.expect_err("refused");
    assert_eq!(fields(&problem), ["spec.format"]);
}
