//! Paths and queries, escaped so that any text a user gives stays inside its part.

use std::fmt::Write as _;

/// Everything but unreserved characters (RFC 3986) as `%XX`.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    // A segment of dots alone would be taken as a step up by whatever resolves the path.
    if !out.is_empty() && out.bytes().all(|b| b == b'.') { out.replace('.', "%2E") } else { out }
}

/// A path under construction: `Path::new(&["v1", "vms", "web"]).with("project", "default")`.
#[derive(Debug, Clone)]
pub struct Path {
    text: String,
    queried: bool,
}

impl Path {
    /// A path of the contract as it stands, such as `/v1/events`.
    pub fn fixed(path: &'static str) -> Self {
        Self { text: path.to_owned(), queried: false }
    }
    pub fn new(segments: &[&str]) -> Self {
        let text = segments.iter().fold(String::new(), |text, segment| text + "/" + &escape(segment));
        Self { text, queried: false }
    }
    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.text.push(if self.queried { '&' } else { '?' });
        self.queried = true;
        let _ = write!(self.text, "{key}={}", escape(value));
        self
    }
    pub fn maybe(self, key: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.with(key, value),
            None => self,
        }
    }
    pub fn as_str(&self) -> &str {
        &self.text
    }
    /// Without the query: what errors name.
    pub fn plain(&self) -> &str {
        self.text.split('?').next().unwrap_or(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_stays_in_its_part() {
        let path =
            Path::new(&["v1", "vms", "../a b?c#d/é"]).with("labels", "a=b,c!=d&e").maybe("limit", None);
        assert_eq!(path.as_str(), "/v1/vms/..%2Fa%20b%3Fc%23d%2F%C3%A9?labels=a%3Db%2Cc%21%3Dd%26e");
        assert_eq!(path.plain(), "/v1/vms/..%2Fa%20b%3Fc%23d%2F%C3%A9");
        assert_eq!(Path::new(&["v1", ".."]).as_str(), "/v1/%2E%2E");
        assert!(path.as_str().parse::<http::uri::PathAndQuery>().is_ok());
    }
}
