//! `.dockerignore`: what of a folder does not go into a build, by the rules that Docker has for it.
//!
//! The last line that matches a path, or a folder above it, decides; one that begins with '!' takes it in again. In a line
//! `*` and `?` stand for what is between two '/', `[...]` for one of several characters, `**` for any number of folders.

use std::path::Path;

#[derive(Debug, Default)]
pub struct Ignore(Vec<Rule>);

#[derive(Debug)]
struct Rule {
    taken: bool,
    parts: Vec<String>,
}

impl Ignore {
    pub fn parse(text: &str) -> Self {
        let lines = text.trim_start_matches('\u{feff}').lines();
        Self(
            lines.filter(|line| !line.starts_with('#')).filter_map(|line| Rule::parse(line.trim())).collect(),
        )
    }

    /// Whether that path, relative to the folder, is left out.
    pub fn leaves_out(&self, path: &Path) -> bool {
        let parts: Vec<String> = path.iter().map(|part| part.to_string_lossy().into_owned()).collect();
        let mut out = false;
        for rule in &self.0 {
            if out == rule.taken && (1..=parts.len()).any(|n| matches(&rule.parts, &parts[..n])) {
                out = !rule.taken;
            }
        }
        out
    }

    /// Whether something below what is left out may be taken in again.
    pub fn takes_in(&self) -> bool {
        self.0.iter().any(|rule| rule.taken)
    }
}

impl Rule {
    fn parse(line: &str) -> Option<Self> {
        let (taken, line) = line.strip_prefix('!').map_or((false, line), |rest| (true, rest.trim()));
        let mut parts: Vec<String> = Vec::new();
        for part in line.split('/') {
            match part {
                "" | "." => {}
                ".." => drop(parts.pop()),
                part => parts.push(part.to_owned()),
            }
        }
        (!parts.is_empty()).then_some(Self { taken, parts })
    }
}

fn matches(rule: &[String], path: &[String]) -> bool {
    match rule.split_first() {
        None => path.is_empty(),
        Some((first, rest)) if first == "**" => (0..=path.len()).any(|n| matches(rest, &path[n..])),
        Some((first, rest)) => path.split_first().is_some_and(|(part, below)| {
            let (first, part): (Vec<char>, Vec<char>) = (first.chars().collect(), part.chars().collect());
            glob(&first, &part) && matches(rest, below)
        }),
    }
}

fn glob(rule: &[char], text: &[char]) -> bool {
    let Some((first, rest)) = rule.split_first() else { return text.is_empty() };
    match first {
        '*' => (0..=text.len()).any(|n| glob(rest, &text[n..])),
        '?' => !text.is_empty() && glob(rest, &text[1..]),
        '[' => match (class(rest, text.first().copied()), text.split_first()) {
            (Some((true, rest)), Some((_, below))) => glob(rest, below),
            _ => false,
        },
        '\\' if !rest.is_empty() => text.first() == rest.first() && glob(&rest[1..], &text[1..]),
        plain => text.first() == Some(plain) && glob(rest, &text[1..]),
    }
}

/// Whether a character is one of a class, and what follows that. None where the class has no end.
fn class(rule: &[char], text: Option<char>) -> Option<(bool, &[char])> {
    let (not, mut rule) = match rule.first() {
        Some('^') => (true, &rule[1..]),
        _ => (false, rule),
    };
    let (mut found, mut any) = (false, false);
    loop {
        match rule {
            [']', rest @ ..] if any => return Some((found != not, rest)),
            [low, '-', high, rest @ ..] if *high != ']' => {
                found |= text.is_some_and(|c| (*low..=*high).contains(&c));
                rule = rest;
            }
            [one, rest @ ..] => {
                found |= text == Some(*one);
                rule = rest;
            }
            [] => return None,
        }
        any = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left_out<'a>(rules: &str, paths: &[&'a str]) -> Vec<&'a str> {
        let ignore = Ignore::parse(rules);
        paths.iter().copied().filter(|path| ignore.leaves_out(Path::new(path))).collect()
    }

    #[test]
    fn lines_match_as_dockers_do() {
        let paths =
            ["a.log", "sub/a.log", "sub/deep/a.log", "target", "target/x/y", "src/main.rs", ".git/config"];
        assert_eq!(left_out("*.log\n", &paths), ["a.log"]);
        assert_eq!(left_out("*/*.log", &paths), ["sub/a.log"]);
        assert_eq!(left_out("**/*.log", &paths), ["a.log", "sub/a.log", "sub/deep/a.log"]);
        assert_eq!(left_out("/target/\n.git", &paths), ["target", "target/x/y", ".git/config"]);
        assert_eq!(left_out("# target\n\n  ", &paths), [""; 0]);
        assert_eq!(left_out("s?b/*", &paths), ["sub/a.log", "sub/deep/a.log"]);
        assert_eq!(left_out("[a-b].l[^x]g", &paths), ["a.log"]);
        assert_eq!(left_out("[a", &paths), [""; 0]);
        assert_eq!(left_out("./x/../target", &paths), ["target", "target/x/y"]);
    }

    #[test]
    fn what_is_taken_in_again_counts_in_order() {
        let paths = ["docs", "docs/a.md", "docs/README.md", "README.md"];
        assert_eq!(left_out("docs\n!docs/README.md", &paths), ["docs", "docs/a.md"]);
        assert_eq!(left_out("!docs/README.md\ndocs", &paths), ["docs", "docs/a.md", "docs/README.md"]);
        assert_eq!(left_out("**\n!**/README.md", &paths), ["docs", "docs/a.md"]);
        assert!(Ignore::parse("!a").takes_in() && !Ignore::parse("a").takes_in());
    }
}
