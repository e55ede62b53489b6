//! Ports that a program of the host listens on: refused with who that is, where they are newly asked for.

use agentd_api::Protocol;
use agentd_drivers::network::Holder;
use uuid::Uuid;

use super::*;
use crate::intent::Imported;

const FIELD: &str = "spec.publish[0].host";
const NGINX: &str = "port 8080/tcp is taken on this host by nginx (pid 812)";

/// nginx, there alone.
fn nginx(address: &str, port: u16) -> Listener {
    let holder = Holder::Program { name: "nginx".to_owned(), pid: 812 };
    let address = address.parse().expect("an address");
    Listener { protocol: Protocol::Tcp, address, port, holder }
}

fn publish(ports: &[&str]) -> Value {
    let ports: Vec<PortMap> = ports.iter().map(|port| port.parse().expect("a port")).collect();
    json!({"publish": ports})
}

fn spec(more: Value) -> Value {
    json!({"spec": more})
}

impl World {
    fn listen(&self, listeners: Vec<Listener>) {
        *self.ports.answer.lock() = Ok(listeners);
    }
    /// The ports that the host was asked for since the last time.
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.ports.asked.lock())
    }
}

fn is_refused(problem: &Problem, detail: &str, what: &str) {
    assert_eq!((code(problem), problem.status), (ErrorCode::Conflict, 409), "{what}: {problem}");
    assert_eq!((fields(problem), problem.detail.as_str()), (vec![FIELD], detail), "{what}");
    assert!(problem.hint.is_some(), "{what}");
}

#[tokio::test]
async fn a_port_that_a_program_has_is_refused_with_who_it_is() {
    let world = World::new().await;
    world.vm("web", json!({})).await.expect("created");
    world.container("box", json!({})).await.expect("created");
    let (web, tool) = (key("vm", "web"), key("container", "box"));
    world.listen(vec![nginx("0.0.0.0", 8080)]);
    let taken = publish(&["8080:80"]);

    is_refused(&world.refused_vm(taken.clone()).await, NGINX, "a new VM");
    let new = json!({"name": "bad", "spec": {"image": "tool", "publish": taken["publish"]}});
    is_refused(&world.refused("container", new.clone()).await, NGINX, "a new container");
    let problem = world.create_as(&dry(), "container", new).await.expect_err("it would be refused");
    is_refused(&problem, NGINX, "a dry run");
    for at in [&web, &tool] {
        let before = world.store.revision();
        let problem = world.patch(at, spec(taken.clone())).await.expect_err("refused");
        is_refused(&problem, NGINX, "a patch");
        let mut whole = world.get(at);
        whole["spec"]["publish"] = taken["publish"].clone();
        let problem = world.intents.replace(&caller(), at, whole, None).await.expect_err("refused");
        is_refused(&problem, NGINX, "a replacement");
        assert_eq!(world.store.revision(), before, "nothing is left");
    }
    let imported =
        Imported { vm: name("far"), vm_id: Uuid::nil(), digest: "sha256:aa".to_owned(), set: None };
    let draft = json!({"name": "far", "spec": vm_spec(json!({}))});
    let (who, project, change) = (caller(), name("default"), spec(taken.clone()));
    let problem = world.intents.import(&who, &project, (draft, change), imported).await.expect_err("refused");
    is_refused(&problem, NGINX, "an import");
    world.set_status(&web, json!({"state": "running", "image_digest": "sha256:aa"})).await;
    let clone = json!({"source": {"vm": "web"}, "publish": taken["publish"]});
    is_refused(&world.refused_vm(clone).await, NGINX, "a clone");

    world.listen(Vec::new());
    world.vm("next", taken).await.expect("nginx has ended");
}

#[tokio::test]
async fn what_an_object_publishes_already_is_its_own() {
    let world = World::new().await;
    world.vm("web", publish(&["8080:80", "127.0.0.1:9000:90"])).await.expect("created");
    let web = key("vm", "web");
    assert_eq!(world.asked(), ["8080:80/tcp", "127.0.0.1:9000:90/tcp"]);
    world.listen(vec![nginx("0.0.0.0", 8080), nginx("127.0.0.1", 9000)]);

    // The host is not even asked.
    world.patch(&web, json!({"labels": {"a": "b"}})).await.expect("changed");
    world.patch(&web, spec(json!({"cpus": 2}))).await.expect("changed");
    world.patch(&web, spec(publish(&["127.0.0.1:9000:90", "8080:81"]))).await.expect("changed");
    let whole = world.get(&web);
    world.intents.replace(&caller(), &web, whole, None).await.expect("as it is");
    world.act(&web, "stop").await.expect("stopped");
    world.vm("lone", json!({})).await.expect("created");
    assert_eq!(world.asked(), Vec::<String>::new());

    // It is for what is new of it, and about that alone.
    let more = ["127.0.0.1:9000:90", "8080:81", "8081:80"];
    world.patch(&web, spec(publish(&more))).await.expect("changed");
    assert_eq!(world.asked(), ["8081:80/tcp"]);
    let everywhere = spec(publish(&["9000:90", "8080:81"]));
    let problem = world.patch(&web, everywhere).await.expect_err("more addresses than it had");
    is_refused(&problem, "port 9000/tcp is taken on this host by nginx (pid 812)", "all addresses");

    // What was given back is newly asked for.
    world.patch(&web, spec(json!({"publish": null}))).await.expect("changed");
    let problem = world.patch(&web, spec(publish(&["8080:80"]))).await.expect_err("nginx has it now");
    is_refused(&problem, NGINX, "what was given back");
}

#[tokio::test]
async fn only_who_would_lose_its_callers_is_in_the_way() {
    let world = World::new().await;
    world.listen(vec![nginx("127.0.0.1", 8080), nginx("::1", 8081)]);
    // Its own loopback is among the addresses that a port without one is published on.
    let problem = world.refused_vm(publish(&["8080:80"])).await;
    is_refused(&problem, NGINX, "all addresses");
    let hint = problem.hint.expect("a hint");
    assert!(hint.contains("it listens on 127.0.0.1") && hint.contains("ADDRESS:8080:80/tcp"), "{hint}");
    let problem = world.refused_vm(publish(&["127.0.0.1:8080:80"])).await;
    is_refused(&problem, NGINX, "its address");
    assert!(!problem.hint.expect("a hint").contains("ADDRESS"), "the same address would not do");
    for (n, free) in ["192.0.2.1:8080:80", "8080:80/udp", "8081:80", "8082:8080"].into_iter().enumerate() {
        world.vm(&format!("free-{n}"), publish(&[free])).await.unwrap_or_else(|e| panic!("{free}: {e}"));
    }
    // Whoever has it of ours is the nearer answer.
    world.listen(vec![nginx("0.0.0.0", 8082)]);
    let problem = world.refused_vm(publish(&["8082:80"])).await;
    assert!(problem.detail.contains("vm/default/free-3"), "{problem}");

    *world.ports.answer.lock() = Err("no /proc".to_owned());
    let problem = world.refused_vm(publish(&["7000:80"])).await;
    assert_eq!(code(&problem), ErrorCode::BackendUnavailable);
    assert!(problem.detail.contains("no /proc"), "{problem}");
    world.vm("lone", json!({})).await.expect("it publishes none");
}
