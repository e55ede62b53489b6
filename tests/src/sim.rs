//! An agentd-sim of a test's own, and agentctl spoken to it. Needs no root and no host of its own: the drivers are fakes.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::host::daemon::{Answer, binary};
use crate::host::{signal, wait_until};

/// How long anything in these tests may take that takes milliseconds.
pub const LIMIT: Duration = Duration::from_secs(30);

/// The daemon on fake drivers, in a folder that goes with it.
pub struct Sim {
    folder: tempfile::TempDir,
    arguments: Vec<String>,
    child: Option<Child>,
}

impl Sim {
    /// Starts it with further arguments, such as `--delay vm.start=200ms`, and waits until it answers.
    pub fn start(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let arguments = arguments.iter().map(|a| (*a).to_owned()).collect();
        let mut sim = Self { folder, arguments, child: None };
        sim.again();
        sim
    }

    /// Starts it on the state that it left.
    #[expect(clippy::disallowed_methods, reason = "a harness starts programs; the rule is for the daemon")]
    pub fn again(&mut self) {
        assert!(self.child.is_none(), "it runs already");
        let log =
            std::fs::OpenOptions::new().create(true).append(true).open(self.path("log")).expect("a log");
        let _ = std::fs::remove_file(self.path("control.sock"));
        let child = Command::new(binary("agentd-sim"))
            .arg("--state-dir")
            .arg(self.path("state"))
            .arg("--socket")
            .arg(self.socket())
            .arg("--control")
            .arg(self.path("control.sock"))
            .args(&self.arguments)
            .env_remove("AGENTD_CONFIG")
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("agentd-sim starts");
        self.child = Some(child);
        wait_until("agentd-sim answers", LIMIT, || {
            let ended = self.child.as_mut().and_then(|c| c.try_wait().ok().flatten());
            assert!(ended.is_none(), "agentd-sim ended ({ended:?}):\n{}", self.log());
            let answer = self.ctl(&["version"]);
            if answer.status == 0 { Ok(()) } else { Err(format!("{answer:?}\n{}", self.log())) }
        });
    }

    /// SIGKILL, and it is gone when this returns.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("a kill");
        child.wait().expect("an end");
    }

    pub fn signal(&self, what: Signal) {
        signal(self.child.as_ref().expect("it runs").id(), what);
    }

    /// SIGTERM, and it has ended when this returns.
    pub fn stop(&mut self) {
        let mut child = self.child.take().expect("it runs");
        signal(child.id(), Signal::SIGTERM);
        wait_until("agentd-sim ends", LIMIT, || match child.try_wait() {
            Ok(Some(status)) if status.success() => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
    /// A file in its folder, and its path as an argument.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        std::fs::write(self.path(name), content).expect("a file");
        self.path(name).to_string_lossy().into_owned()
    }
    pub fn socket(&self) -> PathBuf {
        self.path("agentd.sock")
    }
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// Tells the fakes something, such as `{"do":"hang","target":"vm.start"}`.
    pub fn order(&self, order: &Value) -> Value {
        let mut stream = UnixStream::connect(self.path("control.sock")).expect("the control socket");
        stream.write_all(format!("{order}\n").as_bytes()).expect("an order");
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).expect("an answer");
        let answer: Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(answer["ok"], true, "{order}: {answer}");
        answer
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        agentctl(&self.socket(), arguments)
    }
    pub fn ctl(&self, arguments: &[&str]) -> Answer {
        finished(self.command(arguments).output().expect("agentctl runs"))
    }
    /// agentctl that must succeed; gives its stdout.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let answer = self.ctl(arguments);
        assert_eq!(answer.status, 0, "agentctl {arguments:?}: {answer:?}\nagentd said:\n{}", self.log());
        answer.stdout
    }
    /// One object, or None where there is none.
    pub fn get(&self, object: &str) -> Option<Value> {
        let answer = self.ctl(&["get", object, "-o", "json"]);
        match answer.status {
            0 => Some(serde_json::from_str(&answer.stdout).expect("JSON")),
            3 => None,
            _ => panic!("get {object}: {answer:?}\n{}", self.log()),
        }
    }
    pub fn state(&self, object: &str) -> String {
        let found = self.get(object).unwrap_or_else(|| panic!("there is no {object}"));
        found["status"]["state"].as_str().unwrap_or_default().to_owned()
    }

    /// What was typed and what came of it, with all that differs from run to run made the same.
    pub fn transcript(&self, arguments: &[&str]) -> String {
        let answer = self.ctl(arguments);
        let mut text = format!("$ agentctl {}\n", arguments.join(" "));
        text.push_str(&answer.stdout);
        for line in answer.stderr.lines() {
            let _ = writeln!(text, "2> {line}");
        }
        let _ = writeln!(text, "exit {}", answer.status);
        steady(&text.replace(&*self.folder.path().to_string_lossy(), "/FOLDER"))
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// agentctl with nothing of the environment that would change what it does.
#[expect(clippy::disallowed_methods, reason = "a harness starts programs; the rule is for the daemon")]
pub fn agentctl(socket: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(binary("agentctl"));
    command.env_remove("AGENTD_SOCKET").env_remove("AGENTD_HOST");
    command.arg("--socket").arg(socket).args(arguments).stdin(Stdio::null());
    command
}

pub fn finished(output: std::process::Output) -> Answer {
    Answer {
        status: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Ids, times, ages and addresses of hardware as words of one shape. Widths stay, so that tables stay tables.
pub fn steady(text: &str) -> String {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | ':' | '.');
    let mut out = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|c| inner(c) != inner(first)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        // An age stands free or in brackets; a duration that was asked for stands in quotes or behind `=`.
        let free = out.chars().last().is_none_or(|c| c.is_whitespace() || c == '(');
        out.push_str(&if inner(first) { shape(word, free) } else { word.to_owned() });
        rest = after;
    }
    out
}

fn shape(word: &str, free: bool) -> String {
    let hex =
        |n: usize| word.len() == n && word.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-' || b == b':');
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if hex(36) && word.matches('-').count() == 4 {
        return "00000000-0000-0000-0000-000000000000".to_owned();
    }
    if hex(17) && word.matches(':').count() == 5 {
        return "52:54:00:00:00:00".to_owned();
    }
    if word.starts_with("20") && word.ends_with('Z') && word.contains('T') && word.contains(':') {
        return "2026-01-02T03:04:05Z".to_owned();
    }
    // A bridge is named after the daemon and the network.
    if word
        .strip_prefix("ag")
        .is_some_and(|rest| rest.len() == 9 && rest.bytes().all(|b| b.is_ascii_hexdigit()))
    {
        return "ag000000000".to_owned();
    }
    match word.strip_suffix('s') {
        Some(age) if free && digits(age) && age.len() < 3 => format!("{:width$}", "0s", width = word.len()),
        _ => word.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changes_is_made_the_same() {
        let text = "web  0197a1b2-0000-7000-8000-0123456789ab  10.77.0.2  52:54:00:ab:cd:ef  12s  1GiB (5s ago) \"30s\"\n";
        let same = "web  00000000-0000-0000-0000-000000000000  10.77.0.2  52:54:00:00:00:00  0s   1GiB (0s ago) \"30s\"\n";
        assert_eq!(steady(text), same);
        assert_eq!(steady("\"2026-11-28T17:40:00.123Z\""), "\"2026-01-02T03:04:05Z\"");
    }
}
