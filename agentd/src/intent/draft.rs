//! What a caller sends, taken apart: the name, labels, annotations and spec, with every error named by its field.
//!
//! A whole object as GET answers it is accepted too; what the server decides (id, revision, status, ...) is not read.

use std::collections::BTreeMap;

use agentd_api::object::Labels;
use agentd_api::{FieldError, KindDef, LabelKey, LabelValue, ObjectKey, ObjectName, Problem, registry};
use serde_json::{Map, Value};

const LABELS_MAX: usize = 64;
const ANNOTATION_KEY_MAX: usize = 253;
/// Of all annotations of an object, keys and values together, in bytes.
const ANNOTATIONS_MAX: usize = 64 << 10;
/// What GET shows and the server alone decides.
const SERVER_OWNED: [&str; 7] =
    ["id", "revision", "generation", "created_at", "deleting_at", "finalizers", "status"];

/// A wish that has the right shape. The spec is in its normal form, with all defaults filled in.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Draft {
    pub labels: Labels,
    pub annotations: BTreeMap<String, String>,
    pub spec: Value,
    /// The fields of the spec that were given, others being at their defaults.
    pub given: Vec<String>,
}

/// The name and the rest of what is to be created.
pub(super) fn parse_new(
    def: &'static KindDef,
    project: &ObjectName,
    body: &Value,
) -> Result<(ObjectKey, Draft), Problem> {
    let mut errors = Vec::new();
    let map = object(body)?;
    check_fields(map, &mut errors);
    check_same(map, "kind", def.kind, &mut errors);
    check_same(map, "project", project.as_str(), &mut errors);
    let name = match map.get("name") {
        None | Some(Value::Null) => Err("is missing".to_owned()),
        Some(Value::String(text)) => ObjectName::parse(text).map_err(|e| e.to_string()),
        Some(_) => Err("must be a string".to_owned()),
    };
    let name = name.map_err(|message| errors.push(FieldError::new("name", message))).ok();
    let draft = parse_rest(def, map, &mut errors);
    match (name, draft) {
        (Some(name), Some(draft)) if errors.is_empty() => {
            Ok((ObjectKey::new(def.kind, project.clone(), name), draft))
        }
        _ => Err(Problem::invalid(errors)),
    }
}

/// What an existing object is to become.
pub(super) fn parse_replacement(
    def: &'static KindDef,
    key: &ObjectKey,
    body: &Value,
) -> Result<Draft, Problem> {
    let mut errors = Vec::new();
    let map = object(body)?;
    check_fields(map, &mut errors);
    check_same(map, "kind", def.kind, &mut errors);
    check_same(map, "project", key.project.as_str(), &mut errors);
    check_same(map, "name", key.name.as_str(), &mut errors);
    match parse_rest(def, map, &mut errors) {
        Some(draft) if errors.is_empty() => Ok(draft),
        _ => Err(Problem::invalid(errors)),
    }
}

/// A merge patch (RFC 7396) applied to an object as it is. Only labels, annotations and spec can be patched.
pub(super) fn parse_patch(
    def: &'static KindDef,
    key: &ObjectKey,
    is: &Value,
    patch: &Value,
) -> Result<Draft, Problem> {
    let mut errors = Vec::new();
    let map = object(patch)?;
    for field in map.keys() {
        match field.as_str() {
            "labels" | "annotations" | "spec" | "kind" | "project" | "name" => {}
            owned if SERVER_OWNED.contains(&owned) => {
                errors.push(FieldError::new(owned, "is decided by the server and cannot be patched"));
            }
            unknown => errors.push(unknown_field(unknown)),
        }
    }
    check_same(map, "kind", def.kind, &mut errors);
    check_same(map, "project", key.project.as_str(), &mut errors);
    check_same(map, "name", key.name.as_str(), &mut errors);
    let mut merged = Map::new();
    for part in ["labels", "annotations", "spec"] {
        let mut value = is.get(part).cloned().unwrap_or_default();
        if let Some(change) = map.get(part) {
            merge(&mut value, change);
        }
        merged.insert(part.to_owned(), value);
    }
    match parse_rest(def, &merged, &mut errors) {
        Some(draft) if errors.is_empty() => Ok(draft),
        _ => Err(Problem::invalid(errors)),
    }
}

/// As RFC 7396 has it.
pub(super) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(map) = target else { return };
    for (key, change) in changes {
        if change.is_null() {
            map.remove(key);
        } else {
            merge(map.entry(key.clone()).or_insert(Value::Null), change);
        }
    }
}

