//! Runs programs: their input, their output as it comes, their end.
//!
//! A program has a session and process group of its own, which is signalled as a whole. When agentd does not wait for it
//! any more, the group is hung up, and killed a moment later. Its end is told once all that it wrote was taken; what it
//! left running in the background, with its output open, is not waited for.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use agentd_guest_wire::{Answer, DATA_MAX, ExecWish, Stream, Trouble};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::child::Plan;
use crate::session::{Control, Session};
use crate::terminal::Terminal;
use crate::users;

/// How long a group that was hung up has before it is killed.
const GRACE: Duration = Duration::from_secs(2);
/// How often it is looked whether the program has ended while it writes nothing.
const LOOK: u16 = 200;
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const STACK: usize = 128 << 10;

pub fn run(session: &Arc<Session>, wish: ExecWish) {
    match begin(session, wish) {
        Ok(running) => running.finish(session),
        Err((trouble, why)) => session.fail(trouble, why),
    }
}

type Refusal = (Trouble, String);

#[expect(
    clippy::disallowed_methods,
    reason = "this is no part of the daemon: running programs is what it is for"
)]
fn begin(session: &Arc<Session>, wish: ExecWish) -> Result<Running, Refusal> {
    if wish.argv.is_empty() {
        return Err((Trouble::Invalid, "there is no program to run".to_owned()));
    }
    let user = users::find(wish.user.as_deref()).map_err(|why| (Trouble::Missing, why))?;
    let failed = |what: &str| {
        let what = what.to_owned();
        move |error: io::Error| (Trouble::Failed, format!("{what}: {error}"))
    };
    let terminal = wish.terminal.map(Terminal::new).transpose().map_err(failed("no terminal"))?;
    let folder = wish.cwd.unwrap_or_else(|| users::folder(&user));
    let plan = Plan {
        uid: user.uid,
        gid: user.gid,
        groups: user.groups.clone(),
        folder,
        terminal: terminal.as_ref().map(|t| t.path.clone()).unwrap_or_default(),
    };
    let mut command = Command::new("/proc/self/exe");
    command.args(plan.arguments()).args(&wish.argv).env_clear();
    command.env("PATH", PATH).env("HOME", &user.home).env("USER", &user.name).env("LOGNAME", &user.name);
    command.env("SHELL", &user.shell).envs(wish.env);
    let piped = |wanted: bool| if wanted { Stdio::piped() } else { Stdio::null() };
    let pipes = terminal.is_none();
    command.stdin(piped(pipes && wish.input)).stdout(piped(pipes)).stderr(piped(pipes));
    let child = command.spawn().map_err(failed("it cannot be started"))?;
    let size = match &terminal {
        Some(terminal) => Some(terminal.master.try_clone().map_err(failed("no terminal"))?),
        None => None,
    };
    session.controlled_by(Box::new(Group { leader: leader(&child), terminal: size }));
    Ok(Running { child, terminal, input: wish.input })
}

fn leader(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX))
}

struct Running {
    child: Child,
    terminal: Option<Terminal>,
    input: bool,
}

impl Running {
    fn finish(mut self, session: &Arc<Session>) {
        session.answer(Answer::Started);
        let over = Arc::new(AtomicBool::new(false));
        let mut readers = Vec::new();
        match &self.terminal {
            Some(terminal) => {
                if let Ok(master) = terminal.master.try_clone() {
                    readers.push(give(session, master, Stream::Out, &over));
                }
                if let (true, Ok(master)) = (self.input, terminal.master.try_clone()) {
                    take(session, master, Some(terminal.end_of_input()));
                }
            }
            None => {
                let (out, err) = (self.child.stdout.take(), self.child.stderr.take());
                readers.extend(out.map(|out| give(session, OwnedFd::from(out).into(), Stream::Out, &over)));
                readers.extend(err.map(|err| give(session, OwnedFd::from(err).into(), Stream::Err, &over)));
                if let Some(pipe) = self.child.stdin.take() {
                    take(session, OwnedFd::from(pipe).into(), None);
                }
            }
        }
        let status = self.child.wait();
        over.store(true, Ordering::SeqCst);
        // The terminal's other end, kept so that it does not seem to be hung up before the program opens it.
        self.terminal = None;
        for reader in readers.into_iter().flatten() {
            let _ = reader.join();
        }
        session.uncontrolled();
        session.end_input();
        match status {
            Ok(status) => drop(session.answer(Answer::Exit(number(status)))),
            Err(error) => session.fail(Trouble::Failed, format!("its end cannot be told: {error}")),
        }
    }
}

fn number(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}

/// Sends what the program writes.
fn give(
    session: &Arc<Session>,
    mut from: File,
    stream: Stream,
    over: &Arc<AtomicBool>,
) -> Option<JoinHandle<()>> {
    let (session, over) = (session.clone(), over.clone());
    let work = move || {
        let mut buffer = vec![0; DATA_MAX];
        let mut quiet = 0;
        loop {
            let mut wanted = [PollFd::new(from.as_fd(), PollFlags::POLLIN)];
            match poll(&mut wanted, PollTimeout::from(LOOK)) {
                Ok(0) | Err(nix::errno::Errno::EINTR) => {
                    quiet += u32::from(over.load(Ordering::SeqCst));
                    if quiet >= 2 || session.closed() {
                        return;
                    }
                    continue;
                }
                Ok(_) => {}
                Err(_) => return,
            }
            match from.read(&mut buffer) {
                Ok(count @ 1..) if session.data(stream, &buffer[..count]) => quiet = 0,
                // A terminal's end is an error, EIO.
                _ => return,
            }
        }
    };
    thread::Builder::new().stack_size(STACK).spawn(work).ok()
}

/// Gives the program its input.
fn take(session: &Arc<Session>, mut to: File, last: Option<u8>) {
    let session = session.clone();
    let work = move || {
        while let Some(bytes) = session.next() {
            if to.write_all(&bytes).is_err() {
                // It reads no more; what comes is thrown away, so that agentd is not held up.
                while session.next().is_some() {}
                return;
            }
        }
        if let Some(last) = last {
            let _ = to.write_all(&[last]);
        }
    };
    // Without it the program has no input, which it finds out itself.
    drop(thread::Builder::new().stack_size(STACK).spawn(work));
}

/// The program's process group, and its terminal.
struct Group {
    leader: Pid,
    terminal: Option<File>,
}

impl Group {
    fn all(&self, signal: Signal) {
        // Before it has made its group it is alone.
        if killpg(self.leader, signal).is_err() {
            let _ = kill(self.leader, signal);
        }
    }
}

impl Control for Group {
    fn signal(&mut self, number: u32) {
        if let Some(signal) = i32::try_from(number).ok().and_then(|n| Signal::try_from(n).ok()) {
            self.all(signal);
        }
    }

    fn resize(&mut self, columns: u16, rows: u16) {
        if let Some(terminal) = &self.terminal {
            let _ = crate::terminal::resize(terminal, columns, rows);
        }
    }

    fn end(&mut self) {
        self.all(Signal::SIGHUP);
        let leader = self.leader;
        let later = move || {
            thread::sleep(GRACE);
            let _ = killpg(leader, Signal::SIGKILL);
        };
        if thread::Builder::new().stack_size(STACK).spawn(later).is_err() {
            self.all(Signal::SIGKILL);
        }
    }
}
