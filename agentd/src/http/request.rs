//! Reads what requests carry: their id, their query, their conditions, their bodies. Everything that it does not know
//! it refuses by name.

use std::borrow::Cow;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use agentd_api::fields::ParseError;
use agentd_api::name::DEFAULT_PROJECT;
use agentd_api::{ErrorCode, FieldError, ObjectName, Problem, Timestamp, paths};
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, IF_MATCH};
use http::{HeaderMap, HeaderValue};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use serde_json::Value;
use uuid::Uuid;

const REQUEST_ID: HeaderName = HeaderName::from_static(paths::REQUEST_ID);
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static(paths::IDEMPOTENCY_KEY);
/// Numbers are 64 bits wide with a sign: what every client can hold.
pub(super) const NUMBER_MAX: u64 = i64::MAX as u64;
const REQUEST_ID_MAX: usize = 64;
const IDEMPOTENCY_KEY_MAX: usize = 128;

/// The id that a request goes by: the caller's own where it is sane, else a new one.
pub(super) fn id(headers: &HeaderMap) -> HeaderValue {
    let sane = |v: &&HeaderValue| {
        (1..=REQUEST_ID_MAX).contains(&v.len()) && v.as_bytes().iter().all(u8::is_ascii_graphic)
    };
    match headers.get(REQUEST_ID).filter(sane) {
        Some(own) => own.clone(),
        None => {
            let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
            let text: &str = new_id().hyphenated().encode_lower(&mut text);
            HeaderValue::from_str(text).expect("a UUID is printable ASCII")
        }
    }
}

/// A UUIDv7 that no other request of this process has. Nobody has to be kept from guessing it, so it is counted on from
/// a random beginning rather than drawn: drawing would be a system call for each request.
fn new_id() -> Uuid {
    static BEGINNING: LazyLock<u64> = LazyLock::new(|| Uuid::new_v4().as_u64_pair().1);
    static COUNT: AtomicU64 = AtomicU64::new(0);
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let scattered = BEGINNING.wrapping_add(count.wrapping_mul(ODD)).to_be_bytes();
    let mut tail = [0; 10];
    tail[..2].copy_from_slice(&count.to_be_bytes()[6..]);
    tail[2..].copy_from_slice(&scattered);
    uuid::Builder::from_unix_timestamp_millis(Timestamp::now().millis(), &tail).into_uuid()
}

pub(super) fn id_text(id: &HeaderValue) -> &str {
    // Only printable ASCII becomes an id.
    id.to_str().unwrap_or_default()
}

/// A request's query: each parameter once, none that is not in the list of those allowed.
#[derive(Debug)]
pub(super) struct Params<'a>(Vec<(&'static str, Cow<'a, str>)>);

impl<'a> Params<'a> {
    pub fn parse(query: Option<&'a str>, allowed: &[&'static str]) -> Result<Self, Problem> {
        let mut found: Vec<(&'static str, Cow<'a, str>)> = Vec::new();
        for pair in query.unwrap_or_default().split('&').filter(|p| !p.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode(name).unwrap_or(Cow::Borrowed(name));
            let Some(known) = allowed.iter().copied().find(|a| *a == name) else {
                let knows = if allowed.is_empty() { "it takes none".to_owned() } else { allowed.join(", ") };
                return Err(Problem::field(
                    shown(&name),
                    format!("is not a parameter of this request; those are: {knows}"),
                ));
            };
            if found.iter().any(|(n, _)| *n == known) {
                return Err(Problem::field(known, "is given twice"));
            }
            let value = decode(value)
                .ok_or_else(|| Problem::field(known, "is not UTF-8, percent-encoded where it has to be"))?;
            found.push((known, value));
        }
        Ok(Self(found))
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| *n == name).map(|(_, v)| v.as_ref())
    }

    pub fn flag(&self, name: &'static str) -> Result<bool, Problem> {
        match self.get(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => {
                Err(Problem::field(name, format!("must be true or false, not '{}'", shown(other))))
            }
        }
    }

    pub fn number(&self, name: &'static str, least: u64) -> Result<Option<u64>, Problem> {
        let Some(text) = self.get(name) else { return Ok(None) };
        // Digits only: parse() would take a plus sign too.
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        match text.parse::<u64>() {
            Ok(number) if digits && (least..=NUMBER_MAX).contains(&number) => Ok(Some(number)),
            _ => Err(Problem::field(
                name,
                format!("must be a whole number of {least} to {NUMBER_MAX}, not '{}'", shown(text)),
            )),
        }
    }

    /// Refuses what is there and none of these.
    pub fn one_of(&self, name: &'static str, words: &[&str]) -> Result<(), Problem> {
        match self.get(name) {
            Some(other) if !words.contains(&other) => {
                let message = format!("must be {}, not '{}'", words.join(" or "), shown(other));
                Err(Problem::field(name, message))
            }
            _ => Ok(()),
        }
    }

    /// The project of one object.
    pub fn project(&self) -> Result<ObjectName, Problem> {
        let text = self.get("project").unwrap_or(DEFAULT_PROJECT);
        ObjectName::parse(text).map_err(|e| Problem::field("project", e.to_string()))
    }

    /// The project of a list: `*` stands for all, which is nothing here.
    pub fn projects(&self) -> Result<Option<ObjectName>, Problem> {
        if self.get("project") == Some("*") { Ok(None) } else { self.project().map(Some) }
    }
}

