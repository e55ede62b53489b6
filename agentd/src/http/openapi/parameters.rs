//! The parameters and headers of requests.

use agentd_api::kind::{KindDef, ParamDef, ParamShape};
use agentd_api::{ObjectName, paths, registry};
use serde_json::{Value, json};
use utoipa::PartialSchema;

use super::schemas::value;
use crate::http::request::NUMBER_MAX;

fn query(name: &str, description: &str, schema: &Value) -> Value {
    json!({"name": name, "in": "query", "required": false, "description": description, "schema": schema})
}

fn header(name: &str, description: &str, schema: &Value) -> Value {
    json!({"name": name, "in": "header", "required": false, "description": description, "schema": schema})
}

fn number(least: u64) -> Value {
    json!({"type": "integer", "format": "int64", "minimum": least, "maximum": NUMBER_MAX})
}

fn flag() -> Value {
    json!({"type": "boolean", "default": false})
}

/// Of a subresource.
pub(super) fn of_sub(param: &ParamDef) -> Value {
    let schema = match param.shape {
        ParamShape::Text => json!({"type": "string"}),
        ParamShape::Flag => flag(),
        ParamShape::Number => number(0),
        ParamShape::OneOf(words) => json!({"type": "string", "enum": words, "default": words.first()}),
    };
    query(param.name, param.summary, &schema)
}

pub(super) fn upgrade(protocol: &str) -> Value {
    header("Upgrade", "With `Connection: Upgrade`; required.", &json!({"type": "string", "const": protocol}))
}

pub(super) fn name(def: &KindDef) -> Value {
    let description = format!("The {}'s name, or its id.", def.kind);
    let schema = value(ObjectName::schema());
    json!({"name": "name", "in": "path", "required": true, "description": description, "schema": schema})
}

pub(super) fn project() -> Value {
    let mut schema = value(ObjectName::schema());
    schema["default"] = "default".into();
    query("project", "The project that the object is in.", &schema)
}

/// Of what comes in an archive.
pub(super) fn new_name() -> Value {
    query("name", "What it is called here; as in the archive where absent.", &value(ObjectName::schema()))
}

pub(super) fn spec_change() -> Value {
    let text = "A JSON merge patch over the spec in the archive.";
    json!({"name": "spec", "in": "query", "required": false, "description": text,
           "content": {"application/json": {"schema": {"type": "object"}}}})
}

fn projects() -> Value {
    let one = value(ObjectName::schema());
    let schema = json!({"anyOf": [one, {"type": "string", "const": "*"}], "default": "default"});
    query("project", "The project, or * for all.", &schema)
}

pub(super) fn cascade() -> Value {
    let text = "Takes with it what is of it alone: a VM's snapshots. Without it a VM that has any is in use.";
    query("cascade", text, &flag())
}

pub(super) fn dry_run() -> Value {
    query("dry_run", "Checks and answers as if it were done, and changes nothing.", &flag())
}

/// What selects and pages a list, and what makes it a watch.
pub(super) fn listing(def: &KindDef) -> Vec<Value> {
    let fields: Vec<&str> = def.fields.iter().map(|f| f.name).collect();
    let label = "!?[A-Za-z0-9][A-Za-z0-9_./-]*(!?=[A-Za-z0-9_./-]*)?";
    vec![
        projects(),
        query(
            "labels",
            "Labels that the objects have: a=b, c!=d, e (has it), !f (has it not), with commas between them.",
            &json!({"type": "string", "examples": ["tier=web,!old"], "x-grammar": label}),
        ),
        query(
            "fields",
            &format!(
                "Fields that the objects have, as state=running; they are: name, {}.",
                fields.join(", ")
            ),
            &json!({"type": "string", "examples": ["state=failed"]}),
        ),
        query("limit", "At most so many to a page; all where absent.", &number(1)),
        query("continue", "Where to go on: the last page's `continue`.", &json!({"type": "string"})),
        stream(query("watch", "Stays open and sends changes as they happen.", &flag())),
        stream(query(
            "since",
            "With watch: the changes after this revision. All objects first, as added, where absent.",
            &number(0),
        )),
    ]
}

pub(super) fn stats() -> Vec<Value> {
    let kinds: Vec<&str> = registry::ALL.iter().map(|k| k.def.kind).collect();
    vec![
        projects(),
        query("kind", "Guests of this kind only.", &json!({"type": "string", "enum": kinds})),
        query("name", "The guest of this name only.", &value(ObjectName::schema())),
    ]
}

pub(super) fn events() -> Vec<Value> {
    let kinds: Vec<&str> = registry::ALL.iter().map(|k| k.def.kind).collect();
    vec![
        query("kind", "Of objects of this kind.", &json!({"type": "string", "enum": kinds})),
        query("project", "Of objects in this project; of all where absent.", &value(ObjectName::schema())),
        query("name", "Of the object of this name.", &value(ObjectName::schema())),
        query("request_id", "What became of this request.", &json!({"type": "string"})),
        query("since", "After this number; an answer's `next` goes on where it ended.", &number(0)),
        query("limit", "At most so many.", &number(1)),
        stream(query("follow", "Stays open and sends events as they happen.", &flag())),
    ]
}

fn stream(mut parameter: Value) -> Value {
    parameter["x-stream"] = true.into();
    parameter
}

pub(super) fn request_id() -> Value {
    header(
        paths::REQUEST_ID,
        "What the request goes by in events and logs; one is made where it is absent or not 1 to 64 printable characters.",
        &json!({"type": "string"}),
    )
}

pub(super) fn if_match() -> Value {
    header(
        "If-Match",
        "The revision that the object must be at, as in its ETag; * for any.",
        &json!({"type": "string", "pattern": "^([*]|[0-9]{1,18}|\"[0-9]{1,18}\")$"}),
    )
}

pub(super) fn if_none_match() -> Value {
    header("If-None-Match", "An ETag: 304 where the object is still at it.", &json!({"type": "string"}))
}

pub(super) fn idempotency_key() -> Value {
    header(
        "Idempotency-Key",
        "The same key with the same request is carried out once and answered the same.",
        &json!({"type": "string", "pattern": "^[!-~]([ -~]{0,126}[!-~])?$"}),
    )
}
