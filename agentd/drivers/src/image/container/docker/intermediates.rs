//! What a build makes on its way: an image a step, without a name. Those that the result stands on go with it; those of a
//! build that failed, and of stages that were only copied from, would stay for ever, and are taken away at its end.
//!
//! The engine tells their ids only within its text, among what the steps' programs say. So an id counts only where the engine
//! has an image of it that has no name and came after the build began. One with another on it is refused by the engine.

use agentd_api::Timestamp;
use parking_lot::Mutex;

use super::DockerImages;
use crate::engine::ACT;

#[derive(Debug)]
pub(super) struct Intermediates {
    since: Timestamp,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    ids: Vec<String>,
    /// What the step at hand ends as was there before.
    known: bool,
}

impl Intermediates {
    pub(super) fn begin() -> Self {
        Self { since: Timestamp::now(), seen: Mutex::default() }
    }

    pub(super) fn hear(&self, text: &str) {
        let mut seen = self.seen.lock();
        if let Some((_, what)) = text.strip_prefix("Step ").and_then(|rest| rest.split_once(" : ")) {
            seen.known = what.starts_with("FROM ");
        } else if let Some(end) = text.strip_prefix(" ---> ").map(str::trim_end) {
            seen.known |= end == "Using cache";
            let id = !end.is_empty() && end.bytes().all(|b| b.is_ascii_hexdigit());
            if id && !seen.known && !seen.ids.iter().any(|known| known == end) {
                seen.ids.push(end.to_owned());
            }
        }
    }

    /// The last first: it stands on those before it.
    fn ids(&self) -> Vec<String> {
        self.seen.lock().ids.iter().rev().cloned().collect()
    }
}

impl DockerImages {
    /// What cannot be taken away stays: it is in nobody's way, and `docker image prune` takes it.
    pub(super) async fn tidy(&self, made: &Intermediates) {
        const CALL: &str = "remove what a build left";
        for id in made.ids() {
            let Ok(Some(found)) = self.inspect(&id).await else { continue };
            let named = |names: &Option<Vec<String>>| names.as_ref().is_some_and(|names| !names.is_empty());
            let created = found.created.as_deref().and_then(|at| at.parse::<Timestamp>().ok());
            if named(&found.repo_tags)
                || named(&found.repo_digests)
                || created.is_none_or(|at| at < made.since)
            {
                continue;
            }
            let path = format!("/images/{}?noprune=1", found.id);
            let asked = async { self.wire().await?.delete(CALL, &path).await };
            if let Err(error) = self.within(CALL, ACT, asked).await {
                tracing::debug!(image = found.id, "what a build left stays: {error}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steps_make_is_told_from_what_was_there() {
        let made = Intermediates::begin();
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
        assert_eq!(made.ids(), ["eeee", "dddd"]);
    }
}
