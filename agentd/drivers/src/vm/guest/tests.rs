//! The host's side against a guest's that is made here, and against what no agent would send.

use std::path::PathBuf;
use std::time::Duration;

use agentd_guest_wire::{
    Answer, DATA_MAX, Facts, Found, Message, Parser, Side, Stream, WINDOW, Wish, cost, greeting,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use uuid::Uuid;

use super::link::Links;
use super::{ExecWish, GuestError, GuestSeen, Said, SessionIn, SessionOut};

/// The guest's end, played by a test.
struct Agent {
    stream: UnixStream,
    parser: Parser,
    nonce: u32,
}

struct Bed {
    _folder: tempfile::TempDir,
    socket: PathBuf,
    listener: UnixListener,
    links: Links,
    vm: Uuid,
}

impl Bed {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("agent.sock");
        let listener = UnixListener::bind(&socket).expect("bound");
        Self { _folder: folder, socket, listener, links: Links::default(), vm: Uuid::now_v7() }
    }

    async fn accept(&self) -> Agent {
        self.links.attend(self.vm, &self.socket);
        let (stream, _) = self.listener.accept().await.expect("a connection");
        Agent { stream, parser: Parser::new(Side::Host), nonce: 0 }
    }

    async fn up(&self) -> Agent {
        let mut agent = self.accept().await;
        agent.greeted().await;
        agent.answers_facts(&Facts::default()).await;
        agent
    }

    async fn exec(&self) -> Result<(super::channel::In, super::channel::Out), GuestError> {
        let channel = self.links.channel(self.vm, &self.socket).await?;
        channel.open("run a program", Wish::Exec(ExecWish::default())).await
    }
}

impl Agent {
    async fn next(&mut self) -> Option<Found> {
        loop {
            if let Some(found) = self.parser.next() {
                return Some(found);
            }
            let mut buffer = vec![0; 64 << 10];
            match self.stream.read(&mut buffer).await {
                Ok(count @ 1..) => self.parser.push(&buffer[..count]),
                _ => return None,
            }
        }
    }

    /// Greets back when it is greeted.
    async fn greeted(&mut self) {
        while let Some(found) = self.next().await {
            if let Found::Greeting { nonce, .. } = found {
                self.nonce = nonce;
                self.parser.accept(nonce);
                self.write(&greeting(Side::Guest, nonce)).await;
                return;
            }
        }
        panic!("nobody greeted");
    }

    async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("written");
    }

    async fn say(&mut self, message: Message) {
        let frame = message.encode(self.nonce);
        self.write(&frame).await;
    }

    async fn message(&mut self) -> Message {
        loop {
            match self.next().await {
                Some(Found::Message(message)) => return message,
                Some(_) => {}
                None => panic!("the connection ended"),
            }
        }
    }

    /// The next session that is opened for something else than facts, which are answered.
    async fn opened(&mut self, facts: &Facts) -> u32 {
        loop {
            match self.message().await {
                Message::Open { session, wish: Wish::Facts } => self.tell(session, facts).await,
                Message::Open { session, .. } => return session,
                _ => {}
            }
        }
    }

    async fn tell(&mut self, session: u32, facts: &Facts) {
        self.say(Message::Reply { session, answer: Answer::Facts(facts.clone()) }).await;
    }

    async fn answers_facts(&mut self, facts: &Facts) {
        let Message::Open { session, wish: Wish::Facts } = self.message().await else { panic!("no facts") };
        self.tell(session, facts).await;
    }
}

fn out(session: u32, size: usize) -> Message {
    Message::Data { session, stream: Stream::Out, bytes: vec![7; size] }
}

async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), work).await.expect("soon")
}

