//! What can go wrong, as the API says it: one stable code each, an HTTP status, an exit status of `agentctl`.
//! The wire form is `application/problem+json` (RFC 9457).

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A stable, machine-readable reason. Codes are never renamed and never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    Invalid,
    Unauthenticated,
    Forbidden,
    NotFound,
    MethodNotAllowed,
    NotAcceptable,
    RequestTimeout,
    Conflict,
    AlreadyExists,
    InUse,
    RevisionCompacted,
    RevisionMismatch,
    TooLarge,
    UnsupportedMediaType,
    Unsupported,
    TooManyRequests,
    Internal,
    BackendUnavailable,
    StoreUnavailable,
    InsufficientCapacity,
}

impl ErrorCode {
    pub const ALL: [Self; 20] = [
        Self::Invalid,
        Self::Unauthenticated,
        Self::Forbidden,
        Self::NotFound,
        Self::MethodNotAllowed,
        Self::NotAcceptable,
        Self::RequestTimeout,
        Self::Conflict,
        Self::AlreadyExists,
        Self::InUse,
        Self::RevisionCompacted,
        Self::RevisionMismatch,
        Self::TooLarge,
        Self::UnsupportedMediaType,
        Self::Unsupported,
        Self::TooManyRequests,
        Self::Internal,
        Self::BackendUnavailable,
        Self::StoreUnavailable,
        Self::InsufficientCapacity,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::NotAcceptable => "not_acceptable",
            Self::RequestTimeout => "request_timeout",
            Self::Conflict => "conflict",
            Self::AlreadyExists => "already_exists",
            Self::InUse => "in_use",
            Self::RevisionCompacted => "revision_compacted",
            Self::RevisionMismatch => "revision_mismatch",
            Self::TooLarge => "too_large",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::Unsupported => "unsupported",
            Self::TooManyRequests => "too_many_requests",
            Self::Internal => "internal",
            Self::BackendUnavailable => "backend_unavailable",
            Self::StoreUnavailable => "store_unavailable",
            Self::InsufficientCapacity => "insufficient_capacity",
        }
    }

    pub const fn http_status(self) -> u16 {
        match self {
            Self::Invalid => 400,
            Self::Unauthenticated => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::NotAcceptable => 406,
            Self::RequestTimeout => 408,
            Self::Conflict | Self::AlreadyExists | Self::InUse => 409,
            Self::RevisionCompacted => 410,
            Self::RevisionMismatch => 412,
            Self::TooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::Unsupported => 422,
            Self::TooManyRequests => 429,
            Self::Internal => 500,
            Self::BackendUnavailable | Self::StoreUnavailable => 503,
            Self::InsufficientCapacity => 507,
        }
    }

    /// Whether the same request can succeed later without being changed.
    pub const fn retryable(self) -> bool {
        matches!(
            self,
            Self::RequestTimeout
                | Self::TooManyRequests
                | Self::BackendUnavailable
                | Self::StoreUnavailable
                | Self::InsufficientCapacity
        )
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One thing that is wrong with the input, and where: a path such as `spec.networks[0].ip`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FieldError {
    pub field: String,
    pub message: String,
}

impl FieldError {
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.message)
    }
}

/// The body of every answer that is not a success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    pub code: ErrorCode,
    /// The HTTP status, repeated as RFC 9457 asks.
    pub status: u16,
    pub title: String,
    pub detail: String,
    pub retryable: bool,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub request_id: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// What to try, where there is something: one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Problem {
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self {
            code,
            status: code.http_status(),
            title: code.as_str().replace('_', " "),
            detail: detail.into(),
            retryable: code.retryable(),
            request_id: String::new(),
            errors: Vec::new(),
            hint: None,
        }
    }
    /// Bad input: the detail is the first error's, all of them are listed.
    pub fn invalid(errors: Vec<FieldError>) -> Self {
        let detail = errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        Self { errors, ..Self::new(ErrorCode::Invalid, detail) }
    }
    pub fn field(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::invalid(vec![FieldError::new(field, message)])
    }
    /// The same code with the field that caused it, as for 404 on `spec.image` or 507 on `spec.memory`.
    pub fn at(mut self, field: impl Into<String>) -> Self {
        let error = FieldError::new(field, self.detail.clone());
        self.errors.push(error);
        self
    }
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for Problem {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_written_as_its_name() {
        for code in ErrorCode::ALL {
            assert_eq!(serde_json::to_value(code).ok(), Some(serde_json::json!(code.as_str())));
        }
    }

    #[test]
    fn problems_list_their_fields() {
        let problem = Problem::invalid(vec![FieldError::new("spec.cpus", "must be 1 or more")]);
        let json = serde_json::to_value(&problem).expect("json");
        assert_eq!(json["status"], 400);
        assert_eq!(json["errors"][0]["field"], "spec.cpus");
        assert_eq!(json["detail"], "spec.cpus: must be 1 or more");
    }
}
