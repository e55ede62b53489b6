//! Turns serde's errors into errors that name the field.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::FieldError;

/// Where parsing stopped and why. `path` is empty at the top.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    pub path: String,
    pub message: String,
}

impl ParseError {
    /// The same error seen from a level above: `memory` below `spec` is `spec.memory`.
    pub fn below(self, parent: &str) -> FieldError {
        let field = if self.path.is_empty() {
            parent.to_owned()
        } else if parent.is_empty() || self.path.starts_with('[') {
            format!("{parent}{}", self.path)
        } else {
            format!("{parent}.{}", self.path)
        };
        FieldError::new(field, self.message)
    }
}

pub fn from_value<T: DeserializeOwned>(value: &Value) -> Result<T, ParseError> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let at = match error.path().to_string() {
            dot if dot == "." => String::new(),
            path => path,
        };
        let message = error.into_inner().to_string();
        // serde reports a missing or unknown field at its parent or at itself, depending on the type; the name is
        // in the message either way.
        let named = message
            .strip_prefix("missing field `")
            .or_else(|| message.strip_prefix("unknown field `"))
            .and_then(|rest| rest.split_once('`'))
            .map(|(name, _)| name.to_owned());
        let path = match named {
            Some(name) if at.is_empty() => name,
            Some(name) if at == name || at.ends_with(&format!(".{name}")) => at,
            Some(name) => format!("{at}.{name}"),
            None => at,
        };
        ParseError { path, message }
    })
}
