//! What the engine says while it works: a document a line.

use std::collections::{BTreeMap, VecDeque};

use serde::Deserialize;

use crate::engine::EngineError;
use crate::engine::wire::{Content, Lines};
use crate::image::ImageError;

/// The longest line. A build's step may print as much without an end of line.
const LINE_MAX: usize = 8 << 20;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Message {
    pub(super) status: String,
    pub(super) id: String,
    pub(super) stream: String,
    progress_detail: Detail,
    error: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Detail {
    current: u64,
    total: u64,
}

/// Hears the engine out. Its last word where that is a failure.
pub(super) async fn hear(
    call: &'static str,
    content: Content,
    mut told: impl FnMut(&Message),
) -> Result<Result<(), String>, ImageError> {
    let mut lines = Lines::new(content, LINE_MAX);
    let mut failure = None;
    while let Some(line) = lines.next().await {
        let line = line.map_err(|e| EngineError::Failed { call, detail: crate::fault::chain(&e) })?;
        // One that is not understood says nothing that is needed.
        let Ok(message) = serde_json::from_slice::<Message>(&line) else { continue };
        if message.error.is_empty() {
            told(&message);
        } else {
            failure = Some(message.error);
        }
    }
    Ok(failure.map_or(Ok(()), Err))
}

/// How far each layer of a pull is.
#[derive(Debug, Default)]
pub(super) struct Layers(BTreeMap<String, Layer>);

#[derive(Debug, Default)]
struct Layer {
    done: u64,
    total: u64,
    fetched: bool,
    whole: bool,
}

impl Layers {
    /// True where the message changed something.
    pub(super) fn hear(&mut self, message: &Message) -> bool {
        const BEGUN: [&str; 2] = ["Pulling fs layer", "Waiting"];
        let begins = BEGUN.contains(&message.status.as_str());
        let known = self.0.contains_key(&message.id);
        if message.id.is_empty() || !(begins || known || message.status == "Already exists") {
            return false;
        }
        let layer = self.0.entry(message.id.clone()).or_default();
        let detail = &message.progress_detail;
        match message.status.as_str() {
            "Downloading" => (layer.done, layer.total) = (detail.current, detail.total),
            "Verifying Checksum" | "Download complete" | "Extracting" if !layer.fetched => {
                (layer.done, layer.fetched) = (layer.total, true);
            }
            "Pull complete" | "Already exists" => {
                (layer.done, layer.fetched, layer.whole) = (layer.total, true, true);
            }
            _ => return begins,
        }
        true
    }

    pub(super) fn step(&self) -> String {
        let count = |is: fn(&Layer) -> bool| self.0.values().filter(|layer| is(layer)).count();
        let (all, fetched, whole) = (self.0.len(), count(|l| l.fetched), count(|l| l.whole));
        if fetched == all && all > 0 {
            return format!("unpacking, {whole} of {all} layers done");
        }
        format!("pulling, {fetched} of {all} layers here")
    }

    /// Bytes that are here, and those of all layers once each has said how long it is.
    pub(super) fn bytes(&self) -> (u64, Option<u64>) {
        let known = self.0.values().all(|layer| layer.total > 0 || layer.fetched);
        let total = known.then(|| self.0.values().map(|layer| layer.total).sum());
        (self.0.values().map(|layer| layer.done).sum(), total)
    }
}

/// The last lines of what a build said.
#[derive(Debug, Default)]
pub(super) struct LastWords(VecDeque<String>);

impl LastWords {
    const LINES: usize = 12;
    const LINE: usize = 300;

    pub(super) fn hear(&mut self, text: &str) {
        for line in text.lines().map(str::trim_end).filter(|line| !line.is_empty()) {
            if self.0.len() == Self::LINES {
                self.0.pop_front();
            }
            let clean = line.chars().filter(|c| !c.is_control()).take(Self::LINE).collect();
            self.0.push_back(clean);
        }
    }

    pub(super) fn text(&self) -> String {
        self.0.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> Message {
        serde_json::from_str(text).expect("a message")
    }

    #[test]
    fn layers_are_counted_and_their_bytes_added_up() {
        let mut layers = Layers::default();
        for text in [
            r#"{"status":"Pulling fs layer","progressDetail":{},"id":"a"}"#,
            r#"{"status":"Pulling fs layer","progressDetail":{},"id":"b"}"#,
            r#"{"status":"Already exists","progressDetail":{},"id":"c"}"#,
            r#"{"status":"Downloading","progressDetail":{"current":10,"total":100},"id":"a"}"#,
        ] {
            assert!(layers.hear(&message(text)), "{text}");
        }
        assert!(!layers.hear(&message(r#"{"status":"Pulling from library/x","id":"latest"}"#)));
        assert_eq!((layers.step().as_str(), layers.bytes()), ("pulling, 1 of 3 layers here", (10, None)));
        layers
            .hear(&message(r#"{"status":"Downloading","progressDetail":{"current":5,"total":50},"id":"b"}"#));
        assert_eq!(layers.bytes(), (15, Some(150)));
        for id in ["a", "b"] {
            layers.hear(&message(&format!(
                r#"{{"status":"Download complete","progressDetail":{{}},"id":"{id}"}}"#
            )));
        }
        layers.hear(&message(r#"{"status":"Pull complete","progressDetail":{},"id":"a"}"#));
        assert_eq!(
            (layers.step().as_str(), layers.bytes()),
            ("unpacking, 2 of 3 layers done", (150, Some(150)))
        );
    }

    #[test]
    fn of_a_build_the_last_words_are_kept() {
        let mut words = LastWords::default();
        for n in 0..100 {
            words.hear(&format!("line {n}\u{1b}[0m\n\n"));
        }
        words.hear(&"x".repeat(10_000));
        let text = words.text();
        assert!(text.contains("line 99[0m\n") && !text.contains("line 80"), "{text}");
        assert!(text.len() < 4000);
    }
}
