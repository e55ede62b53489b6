//! What a build makes on its way: an image a step, without a name. Those that the result stands on go with it; those of a
//! build that failed or was cut off, and of stages that were only copied from, would stay for ever, and are taken away
//! by [`leftovers`](super::leftovers).
//!
//! The engine puts labels on the last image of a build alone, so that these bear no mark. It tells their ids, among what the
//! steps' programs say; they are noted on disk as they are told.

use agentd_api::Timestamp;
use parking_lot::Mutex;
use tokio::sync::{oneshot, watch};

use super::journal::{COPIES, Copying, Journal, Noted};
use crate::image::ImageError;

pub(super) struct Intermediates {
    journal: Journal,
    seen: Mutex<Seen>,
    changes: watch::Sender<()>,
}

struct Seen {
    noted: Noted,
    /// An earlier try was cut off.
    earlier: bool,
    /// The engine is at it, and has not told all yet.
    open: bool,
    /// What the step at hand ends as was there before.
    known: bool,
    /// What the last step ended as.
    on: String,
    /// The last of the copies that are noted is the step at hand.
    copying: bool,
}

impl Intermediates {
    /// Goes on with what a try that was cut off made. It is on the disk when this returns.
    pub(super) async fn begin(journal: Journal) -> Result<Self, ImageError> {
        let earlier = journal.read().await?;
        let fresh = Noted {
            since: Timestamp::now(),
            cut: true,
            images: Vec::new(),
            containers: Vec::new(),
            copies: Vec::new(),
        };
        let (noted, earlier) = earlier.map_or((fresh, false), |noted| (noted, true));
        // Until its end is heard it counts as cut off.
        let noted = Noted { cut: true, ..noted };
        journal.write(&noted).await?;
        let seen = Seen { noted, earlier, open: false, known: false, on: String::new(), copying: false };
        let seen = Mutex::new(seen);
        Ok(Self { journal, seen, changes: watch::Sender::new(()) })
    }

    /// The engine is about to begin.
    pub(super) fn sent(&self) {
        self.seen.lock().open = true;
    }

    /// The engine has told all, and makes nothing any more.
    pub(super) fn heard_out(&self) {
        self.seen.lock().open = false;
    }

    pub(super) fn hear(&self, text: &str) {
        let seen = &mut *self.seen.lock();
        let step = text.strip_prefix("Step ").and_then(|rest| rest.split_once(" : "));
        let changed = match (step, text.strip_prefix(" ---> ")) {
            (Some((_, what)), _) => seen.begins(what),
            (None, Some(end)) => seen.told(end.trim_end()),
            (None, None) => false,
        };
        if changed {
            self.changes.send_replace(());
        }
    }

    /// As Podman tells it, whose steps make no images: what a stage ended as.
    pub(super) fn hear_podman(&self, text: &str) {
        let Some(end) = text.strip_prefix("--> ") else { return };
        let changed = self.seen.lock().told(end.trim_end());
        if changed {
            self.changes.send_replace(());
        }
    }

    /// Writes down what is heard while `work` hears it. The engine is heard on while the disk is slow: what it does
    /// and we have not heard is not known for a build's own when that is cut off.
    pub(super) async fn noting<T>(&self, work: impl Future<Output = T>) -> T {
        let mut changes = self.changes.subscribe();
        let (ended, mut end) = oneshot::channel::<()>();
        let work = async {
            let done = work.await;
            drop(ended);
            done
        };
        let write = async {
            loop {
                // Cancel safety: a change that was taken is written below; the end is the last that is asked for.
                tokio::select! {
                    biased;
                    Ok(()) = changes.changed() => {
                        let noted = self.noted();
                        if let Err(error) = self.journal.write(&noted).await {
                            tracing::warn!("what a build makes is not noted: {error}");
                        }
                    }
                    _ = &mut end => return,
                }
            }
        };
        tokio::join!(work, write).0
    }

    /// Of a try that ended in this process.
    pub(super) async fn end(&self) {
        let noted = {
            let seen = self.seen.lock();
            Noted { cut: seen.earlier || seen.open, ..seen.noted.clone() }
        };
        if let Err(error) = self.journal.write(&noted).await {
            tracing::warn!("what a build made is not noted: {error}");
        }
    }

    fn noted(&self) -> Noted {
        self.seen.lock().noted.clone()
    }
}

impl Seen {
    /// No build has as many steps; a program that says as many ids means harm.
    const MOST: usize = 4096;

    /// A step is announced. True where that is to be noted.
    fn begins(&mut self, what: &str) -> bool {
        let word = what.split_whitespace().next().unwrap_or_default().to_uppercase();
        self.known = word == "FROM";
        if self.known {
            self.on.clear();
        }
        let copies = &mut self.noted.copies;
        if self.copying {
            copies.pop();
        }
        let noted = self.copying;
        self.copying = COPIES.contains(&word.as_str()) && copies.len() < Self::MOST;
        if self.copying {
            copies.push(Copying { since: Timestamp::now(), on: self.on.clone(), word });
        }
        noted || self.copying
    }

