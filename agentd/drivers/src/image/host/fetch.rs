//! Downloads, by curl: http and https only, redirects included, bounded, resumed where an earlier try ended.
//!
//! What arrives is trusted for nothing: it is used only when the SHA-256 of all of it is the one that was asked for.
//! A file that is wrong after it was resumed is fetched once more from its beginning, for the server may have changed
//! it in between; one that is wrong after that is refused and removed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use agentd_api::image::UrlSource;

use super::run::{blocking, broken, failed, files, last_line, program, report};
use super::store::{digest_file, ensure_folder, gone, sync};
use super::{incoming, meter};
use crate::exec::ExecError;
use crate::image::{ImageError, Work};

/// No image is larger; a server that sends without end is cut off here.
const LARGEST: u64 = 1 << 40;
const LONGEST: Duration = Duration::from_secs(24 * 3600);
const STEP: &str = "fetching";

/// The file with that digest, fetched or fetched before.
pub(super) async fn fetch(folder: &Path, source: &UrlSource, work: &Work) -> Result<PathBuf, ImageError> {
    let (part, whole) = incoming::pull_paths(folder, &source.sha256);
    let made = folder.to_owned();
    files(STEP, move || ensure_folder(&made)).await?;
    if tokio::fs::try_exists(&whole).await.unwrap_or(false) {
        return Ok(whole);
    }
    let mut resumed = length(&part) > 0;
    loop {
        match curl(folder, &part, source, work).await? {
            Curl::Fetched => {}
            Curl::NoRanges if resumed => {
                // The server cannot go on from the middle.
                remove(&part).await?;
                resumed = false;
                continue;
            }
            Curl::NoRanges => return Err(unfetched(source, "the server sent a part that nobody asked for")),
        }
        let seen = checked(&part, work).await?;
        if seen == source.sha256 {
            break;
        }
        remove(&part).await?;
        if !resumed {
            let wanted = &source.sha256;
            return Err(ImageError::Refused(format!(
                "the file at {} has the SHA-256 {seen}, not {wanted}",
                shown(&source.url)
            )));
        }
        resumed = false;
    }
    let (name, folder) = (whole.clone(), folder.to_owned());
    files(STEP, move || {
        sync(&part)?;
        std::fs::rename(&part, &name)?;
        sync(&folder)
    })
    .await?;
    Ok(whole)
}

enum Curl {
    Fetched,
    NoRanges,
}

async fn curl(folder: &Path, part: &Path, source: &UrlSource, work: &Work) -> Result<Curl, ImageError> {
    if !source.url.starts_with("http://") && !source.url.starts_with("https://") {
        return Err(ImageError::Refused(format!("{} is neither http:// nor https://", shown(&source.url))));
    }
    let headers = folder.join("headers");
    let offset = length(part);
    let stop = work.cancel.child_token();
    let program = program("curl", work)?
        // No .curlrc; it must come first.
        .arg("-q")
        .args(["--silent", "--show-error", "--fail", "--globoff", "--location", "--max-redirs", "5"])
        .args(["--proto", "=http,https", "--proto-redir", "=http,https", "--connect-timeout", "20"])
        .args(["--speed-limit", "1024", "--speed-time", "30", "--continue-at", "-"])
        .arg("--max-filesize")
        .arg(LARGEST.to_string())
        .arg("--dump-header")
        .arg(&headers)
        .arg("--output")
        .arg(part)
        .arg("--url")
        .arg(&source.url)
        .deadline(LONGEST)
        .cancel(stop.clone());
    let look = || {
        let done = length(part);
        let text = std::fs::read_to_string(&headers).unwrap_or_default();
        report(work, STEP, done, total_size(&text, offset), "bytes");
        if done > LARGEST {
            stop.cancel();
        }
    };
    let outcome = meter::beside(program.run(), look).await;
    if stop.is_cancelled() && !work.cancel.is_cancelled() {
        remove(part).await?;
        return Err(ImageError::Refused(format!("the file is larger than {LARGEST} bytes")));
    }
    match outcome {
        Ok(_) => Ok(Curl::Fetched),
        Err(ExecError::Status { status, stderr, .. }) => match status.as_str() {
            "exit status: 33" => Ok(Curl::NoRanges),
            "exit status: 23" => Err(ImageError::Capacity(last_line(&stderr))),
            "exit status: 63" => Err(ImageError::Refused(format!("the file is larger than {LARGEST} bytes"))),
            _ => Err(unfetched(source, &last_line(&stderr))),
        },
        Err(error) => Err(failed(STEP, error)),
    }
}

/// The size of the whole file, from the headers of the last answer: what follows is counted from `offset`.
fn total_size(headers: &str, offset: u64) -> Option<u64> {
    let last = headers.rfind("HTTP/").map_or("", |at| &headers[at..]);
    let field = |name: &str| {
        last.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    };
    if let Some(range) = field("content-range") {
        return range.rsplit('/').next()?.parse().ok();
    }
    let length: u64 = field("content-length")?.parse().ok()?;
    let resumed = last.split_whitespace().nth(1) == Some("206");
    Some(if resumed { offset.saturating_add(length) } else { length })
}

async fn checked(part: &Path, work: &Work) -> Result<String, ImageError> {
    let (path, work, total) = (part.to_owned(), work.clone(), length(part));
    blocking("checking the digest", move || {
        let mut done = 0;
        let mut told = |n| {
            done += n;
            report(&work, "checking the digest", done, Some(total), "bytes");
        };
        Ok(digest_file(&path, &work.cancel, &mut told)?.1)
    })
    .await
}

fn length(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |m| m.len())
}

async fn remove(path: &Path) -> Result<(), ImageError> {
    gone(tokio::fs::remove_file(path).await).map_err(|error| broken("removing a wrong download", &error))
}

fn unfetched(source: &UrlSource, detail: &str) -> ImageError {
    ImageError::Fetch { url: shown(&source.url), detail: detail.to_owned() }
}

/// A URL without what may be secret in it: a user's name and password, and the query.
fn shown(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = host.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_a_url_are_not_shown() {
        assert_eq!(shown("https://me:pw@host:8/a/b@c?token=x#y"), "https://host:8/a/b@c");
        assert_eq!(shown("http://host?token=x"), "http://host");
    }

    #[test]
    fn the_total_is_that_of_the_last_answer() {
        let redirected =
            "HTTP/1.1 302 Found\r\nContent-Length: 5\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 100\r\n";
        assert_eq!(total_size(redirected, 0), Some(100));
        assert_eq!(total_size("HTTP/2 206\r\ncontent-length: 60\r\n", 40), Some(100));
        assert_eq!(
            total_size("HTTP/1.1 206 P\r\nContent-Range: bytes 40-99/100\r\nContent-Length: 60\r\n", 40),
            Some(100)
        );
        assert_eq!(total_size("HTTP/1.1 206 P\r\nContent-Range: bytes 40-99/*\r\n", 40), None);
        assert_eq!(total_size("", 0), None);
    }
}
