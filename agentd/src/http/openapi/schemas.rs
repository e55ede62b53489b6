//! The schemas that the document's operations speak of.

use agentd_api::backup::Header as BackupHeader;
use agentd_api::container::{AdoptWish, ForeignList};
use agentd_api::doctor::{RepairList, RepairWish, Report};
use agentd_api::event::{Event, EventList};
use agentd_api::kind::KindDef;
use agentd_api::object::Meta;
use agentd_api::registry::{self, AnyKind};
use agentd_api::server::{Readiness, ServerInfo};
use agentd_api::stats::StatsList;
use agentd_api::{LabelKey, LabelValue, ObjectName, Problem, Span};
use serde_json::{Map, Value, json};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// "ssh-key" and "Spec" make "SshKeySpec".
pub(super) fn name(def: &KindDef, what: &str) -> String {
    let words = def.kind.split('-').map(|word| {
        let (first, rest) = word.split_at(1);
        format!("{}{rest}", first.to_ascii_uppercase())
    });
    words.collect::<String>() + what
}

pub(super) fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

pub(super) fn value(schema: RefOr<Schema>) -> Value {
    serde_json::to_value(schema).expect("a schema is JSON")
}

pub(super) fn all() -> Value {
    let mut all = of_kinds();
    let named: [fn(&mut Map<String, Value>); 12] = [
        add::<Problem>,
        add::<Event>,
        add::<EventList>,
        add::<ServerInfo>,
        add::<Readiness>,
        add::<Report>,
        add::<RepairWish>,
        add::<RepairList>,
        add::<StatsList>,
        add::<ForeignList>,
        add::<AdoptWish>,
        add::<BackupHeader>,
    ];
    for add in named {
        add(&mut all);
    }
    for kind in &registry::ALL {
        for (what, schema) in messages(kind.def) {
            all.insert(name(kind.def, what), schema);
        }
    }
    all.insert("Kinds".to_owned(), kinds());
    all.insert("ReconcileOptions".to_owned(), reconcile_options());
    let vm = json!({"type": "string", "description": "The VM that it must be of; refused where it is of another."});
    all.insert(
        "RestoreOptions".to_owned(),
        json!({"type": "object", "additionalProperties": false, "properties": {"vm": vm}}),
    );
    all.insert("NoOptions".to_owned(), json!({"type": "object", "additionalProperties": false}));
    all.into()
}

/// The kinds' objects, and what those are made of.
pub(super) fn of_kinds() -> Map<String, Value> {
    let mut all = Map::new();
    for kind in &registry::ALL {
        let mut parts = Vec::new();
        (kind.referenced)(&mut parts);
        all.extend(parts.into_iter().map(|(name, schema)| (name, value(schema))));
        all.insert(name(kind.def, "Spec"), value((kind.spec_schema)()));
        all.insert(name(kind.def, "Status"), value((kind.status_schema)()));
        all.insert(name(kind.def, ""), object(kind));
    }
    all
}

fn add<T: ToSchema>(all: &mut Map<String, Value>) {
    let mut parts = Vec::new();
    T::schemas(&mut parts);
    all.extend(parts.into_iter().map(|(name, schema)| (name, value(schema))));
    all.insert(T::name().into_owned(), value(T::schema()));
}

/// An object as it is answered: its envelope, spec and status.
fn object(kind: &AnyKind) -> Value {
    let def = kind.def;
    let mut schema = value(Meta::schema());
    schema["description"] = def.summary.into();
    schema["properties"]["kind"] = json!({"type": "string", "const": def.kind});
    schema["properties"]["labels"] = labels();
    schema["properties"]["spec"] = reference(&name(def, "Spec"));
    schema["properties"]["status"] = reference(&name(def, "Status"));
    schema["required"] = json!([
        "kind",
        "project",
        "name",
        "id",
        "revision",
        "generation",
        "labels",
        "annotations",
        "created_at",
        "deleting_at",
        "finalizers",
        "spec",
        "status",
    ]);
    schema
}