/// What somebody sent, short enough to be said back.
pub(super) fn shown(text: &str) -> String {
    const LONG: usize = 64;
    let mut end = text.len().min(LONG);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let cut: String = text[..end].chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    if end < text.len() { format!("{cut}...") } else { cut }
}

/// Undoes form encoding. None where the bytes are no text.
fn decode(text: &str) -> Option<Cow<'_, str>> {
    if !text.bytes().any(|b| b == b'%' || b == b'+') {
        return Some(Cow::Borrowed(text));
    }
    unescape(text, true).map(Cow::Owned)
}

fn unescape(text: &str, plus: bool) -> Option<String> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'+' if plus => out.push(b' '),
            b'%' => {
                let hex = bytes.get(at + 1..at + 3).and_then(|h| std::str::from_utf8(h).ok())?;
                if !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
                    return None;
                }
                out.push(u8::from_str_radix(hex, 16).ok()?);
                at += 2;
            }
            byte => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8(out).ok()
}

/// The name in a path.
pub(super) fn name(raw: &str) -> Result<ObjectName, Problem> {
    let decoded = if raw.contains('%') { unescape(raw, false) } else { None };
    let text = decoded.as_deref().unwrap_or(raw);
    ObjectName::parse(text).map_err(|e| Problem::field("name", format!("'{}' {e}", shown(text))))
}

/// `If-Match`: one revision, quoted as in `ETag` or bare; nothing where it is absent or `*`.
pub(super) fn if_match(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let mut all = headers.get_all(IF_MATCH).iter();
    let Some(value) = all.next() else { return Ok(None) };
    let bad = || Problem::field("If-Match", "must be one revision, as in \"412\", or *");
    if all.next().is_some() {
        return Err(bad());
    }
    let text = value.to_str().map_err(|_| bad())?.trim();
    if text == "*" {
        return Ok(None);
    }
    let bare = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(text);
    if bare.is_empty() || !bare.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad());
    }
    bare.parse().map(Some).map_err(|_| bad())
}

pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut all = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = all.next() else { return Ok(None) };
    let sane = (1..=IDEMPOTENCY_KEY_MAX).contains(&value.len())
        && value.as_bytes().iter().all(|b| b.is_ascii_graphic() || *b == b' ');
    match value.to_str() {
        Ok(text) if sane && all.next().is_none() => Ok(Some(text.to_owned())),
        _ => Err(Problem::field(
            "Idempotency-Key",
            format!("must be given once, 1 to {IDEMPOTENCY_KEY_MAX} printable ASCII characters"),
        )),
    }
}

/// How much of a body is taken, and how long it may take to come.
#[derive(Debug, Clone, Copy)]
pub(super) struct BodyLimits {
    pub bytes: usize,
    pub time: Duration,
}

/// The media types that a JSON body may be sent as. None at all is taken for the first.
pub(super) const JSON: &[&str] = &["application/json"];
pub(super) const MERGE_PATCH: &[&str] = &["application/merge-patch+json", "application/json"];

/// Reads a JSON body. An empty one is nothing.
pub(super) async fn json(
    headers: &HeaderMap,
    body: Incoming,
    types: &[&str],
    limits: BodyLimits,
) -> Result<Option<Value>, Problem> {
    let bytes = read(headers, body, limits).await?;
    if bytes.is_empty() {
        return Ok(None);
    }
    media_type(headers, types)?;
    serde_json::from_slice(&bytes).map(Some).map_err(|error| malformed(&error))
}

