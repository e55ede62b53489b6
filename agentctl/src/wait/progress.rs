//! Shows on stderr how long work goes on: bars on a terminal, plain lines elsewhere. A line is written when something
//! other than a number changed, and at each quarter of a known total, so that a log stays short.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use agentd_api::{LayerProgress, LayerState, Progress, State, StatusCommon};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::output::quantity;
use crate::output::table::plain;

pub enum Display {
    Bars { all: MultiProgress, bars: BTreeMap<String, Bars> },
    Lines { last: BTreeMap<String, Line> },
}

/// One object's: its own, and below it one a layer where it has such.
#[derive(Debug)]
pub struct Bars {
    own: ProgressBar,
    layers: Vec<(String, ProgressBar)>,
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
                let fresh = || Bars { own: spinner(all, label), layers: Vec::new() };
                let bars = bars.entry(label.to_owned()).or_insert_with(fresh);
                fill(&bars.own, progress.and_then(|p| p.total), progress.map_or(0, |p| p.done), OWN);
                bars.own.set_message(text);
                bars.show_layers(all, progress.map_or(&[], |p| &p.layers));
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
                if let Some(mut bars) = bars.remove(label) {
                    bars.show_layers(all, &[]);
                    take_away(all, &bars.own);
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

impl Bars {
    /// One line a layer, in their order; none where there are none any more.
    fn show_layers(&mut self, all: &MultiProgress, layers: &[LayerProgress]) {
        self.layers.retain(|(id, bar)| {
            let stays = layers.iter().any(|layer| layer.id == *id);
            if !stays {
                take_away(all, bar);
            }
            stays
        });
        for layer in layers {
            let known = self.layers.iter().position(|(id, _)| *id == layer.id);
            let at = known.unwrap_or_else(|| {
                let above = self.layers.last().map_or(&self.own, |(_, bar)| bar);
                let bar = all.insert_after(above, ProgressBar::new_spinner());
                bar.set_prefix(plain(&layer.id));
                style(&bar, LAYER.0);
                self.layers.push((layer.id.clone(), bar));
                self.layers.len() - 1
            });
            let bar = &self.layers[at].1;
            fill(bar, layer.total, layer.done, LAYER);
            bar.set_message(of_layer(layer));
        }
    }
}

fn take_away(all: &MultiProgress, bar: &ProgressBar) {
    bar.finish_and_clear();
    all.remove(bar);
}

/// `downloading 1.00MiB of 4.00MiB`, `done`
fn of_layer(layer: &LayerProgress) -> String {
    let state = layer.state.as_str();
    match layer.total {
        Some(total)
            if total > 0 && matches!(layer.state, LayerState::Downloading | LayerState::Extracting) =>
        {
            format!("{state} {} of {}", quantity::bytes(layer.done), quantity::bytes(total))
        }
        Some(total) if total > 0 => format!("{state} {}", quantity::bytes(total)),
        _ => state.to_owned(),
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        if let Self::Bars { all, bars } = self {
            for bars in bars.values_mut() {
                bars.show_layers(all, &[]);
                bars.own.finish_and_clear();
            }
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
    style(&bar, OWN.0);
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}

/// How it looks without a total, and with one.
type Looks = (&'static str, &'static str);

const OWN: Looks =
    ("{spinner} {prefix}: {wide_msg} {elapsed}", "{spinner} {prefix} [{bar:24}] {wide_msg} {elapsed}");
const LAYER: Looks =
    ("  {prefix:12}                            {wide_msg}", "  {prefix:12} [{bar:24}] {wide_msg}");

fn style(bar: &ProgressBar, template: &str) {
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style.progress_chars("=> "));
    }
}

/// A bar where the total is known, a spinner where it is not.
fn fill(bar: &ProgressBar, total: Option<u64>, done: u64, looks: Looks) {
    let total = total.filter(|total| *total > 0);
    if bar.length() != total {
        style(bar, if total.is_some() { looks.1 } else { looks.0 });
        match total {
            Some(total) => bar.set_length(total),
            None => bar.unset_length(),
        }
    }
    bar.set_position(done);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_says_what_is_known() {
        let progress = Progress {
            step: "packages".into(),
            done: 1,
            total: Some(4),
            unit: "packages".into(),
            ..Progress::default()
        };
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
    fn layer(id: &str, state: LayerState, done: u64, total: Option<u64>) -> LayerProgress {
        LayerProgress { id: id.into(), state, done, total }
    }

    #[test]
    fn a_layer_has_a_line_of_its_own_while_its_image_is_pulled() {
        let all = MultiProgress::with_draw_target(indicatif::ProgressDrawTarget::hidden());
        let mut display = Display::Bars { all, bars: BTreeMap::new() };
        let mut status = StatusCommon { state: State::Provisioning, ..StatusCommon::default() };
        let mut show = |layers: Vec<LayerProgress>| {
            status.progress = Some(Progress { step: "pulling".into(), layers, ..Progress::default() });
            display.status("image/tool", &status);
            let Display::Bars { bars, .. } = &display else { panic!("bars") };
            let seen = bars["image/tool"].layers.iter();
            seen.map(|(id, bar)| format!("{id} {} {:?} {}", bar.position(), bar.length(), bar.message()))
                .collect::<Vec<_>>()
        };
        use LayerState::{Done, Downloading, Waiting};
        let first =
            [layer("bb", Downloading, 1 << 20, Some(4 << 20)), layer("aa", Waiting, 0, None)].to_vec();
        assert_eq!(
            show(first),
            ["bb 1048576 Some(4194304) downloading 1.00MiB of 4.00MiB", "aa 0 None waiting"]
        );
        let there = layer("bb", Done, 4 << 20, Some(4 << 20));
        let second = [there.clone(), layer("aa", Done, 0, Some(0)), layer("cc", Waiting, 0, None)].to_vec();
        assert_eq!(
            show(second),
            ["bb 4194304 Some(4194304) done 4.00MiB", "aa 0 None done", "cc 0 None waiting"]
        );
        assert_eq!(show(vec![there]), ["bb 4194304 Some(4194304) done 4.00MiB"]);
        assert_eq!(show(Vec::new()), [""; 0]);
    }

    #[test]
    fn without_a_terminal_layers_are_no_lines() {
        let line = |layers: Vec<LayerProgress>| {
            let mut display = Display::Lines { last: BTreeMap::new() };
            let progress = Progress { step: "pulling".into(), layers, ..Progress::default() };
            display.work("image/tool", &progress);
            let Display::Lines { last } = &display else { panic!("lines") };
            last["image/tool"].clone()
        };
        assert_eq!(line(Vec::new()), line(vec![layer("aa", LayerState::Done, 1, Some(1))]));
    }
}
