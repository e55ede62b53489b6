//! Rules for our bridges in tables that others keep with iptables: Docker's, ufw's.
//!
//! A drop in any table is final, so what our own table accepts must also pass the others'. Where Docker's chain
//! DOCKER-USER is there (Docker sets FORWARD to DROP, and drops even traffic within a bridge that it does not know), or
//! FORWARD drops what it does not know, they are led first to a chain of ours: `AGENTD-<tag>`. It accepts only what
//! goes from or to our bridges, which our own table has filtered, and leaves to Docker what goes to its containers, but
//! for the answers of published ports that these asked. Docker up to 27 drops those: it knows a bridge of ours that has
//! containers as a network of its own, and lets nothing pass from one to another (DOCKER-ISOLATION-STAGE-2), not even
//! answers, since its own published ports are led there by a program of the host (docker-proxy).
//! Where INPUT drops, `AGENTD-<tag>-IN` accepts DHCP and DNS from our bridges.
//!
//! Without iptables there is no such table, and nothing is done.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::failed_to;
use crate::exec::{ExecError, Program};
use crate::network::NetworkError;

/// How long to wait for whoever else is changing these tables.
const WAIT: &str = "10";
/// Answers over connections that were begun from beyond, to an address that led to the guest: those of published ports.
/// A guest cannot begin one.
const ANSWERS: &str = "-m conntrack --ctstate DNAT --ctdir REPLY";
/// Docker's chains that say what gets onto which of its bridges. The second (up to 28.0) and the last know those of
/// `--internal` networks, to which nothing is led through `DOCKER`; 28.0 names the others in the first three only.
const DOCKERS: [&str; 4] =
    ["DOCKER", "DOCKER-ISOLATION-STAGE-1", "DOCKER-ISOLATION-STAGE-2", "DOCKER-INTERNAL"];

/// Makes it so for the `bridges` of the daemon of that tag, where it is not; without bridges our chains are removed.
pub async fn ensure_beside(tag: &str, bridges: &[String]) -> Result<(), NetworkError> {
    let listing = match Program::new("iptables").args(["-w", WAIT, "-S"]).run().await {
        Ok(listing) => String::from_utf8_lossy(&listing).into_owned(),
        Err(ExecError::Missing(_)) => return Ok(()),
        // 4: somebody else held the lock all the time. Others: this kernel or this table is not for iptables, so
        // iptables drops nothing here.
        Err(ExecError::Status { status, stderr, .. }) if !status.ends_with(": 4") => {
            tracing::debug!(%stderr, "iptables cannot be listed: taken as not in use");
            return Ok(());
        }
        Err(error) => return Err(failed_to("reading iptables")(error)),
    };
    let Some(change) = plan_beside(&listing, tag, bridges) else { return Ok(()) };
    let restore = Program::new("iptables-restore").args(["-w", WAIT, "--noflush"]).stdin(change);
    restore.run().await.map_err(failed_to("adding our bridges to iptables")).map(|_| ())
}

/// The input of `iptables-restore --noflush` that makes it so, or None where it is. `listing` is what `iptables -S`
/// prints.
pub fn plan_beside(listing: &str, tag: &str, bridges: &[String]) -> Option<String> {
    let tables = Listing { lines: listing.lines().collect() };
    let wanted = !bridges.is_empty();
    let forward = match wanted {
        true if tables.has_chain("DOCKER-USER") => Some("DOCKER-USER"),
        true if tables.drops("FORWARD") => Some("FORWARD"),
        _ => None,
    };
    let input = (wanted && tables.drops("INPUT")).then_some("INPUT");
    let through = Ours { chain: format!("AGENTD-{tag}"), hook: forward, rules: tables.passing(bridges) };
    let to_host = Ours { chain: format!("AGENTD-{tag}-IN"), hook: input, rules: serving(bridges) };
    let changes: String = [through, to_host].iter().filter_map(|ours| ours.change(&tables, tag)).collect();
    (!changes.is_empty()).then(|| format!("*filter\n{changes}COMMIT\n"))
}

