//! Answers: which each operation can give, and what they look like.

use serde_json::{Map, Value, json};

use super::schemas::reference;

/// Every answer carries the request's id.
pub(super) fn headers() -> Value {
    json!({
        "RequestId": {"description": "What the request goes by.", "schema": {"type": "string"}},
        "ETag": {"description": "The object's revision, in quotes.", "schema": {"type": "string", "pattern": "^\"[0-9]+\"$"}},
    })
}

/// Every problem that some operation can answer, by its status.
pub(super) fn problems() -> Value {
    let problem = |status: &u16| {
        let answer = json!({
            "description": meaning(*status),
            "headers": {"x-request-id": header("RequestId")},
            "content": {"application/problem+json": {"schema": reference("Problem")}},
        });
        (format!("Problem{status}"), answer)
    };
    PROBLEMS.iter().map(problem).collect::<Map<_, _>>().into()
}

fn header(name: &str) -> Value {
    json!({"$ref": format!("#/components/headers/{name}")})
}

/// The answers of one operation.
pub(super) struct Answers(Map<String, Value>);

const PROBLEMS: [u16; 14] = [400, 403, 404, 408, 409, 410, 412, 413, 415, 422, 429, 500, 503, 507];
/// What can happen to any request.
const ALWAYS: [u16; 5] = [400, 403, 429, 500, 503];
/// What can happen to a request with a body.
const BODY: [u16; 3] = [408, 413, 415];

impl Answers {
    pub fn new() -> Self {
        Self(Map::new()).problems(&ALWAYS)
    }

    pub fn with_body(self) -> Self {
        self.problems(&BODY)
    }

    pub fn problems(mut self, statuses: &[u16]) -> Self {
        for status in statuses {
            self.0.insert(
                status.to_string(),
                json!({"$ref": format!("#/components/responses/Problem{status}")}),
            );
        }
        self
    }

    pub fn json(self, status: u16, description: &str, schema: &str) -> Self {
        let content = json!({"application/json": {"schema": reference(schema)}});
        self.content(status, description, content, false)
    }

    /// An object, with its revision as ETag.
    pub fn object(self, status: u16, description: &str, schema: &str) -> Self {
        let content = json!({"application/json": {"schema": reference(schema)}});
        self.content(status, description, content, true)
    }

    pub fn content(mut self, status: u16, description: &str, content: Value, etag: bool) -> Self {
        let mut headers = json!({"x-request-id": header("RequestId")});
        if etag {
            headers["ETag"] = header("ETag");
        }
        let mut answer = json!({"description": description, "headers": headers});
        if !content.is_null() {
            answer["content"] = content;
        }
        self.0.insert(status.to_string(), answer);
        self
    }

    pub fn done(self) -> Value {
        self.0.into()
    }
}

fn meaning(status: u16) -> &'static str {
    match status {
        400 => "invalid: `errors` names each field that is wrong",
        403 => "forbidden: the caller is neither root nor in the group agentd",
        404 => "not_found",
        408 => "request_timeout: the request did not arrive whole in time",
        409 => "conflict, already_exists or in_use",
        410 => "revision_compacted: list again",
        412 => "revision_mismatch: the object is not at the revision of If-Match",
        413 => "too_large",
        415 => "unsupported_media_type",
        422 => "unsupported: the backend cannot do this",
        429 => "too_many_requests: all connections are taken",
        500 => "internal: a defect of agentd; its log has more under the request id",
        503 => "store_unavailable or backend_unavailable",
        507 => "insufficient_capacity",
        _ => "a problem",
    }
}
