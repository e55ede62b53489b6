//! The flags of a container's spec, and the draft that they make: one file a group. What the daemon checks is not checked
//! here.

mod limits;
mod mounts;
mod policy;
mod program;
mod safety;

use agentd_api::{LabelKey, LabelValue};
use clap::Args;
use serde_json::{Map, Value, json};

use crate::noun::vm::{NetworkArgs, drafted, label};
use limits::LimitArgs;
pub use limits::LiveLimitArgs;
use mounts::MountArgs;
pub use policy::LifeArgs;
use policy::PolicyArgs;
use program::ProgramArgs;
use safety::SafetyArgs;

#[derive(Debug, Args)]
pub struct SpecArgs {
    /// The image that it is made of
    #[arg(long, value_name = "IMAGE")]
    pub image: String,
    #[command(flatten)]
    program: ProgramArgs,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    network: NetworkArgs,
    #[command(flatten)]
    mounts: MountArgs,
    /// A label
    #[arg(long = "label", value_name = "K=V", value_parser = label)]
    labels: Vec<(LabelKey, LabelValue)>,
    #[command(flatten)]
    policy: PolicyArgs,
    /// Delete it once it has stopped
    #[arg(long)]
    rm: bool,
    #[command(flatten)]
    safety: SafetyArgs,
}

impl SpecArgs {
    /// Whether its input is kept open.
    pub fn interactive(&self) -> bool {
        self.program.interactive
    }

    /// `running` says whether it is to be started.
    pub fn draft(&self, name: &str, command: &[String], running: bool) -> Value {
        let mut spec = Map::new();
        spec.insert("image".to_owned(), json!(self.image));
        spec.insert("desired".to_owned(), json!(if running { "running" } else { "stopped" }));
        if !command.is_empty() {
            spec.insert("command".to_owned(), json!(command));
        }
        self.program.fill(&mut spec);
        self.limits.fill(&mut spec);
        self.network.fill(&mut spec);
        self.mounts.fill(&mut spec);
        self.policy.fill(&mut spec);
        self.safety.fill(&mut spec);
        if self.rm {
            spec.insert("remove_when_stopped".to_owned(), json!(true));
        }
        drafted(name, &self.labels, spec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use agentd_api::container::Container;
    use agentd_api::registry;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        spec: SpecArgs,
    }

    fn parse(line: &str) -> Result<Line, clap::Error> {
        Line::try_parse_from(std::iter::once("run").chain(line.split_whitespace()))
    }

    #[test]
    fn a_draft_is_what_the_contract_takes() {
        let line = parse(
            "--image tool:1 --entrypoint /bin/serve --env A=b=c --cwd /srv --user 7:7 --hostname front --tty --interactive \
             --cpus 0.5 --cpu-shares 200 --cpu-set 0-1 --memory 64MiB --swap 0B --pids 20 --shm 8MiB \
             --ulimit nofile=10:20 --ulimit core=0 --disk-limit read=1MiB \
             --network default,ip=10.77.0.9 --publish 8080:80 --bind /srv/data:/data:ro --tmpfs /tmp:1MiB --tmpfs /run \
             --volume disk:/disk --label app=web --restart on-failure --grace 5s --stop-signal SIGINT --expire 2h \
             --autostart=false --after db --after db2:healthy --after vm/web:healthy \
             --health-cmd true --health-interval 5s --health-retries 2 --rm --read-only --cap-add NET_ADMIN \
             --cap-drop ALL --privileged",
        )
        .unwrap_or_else(|e| panic!("{e}"));
        let draft = line.spec.draft("web", &["run".to_owned(), "it".to_owned()], true);
        let parsed = registry::parse_spec::<Container>(&draft["spec"]).expect("a spec that the daemon takes");
        let mut normal = serde_json::to_value(&parsed).expect("json");
        for (field, usual) in [("timeout", json!("30s")), ("start_period", json!("0s"))] {
            assert_eq!(normal["health"][field].take(), usual);
        }
        let mut given = draft["spec"].clone();
        given["health"]["timeout"] = Value::Null;
        given["health"]["start_period"] = Value::Null;
        assert_eq!(normal, given, "nothing was lost or added");
        assert_eq!(draft["labels"], json!({"app": "web"}));
        assert_eq!(parsed.command, ["run", "it"]);
        assert_eq!(parsed.after.len(), 3);
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for bad in [
            "",
            "--image a --cpus one",
            "--image a --env A",
            "--image a --bind /a",
            "--image a --ulimit nofile",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        let plain = parse("--image a").unwrap_or_else(|e| panic!("{e}")).spec.draft("a", &[], false);
        assert_eq!(plain["spec"], json!({"image": "a", "desired": "stopped"}));
        let quiet = parse("--image a --no-health --entrypoint=").unwrap_or_else(|e| panic!("{e}"));
        let quiet = quiet.spec.draft("a", &[], false);
        assert_eq!(
            (&quiet["spec"]["health"]["command"], &quiet["spec"]["entrypoint"]),
            (&json!([]), &json!([]))
        );
    }
}
