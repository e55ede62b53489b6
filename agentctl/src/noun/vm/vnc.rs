//! `vm vnc`: a port on this machine's loopback that leads one viewer, once, to the guest's screen.

use std::time::Duration;

use agentd_api::frame::Frame;
use agentd_client::{FrameReader, FrameWriter, SubPath, failed};
use clap::Args;
use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{DEF, sub};
use crate::app::App;
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::target::{self, label};

#[derive(Debug, Args)]
pub struct Vnc {
    /// The VM's name or id
    #[arg(value_name = "NAME")]
    name: String,
    /// The port on 127.0.0.1 [default: any that is free]
    #[arg(long, value_name = "PORT", default_value_t = 0, hide_default_value = true)]
    port: u16,
}

#[derive(Debug, Deserialize)]
struct Ticket {
    ticket: String,
    seconds: u64,
}

impl Vnc {
    pub async fn run(self, app: &App) -> Result<(), Failure> {
        let name = target::name_of(app, DEF, &self.name).await?;
        let about = |failure: Failure| failure.about(label(DEF, &name));
        let listener = TcpListener::bind(("127.0.0.1", self.port))
            .await
            .map_err(|e| Failure::new(Exit::Failed, format!("port {} cannot be opened: {e}", self.port)))?;
        let path =
            SubPath { def: DEF, project: Some(&app.project), name: &name, sub: sub("vnc"), params: &[] };
        let opened = app.client.frames(path).await;
        let (mut from, to) = opened.map_err(|e| about(target::not_found_hint(e, DEF)))?;
        let ticket = ticket(&mut from).await.map_err(about)?;
        let address = listener.local_addr().map_err(|e| Failure::new(Exit::Failed, e.to_string()))?;
        match app.output {
            Output::Json => {
                println!("{}", json!({"address": address.to_string(), "password": ticket.ticket}))
            }
            _ => println!("address   {address}\npassword  {}", ticket.ticket),
        }
        app.say(format_args!("one viewer may connect, within {} s", ticket.seconds));
        let viewer = viewer(listener, ticket.seconds, &mut from).await.map_err(about)?;
        carry(viewer, from, to).await.map_err(about)
    }
}

async fn ticket(from: &mut FrameReader<impl AsyncRead + Unpin>) -> Result<Ticket, Failure> {
    match from.next().await.map_err(|_| cut())? {
        Some(Frame::Json(text)) => serde_json::from_str(&text)
            .map_err(|e| Failure::new(Exit::Failed, format!("the daemon's ticket is none: {e}"))),
        Some(Frame::Failed(text)) => Err(failed(&text).into()),
        _ => Err(cut()),
    }
}

/// The one that is let in; after it nothing listens any more.
async fn viewer(
    listener: TcpListener,
    seconds: u64,
    from: &mut FrameReader<impl AsyncRead + Unpin>,
) -> Result<TcpStream, Failure> {
    // Cancel safety: whichever comes first ends the wait.
    tokio::select! {
        accepted = listener.accept() => match accepted {
            Ok((viewer, _)) => Ok(viewer),
            Err(error) => Err(Failure::new(Exit::Failed, format!("no viewer can be taken: {error}"))),
        },
        () = tokio::time::sleep(Duration::from_secs(seconds)) => {
            Err(Failure::new(Exit::TimedOut, "no viewer connected"))
        }
        frame = from.next() => match frame {
            Ok(Some(Frame::Failed(text))) => Err(failed(&text).into()),
            _ => Err(cut()),
        },
    }
}

/// Bytes both ways, until one side has enough.
async fn carry(
    mut viewer: TcpStream,
    mut from: FrameReader<impl AsyncRead + Unpin>,
    mut to: FrameWriter<impl AsyncWrite + Unpin>,
) -> Result<(), Failure> {
    to.send(&Frame::Json(json!({"connect": true}).to_string())).await.map_err(|_| cut())?;
    let (mut typed, mut shown) = viewer.split();
    let there = async {
        let mut buffer = vec![0; 32 << 10];
        loop {
            match typed.read(&mut buffer).await {
                Ok(0) | Err(_) => return Ok(()),
                Ok(read) => {
                    let bytes = buffer.get(..read).unwrap_or_default().to_vec();
                    to.send(&Frame::In(bytes)).await.map_err(|_| cut())?;
                }
            }
        }
    };
    let back = async {
        loop {
            match from.next().await.map_err(|_| cut())? {
                Some(Frame::Out(bytes)) => {
                    if shown.write_all(&bytes).await.is_err() {
                        return Ok(());
                    }
                }
                Some(Frame::End) => return Ok(()),
                Some(Frame::Failed(text)) => return Err(failed(&text).into()),
                Some(_) => {}
                None => return Err(cut()),
            }
        }
    };
    // Cancel safety: whichever side ends, the other is of no more use.
    tokio::select! {
        ended = there => ended,
        ended = back => ended,
    }
}

fn cut() -> Failure {
    Failure::new(Exit::Failed, "the daemon went away; the guest goes on")
}