fn object(body: &Value) -> Result<&Map<String, Value>, Problem> {
    body.as_object().ok_or_else(|| Problem::field("", "the body must be a JSON object"))
}

fn unknown_field(name: &str) -> FieldError {
    FieldError::new(name, format!("unknown field `{name}`, expected one of name, labels, annotations, spec"))
}

fn check_fields(map: &Map<String, Value>, errors: &mut Vec<FieldError>) {
    let known = |f: &str| {
        matches!(f, "kind" | "project" | "name" | "labels" | "annotations" | "spec")
            || SERVER_OWNED.contains(&f)
    };
    errors.extend(map.keys().filter(|f| !known(f)).map(|f| unknown_field(f)));
}

/// What the path says already may be said again, but not otherwise.
fn check_same(map: &Map<String, Value>, field: &str, wanted: &str, errors: &mut Vec<FieldError>) {
    if let Some(said) = map.get(field)
        && said.as_str() != Some(wanted)
    {
        errors.push(FieldError::new(field, format!("is {said}, but the request is for \"{wanted}\"")));
    }
}

fn parse_rest(
    def: &'static KindDef,
    map: &Map<String, Value>,
    errors: &mut Vec<FieldError>,
) -> Option<Draft> {
    let labels = parse_labels(map.get("labels"), errors);
    let annotations = parse_annotations(map.get("annotations"), errors);
    let spec = match map.get("spec") {
        None | Some(Value::Null) => Err(vec![FieldError::new("spec", "is missing")]),
        Some(spec) => match registry::any(def.kind) {
            Some(kind) => (kind.normalise)(spec),
            None => Err(vec![FieldError::new("kind", format!("'{}' is no kind", def.kind))]),
        },
    };
    match spec {
        Ok(spec) => Some(Draft { labels, annotations, spec, given: given(map.get("spec")) }),
        Err(wrong) => {
            errors.extend(wrong);
            None
        }
    }
}

fn given(spec: Option<&Value>) -> Vec<String> {
    let fields = spec.and_then(Value::as_object).into_iter().flatten();
    fields.filter(|(_, value)| !value.is_null()).map(|(field, _)| field.clone()).collect()
}

/// The members of a map of strings; anything else is an error.
fn strings<'a>(
    field: &str,
    value: Option<&'a Value>,
    errors: &mut Vec<FieldError>,
) -> Vec<(&'a String, &'a str)> {
    let map = match value {
        None | Some(Value::Null) => return Vec::new(),
        Some(Value::Object(map)) => map,
        Some(_) => {
            errors.push(FieldError::new(field, "must be an object of strings"));
            return Vec::new();
        }
    };
    let mut members = Vec::with_capacity(map.len());
    for (key, value) in map {
        match value {
            Value::String(text) => members.push((key, text.as_str())),
            _ => errors.push(FieldError::new(format!("{field}.{key}"), "must be a string")),
        }
    }
    members
}

fn parse_labels(value: Option<&Value>, errors: &mut Vec<FieldError>) -> Labels {
    let members = strings("labels", value, errors);
    if members.len() > LABELS_MAX {
        let message = format!("has {} entries; at most {LABELS_MAX} are allowed", members.len());
        errors.push(FieldError::new("labels", message));
        return Labels::new();
    }
    let mut labels = Labels::new();
    for (key, value) in members {
        match (LabelKey::parse(key), LabelValue::parse(value)) {
            (Ok(key), Ok(value)) => {
                labels.insert(key, value);
            }
            (Err(e), _) => errors.push(FieldError::new(format!("labels.{key}"), format!("the key {e}"))),
            (_, Err(e)) => errors.push(FieldError::new(format!("labels.{key}"), e.to_string())),
        }
    }
    labels
}

fn parse_annotations(value: Option<&Value>, errors: &mut Vec<FieldError>) -> BTreeMap<String, String> {
    let members = strings("annotations", value, errors);
    let total: usize = members.iter().map(|(k, v)| k.len() + v.len()).sum();
    if total > ANNOTATIONS_MAX {
        let message = format!("are {total} bytes in all; at most {ANNOTATIONS_MAX} are allowed");
        errors.push(FieldError::new("annotations", message));
    }
    for (key, _) in &members {
        if key.is_empty() || key.len() > ANNOTATION_KEY_MAX || key.chars().any(char::is_control) {
            let message = format!("a key is 1 to {ANNOTATION_KEY_MAX} bytes without control characters");
            errors.push(FieldError::new("annotations", message));
        }
    }
    members.into_iter().map(|(k, v)| (k.clone(), v.to_owned())).collect()
}
