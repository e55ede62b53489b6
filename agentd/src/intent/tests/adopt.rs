//! Containers that somebody else made: what their specs say, and what is refused without a trace.

use agentd_api::container::AdoptWish;
use agentd_api::{ByteSize, ErrorCode, Problem};
use agentd_drivers::container::{
    Beyond, ContainerState, EngineRestart, ForeignDef, HealthWish, Limits, Mount, MountSource, Ulimit,
};
use serde_json::{Value, json};

use super::{World, body, caller, code, dry, fields, key, name};
use crate::intent::Reply;

fn wish(of: &str) -> AdoptWish {
    AdoptWish { container: of.to_owned(), name: None, networks: None, privileged: false }
}

async fn adopt(world: &World, wish: AdoptWish) -> Result<Reply, Problem> {
    world.intents.adopt(&caller(), &name("default"), wish).await
}

async fn refused(world: &World, wish: AdoptWish) -> Problem {
    let before = world.store.revision();
    let problem = adopt(world, wish.clone()).await.expect_err("refused");
    assert_eq!(world.store.revision(), before, "nothing is left of {wish:?}");
    problem
}

async fn adopted(change: impl FnOnce(&mut ForeignDef)) -> Value {
    let world = World::new().await;
    change(&mut world.stranger.lock());
    let made = adopt(&world, AdoptWish { privileged: true, ..wish("db") }).await.expect("adopted");
    assert_eq!(made.status, 201);
    body(&made)
}

#[tokio::test]
async fn a_plain_one_is_an_object_that_says_what_it_is() {
    let object = adopted(|def| def.env.push(("PATH".to_owned(), "/bin".to_owned()))).await;
    let id = "ab12".repeat(16);
    assert_eq!((&object["name"], &object["spec"]["image"]), (&json!("db"), &json!("tool:1")));
    assert_eq!(object["spec"]["command"], json!(["serve", "--all"]));
    assert_eq!(object["spec"]["env"], json!({"PATH": "/bin"}));
    assert_eq!(
        (&object["spec"]["desired"], &object["spec"]["restart"]),
        (&json!("running"), &json!("never"))
    );
    assert_eq!(object["spec"]["autostart"]["enabled"], false);
    assert_eq!(object["spec"]["networks"], json!([{"network": "default"}]));
    let status = &object["status"];
    assert_eq!((&status["engine_id"], &status["image_digest"]), (&json!(id), &json!("sha256:tool:1")));
    assert_eq!((&status["adopted"]["engine_id"], &status["adopted"]["name"]), (&json!(id), &json!("db")));
    assert_eq!(status["addresses"][0]["ip"], "10.77.0.2");
    assert_eq!(object["finalizers"], json!(["container", "network"]));
}

#[tokio::test]
async fn what_it_was_given_is_in_its_spec() {
    let object = adopted(|def| {
        def.seen.state = ContainerState::Paused;
        def.restart = EngineRestart::Always;
        def.limits = Limits {
            nanocpus: Some(1_500_000_000),
            cpu_shares: Some(512),
            cpuset: Some("0-1".to_owned()),
            memory: Some(ByteSize::mib(64)),
            swap: Some(ByteSize::mib(32)),
            pids: Some(50),
            ..Limits::default()
        };
        def.restraints.ulimits.push(Ulimit { name: "nofile".to_owned(), soft: 10, hard: u64::MAX });
        def.restraints.shm = Some(ByteSize::mib(1));
        def.mounts.push(Mount {
            source: MountSource::Bind("/srv/data/x".into()),
            target: "/x".to_owned(),
            read_only: true,
        });
        def.security.cap_add.push("NET_RAW".to_owned());
        (def.security.privileged, def.security.new_privileges) = (false, true);
        def.hostname = Some("ab12ab12ab12".to_owned());
        def.health = HealthWish::Off;
        def.grace = Some(3);
    })
    .await;
    let spec = &object["spec"];
    for (field, is) in [
        ("desired", json!("paused")),
        ("restart", json!("always")),
        ("cpus", json!(1.5)),
        ("cpu_shares", json!(50)),
        ("cpu_set", json!("0-1")),
        ("memory", json!("64MiB")),
        ("swap", json!("32MiB")),
        ("pids", json!(50)),
        ("shm", json!("1MiB")),
        ("ulimits", json!({"nofile": {"soft": 10, "hard": -1}})),
        ("mounts", json!([{"path": "/x", "source": {"bind": "/srv/data/x"}, "read_only": true}])),
        ("cap_add", json!(["NET_RAW"])),
        ("new_privileges", json!(true)),
        ("hostname", json!("ab12ab12ab12")),
        ("grace", json!("3s")),
    ] {
        assert_eq!(spec[field], is, "{field}");
    }
    assert_eq!(spec["health"]["command"], json!([]));
    assert!(spec["autostart"].is_null(), "it is started after a boot");
    // One that is on none of the engine's networks is on none of ours.
    let object = adopted(|def| def.networks.clear()).await;
    assert_eq!(object["spec"]["networks"], json!([]));
    // Another image has its name here.
    let object = adopted(|def| def.seen.image = "micro".to_owned()).await;
    assert_eq!(object["spec"]["image"], "sha256:tool:1");
}

