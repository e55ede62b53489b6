//! Which apt sources a recipe uses: the host's own as far as they are Debian's, moved to the recipe's release.
//!
//! A host's sources hold more than that: backports, and the repositories of vendors, of which some call their suites
//! by Debian's names. So an entry counts only when its suite is the host's release or its updates or security, its
//! components hold `main`, and it is signed by nobody but Debian. Pure; reading the files is the caller's.

use super::KEYRING;

/// One suite of one archive.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Source {
    uri: String,
    suite: String,
    components: Vec<String>,
    signed_by: Option<String>,
}

/// The one-line entries for `release`. `host_files` are (name, text) of /etc/apt/sources.list and what lies in
/// sources.list.d; `host_release` is the host's codename where it is a Debian.
pub(super) fn sources(
    release: &str,
    host_files: &[(String, String)],
    host_release: Option<&str>,
    mirror: Option<&str>,
) -> Vec<String> {
    let line = |uri: &str, suite: &str| format!("deb [signed-by={KEYRING}] {uri} {suite} main");
    let mut lines = Vec::new();
    if let Some(codename) = host_release {
        for source in host_files.iter().flat_map(|(name, text)| parse(name, text)) {
            let Some(pocket @ ("" | "-updates" | "-security")) = source.suite.strip_prefix(codename) else {
                continue;
            };
            // The configured mirror takes the place of the archive's; it has no security updates of its own.
            let replaced = mirror.is_some() && pocket != "-security";
            if is_debians(&source) && !replaced {
                lines.push(line(&source.uri, &format!("{release}{pocket}")));
            }
        }
    }
    if let Some(mirror) = mirror {
        lines.insert(0, line(mirror, &format!("{release}-updates")));
        lines.insert(0, line(mirror, release));
    }
    lines.dedup();
    if !lines.iter().any(|l| l.ends_with(&format!(" {release} main"))) {
        return vec![
            line("http://deb.debian.org/debian", release),
            line("http://deb.debian.org/debian", &format!("{release}-updates")),
            line("http://deb.debian.org/debian-security", &format!("{release}-security")),
        ];
    }
    lines
}

fn is_debians(source: &Source) -> bool {
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '[' | ']' | '#' | '"' | '\'' | '$' | '\\');
    source.components.iter().any(|c| c == "main")
        && source.signed_by.as_ref().is_none_or(|by| by.contains("debian-archive-"))
        && ["http://", "https://", "file:/", "mirror+"].iter().any(|scheme| source.uri.starts_with(scheme))
        && source.uri.chars().all(plain)
}

fn parse(name: &str, text: &str) -> Vec<Source> {
    if name.ends_with(".sources") {
        parse_deb822(text)
    } else {
        text.lines().filter_map(parse_line).collect()
    }
}

/// `deb [options] URI SUITE COMPONENT...`
fn parse_line(line: &str) -> Option<Source> {
    let rest = line.split('#').next()?.trim().strip_prefix("deb")?;
    let rest = rest.strip_prefix([' ', '\t'])?.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let signed_by = options.split_whitespace().find_map(|o| o.strip_prefix("signed-by=")).map(str::to_owned);
    let mut words = rest.split_whitespace().map(str::to_owned);
    let (uri, suite) = (words.next()?, words.next()?);
    Some(Source { uri, suite: plain_suite(&suite), components: words.collect(), signed_by })
}

/// Stanzas of fields, each with its lines of continuation.
fn parse_deb822(text: &str) -> Vec<Source> {
    let mut found = Vec::new();
    for stanza in text.split("\n\n") {
        let mut fields: Vec<(String, String)> = Vec::new();
        for line in stanza.lines().filter(|l| !l.starts_with('#')) {
            if line.starts_with([' ', '\t']) {
                if let Some((_, value)) = fields.last_mut() {
                    value.push_str(line);
                }
            } else if let Some((key, value)) = line.split_once(':') {
                fields.push((key.to_ascii_lowercase(), value.trim().to_owned()));
            }
        }
        let field = |key: &str| fields.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str());
        let words = |key: &str| field(key).unwrap_or_default().split_whitespace().map(str::to_owned);
        if field("enabled").is_some_and(|v| v.eq_ignore_ascii_case("no"))
            || !words("types").any(|t| t == "deb")
        {
            continue;
        }
        for uri in words("uris") {
            found.extend(words("suites").map(|suite| Source {
                uri: uri.clone(),
                suite: plain_suite(&suite),
                components: words("components").collect(),
                signed_by: field("signed-by").map(str::to_owned),
            }));
        }
    }
    found
}

/// Old names of the security suite ("buster/updates") and the slash that may end a suite.
fn plain_suite(suite: &str) -> String {
    suite.trim_end_matches('/').replace("/updates", "-security")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "Types: deb\nURIs: http://mirror.example/debian\nSuites: bookworm bookworm-updates bookworm-backports\nComponents: main contrib\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\n# security\nTypes: deb deb-src\nURIs: http://mirror.example/debian-security\nSuites: bookworm-security\nComponents: main\n";

    fn of(release: &str, host: &str, mirror: Option<&str>) -> Vec<String> {
        let vendor = "deb [arch=amd64 signed-by=/usr/share/keyrings/vendor.gpg] https://vendor.example bookworm main\n";
        let files =
            [("debian.sources".to_owned(), host.to_owned()), ("vendor.list".to_owned(), vendor.to_owned())];
        let lines = sources(release, &files, Some("bookworm"), mirror);
        lines.iter().map(|l| l.replace(&format!("deb [signed-by={KEYRING}] "), "")).collect()
    }

    #[test]
    fn the_hosts_own_archive_is_used_and_no_vendors() {
        assert_eq!(
            of("bookworm", HOST, None),
            [
                "http://mirror.example/debian bookworm main",
                "http://mirror.example/debian bookworm-updates main",
                "http://mirror.example/debian-security bookworm-security main",
            ]
        );
    }

    #[test]
    fn another_release_is_taken_from_the_same_archive() {
        assert_eq!(of("trixie", HOST, None)[0], "http://mirror.example/debian trixie main");
    }

    #[test]
    fn a_mirror_takes_the_place_of_the_archive() {
        assert_eq!(
            of("bookworm", HOST, Some("http://m.example/d")),
            [
                "http://m.example/d bookworm main",
                "http://m.example/d bookworm-updates main",
                "http://mirror.example/debian-security bookworm-security main",
            ]
        );
    }

    #[test]
    fn a_host_of_another_kind_falls_back_to_debians_own() {
        let files = [("ubuntu.sources".to_owned(), HOST.replace("bookworm", "noble"))];
        let lines = sources("bookworm", &files, None, None);
        assert!(lines[0].ends_with("http://deb.debian.org/debian bookworm main"), "{lines:?}");
        assert_eq!(lines.len(), 3);
        assert!(
            of(
                "bookworm",
                "Enabled: no\nTypes: deb\nURIs: http://a\nSuites: bookworm\nComponents: main\n",
                None
            )[0]
            .contains("deb.debian.org")
        );
    }

    #[test]
    fn one_line_entries_are_read() {
        let text = "# deb http://no bookworm main\ndeb-src http://no bookworm main\ndeb http://a/debian bookworm main # x\n";
        let files = [("sources.list".to_owned(), text.to_owned())];
        let lines = sources("bookworm", &files, Some("bookworm"), None);
        assert_eq!(lines.len(), 1);
        assert!(lines[0].ends_with("http://a/debian bookworm main"));
    }
}
