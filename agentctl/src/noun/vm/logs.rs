//! `vm logs`: what the guest said on its serial console. Read from the file that libvirt's logger writes on this host,
//! which usually only root may.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

use clap::Args;

use super::DEF;
use crate::app::App;
use crate::failure::{Exit, Failure};
use crate::target::{self, label};

/// A file has no event that an unprivileged reader could wait for without inotify; this is what `tail -f` did.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

#[derive(Debug, Args)]
pub struct Logs {
    /// The VM's name or id
    #[arg(value_name = "NAME")]
    name: String,
    /// Go on printing what comes
    #[arg(short, long)]
    follow: bool,
    /// Only the last lines
    #[arg(short = 'n', long, value_name = "LINES")]
    tail: Option<usize>,
}

impl Logs {
    pub async fn run(self, app: &App) -> Result<(), Failure> {
        let object = target::find(app, DEF, &self.name).await?;
        let about = label(DEF, &object.meta.name);
        let Some(path) = object.status["console_log"].as_str() else {
            let text = "has no console log: it was not started yet";
            return Err(Failure::new(Exit::Failed, text).about(about));
        };
        let path = Path::new(path);
        let unreadable = |error| unreadable(path, &error).about(about.clone());
        let mut file = File::open(path).map_err(unreadable)?;
        if let Some(lines) = self.tail {
            seek_to_last(&mut file, lines).map_err(unreadable)?;
        }
        loop {
            copy(&mut file)?;
            if !self.follow {
                return Ok(());
            }
            tokio::time::sleep(LOOK_AGAIN).await;
            let position = file.stream_position().map_err(unreadable)?;
            // Shorter than what was read: it was begun anew.
            if file.metadata().map_err(unreadable)?.len() < position {
                file = File::open(path).map_err(unreadable)?;
            }
        }
    }
}

fn copy(file: &mut File) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    io::copy(file, &mut out)?;
    out.flush()?;
    Ok(())
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    let text = format!("cannot read its console log {}: {error}", path.display());
    match error.kind() {
        ErrorKind::PermissionDenied => {
            Failure::new(Exit::Forbidden, text).hint("only root may read what guests print: run it with sudo")
        }
        ErrorKind::NotFound => Failure::new(Exit::Failed, text)
            .hint("the log is on the host of the daemon; it is made when the VM first starts"),
        _ => Failure::new(Exit::Failed, text),
    }
}

/// Leaves the file where its last `lines` lines begin.
fn seek_to_last(file: &mut File, lines: usize) -> io::Result<()> {
    const BLOCK: u64 = 64 << 10;
    let mut end = file.seek(SeekFrom::End(0))?;
    let mut left = lines;
    let mut last = true;
    while end > 0 {
        let begin = end.saturating_sub(BLOCK);
        file.seek(SeekFrom::Start(begin))?;
        let mut block = Vec::new();
        Read::take(&mut *file, end - begin).read_to_end(&mut block)?;
        for (n, byte) in block.iter().enumerate().rev() {
            // The end of the last line begins no other.
            if *byte == b'\n' && !std::mem::take(&mut last) {
                left = left.saturating_sub(1);
            }
            last = false;
            if left == 0 {
                file.seek(SeekFrom::Start(begin + n as u64 + 1))?;
                return Ok(());
            }
        }
        end = begin;
    }
    file.seek(SeekFrom::Start(0)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_found() {
        let long = "x".repeat(100_000);
        for (content, lines, wanted) in [
            ("a\nb\nc\n", 2, "b\nc\n"),
            ("a\nb\nc", 2, "b\nc"),
            ("a\nb\n", 5, "a\nb\n"),
            ("a\n\n\n", 1, "\n"),
            ("", 3, ""),
            (&format!("{long}\n{long}\n"), 1, &format!("{long}\n")),
        ] {
            let mut file = tempfile::tempfile().expect("a file");
            file.write_all(content.as_bytes()).expect("written");
            seek_to_last(&mut file, lines).expect("found");
            let mut rest = String::new();
            file.read_to_string(&mut rest).expect("read");
            assert!(rest == wanted, "{lines} of {} bytes gave {} bytes", content.len(), rest.len());
        }
    }
}