async fn read(headers: &HeaderMap, body: Incoming, limits: BodyLimits) -> Result<Bytes, Problem> {
    let too_large =
        || Problem::new(ErrorCode::TooLarge, format!("the body is larger than {} bytes", limits.bytes));
    if content_length(headers).is_some_and(|length| length > limits.bytes as u64) {
        return Err(too_large());
    }
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    let whole = tokio::time::timeout(limits.time, Limited::new(body, limits.bytes).collect()).await;
    match whole {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => {
            Err(Problem::new(ErrorCode::Invalid, format!("the body did not arrive whole: {error}")))
        }
        Err(_) => Err(Problem::new(
            ErrorCode::RequestTimeout,
            format!("the body was not complete after {:?}", limits.time),
        )),
    }
}

pub(super) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

pub(super) fn media_type(headers: &HeaderMap, types: &[&str]) -> Result<(), Problem> {
    let Some(value) = headers.get(CONTENT_TYPE) else { return Ok(()) };
    let text = value.to_str().unwrap_or_default();
    let essence = text.split(';').next().unwrap_or_default().trim();
    if types.iter().any(|t| t.eq_ignore_ascii_case(essence)) {
        return Ok(());
    }
    Err(Problem::new(
        ErrorCode::UnsupportedMediaType,
        format!("the body is sent as '{}'; send it as {}", shown(text), types.join(" or ")),
    ))
}

fn malformed(error: &serde_json::Error) -> Problem {
    let at = ParseError { path: String::new(), message: format!("is not JSON: {error}") };
    let FieldError { message, .. } = at.below("body");
    Problem::field("body", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_known_single_and_decoded() {
        let params =
            Params::parse(Some("labels=a%3Db%2Cc&limit=5&project=x"), &["labels", "limit", "project"])
                .expect("parsed");
        assert_eq!(params.get("labels"), Some("a=b,c"));
        assert_eq!(params.number("limit", 1).expect("a number"), Some(5));
        assert_eq!(params.project().expect("a name").as_str(), "x");
        for (query, field) in [
            ("nope=1", "nope"),
            ("limit=1&limit=2", "limit"),
            ("labels=%FF", "labels"),
            ("labels=%4", "labels"),
            ("labels=%+1", "labels"),
        ] {
            let problem = Params::parse(Some(query), &["labels", "limit"]).expect_err(query);
            assert_eq!(problem.errors[0].field, field, "{query}");
        }
        assert!(Params::parse(Some("&&"), &[]).is_ok());
    }

    #[test]
    fn numbers_and_flags_are_strict() {
        for bad in ["0", "-1", "+1", "1.0", "", "x", "99999999999999999999", "9223372036854775808"] {
            let query = format!("limit={}", bad.replace('+', "%2B"));
            let params = Params::parse(Some(&query), &["limit"]).expect("parsed");
            assert!(params.number("limit", 1).is_err(), "{bad}");
        }
        let params = Params::parse(Some("watch=yes"), &["watch"]).expect("parsed");
        assert_eq!(params.flag("watch").expect_err("refused").errors[0].field, "watch");
        let params = Params::parse(Some("format=OCI"), &["format"]).expect("parsed");
        let refused = params.one_of("format", &["docker", "oci"]).expect_err("refused");
        assert_eq!(refused.detail, "format: must be docker or oci, not 'OCI'");
        assert!(params.one_of("other", &["docker", "oci"]).is_ok());
    }

    #[test]
    fn conditions_are_one_revision() {
        let with = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(IF_MATCH, HeaderValue::from_str(text).expect("a value"));
            if_match(&headers)
        };
        assert_eq!(with("\"412\"").expect("taken"), Some(412));
        assert_eq!(with("412").expect("taken"), Some(412));
        assert_eq!(with("*").expect("taken"), None);
        for bad in ["", "\"\"", "W/\"1\"", "\"1\", \"2\"", "abc", "-1", "99999999999999999999"] {
            assert!(with(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_id_of_the_caller_s_is_kept_where_it_is_sane() {
        let with = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::from_str(text).expect("a value"));
            id_text(&id(&headers)).to_owned()
        };
        assert_eq!(with("abc-1"), "abc-1");
        for bad in ["", "a b", &"x".repeat(65)] {
            assert_eq!(with(bad).parse::<Uuid>().map(|u| u.get_version_num()), Ok(7), "{bad}");
        }
    }

    #[test]
    fn ids_are_told_apart() {
        let ids: std::collections::HashSet<Uuid> = (0..100_000).map(|_| new_id()).collect();
        assert_eq!(ids.len(), 100_000);
        assert!(ids.iter().all(|id| id.get_version_num() == 7 && id.get_variant() == uuid::Variant::RFC4122));
    }

    #[test]
    fn what_is_said_back_is_short_and_plain() {
        assert_eq!(shown("a\u{7}b"), "a?b");
        assert!(shown(&"é".repeat(1000)).len() < 80);
    }
}