fn serving(bridges: &[String]) -> Vec<String> {
    let rules = ["-p udp -m udp --dport 67", "-p udp -m udp --dport 53", "-p tcp -m tcp --dport 53"];
    bridges.iter().flat_map(|b| rules.iter().map(move |rule| format!("-i {b} {rule} -j ACCEPT"))).collect()
}

/// A chain of ours and the chain that must jump to it, None where it must not be.
struct Ours {
    chain: String,
    hook: Option<&'static str>,
    rules: Vec<String>,
}

impl Ours {
    fn change(&self, tables: &Listing<'_>, tag: &str) -> Option<String> {
        let chain = &self.chain;
        let jump = format!("-m comment --comment \"agentd {tag}\" -j {chain}");
        let jumps = tables.jumps_to(chain);
        let Some(hook) = self.hook else {
            return tables.has_chain(chain).then(|| {
                let mut change = format!(":{chain} - [0:0]\n");
                remove(&mut change, &jumps);
                let _ = writeln!(change, "-X {chain}");
                change
            });
        };
        let placed = jumps == [format!("{hook} {jump}")] && tables.comes_first(hook, chain);
        if placed && tables.rules(chain).eq(self.rules.iter().map(String::as_str)) {
            return None;
        }
        let mut change = format!(":{chain} - [0:0]\n");
        remove(&mut change, &jumps);
        for rule in &self.rules {
            let _ = writeln!(change, "-A {chain} {rule}");
        }
        let _ = writeln!(change, "-I {hook} 1 {jump}");
        Some(change)
    }
}

fn remove(change: &mut String, jumps: &[&str]) {
    for jump in jumps {
        let _ = writeln!(change, "-D {jump}");
    }
}

struct Listing<'a> {
    lines: Vec<&'a str>,
}

impl<'a> Listing<'a> {
    fn has_chain(&self, chain: &str) -> bool {
        self.lines.iter().any(|line| line.strip_prefix("-N ") == Some(chain))
    }
    fn rules(&self, chain: &str) -> impl Iterator<Item = &'a str> {
        let start = format!("-A {chain} ");
        self.lines.iter().filter_map(move |line| line.strip_prefix(&start))
    }
    /// Whether a chain ends what no rule of it accepts: by its policy, or by a rule for everything.
    fn drops(&self, chain: &str) -> bool {
        let policy = format!("-P {chain} DROP");
        let last = |rule: &str| rule == "-j DROP" || rule.starts_with("-j REJECT");
        self.lines.contains(&policy.as_str()) || self.rules(chain).any(last)
    }
    /// Each jump to `chain`, as `<from> <rule>`.
    fn jumps_to(&self, chain: &str) -> Vec<&'a str> {
        let end = format!(" -j {chain}");
        self.lines.iter().filter(|l| l.ends_with(&end)).filter_map(|l| l.strip_prefix("-A ")).collect()
    }
    /// Whether nothing but jumps of agentd daemons stands before the jump to `chain`.
    fn comes_first(&self, hook: &str, chain: &str) -> bool {
        let target = |rule: &str| rule.rsplit_once(" -j ").map(|(_, to)| to.to_owned());
        self.rules(hook)
            .map(target)
            .find(|to| !to.as_ref().is_some_and(|t| t.starts_with("AGENTD-") && t != chain))
            == Some(Some(chain.to_owned()))
    }
    /// The bridges of Docker's networks.
    fn docker_bridges(&self) -> BTreeSet<&'a str> {
        self.lines.iter().copied().filter_map(onto_docker).collect()
    }
    fn passing(&self, bridges: &[String]) -> Vec<String> {
        let mut docker = self.docker_bridges();
        docker.retain(|bridge| !bridges.iter().any(|ours| ours == bridge));
        let mut rules = Vec::new();
        if !docker.is_empty() {
            rules.extend(bridges.iter().map(|bridge| format!("-i {bridge} {ANSWERS} -j ACCEPT")));
        }
        rules.extend(docker.iter().map(|bridge| format!("-o {bridge} -j RETURN")));
        for bridge in bridges {
            rules.extend([format!("-i {bridge} -j ACCEPT"), format!("-o {bridge} -j ACCEPT")]);
        }
        rules
    }
}