#[tokio::test]
async fn a_program_is_heard_to_its_end_and_facts_are_told() {
    let bed = Bed::new();
    let mut events = bed.links.events();
    let mut agent = bed.accept().await;
    // What an agent of before left in the port.
    agent.write(&[9; 1000]).await;
    agent.write(&Message::Close { session: 3 }.encode(77)).await;
    agent.greeted().await;
    let facts = Facts { hostname: "web".to_owned(), ..Facts::default() };
    agent.answers_facts(&facts).await;
    assert_eq!(soon(events.recv()).await, Ok(bed.vm));
    assert_eq!(bed.links.seen(bed.vm), GuestSeen::Facts(facts.clone()));

    let (mut input, mut output) = bed.exec().await.expect("opened");
    let session = agent.opened(&facts).await;
    agent.say(Message::Reply { session, answer: Answer::Started }).await;
    output.started(Duration::from_secs(5)).await.expect("started");
    input.data(b"hello").await.expect("taken");
    input.end().await.expect("ended");
    let Message::Data { bytes, .. } = agent.message().await else { panic!("data") };
    assert_eq!(bytes, b"hello");
    agent.say(Message::Data { session, stream: Stream::Err, bytes: b"oh".to_vec() }).await;
    agent.say(Message::Reply { session, answer: Answer::Exit(3) }).await;
    assert_eq!(soon(output.next()).await.expect("heard"), Said::Err(b"oh".to_vec()));
    assert_eq!(soon(output.next()).await.expect("heard"), Said::Exit(3));
    assert!(matches!(input.data(b"more").await, Err(GuestError::Gone)), "the session is over");
}

#[tokio::test]
async fn a_slow_session_holds_up_no_other_and_a_flood_costs_a_window() {
    let bed = Bed::new();
    let mut agent = bed.up().await;
    let (_slow_in, mut slow) = bed.exec().await.expect("opened");
    let (_quick_in, mut quick) = bed.exec().await.expect("opened");
    let facts = Facts::default();
    let (first, second) = (agent.opened(&facts).await, agent.opened(&facts).await);
    let most = WINDOW / cost(DATA_MAX);
    for _ in 0..most {
        agent.say(out(first, DATA_MAX)).await;
    }
    agent.say(out(second, 1)).await;
    assert_eq!(soon(quick.next()).await.expect("heard"), Said::Out(vec![7]));
    // It is granted more as it is read, and as much as was read.
    for _ in 0..most {
        soon(slow.next()).await.expect("heard");
    }
    tokio::spawn(async move { slow.next().await });
    let Message::Credit { session, bytes } = soon(agent.message()).await else { panic!("credit") };
    assert_eq!(session, first);
    assert!(bytes <= most * cost(DATA_MAX), "{bytes}");
}

#[tokio::test]
async fn who_sends_more_than_was_granted_loses_the_connection() {
    let bed = Bed::new();
    let mut agent = bed.up().await;
    let (_input, mut output) = bed.exec().await.expect("opened");
    let session = agent.opened(&Facts::default()).await;
    let frame = out(session, DATA_MAX).encode(agent.nonce);
    let flood = async { while agent.stream.write_all(&frame).await.is_ok() {} };
    soon(flood).await;
    let mut heard = 0;
    let ended = async {
        while output.next().await.is_ok() {
            heard += 1;
        }
    };
    soon(ended).await;
    assert!(heard <= WINDOW / cost(DATA_MAX), "{heard} pieces were kept");
}

#[tokio::test]
async fn a_session_that_nobody_hears_is_closed() {
    let bed = Bed::new();
    let mut agent = bed.up().await;
    let (_input, output) = bed.exec().await.expect("opened");
    let session = agent.opened(&Facts::default()).await;
    drop(output);
    assert_eq!(soon(agent.message()).await, Message::Close { session });
}

#[tokio::test]
async fn a_guest_that_starts_anew_is_greeted_anew() {
    let bed = Bed::new();
    let mut agent = bed.up().await;
    let (_input, mut output) = bed.exec().await.expect("opened");
    agent.opened(&Facts::default()).await;
    agent.write(&greeting(Side::Guest, 0)).await;
    assert!(matches!(soon(output.next()).await, Err(GuestError::Gone)));
    let before = agent.nonce;
    soon(agent.greeted()).await;
    assert_ne!(agent.nonce, before);
    soon(bed.links.channel(bed.vm, &bed.socket)).await.expect("up again");
}

#[tokio::test(start_paused = true)]
async fn without_an_answer_there_is_no_agent() {
    let bed = Bed::new();
    let agent = bed.accept().await;
    let error = bed.exec().await.expect_err("nobody answers");
    assert!(matches!(error, GuestError::NoAgent(_)), "{error:?}");
    assert_eq!(bed.links.seen(bed.vm), GuestSeen::Silent);
    // Known by now: nobody waits again.
    let from = tokio::time::Instant::now();
    bed.exec().await.expect_err("nobody answers");
    assert!(from.elapsed() < Duration::from_millis(100), "{:?}", from.elapsed());
    drop(agent);
}
