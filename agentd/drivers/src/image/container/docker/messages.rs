//! What the engine says while it works: a document a line.

use std::collections::VecDeque;
use std::io;

use bytes::Bytes;
use futures_util::Stream;
use serde::Deserialize;

use crate::engine::EngineError;
use crate::engine::wire::Lines;
use crate::image::ImageError;

/// The longest line. A build's step may print as much without an end of line.
const LINE_MAX: usize = 8 << 20;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Message {
    pub(super) status: String,
    pub(super) id: String,
    pub(super) stream: String,
    pub(super) progress_detail: Detail,
    error: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Detail {
    pub(super) current: u64,
    pub(super) total: u64,
}

/// Hears the engine out. Its last word where that is a failure.
pub(super) async fn hear(
    call: &'static str,
    content: impl Stream<Item = io::Result<Bytes>> + Unpin,
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