    /// What a step runs in, or ended as.
    fn told(&mut self, end: &str) -> bool {
        if end == "Using cache" {
            // What an earlier try made in the moment in which it was cut off is told of here for the first time.
            self.known = !self.earlier;
            return false;
        }
        let container = end.strip_prefix("Running in ");
        let id = container.unwrap_or(end);
        if id.is_empty() || id.len() > 64 || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
            return false;
        }
        let noted = &mut self.noted;
        let mut changed = false;
        if container.is_none() {
            id.clone_into(&mut self.on);
            if std::mem::take(&mut self.copying) {
                changed = noted.copies.pop().is_some();
            }
        }
        let list = if container.is_some() { &mut noted.containers } else { &mut noted.images };
        let new = container.is_some() || !self.known;
        if new && list.len() < Self::MOST && !list.iter().any(|known| known == id) {
            list.push(id.to_owned());
            changed = true;
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use uuid::Uuid;

    use super::*;
    use crate::Instance;

    #[tokio::test]
    async fn what_steps_make_is_told_from_what_was_there_and_outlives_us() {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = |path: &Path| Journal::of(&Instance::new(path), Uuid::nil());
        let made = Intermediates::begin(journal(folder.path())).await.expect("noted");
        let since = made.noted().since;
        made.noting(async {
            for text in [
                "Step 1/4 : FROM box:1\n",
                " ---> aaaa\n",
                "Step 2/4 : RUN one\n",
                " ---> Using cache\n",
                " ---> bbbb\n",
                "Step 3/4 : RUN two\n",
                " ---> Running in cccc\n",
                "said by two\n",
                " ---> dddd\n",
                "Step 4/4 : RUN three\n",
                " ---> eeee\n",
                " ---> eeee\n",
            ] {
                made.hear(text);
            }
            tokio::task::yield_now().await;
        })
        .await;
        drop(made);

        let again = Intermediates::begin(journal(folder.path())).await.expect("read");
        again.end().await;
        let noted = again.noted();
        assert_eq!((noted.since, noted.cut), (since, true));
        assert_eq!(
            (noted.images, noted.containers),
            (vec!["dddd".into(), "eeee".into()], vec!["cccc".into()])
        );
    }

    #[tokio::test]
    async fn what_is_found_again_may_be_of_the_try_that_was_cut_off() {
        let folder = tempfile::tempdir().expect("a folder");
        let begin = || Intermediates::begin(Journal::of(&Instance::new(folder.path()), Uuid::nil()));
        for noted in [&[][..], &["bbbb"]] {
            let made = begin().await.expect("noted");
            for text in [
                "Step 1/2 : FROM box:1\n",
                " ---> aaaa\n",
                "Step 2/2 : COPY a /a\n",
                " ---> Using cache\n",
                " ---> bbbb\n",
            ] {
                made.hear(text);
            }
            assert_eq!(made.noted().images, noted);
        }
    }

    #[tokio::test]
    async fn what_a_stage_of_podmans_ends_as_is_noted() {
        let folder = tempfile::tempdir().expect("a folder");
        let made = Intermediates::begin(Journal::of(&Instance::new(folder.path()), Uuid::nil())).await;
        let made = made.expect("noted");
        for text in [
            "[1/2] STEP 1/2: FROM box:1 AS first\n",
            "[1/2] STEP 2/2: RUN one\n",
            "--> 0123456789a\n",
            "--> Using cache bbbb\n",
            " ---> cccc\n",
            "COMMIT localhost/made:1\n",
            "--> a9876543210\n",
        ] {
            made.hear_podman(text);
        }
        let noted = made.noted();
        assert_eq!(noted.images, ["0123456789a", "a9876543210"]);
        assert_eq!((noted.containers.len(), noted.copies.len()), (0, 0));
    }

    #[tokio::test]
    async fn a_copy_is_noted_until_its_end_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = Journal::of(&Instance::new(folder.path()), Uuid::nil());
        let made = Intermediates::begin(journal).await.expect("noted");
        let copies = |text: &str| {
            made.hear(text);
            let copies = made.noted().copies;
            copies.into_iter().map(|copy| format!("{} {}", copy.word, copy.on)).collect::<Vec<_>>()
        };
        copies("Step 1/5 : FROM box:1\n");
        copies(" ---> aaaa\n");
        assert_eq!(copies("Step 2/5 : COPY a /a\n"), ["COPY aaaa"]);
        assert_eq!(copies(" ---> bbbb\n"), [""; 0]);
        assert_eq!(copies("Step 3/5 : FROM scratch\n"), [""; 0]);
        copies(" ---> \n");
        assert_eq!(copies("Step 4/5 : add b /b\n"), ["ADD "]);
        assert_eq!(copies(" ---> Using cache\n"), ["ADD "]);
        assert_eq!(copies(" ---> cccc\n"), [""; 0]);
        assert_eq!(copies("Step 5/5 : COPY c /c\n"), ["COPY cccc"]);
        assert_eq!(made.noted().images, ["bbbb"]);
    }

    #[tokio::test]
    async fn a_build_is_cut_off_until_its_end_is_heard() {
        let folder = tempfile::tempdir().expect("a folder");
        let journal = || Journal::of(&Instance::new(folder.path()), Uuid::nil());
        let cut = async || journal().read().await.expect("read").expect("noted").cut;
        let made = Intermediates::begin(journal()).await.expect("noted");
        assert!(cut().await);
        made.sent();
        made.end().await;
        assert!(cut().await);
        made.heard_out();
        made.end().await;
        assert!(!cut().await);
    }
}
