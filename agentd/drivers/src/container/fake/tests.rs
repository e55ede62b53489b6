//! The fake passes the contract, and does what its controls say.

use std::net::Ipv4Addr;

use agentd_api::{ErrorCode, ObjectName};
use async_trait::async_trait;
use uuid::Uuid;

use super::*;
use crate::container::contract::{self, Bed, Does};
use crate::container::*;
use crate::fault::Classed;

struct FakeBed(FakeContainers);

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

/// A definition with nothing that is not needed.
fn plain(name: &str, command: Vec<String>) -> ContainerDef {
    let parse = |text| ObjectName::parse(text).expect("a name");
    let def = ContainerDef::new(Uuid::now_v7(), (parse("default"), parse(name)), "busybox");
    ContainerDef { command: Some(command), ..def }
}

#[async_trait]
impl Bed for FakeBed {
    fn driver(&self) -> &dyn ContainerDriver {
        &self.0
    }
    fn def(&self, name: &str, does: Does) -> ContainerDef {
        let command = match does {
            Does::Exits(code) => vec!["exit".to_owned(), code.to_string()],
            _ => words(&["sleep", "1000"]),
        };
        let def = plain(name, command);
        let none = format!("sha256:{:064x}", 0xdead_u32);
        self.0.set_image(&none, false);
        def
    }
    async fn begun(&self, def: &ContainerDef, does: Does) {
        match does {
            Does::Says => {
                self.0.program_says(def.id, false, "to out\n");
                self.0.program_says(def.id, true, "to err\n");
            }
            Does::StaysDeaf => self.0.ignore_stop(def.id, true),
            Does::Stays | Does::Exits(_) => {}
        }
    }
    fn exits(&self, code: u8) -> Vec<String> {
        vec!["exit".to_owned(), code.to_string()]
    }
    fn says_to_err(&self, text: &str) -> Vec<String> {
        words(&["err", text])
    }
    async fn network(&self, number: u8) -> EngineNetwork {
        EngineNetwork {
            id: Uuid::now_v7(),
            bridge: format!("agb{number}"),
            cidr: format!("10.231.{number}.0/24").parse().expect("a network"),
            gateway: Ipv4Addr::new(10, 231, number, 1),
        }
    }
    async fn device(&self) -> std::path::PathBuf {
        "/dev/fake".into()
    }
    async fn remove_behind(&self, seen: &ContainerSeen) {
        self.0.behind_our_back_remove(seen.id);
    }
    async fn stop_behind(&self, seen: &ContainerSeen) {
        self.0.behind_our_back_stop(seen.id);
    }
    async fn disconnect_behind(&self, seen: &ContainerSeen, network: Uuid) {
        self.0.behind_our_back_disconnect(seen.id, network);
    }
    async fn unlink_behind(&self, seen: &ContainerSeen, network: Uuid) {
        self.0.behind_our_back_unlink(seen.id, network);
    }
    async fn foreign(&self, name: &str) -> ForeignDef {
        let mut def = ForeignDef::plain(name, "busybox", &["sleep", "1000"]);
        def.seen.engine_id = self.0.add_foreign(def.clone());
        def
    }
    async fn foreign_privileged(&self, name: &str) -> String {
        let mut def = ForeignDef::plain(name, "busybox", &["sleep", "1000"]);
        def.seen.state = ContainerState::Created;
        def.security.privileged = true;
        self.0.add_foreign(def)
    }
}

#[tokio::test]
async fn the_fake_holds_the_contract() {
    contract::hold(&FakeBed(FakeContainers::new())).await;
}

#[tokio::test]
async fn while_it_is_away_every_call_says_so_and_its_coming_back_is_told() {
    let fake = FakeContainers::new();
    let def = plain("web", words(&["sleep"]));
    fake.ensure_created(&def).await.expect("made");
    fake.set_available(false);
    let error = fake.observe(def.id).await.expect_err("away");
    assert_eq!(error.code(), ErrorCode::BackendUnavailable);
    assert!(fake.exec(def.id, Default::default()).await.is_err());
    let mut events = fake.events();
    fake.set_available(true);
    assert_eq!(events.recv().await.expect("told"), ContainerEvent { id: None });
    assert!(fake.observe(def.id).await.expect("back").is_some());
}

#[tokio::test]
async fn a_call_goes_on_when_its_caller_stops_waiting() {
    let fake = FakeContainers::new();
    let def = plain("web", words(&["sleep"]));
    fake.ensure_created(&def).await.expect("made");
    fake.hang("start");
    let left = tokio::time::timeout(std::time::Duration::from_millis(10), fake.start(def.id)).await;
    assert!(left.is_err());
    let mut events = fake.events();
    fake.release("start");
    assert_eq!(events.recv().await.expect("told").id, Some(def.id));
    let seen = fake.observe(def.id).await.expect("observed").expect("there");
    assert_eq!(seen.state, ContainerState::Running);
}

#[tokio::test]
async fn what_a_program_comes_to_is_seen() {
    let fake = FakeContainers::new();
    let def = plain("web", words(&["sleep"]));
    fake.ensure_created(&def).await.expect("made");
    fake.start(def.id).await.expect("started");
    fake.set_health(def.id, HealthState::Unhealthy, "no answer");
    let seen = fake.observe(def.id).await.expect("observed").expect("there");
    assert_eq!(seen.health.map(|health| health.state), Some(HealthState::Unhealthy));
    fake.program_runs_out_of_memory(def.id);
    let seen = fake.observe(def.id).await.expect("observed").expect("there");
    assert!(seen.exit.is_some_and(|exit| exit.oom && exit.code == 137) && seen.health.is_none());
}
