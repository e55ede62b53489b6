//! The programs of the fake's guests: a handful that a test can tell apart, and no more.

use async_trait::async_trait;
use tokio::sync::mpsc;

use crate::vm::guest::{ExecWish, GuestError, GuestIn, GuestOut, Said, SessionIn, SessionOut};

/// What comes for a program.
#[derive(Debug)]
pub(crate) enum To {
    Data(Vec<u8>),
    End,
    Resize(u16, u16),
    Signal(u32),
}

struct In(mpsc::Sender<To>);

struct Out(mpsc::Receiver<Result<Said, GuestError>>);

impl In {
    async fn send(&self, what: To) -> Result<(), GuestError> {
        self.0.send(what).await.map_err(|_| GuestError::Gone)
    }
}

#[async_trait]
impl SessionIn for In {
    async fn data(&mut self, bytes: &[u8]) -> Result<(), GuestError> {
        self.send(To::Data(bytes.to_vec())).await
    }
    async fn end(&mut self) -> Result<(), GuestError> {
        self.send(To::End).await
    }
    async fn resize(&mut self, columns: u16, rows: u16) -> Result<(), GuestError> {
        self.send(To::Resize(columns, rows)).await
    }
    async fn signal(&mut self, number: u32) -> Result<(), GuestError> {
        self.send(To::Signal(number)).await
    }
}

#[async_trait]
impl SessionOut for Out {
    async fn next(&mut self) -> Result<Said, GuestError> {
        self.0.recv().await.ok_or(GuestError::Gone)?
    }
}

pub(crate) type Say = mpsc::Sender<Result<Said, GuestError>>;

pub(crate) fn session() -> ((GuestIn, GuestOut), mpsc::Receiver<To>, Say) {
    // Small, so that a test sees who waits for whom.
    let (to, came) = mpsc::channel(4);
    let (say, said) = mpsc::channel(4);
    ((Box::new(In(to)), Box::new(Out(said))), came, say)
}

/// `echo`, `cat`, `env`, `exit N`, `err TEXT`, `yes` (without end), `sleep` (until it is signalled), `size` (tells each size
/// of its terminal); others are not there.
pub(crate) fn run(wish: ExecWish) -> Result<(GuestIn, GuestOut), GuestError> {
    if let Some(user) = wish.user.as_deref().filter(|user| *user != "root") {
        return Err(GuestError::Missing(format!("there is no user '{user}'")));
    }
    let (ends, came, say) = session();
    tokio::spawn(async move {
        // Nobody hears the rest where it fails: the session was dropped.
        if let Some(status) = program(&wish, came, &say).await {
            let _ = say.send(Ok(Said::Exit(status))).await;
        }
    });
    Ok(ends)
}

async fn program(wish: &ExecWish, mut came: mpsc::Receiver<To>, say: &Say) -> Option<i32> {
    let name = wish.argv.first().map_or("", String::as_str);
    let rest = wish.argv.get(1..).unwrap_or_default();
    let out = async |text: String| say.send(Ok(Said::Out(text.into_bytes()))).await.ok();
    match name {
        "echo" => out(rest.join(" ") + "\n").await?,
        "env" => {
            for (key, value) in &wish.env {
                out(format!("{key}={value}\n")).await?;
            }
        }
        "err" => say.send(Ok(Said::Err(rest.join(" ").into_bytes()))).await.ok()?,
        "exit" => return Some(rest.first().and_then(|n| n.parse().ok()).unwrap_or(0)),
        "yes" => loop {
            out("y\n".repeat(8192)).await?;
        },
        "cat" => loop {
            match came.recv().await? {
                To::Data(bytes) => say.send(Ok(Said::Out(bytes))).await.ok()?,
                To::End => break,
                To::Signal(number) => return signalled(number),
                To::Resize(..) => {}
            }
        },
        "sleep" => loop {
            if let To::Signal(number) = came.recv().await? {
                return signalled(number);
            }
        },
        "size" => {
            if let Some((columns, rows)) = wish.terminal {
                out(format!("{columns}x{rows}\n")).await?;
            }
            loop {
                match came.recv().await? {
                    To::Resize(columns, rows) => out(format!("{columns}x{rows}\n")).await?,
                    To::End => break,
                    To::Signal(number) => return signalled(number),
                    To::Data(_) => {}
                }
            }
        }
        other => {
            say.send(Ok(Said::Err(format!("{other}: not found\n").into_bytes()))).await.ok()?;
            return Some(127);
        }
    }
    Some(0)
}

fn signalled(number: u32) -> Option<i32> {
    i32::try_from(number).ok().map(|number| 128 + number)
}

/// Says what is in an archive.
pub(crate) fn archive(bytes: Vec<u8>) -> GuestOut {
    let ((_, out), _, say) = session();
    tokio::spawn(async move {
        for piece in bytes.chunks(32 << 10) {
            if say.send(Ok(Said::Out(piece.to_vec()))).await.is_err() {
                return;
            }
        }
        let _ = say.send(Ok(Said::Done { count: 1, bytes: bytes.len() as u64 })).await;
    });
    out
}

/// Takes what it is given to its end, and then is done.
pub(crate) fn collect(whole: impl FnOnce(Vec<u8>) + Send + 'static) -> (GuestIn, GuestOut) {
    let (ends, mut came, say) = session();
    tokio::spawn(async move {
        let mut all = Vec::new();
        loop {
            match came.recv().await {
                Some(To::Data(bytes)) => all.extend(bytes),
                Some(To::End) => break,
                Some(_) => {}
                None => return,
            }
        }
        let bytes = all.len() as u64;
        whole(all);
        let _ = say.send(Ok(Said::Done { count: 1, bytes })).await;
    });
    ends
}
