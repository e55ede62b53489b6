//! `vm cp` and `container cp`: files and folders into a guest and out of it, as tar archives that are packed and unpacked here and there
//! alike (agentd-guest-tree). What comes out of a guest is believed nothing: it is written below its target only.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use agentd_api::exec::{Copied, check_guest_path};
use agentd_api::kind::SubMethod;
use agentd_api::{KindDef, ObjectName, Problem, Progress, SubDef};
use agentd_client::SubPath;
use agentd_guest_tree::{Rules, TreeError, pack, unpack};
use bytes::Bytes;
use clap::Args;
use tokio::sync::mpsc;

use crate::app::App;
use crate::failure::{Exit, Failure};
use crate::target::{self, label};
use crate::wait::progress::Display;

/// A stranger's files: no set-id bits, and ours.
const RULES: Rules = Rules { modes: 0o777, owned_as_above: false };
const PIECE: usize = 128 << 10;

#[derive(Debug, Args)]
pub struct Cp {
    /// What to copy, and last where to: NAME:PATH in it, PATH here
    #[arg(value_name = "SRC... DST", required = true, num_args = 2..)]
    places: Vec<Place>,
    /// Show no progress
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Here(PathBuf),
    Guest { vm: String, path: String },
}

impl std::str::FromStr for Place {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some((vm, path)) if !vm.contains('/') => {
                let named = ObjectName::parse(vm).is_ok() || vm.parse::<uuid::Uuid>().is_ok();
                if !named {
                    return Err(format!(
                        "'{vm}' is no name of one; write ./{text} for a file of that name here"
                    ));
                }
                Ok(Self::Guest { vm: vm.to_owned(), path: path.to_owned() })
            }
            _ => Ok(Self::Here(text.into())),
        }
    }
}

/// Who is asked, of which kind.
type To<'a> = (&'a App, &'static KindDef);

impl Cp {
    pub async fn run(self, app: &App, def: &'static KindDef) -> Result<(), Failure> {
        let wrong = |why: &str| Err(Failure::new(Exit::Usage, why));
        let Some((to, from)) = self.places.split_last() else { return wrong("nothing to copy was named") };
        let folder = from.len() > 1;
        for one in from {
            match (one, to) {
                (Place::Here(path), Place::Guest { vm, path: target }) => {
                    // Several go into a folder, which must be there.
                    let target =
                        if folder && !target.ends_with('/') { format!("{target}/") } else { target.clone() };
                    self.put((app, def), path, (vm, &target)).await?;
                }
                (Place::Guest { vm, path }, Place::Here(target)) => {
                    if folder && !target.is_dir() {
                        let text = format!("{} is no folder", target.display());
                        return Err(Failure::new(Exit::Failed, text));
                    }
                    self.get((app, def), (vm, path), target).await?;
                }
                (Place::Here(_), Place::Here(_)) => return wrong("name the one that is meant: NAME:PATH"),
                (Place::Guest { .. }, Place::Guest { .. }) => {
                    return wrong("from guest to guest goes by way of a folder here");
                }
            }
        }
        Ok(())
    }

    async fn put(&self, (app, def): To<'_>, path: &Path, (vm, target): (&str, &str)) -> Result<(), Failure> {
        let (name, about) = named((app, def), vm, target).await?;
        let (pieces, mut body) = mpsc::channel(4);
        let shown = self.shown(&format!("{about}:{target}"), "sending");
        let source = path.to_owned();
        let packing = tokio::task::spawn_blocking(move || {
            let mut out = io::BufWriter::with_capacity(PIECE, Pieces(pieces));
            let done = pack(&source, &mut out, &mut |done, total| shown(done, Some(total)));
            // The archive says itself that it failed; the end is only sent where it did not.
            let flushed = out.flush();
            done.and_then(|done| flushed.map(|()| done).map_err(|e| TreeError::Told(e.to_string())))
        });
        let params = [("path", target)];
        let path = SubPath {
            def,
            project: Some(&app.project),
            name: &name,
            sub: files(def, SubMethod::Put),
            params: &params,
        };
        let body = futures_util::stream::poll_fn(move |cx| body.poll_recv(cx).map(|piece| piece.map(Ok)));
        // Dropping the upload closes the connection, which ends the guest's part of it.
        let sent = tokio::select! {
            sent = app.client.send_content(path, body) => sent,
            _ = tokio::signal::ctrl_c() => return Err(interrupted(&about)),
        };
        let packed = packing.await.map_err(|e| Failure::new(Exit::Failed, e.to_string()))?;
        match (sent, packed) {
            // What is wrong here is the cause of what is wrong there, unless here nobody took it any more.
            (_, Err(error @ (TreeError::Missing(_) | TreeError::Refused(_)))) => Err(told(&error)),
            (Err(error), _) => Err(target::not_found_in(error, &about)),
            (Ok(_), Err(error)) => Err(told(&error)),
            (Ok(answer), Ok(packed)) => {
                let copied: Copied = serde_json::from_slice(&answer)
                    .map_err(|e| Failure::new(Exit::Failed, format!("the daemon's answer is none: {e}")))?;
                if (copied.entries, copied.bytes) == (packed.entries, packed.bytes) {
                    return Ok(());
                }
                let text =
                    format!("{} files and folders were sent and {} arrived", packed.entries, copied.entries);
                Err(Failure::new(Exit::Failed, text).about(about))
            }
        }
    }