#[tokio::test]
async fn all_that_no_spec_can_say_is_named_and_nothing_is_left() {
    let world = World::new().await;
    {
        let mut def = world.stranger.lock();
        def.beyond.push(Beyond { field: "HostConfig.NetworkMode".to_owned(), what: "host".to_owned() });
        let source = MountSource::Bind("/etc".into());
        def.mounts.push(Mount { source, target: "/host".to_owned(), read_only: false });
        def.limits.nanocpus = Some(1);
        def.hostname = Some("Not_A_Name".to_owned());
        def.restraints.ulimits.push(Ulimit { name: "strange".to_owned(), soft: 1, hard: 1 });
    }
    let problem = refused(&world, wish("db")).await;
    assert_eq!(code(&problem), ErrorCode::Unsupported);
    let named = fields(&problem);
    for field in
        ["HostConfig.NetworkMode", "HostConfig.NanoCpus", "Mounts", "Config.Hostname", "spec.ulimits.strange"]
    {
        assert!(named.contains(&field), "{field} in {named:?}");
    }
    assert!(problem.errors.iter().any(|e| e.message.contains("/etc")), "{problem:?}");
    assert!(world.store.owner_of(crate::claims::ENGINE, &"ab12".repeat(16)).is_none());
}

#[tokio::test]
async fn whose_it_is_and_what_it_is_called_is_asked_first() {
    let world = World::new().await;
    assert_eq!(code(&refused(&world, wish("nobody")).await), ErrorCode::NotFound);
    assert_eq!(code(&refused(&world, wish("unsaid")).await), ErrorCode::BackendUnavailable);
    world.stranger.lock().seen.daemon = Some("d00d".to_owned());
    assert_eq!(code(&refused(&world, wish("db")).await), ErrorCode::Conflict);
    world.stranger.lock().seen.daemon = None;
    world.stranger.lock().security.privileged = true;
    let problem = refused(&world, wish("db")).await;
    assert_eq!((code(&problem), fields(&problem)), (ErrorCode::Unsupported, vec!["privileged"]));
    world.stranger.lock().security.privileged = false;
    let none = AdoptWish { networks: Some(Vec::new()), ..wish("db") };
    assert_eq!(fields(&refused(&world, none).await), ["networks"]);
    world.container("db", json!({})).await.expect("created");
    assert_eq!(code(&refused(&world, wish("db")).await), ErrorCode::AlreadyExists);
    world.stranger.lock().seen.name = "Some_thing".to_owned();
    assert_eq!(fields(&refused(&world, wish("Some_thing")).await), ["name"]);

    let named = AdoptWish { name: Some(name("store")), ..wish("Some_thing") };
    let would = world.intents.adopt(&dry(), &name("default"), named.clone()).await.expect("would be");
    assert_eq!(would.status, 201);
    assert!(world.store.get(&key("container", "store")).is_none(), "it was a dry run");
    adopt(&world, named).await.expect("adopted");
    // Ours already, by whatever name.
    for (of, called) in [("Some_thing", "again"), (&*"ab12".repeat(16), "again")] {
        let wish = AdoptWish { name: Some(name(called)), ..wish(of) };
        let problem = refused(&world, wish).await;
        assert_eq!(code(&problem), ErrorCode::Conflict);
        assert!(problem.detail.contains("container/default/store"), "{problem}");
    }
}

#[tokio::test]
async fn of_two_who_adopt_it_one_does() {
    let world = World::new().await;
    let as_name = |of: &str| AdoptWish { name: Some(name(of)), ..wish("db") };
    let (one, other) = tokio::join!(adopt(&world, as_name("one")), adopt(&world, as_name("other")));
    let lost = match (one, other) {
        (Ok(_), Err(lost)) | (Err(lost), Ok(_)) => lost,
        both => panic!("{both:?}"),
    };
    assert_eq!(code(&lost), ErrorCode::Conflict);
}
