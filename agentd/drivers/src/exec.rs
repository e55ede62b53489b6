//! Starts programs. The only place of agentd that does.
//!
//! A program is named by its absolute path (found once, in a fixed list of folders and not in $PATH), takes a list of
//! arguments and never a shell's line, has a deadline, and its stderr is part of the error. Its environment is cleared
//! but for PATH, the locale C and what the caller adds. A program past its deadline, or whose caller's token is
//! cancelled, is killed with its whole process group, and waited for.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

const FOLDERS: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];
/// How much of a program's stdout is kept.
const STDOUT_MAX: u64 = 32 << 20;
/// How much of the end of its stderr goes into an error.
const STDERR_SHOWN: usize = 2000;
const STDERR_MAX: u64 = 1 << 20;

#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    #[error("{0} is not installed")]
    Missing(String),
    #[error("{program} could not be started")]
    Start { program: String, source: std::io::Error },
    #[error("{program} failed ({status}): {stderr}")]
    Status { program: String, status: String, stderr: String },
    #[error("{program} was not done after {} s and was killed", deadline.as_secs())]
    Deadline { program: String, deadline: Duration },
    #[error("{program} was stopped")]
    Cancelled { program: String },
    #[error("{program} wrote more than {STDOUT_MAX} bytes")]
    Output { program: String },
}

/// Where a program is, or an error that names it.
pub fn find(program: &str) -> Result<PathBuf, ExecError> {
    if program.starts_with('/') && Path::new(program).is_file() {
        return Ok(PathBuf::from(program));
    }
    FOLDERS
        .iter()
        .map(|folder| Path::new(folder).join(program))
        .find(|path| path.is_file())
        .ok_or_else(|| ExecError::Missing(program.to_owned()))
}

/// A program about to be run.
#[derive(Debug)]
pub struct Program {
    name: String,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    stdin: Vec<u8>,
    folder: Option<PathBuf>,
    deadline: Duration,
    cancel: Option<CancellationToken>,
}

impl Program {
    /// `name` is a program's name or absolute path. The deadline is 30 s unless told otherwise.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            arguments: Vec::new(),
            environment: Vec::new(),
            stdin: Vec::new(),
            folder: None,
            deadline: Duration::from_secs(30),
            cancel: None,
        }
    }
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|a| a.as_ref().to_owned()));
        self
    }
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((key.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }
    pub fn folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }
    pub fn cancel(mut self, token: CancellationToken) -> Self {
        self.cancel = Some(token);
        self
    }

    /// Runs it to its end. Ok with its stdout when it exits with 0.
    pub async fn run(self) -> Result<Vec<u8>, ExecError> {
        self.run_watched(|_| ()).await
    }

    /// As [`run`](Self::run); every line that it writes to stderr is also given to `line` as it comes.
    pub async fn run_watched(self, mut line: impl FnMut(&str) + Send) -> Result<Vec<u8>, ExecError> {
        let program = self.name.clone();
        let (deadline, cancel) = (self.deadline, self.cancel.clone().unwrap_or_default());
        let stdin = self.stdin.clone();
        let mut child = self
            .command()?
            .spawn()
            .map_err(|source| ExecError::Start { program: program.clone(), source })?;
        let group = child.id();
        let (mut to, out, err) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let work = async {
            let feed = async {
                if let Some(mut pipe) = to.take() {
                    // A program that does not read to the end says why on stderr, not through this error.
                    let _ = pipe.write_all(&stdin).await;
                }
            };
            let ((), stdout, stderr) =
                tokio::join!(feed, read_up_to(out, STDOUT_MAX), read_lines(err, &mut line));
            (child.wait().await, stdout, stderr)
        };
        // Cancel safety: all three arms end the call; `work` holds nothing that outlives it but the child, which is
        // killed below and is also killed when dropped.
        let (status, stdout, stderr) = tokio::select! {
            done = work => done,
            () = tokio::time::sleep(deadline) => {
                kill_group(group);
                return Err(ExecError::Deadline { program, deadline });
            }
            () = cancel.cancelled() => {
                kill_group(group);
                return Err(ExecError::Cancelled { program });
            }
        };
        let status = status.map_err(|source| ExecError::Start { program: program.clone(), source })?;
        if !status.success() {
            return Err(ExecError::Status { program, status: status.to_string(), stderr: tail(&stderr) });
        }
        if stdout.len() as u64 > STDOUT_MAX {
            return Err(ExecError::Output { program });
        }
        Ok(stdout)
    }

    #[expect(clippy::disallowed_methods, reason = "this is the one place that starts programs")]
    fn command(&self) -> Result<tokio::process::Command, ExecError> {
        let mut command = tokio::process::Command::new(find(&self.name)?);
        command.args(&self.arguments).env_clear().env("PATH", FOLDERS.join(":")).env("LC_ALL", "C.UTF-8");
        for key in ["http_proxy", "https_proxy", "no_proxy", "TMPDIR"] {
            if let Some(value) = std::env::var_os(key) {
                command.env(key, value);
            }
        }
        command.envs(self.environment.iter().map(|(k, v)| (k, v)));
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        let stdin = if self.stdin.is_empty() { Stdio::null() } else { Stdio::piped() };
        command
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        Ok(command)
    }
}

