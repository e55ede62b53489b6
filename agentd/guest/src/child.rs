//! The last step before a program: this program again, in the new process, which becomes what was asked for (a session
//! of its own with its terminal, a user, a folder) and then the program. That way nothing runs between fork and exec.

use std::ffi::{OsStr, OsString};
use std::fs::OpenOptions;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use nix::unistd::{Gid, Uid, dup2_stderr, dup2_stdin, dup2_stdout, setgid, setgroups, setsid, setuid};

/// The first argument that says so.
pub const WORD: &str = "--child";
/// What shells answer for what cannot be run, and for what is not there.
const CANNOT: u8 = 126;
const NOT_FOUND: u8 = 127;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    pub folder: String,
    /// The path of its terminal; it keeps what it has as input and output where empty.
    pub terminal: String,
}

impl Plan {
    /// As arguments, which the program's own follow.
    pub fn arguments(&self) -> Vec<OsString> {
        let groups: Vec<String> = self.groups.iter().map(u32::to_string).collect();
        let texts = [self.uid.to_string(), self.gid.to_string(), groups.join(",")];
        let texts = texts.into_iter().chain([self.folder.clone(), self.terminal.clone()]);
        [WORD.to_owned()].into_iter().chain(texts).map(OsString::from).collect()
    }

    fn read(arguments: &[OsString]) -> Option<Self> {
        let text = |n: usize| arguments.get(n)?.to_str().map(str::to_owned);
        let groups = text(2)?;
        let groups = groups.split(',').filter(|g| !g.is_empty()).map(|g| g.parse().ok());
        Some(Self {
            uid: text(0)?.parse().ok()?,
            gid: text(1)?.parse().ok()?,
            groups: groups.collect::<Option<_>>()?,
            folder: text(3)?,
            terminal: text(4)?,
        })
    }
}

/// Becomes the program, or says why not.
pub fn run(arguments: Vec<OsString>) -> ExitCode {
    let program = arguments.get(5..).and_then(<[_]>::split_first);
    let (Some(plan), Some((program, rest))) = (Plan::read(&arguments), program) else {
        eprintln!("agentd-guest: called in a way that is its own");
        return ExitCode::from(2);
    };
    match prepare(&plan) {
        Ok(()) => start(program, rest),
        Err(why) => {
            eprintln!("agentd-guest: {why}");
            ExitCode::from(CANNOT)
        }
    }
}

fn prepare(plan: &Plan) -> Result<(), String> {
    setsid().map_err(|e| format!("no session of its own: {e}"))?;
    if !plan.terminal.is_empty() {
        // The first terminal that the leader of a session opens becomes the session's.
        let terminal = OpenOptions::new().read(true).write(true).open(&plan.terminal);
        let terminal = terminal.map_err(|e| format!("{}: {e}", plan.terminal))?;
        let all =
            dup2_stdin(&terminal).and_then(|()| dup2_stdout(&terminal)).and_then(|()| dup2_stderr(&terminal));
        all.map_err(|e| format!("{}: {e}", plan.terminal))?;
    }
    let groups: Vec<Gid> = plan.groups.iter().copied().map(Gid::from_raw).collect();
    setgroups(&groups)
        .and_then(|()| setgid(Gid::from_raw(plan.gid)))
        .and_then(|()| setuid(Uid::from_raw(plan.uid)))
        .map_err(|e| format!("cannot become user {}: {e}", plan.uid))?;
    std::env::set_current_dir(&plan.folder).map_err(|e| format!("{}: {e}", plan.folder))
}

#[expect(
    clippy::disallowed_methods,
    reason = "this is no part of the daemon: running programs is what it is for"
)]
fn start(program: &OsStr, arguments: &[OsString]) -> ExitCode {
    let error = Command::new(program).args(arguments).exec();
    let name = Path::new(program).display();
    if error.kind() == std::io::ErrorKind::NotFound {
        eprintln!("agentd-guest: {name}: not found");
        return ExitCode::from(NOT_FOUND);
    }
    eprintln!("agentd-guest: {name}: {error}");
    ExitCode::from(CANNOT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_read_as_it_was_written() {
        let plan = Plan {
            uid: 1000,
            gid: 100,
            groups: vec![4, 27],
            folder: "/a b".to_owned(),
            terminal: String::new(),
        };
        assert_eq!(Plan::read(&plan.arguments()[1..]), Some(plan.clone()));
        let none = Plan { groups: Vec::new(), ..plan };
        assert_eq!(Plan::read(&none.arguments()[1..]), Some(none));
        assert_eq!(Plan::read(&["x".into()]), None);
    }
}