    async fn get(
        &self,
        (app, def): To<'_>,
        (vm, source): (&str, &str),
        target: &Path,
    ) -> Result<(), Failure> {
        let (name, about) = named((app, def), vm, source).await?;
        let params = [("path", source)];
        let path = SubPath {
            def,
            project: Some(&app.project),
            name: &name,
            sub: files(def, SubMethod::Get),
            params: &params,
        };
        let opened = app.client.download(path).await;
        let mut download = opened.map_err(|e| target::not_found_in(e, &about))?;
        let shown = self.shown(&format!("{about}:{source}"), "receiving");
        let (pieces, archive) = mpsc::channel::<io::Result<Bytes>>(4);
        let to = target.to_owned();
        let unpacking = tokio::task::spawn_blocking(move || {
            unpack(&to, RULES, Archive { pieces: archive, now: Bytes::new() }, &mut |done, total| {
                shown(done, total)
            })
        });
        let feeding = async {
            loop {
                let piece = match download.next().await {
                    Ok(Some(bytes)) => Ok(bytes),
                    Ok(None) => return,
                    Err(error) => Err(io::Error::other(error.to_string())),
                };
                let last = piece.is_err();
                if pieces.send(piece).await.is_err() || last {
                    return;
                }
            }
        };
        // Cancel safety: the one that unpacks sees that nothing more comes, and removes what is half made.
        let whole = tokio::select! {
            () = feeding => true,
            _ = tokio::signal::ctrl_c() => false,
        };
        if !whole {
            let _ = pieces.send(Err(io::Error::other("interrupted"))).await;
        }
        drop(pieces);
        let done = unpacking.await.map_err(|e| Failure::new(Exit::Failed, e.to_string()))?;
        match (whole, done) {
            (false, _) => Err(interrupted(&about)),
            (true, done) => done.map(drop).map_err(|error| told(&error).about(about)),
        }
    }

    /// Shows how far it is, of how much.
    fn shown(&self, what: &str, step: &str) -> impl Fn(u64, Option<u64>) + Send + 'static {
        let display = (!self.quiet).then(|| Arc::new(Mutex::new(Display::new())));
        let (what, step) = (what.to_owned(), step.to_owned());
        move |done, total| {
            if let Some(display) = &display {
                let progress = Progress::of_bytes(step.clone(), done, total);
                display.lock().unwrap_or_else(PoisonError::into_inner).work(&what, &progress);
            }
        }
    }
}

fn files(def: &'static KindDef, method: SubMethod) -> &'static SubDef {
    def.sub_by("files", method).expect("a subresource that is declared")
}

/// The guest's name, and what is said of it. A path that climbs goes no further.
async fn named((app, def): To<'_>, vm: &str, path: &str) -> Result<(String, String), Failure> {
    let name = target::name_of(app, def, vm).await?;
    let about = label(def, &name);
    check_guest_path(path)
        .map_err(|error| Failure::from(Problem::invalid(vec![error])).about(about.clone()))?;
    Ok((name, about))
}

fn told(error: &TreeError) -> Failure {
    let exit = match error {
        TreeError::Missing(_) => Exit::NotFound,
        TreeError::Refused(_) => Exit::Conflict,
        _ => Exit::Failed,
    };
    Failure::new(exit, error.to_string())
}

fn interrupted(about: &str) -> Failure {
    Failure::new(Exit::Interrupted, "interrupted; what was half copied is removed").about(about)
}

struct Pieces(mpsc::Sender<Bytes>);

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Bytes::copy_from_slice(bytes));
        sent.map(|()| bytes.len()).map_err(|_| io::Error::other("nobody takes it any more"))
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Archive {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    now: Bytes,
}

impl Read for Archive {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.now.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.now = piece?,
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.now.len());
        buffer[..count].copy_from_slice(&self.now.split_to(count));
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_told_apart() {
        let here = |path: &str| Ok(Place::Here(path.into()));
        let guest = |vm: &str, path: &str| Ok(Place::Guest { vm: vm.to_owned(), path: path.to_owned() });
        assert_eq!("web:/etc/hosts".parse(), guest("web", "/etc/hosts"));
        assert_eq!("web:".parse(), guest("web", ""));
        for path in ["/tmp/a", "./a:b", "a", "../x:y/z"] {
            assert_eq!(path.parse(), here(path), "{path}");
        }
        assert!("No VM:/x".parse::<Place>().is_err());
    }
}