fn kill_group(group: Option<u32>) {
    let Some(pid) = group.and_then(|pid| i32::try_from(pid).ok()) else { return };
    let _ = nix::sys::signal::killpg(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
}

async fn read_up_to(from: Option<impl AsyncRead + Unpin>, most: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = from {
        let _ = (&mut pipe).take(most + 1).read_to_end(&mut bytes).await;
        // The rest is read and thrown away, so that the program ends by itself rather than by a broken pipe.
        let _ = tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await;
    }
    bytes
}

async fn read_lines(from: Option<impl AsyncRead + Unpin>, line: &mut (impl FnMut(&str) + Send)) -> Vec<u8> {
    let Some(mut pipe) = from else { return Vec::new() };
    let (mut all, mut open, mut chunk) = (Vec::new(), Vec::new(), [0u8; 4096]);
    while let Ok(n @ 1..) = pipe.read(&mut chunk).await {
        for &byte in &chunk[..n] {
            if byte == b'\n' || byte == b'\r' {
                line(&String::from_utf8_lossy(&open));
                open.clear();
            } else if open.len() < 4096 {
                open.push(byte);
            }
        }
        if all.len() as u64 <= STDERR_MAX {
            all.extend_from_slice(&chunk[..n]);
        }
    }
    all
}

fn tail(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let text = text.trim();
    let from = text.len().saturating_sub(STDERR_SHOWN);
    let from = (from..text.len()).find(|n| text.is_char_boundary(*n)).unwrap_or(from);
    if text.is_empty() { "it said nothing".to_owned() } else { text[from..].to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn stdin_goes_in_and_stdout_comes_out() {
        let out = Program::new("cat").stdin("hello").run().await.expect("cat");
        assert_eq!(out, b"hello");
    }

    #[tokio::test]
    async fn a_failure_carries_stderr() {
        let error = Program::new("ls").arg("/nowhere-at-all").run().await.expect_err("fails").to_string();
        assert!(error.contains("/nowhere-at-all"), "{error}");
    }

    #[tokio::test]
    async fn a_deadline_kills_the_whole_group() {
        let started = std::time::Instant::now();
        let script = "sleep 60 & sleep 60";
        let program = Program::new("sh").args(["-c", script]).deadline(Duration::from_millis(200));
        assert!(matches!(program.run().await, Err(ExecError::Deadline { .. })));
        assert!(started.elapsed() < Duration::from_secs(10));
    }

    #[tokio::test]
    async fn what_is_not_installed_is_named() {
        let error = Program::new("no-such-program").run().await.expect_err("missing");
        assert!(matches!(error, ExecError::Missing(name) if name == "no-such-program"));
    }

    #[tokio::test]
    async fn a_cancelled_program_ends() {
        let token = CancellationToken::new();
        token.cancel();
        let program = Program::new("sleep").arg("60").cancel(token);
        assert!(matches!(program.run().await, Err(ExecError::Cancelled { .. })));
    }
}
