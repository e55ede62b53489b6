//! The control socket: one order a line, one answer a line.

use std::path::Path;

use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

use super::{Fakes, Order};

/// Takes orders at `path` until the process ends. The file must not be there.
pub fn listen(path: &Path, fakes: Fakes) -> std::io::Result<()> {
    let listener = UnixListener::bind(path)?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(take_orders(stream, fakes.clone()));
        }
    });
    Ok(())
}

async fn take_orders(mut stream: UnixStream, fakes: Fakes) {
    let (from, mut to) = stream.split();
    let mut lines = BufReader::new(from).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let answer = match serde_json::from_str::<Order>(&line) {
            Err(error) => json!({"error": error.to_string()}),
            Ok(order) => match fakes.obey(&order) {
                Ok(None) => json!({"ok": true}),
                Ok(Some(calls)) => json!({"ok": true, "calls": calls}),
                Err(error) => json!({"error": error.to_string()}),
            },
        };
        if to.write_all(format!("{answer}\n").as_bytes()).await.is_err() {
            return;
        }
    }
}
