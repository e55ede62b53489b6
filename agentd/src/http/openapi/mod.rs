//! `/openapi.json` (OpenAPI 3.1) and `/v1/kinds`, written from the kinds' declarations and the table of places.
//!
//! The document is also committed, as `agentd/api/openapi.json`, so that a change of the contract is seen in review; a
//! test compares the two. What keeps a connection open is marked `x-stream: true`, so that a tool that waits for the
//! end of each answer can leave it out.

mod operations;
mod parameters;
mod responses;
mod schemas;

#[cfg(test)]
mod tests;

use agentd_api::kind::KindDef;
use agentd_api::{paths, registry};
use serde_json::{Map, Value, json};

use super::route::Place;

/// The whole document.
pub fn document() -> Value {
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "agentd",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "One Linux host as a cloud. HTTP/1.1 on a Unix socket; who calls is who SO_PEERCRED says.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "the Unix socket, /run/agentd/agentd.sock unless configured otherwise"}],
        "tags": tags(),
        "paths": all_paths(),
        "components": {
            "schemas": schemas::all(), "headers": responses::headers(), "responses": responses::problems(),
        },
    })
}

/// The document as it is served and committed.
pub fn text() -> String {
    format!("{:#}\n", document())
}

/// What `/v1/kinds` answers: each kind's declaration, paths and schemas.
pub fn discovery() -> Value {
    let kinds: Vec<Value> = registry::ALL.iter().map(|kind| discovered(kind.def)).collect();
    json!({"kinds": kinds, "components": {"schemas": schemas::of_kinds()}})
}

fn discovered(def: &KindDef) -> Value {
    let mut value = serde_json::to_value(def).expect("a declaration has only texts and lists");
    value["path"] = paths::collection(def).into();
    value["verbs"] = json!(["list", "watch", "create", "get", "replace", "patch", "delete"]);
    value["schema"] = schemas::reference(&schemas::name(def, ""));
    value["spec_schema"] = schemas::reference(&schemas::name(def, "Spec"));
    value["status_schema"] = schemas::reference(&schemas::name(def, "Status"));
    value
}

fn tags() -> Value {
    let mut tags: Vec<Value> = registry::ALL
        .iter()
        .map(|kind| json!({"name": kind.def.plural, "description": kind.def.summary}))
        .collect();
    tags.push(json!({"name": "server", "description": "The daemon itself"}));
    tags.into()
}

fn all_paths() -> Value {
    let mut all = Map::new();
    for kind in &registry::ALL {
        let def = kind.def;
        let base = paths::collection(def);
        all.insert(base.clone(), operations::collection(def));
        all.insert(format!("{base}/{{name}}"), operations::object(def));
        for action in def.actions {
            all.insert(format!("{base}/{{name}}/{}", action.name), operations::action(def, action));
        }
        for sub in def.subs {
            let path = format!("{base}/{{name}}/{}", sub.name);
            let item = all.entry(path).or_insert_with(|| json!({}));
            // Several may have a name, each with a method of its own.
            if let (Some(item), Value::Object(operation)) = (item.as_object_mut(), operations::sub(def, sub))
            {
                item.extend(operation);
            }
        }
    }
    all.insert(Place::Archives.template().to_owned(), operations::archives());
    all.insert(Place::Adopt.template().to_owned(), operations::adopt());
    all.insert(Place::Content.template().to_owned(), operations::content());
    for (place, item) in operations::server() {
        all.insert(place.template().to_owned(), item);
    }
    all.into()
}
