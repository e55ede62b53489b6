//! Follows the port: greets, opens sessions and brings them what is for them. Never waits for a session.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use agentd_guest_wire::{Answer, Found, Message, Parser, SESSIONS_MAX, Side, Trouble, VERSION, Wish};

use crate::port::{self, Port};
use crate::session::Session;
use crate::{copy, exec, facts, freeze, terminal};

/// How often it is looked whether agentd is there, while it is not.
const AWAY: Duration = Duration::from_millis(200);
const STACK: usize = 256 << 10;

/// Serves until the port fails.
pub fn run() -> io::Result<Infallible> {
    let (file, port) = port::open()?;
    let mut serve = Serve { port: Arc::new(port), sessions: HashMap::new(), nonce: 0 };
    // agentd may have been connected before this program was there.
    serve.port.greet(0)?;
    serve.follow(file)
}

struct Serve {
    port: Arc<Port>,
    sessions: HashMap<u32, Arc<Session>>,
    nonce: u32,
}

impl Serve {
    fn follow(&mut self, mut file: File) -> io::Result<Infallible> {
        let (mut parser, mut buffer) = (Parser::new(Side::Host), vec![0; 64 << 10]);
        loop {
            let count = match file.read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read?,
            };
            if count == 0 {
                if self.nonce != 0 {
                    self.hang_up();
                    parser.reset();
                }
                thread::sleep(AWAY);
                continue;
            }
            parser.push(&buffer[..count]);
            while let Some(found) = parser.next() {
                match found {
                    Found::Greeting { nonce, version } => {
                        self.hang_up();
                        if version == VERSION {
                            parser.accept(nonce);
                            self.nonce = nonce;
                        }
                        // Of another version too: it is told which this one speaks.
                        self.port.greet(nonce)?;
                    }
                    Found::Message(message) => self.came(message),
                    Found::Lost => self.hang_up(),
                }
            }
        }
    }

    /// All that was begun for the connection ends.
    fn hang_up(&mut self) {
        self.port.hang_up();
        self.sessions.drain().for_each(|(_, session)| session.close());
        freeze::thaw();
        self.nonce = 0;
    }

    fn came(&mut self, message: Message) {
        // Its thread has the other one while it goes on.
        self.sessions.retain(|_, session| Arc::strong_count(session) > 1);
        let id = message.session();
        match message {
            Message::Open { wish, .. } => self.open(id, wish),
            Message::Close { .. } => {
                if let Some(session) = self.sessions.remove(&id) {
                    session.close();
                }
            }
            message => {
                if let Some(session) = self.sessions.get(&id) {
                    session.came(message);
                }
            }
        }
    }

    fn open(&mut self, id: u32, wish: Wish) {
        let session = Session::new(id, self.nonce, self.port.clone());
        if self.sessions.len() >= SESSIONS_MAX {
            return session.fail(Trouble::Failed, format!("it has {SESSIONS_MAX} sessions already"));
        }
        let theirs = session.clone();
        let work = move || does(&theirs, wish);
        match thread::Builder::new().stack_size(STACK).spawn(work) {
            Ok(_) => drop(self.sessions.insert(id, session)),
            Err(error) => session.fail(Trouble::Failed, format!("a thread cannot be made: {error}")),
        }
    }
}

fn does(session: &Arc<Session>, wish: Wish) {
    match wish {
        Wish::Exec(wish) => exec::run(session, wish),
        Wish::Pack { path } => copy::pack(session, &path),
        Wish::Unpack { path } => copy::unpack(session, &path),
        Wish::Facts => drop(session.answer(Answer::Facts(facts::read().bounded()))),
        Wish::Freeze => match freeze::freeze() {
            Ok(count) => drop(session.answer(Answer::Done { count, bytes: 0 })),
            Err(error) => session.fail(Trouble::Failed, error),
        },
        Wish::Thaw => drop(session.answer(Answer::Done { count: freeze::thaw(), bytes: 0 })),
        Wish::ConsoleSize { columns, rows } => match terminal::size_console(columns, rows) {
            Ok(()) => drop(session.answer(Answer::Done { count: 1, bytes: 0 })),
            Err(error) => session.fail(Trouble::Unsupported, format!("its console has no size: {error}")),
        },
        Wish::Time { nanos } => match set_time(nanos) {
            Ok(()) => drop(session.answer(Answer::Done { count: 1, bytes: 0 })),
            Err(error) => session.fail(Trouble::Failed, format!("its clock cannot be set: {error}")),
        },
    }
}

fn set_time(nanos: u64) -> nix::Result<()> {
    let (seconds, rest) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    let time = nix::sys::time::TimeSpec::new(seconds.cast_signed(), rest.cast_signed());
    nix::time::clock_settime(nix::time::ClockId::CLOCK_REALTIME, time)
}