fn labels() -> Value {
    json!({
        "type": "object",
        "additionalProperties": value(LabelValue::schema()),
        "propertyNames": value(LabelKey::schema()),
    })
}

/// What is sent and answered about a kind's objects beside the objects themselves.
fn messages(def: &KindDef) -> [(&'static str, Value); 5] {
    let whole = reference(&name(def, ""));
    let list = json!({
        "type": "object",
        "properties": {
            "items": {"type": "array", "items": whole},
            "revision": {"type": "integer", "minimum": 0, "description": "A watch since it misses nothing."},
            "continue": {"type": ["string", "null"], "description": "Where the next page begins; null on the last."},
        },
        "required": ["items", "revision", "continue"],
    });
    let event = json!({
        "type": "object",
        "description": "One line of a watch. An error ends the stream.",
        "properties": {
            "event": {"type": "string", "enum": ["added", "modified", "deleted", "bookmark", "error"]},
            "revision": {"type": "integer", "minimum": 0},
            "object": whole,
            "problem": reference("Problem"),
        },
        "required": ["event", "revision"],
    });
    [
        ("Draft", draft(def)),
        ("Replacement", replacement(def)),
        ("Patch", patch()),
        ("List", list),
        ("WatchEvent", event),
    ]
}

fn draft(def: &KindDef) -> Value {
    json!({
        "type": "object",
        "description": "What is wanted. The kind and the project may be left out; they are the path's.",
        "properties": {
            "kind": {"type": "string", "const": def.kind},
            "project": value(ObjectName::schema()),
            "name": value(ObjectName::schema()),
            "labels": labels(),
            "annotations": annotations(),
            "spec": reference(&name(def, "Spec")),
        },
        "required": ["name", "spec"],
        "additionalProperties": false,
    })
}

fn annotations() -> Value {
    json!({"type": "object", "additionalProperties": {"type": "string"}})
}

/// A draft, or a whole object as it was answered: what the server owns of it is passed over.
fn replacement(def: &KindDef) -> Value {
    let mut schema = draft(def);
    schema["description"] =
        "What is wanted, or the whole object as it was answered: what the server decides is passed over."
            .into();
    for owned in ["id", "revision", "generation", "created_at", "deleting_at", "finalizers", "status"] {
        schema["properties"][owned] = json!({});
    }
    schema["required"] = json!(["spec"]);
    schema
}

fn patch() -> Value {
    let part =
        |what: &str| json!({"type": ["object", "null"], "description": format!("Changes of the {what}.")});
    json!({
        "type": "object",
        "description": "A JSON merge patch (RFC 7396): null removes.",
        "properties": {
            "labels": part("labels"), "annotations": part("annotations"),
            "spec": {"type": "object", "description": "Changes of the spec."},
        },
        "additionalProperties": false,
    })
}

fn reconcile_options() -> Value {
    json!({
        "type": "object",
        "properties": {"delay": value(Span::schema())},
        "additionalProperties": false,
    })
}

fn kinds() -> Value {
    let texts = json!({"type": "array", "items": {"type": "string"}});
    let things = json!({"type": "array", "items": {"type": "object"}});
    let kind = json!({
        "type": "object",
        "properties": {
            "kind": {"type": "string"}, "plural": {"type": "string"}, "summary": {"type": "string"},
            "path": {"type": "string"}, "verbs": texts, "states": texts,
            "columns": things, "fields": things, "actions": things,
            "schema": {"type": "object"}, "spec_schema": {"type": "object"}, "status_schema": {"type": "object"},
        },
        "required": ["kind", "plural", "summary", "path", "verbs", "states", "columns", "fields", "actions"],
    });
    json!({
        "type": "object",
        "properties": {
            "kinds": {"type": "array", "items": kind},
            "components": {"type": "object", "description": "What the kinds' schemas refer to."},
        },
        "required": ["kinds", "components"],
    })
}