/// The bridge of Docker's onto which a rule of Docker's lets packets, or does not.
fn onto_docker(line: &str) -> Option<&str> {
    let (chain, rule) = line.strip_prefix("-A ")?.split_once(' ')?;
    let dockers = DOCKERS.contains(&chain) || rule.ends_with("-j DOCKER");
    let (before, after) = line.split_once(" -o ")?;
    let bridge = after.split(' ').next()?;
    let plain = bridge.bytes().all(|c| c.is_ascii_alphanumeric() || b"._-".contains(&c));
    (dockers && plain && !before.ends_with(" !")).then_some(bridge)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAG: &str = "0a0b0c0d";
    const DOCKER: &str = "-P INPUT ACCEPT\n-P FORWARD DROP\n-P OUTPUT ACCEPT\n-N DOCKER\n-N DOCKER-USER\n\
        -A FORWARD -j DOCKER-USER\n-A FORWARD -o docker0 -j DOCKER\n-A DOCKER-USER -j RETURN\n";

    fn bridges() -> Vec<String> {
        vec!["agb1".to_owned()]
    }

    #[test]
    fn a_host_that_drops_nothing_is_left_alone() {
        assert_eq!(plan_beside("-P INPUT ACCEPT\n-P FORWARD ACCEPT\n", TAG, &bridges()), None);
        assert_eq!(plan_beside("", TAG, &bridges()), None);
        assert_eq!(plan_beside(DOCKER, TAG, &[]), None);
    }

    #[test]
    fn beside_docker_our_chain_stands_first_and_leaves_containers_to_docker() {
        let change = plan_beside(DOCKER, TAG, &bridges()).expect("a change");
        assert_eq!(
            change,
            "*filter\n:AGENTD-0a0b0c0d - [0:0]\n\
             -A AGENTD-0a0b0c0d -i agb1 -m conntrack --ctstate DNAT --ctdir REPLY -j ACCEPT\n\
             -A AGENTD-0a0b0c0d -o docker0 -j RETURN\n\
             -A AGENTD-0a0b0c0d -i agb1 -j ACCEPT\n-A AGENTD-0a0b0c0d -o agb1 -j ACCEPT\n\
             -I DOCKER-USER 1 -m comment --comment \"agentd 0a0b0c0d\" -j AGENTD-0a0b0c0d\nCOMMIT\n"
        );
    }

    /// The rules that our chain gets beside those.
    fn passing(docker: &str) -> Vec<String> {
        Listing { lines: docker.lines().collect() }.passing(&bridges())
    }

    const ANSWERED: &str = "-i agb1 -m conntrack --ctstate DNAT --ctdir REPLY -j ACCEPT";
    const OURS: [&str; 2] = ["-i agb1 -j ACCEPT", "-o agb1 -j ACCEPT"];

    #[test]
    fn a_bridge_of_ours_that_docker_knows_too_answers_dockers_containers_and_is_not_left_to_docker() {
        let known = "-A FORWARD -o agb1 -j DOCKER\n-A DOCKER-ISOLATION-STAGE-1 -i agb1 ! -o agb1 -j \
            DOCKER-ISOLATION-STAGE-2\n-A DOCKER-ISOLATION-STAGE-2 -o agb1 -j DROP\n";
        let beside = passing(&(DOCKER.to_owned() + known));
        assert_eq!(beside, [ANSWERED, "-o docker0 -j RETURN", OURS[0], OURS[1]]);
        assert_eq!(passing(known), OURS, "there is nobody else whom Docker would keep from it");
    }

    #[test]
    fn dockers_networks_are_found_in_the_rules_of_each_version() {
        let to_27 = "-A FORWARD -o docker0 -j DOCKER\n-A FORWARD -i docker0 ! -o docker0 -j ACCEPT\n\
            -A DOCKER-ISOLATION-STAGE-1 ! -s 172.18.0.0/16 -o br-shut -j DROP\n\
            -A DOCKER-ISOLATION-STAGE-1 ! -d 172.18.0.0/16 -i br-shut -j DROP\n\
            -A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2\n\
            -A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP\n";
        let first_28 = "-A FORWARD -m set --match-set docker-ext-bridges-v4 dst -j DOCKER\n\
            -A DOCKER ! -i docker0 -o docker0 -j DROP\n\
            -A DOCKER-ISOLATION-STAGE-1 ! -s 172.18.0.0/16 -o br-shut -j DROP\n";
        let later_28 = "-A DOCKER-BRIDGE -o docker0 -j DOCKER\n-A DOCKER-FORWARD -i docker0 -j ACCEPT\n\
            -A DOCKER-INTERNAL ! -s 172.18.0.0/16 -o br-shut -j DROP\n";
        for rules in [to_27, first_28, later_28] {
            let left = ["-o br-shut -j RETURN", "-o docker0 -j RETURN"];
            assert_eq!(passing(rules), [ANSWERED, left[0], left[1], OURS[0], OURS[1]], "{rules}");
        }
        let others =
            "-A DOCKER-USER -o eth0 -j DROP\n-A FORWARD -o virbr0 -j REJECT\n-A DOCKER -o br+ -j DROP\n";
        assert_eq!(passing(others), OURS, "what is not a bridge of Docker's");
    }

    #[test]
    fn what_is_so_already_is_not_changed_and_what_was_removed_is_put_back() {
        let ours = "-N AGENTD-0a0b0c0d\n\
             -A AGENTD-0a0b0c0d -i agb1 -m conntrack --ctstate DNAT --ctdir REPLY -j ACCEPT\n\
             -A AGENTD-0a0b0c0d -o docker0 -j RETURN\n\
             -A AGENTD-0a0b0c0d -i agb1 -j ACCEPT\n-A AGENTD-0a0b0c0d -o agb1 -j ACCEPT\n";
        let jump = "-A DOCKER-USER -m comment --comment \"agentd 0a0b0c0d\" -j AGENTD-0a0b0c0d\n";
        let neighbour = "-A DOCKER-USER -m comment --comment \"agentd ffff0000\" -j AGENTD-ffff0000\n";
        let so = DOCKER.replace("-A DOCKER-USER", &format!("{neighbour}{jump}-A DOCKER-USER")) + ours;
        assert_eq!(plan_beside(&so, TAG, &bridges()), None);
        let late = DOCKER.to_owned() + jump + ours;
        let change = plan_beside(&late, TAG, &bridges()).expect("the jump moves to the front");
        assert!(
            change.contains("-D DOCKER-USER -m comment") && change.contains("-I DOCKER-USER 1 "),
            "{change}"
        );
        let unhooked = DOCKER.to_owned() + ours;
        assert!(plan_beside(&unhooked, TAG, &bridges()).expect("put back").contains("-I DOCKER-USER 1 "));
    }

    #[test]
    fn without_networks_nothing_of_ours_stays() {
        let ours = "-N AGENTD-0a0b0c0d\n-A FORWARD -m comment --comment \"agentd 0a0b0c0d\" -j AGENTD-0a0b0c0d\n\
             -A AGENTD-0a0b0c0d -i agb1 -j ACCEPT\n";
        let change = plan_beside(&(DOCKER.to_owned() + ours), TAG, &[]).expect("a change");
        assert_eq!(
            change,
            "*filter\n:AGENTD-0a0b0c0d - [0:0]\n\
             -D FORWARD -m comment --comment \"agentd 0a0b0c0d\" -j AGENTD-0a0b0c0d\n\
             -X AGENTD-0a0b0c0d\nCOMMIT\n"
        );
    }

    #[test]
    fn a_firewall_that_drops_lets_guests_ask_for_addresses_and_names() {
        let ufw = "-P INPUT DROP\n-P FORWARD DROP\n-P OUTPUT ACCEPT\n";
        let change = plan_beside(ufw, TAG, &bridges()).expect("a change");
        assert!(change.contains("-I FORWARD 1 ") && change.contains("-I INPUT 1 "), "{change}");
        assert!(
            change.contains("-A AGENTD-0a0b0c0d-IN -i agb1 -p udp -m udp --dport 67 -j ACCEPT"),
            "{change}"
        );
    }
}
