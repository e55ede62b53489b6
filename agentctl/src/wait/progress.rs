//! Shows on stderr how long work goes on: bars on a terminal, plain lines elsewhere. A line is written when something
//! other than a number changed, and at each quarter of a known total, so that a log stays short.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use agentd_api::{Progress, State, StatusCommon};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::output::quantity;
use crate::output::table::plain;

pub enum Display {
    Bars { all: MultiProgress, bars: BTreeMap<String, ProgressBar> },
    Lines { last: BTreeMap<String, Line> },
}

/// What the last line of an object said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    state: Option<State>,
    step: String,
    reason: String,
    quarter: u64,
}

impl Display {
    pub fn new() -> Self {
        if io::stderr().is_terminal() {
            Self::Bars { all: MultiProgress::new(), bars: BTreeMap::new() }
        } else {
            Self::Lines { last: BTreeMap::new() }
        }
    }

    /// The status of an object.
    pub fn status(&mut self, label: &str, status: &StatusCommon) {
        let reason = status.reason.as_deref().unwrap_or_default();
        self.show(label, Some(status.state), status.progress.as_ref(), reason);
    }

    /// Work of agentctl's own, such as sending a file.
    pub fn work(&mut self, label: &str, progress: &Progress) {
        self.show(label, None, Some(progress), "");
    }

    fn show(&mut self, label: &str, state: Option<State>, progress: Option<&Progress>, reason: &str) {
        let text = sentence(state, progress, reason);
        match self {
            Self::Bars { all, bars } => {
                let bar = bars.entry(label.to_owned()).or_insert_with(|| spinner(all, label));
                fill(bar, progress);
                bar.set_message(text);
            }
            Self::Lines { last } => {
                let line = Line {
                    state,
                    step: progress.map(|p| p.step.clone()).unwrap_or_default(),
                    reason: reason.to_owned(),
                    quarter: progress.map_or(0, quarter),
                };
                if last.get(label) != Some(&line) {
                    last.insert(label.to_owned(), line);
                    let _ = writeln!(io::stderr(), "{label}: {text}");
                }
            }
        }
    }

    /// A line beside the bars.
    pub fn note(&mut self, text: &str) {
        match self {
            Self::Bars { all, .. } => {
                let _ = all.println(text);
            }
            Self::Lines { .. } => {
                let _ = writeln!(io::stderr(), "{text}");
            }
        }
    }

    /// Takes an object's bar away and leaves a line.
    pub fn end(&mut self, label: &str, text: &str) {
        let line = format!("{label}: {text}");
        match self {
            Self::Bars { all, bars } => {
                if let Some(bar) = bars.remove(label) {
                    bar.finish_and_clear();
                    all.remove(&bar);
                }
                let _ = all.println(line);
            }
            Self::Lines { last } => {
                last.remove(label);
                let _ = writeln!(io::stderr(), "{line}");
            }
        }
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        if let Self::Bars { all, bars } = self {
            bars.values().for_each(ProgressBar::finish_and_clear);
            let _ = all.clear();
        }
    }
}

fn quarter(progress: &Progress) -> u64 {
    match progress.total {
        Some(total) if total > 0 => {
            u64::try_from(u128::from(progress.done) * 4 / u128::from(total)).unwrap_or(4).min(4)
        }
        _ => 0,
    }
}

fn sentence(state: Option<State>, progress: Option<&Progress>, reason: &str) -> String {
    let mut text = state.map(State::as_str).unwrap_or_default().to_owned();
    for part in [progress.map(quantity::progress).unwrap_or_default(), plain(reason)] {
        if !part.is_empty() {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&part);
        }
    }
    text
}

fn spinner(all: &MultiProgress, label: &str) -> ProgressBar {
    let bar = all.add(ProgressBar::new_spinner());
    bar.set_prefix(label.to_owned());
    style(&bar, SPINNER);
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

const SPINNER: &str = "{spinner} {prefix}: {wide_msg} {elapsed}";
const BAR: &str = "{spinner} {prefix} [{bar:24}] {wide_msg} {elapsed}";

fn style(bar: &ProgressBar, template: &str) {
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
}

/// A bar where the total is known, a spinner where it is not.
fn fill(bar: &ProgressBar, progress: Option<&Progress>) {
    let total = progress.and_then(|p| p.total).filter(|total| *total > 0);
    if bar.length() != total {
        style(bar, if total.is_some() { BAR } else { SPINNER });
        match total {
            Some(total) => bar.set_length(total),
            None => bar.unset_length(),
        }
    }
    bar.set_position(progress.map_or(0, |p| p.done));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_says_what_is_known() {
        let progress = Progress { step: "packages".into(), done: 1, total: Some(4), unit: "packages".into() };
        assert_eq!(sentence(Some(State::Running), None, ""), "running");
        assert_eq!(
            sentence(Some(State::Provisioning), Some(&progress), "first build"),
            "provisioning: packages 1 of 4 packages (25 %): first build"
        );
        assert_eq!(
            sentence(None, Some(&progress), "a\u{1b}[2Jb\n"),
            "packages 1 of 4 packages (25 %): a\u{fffd}[2Jb "
        );
        assert_eq!(quarter(&progress), 1);
        assert_eq!(quarter(&Progress { done: 9, ..progress }), 4);
    }
}
