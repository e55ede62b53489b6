//! The operations of each path.

use agentd_api::Kind;
use agentd_api::container::Container;
use agentd_api::kind::{ActionDef, KindDef, RECONCILE, SubAnswer, SubDef, SubMethod};
use agentd_api::vm::Vm;
use serde_json::{Map, Value, json};

use super::parameters as p;
use super::responses::Answers;
use super::schemas::{name, reference};
use crate::http::route::{Place, UPLOADS};

/// What a wish can be answered beside what any request can.
const WISH: [u16; 4] = [409, 412, 422, 507];

struct Operation<'a> {
    tag: &'a str,
    id: String,
    summary: String,
    parameters: Vec<Value>,
    body: Option<Value>,
    answers: Answers,
}

impl Operation<'_> {
    fn done(mut self) -> Value {
        self.parameters.push(p::request_id());
        let mut operation = json!({
            "tags": [self.tag],
            "operationId": self.id,
            "summary": self.summary,
            "parameters": self.parameters,
        });
        if let Some(body) = self.body {
            operation["requestBody"] = body;
        }
        operation["responses"] = self.answers.done();
        operation
    }
}

fn body(types: &[&str], schema: &str, required: bool) -> Option<Value> {
    let content: Map<String, Value> =
        types.iter().map(|t| ((*t).to_owned(), json!({"schema": reference(schema)}))).collect();
    Some(json!({"required": required, "content": content}))
}

pub(super) fn collection(def: &KindDef) -> Value {
    let (list, event) = (reference(&name(def, "List")), reference(&name(def, "WatchEvent")));
    let content = json!({
        "application/json": {"schema": list},
        "application/x-ndjson": {"schema": {"type": "string"}, "x-stream": true, "x-item": event},
        "text/event-stream": {"schema": {"type": "string"}, "x-stream": true, "x-item": event},
    });
    let list = Operation {
        tag: def.plural,
        id: format!("list-{}", def.plural),
        summary: format!("Lists {}, or watches them", def.plural),
        parameters: p::listing(def),
        body: None,
        answers: Answers::new()
            .content(200, "The list, or changes as they happen.", content, false)
            .problems(&[410]),
    };
    let whole = name(def, "");
    let create = Operation {
        tag: def.plural,
        id: format!("create-{}", def.kind),
        summary: format!("Creates a {}", def.kind),
        parameters: vec![p::project(), p::dry_run(), p::idempotency_key()],
        body: body(&["application/json"], &name(def, "Draft"), true),
        answers: Answers::new()
            .with_body()
            .problems(&WISH)
            .problems(&[404])
            .object(200, "What would be created (dry run).", &whole)
            .object(201, "Created: written down; the host follows.", &whole),
    };
    json!({"get": list.done(), "post": create.done()})
}

pub(super) fn object(def: &KindDef) -> Value {
    let whole = name(def, "");
    let get = Operation {
        tag: def.plural,
        id: format!("get-{}", def.kind),
        summary: format!("Shows a {}", def.kind),
        parameters: vec![p::name(def), p::project(), p::if_none_match()],
        body: None,
        answers: Answers::new().problems(&[404]).object(200, "The object.", &whole).content(
            304,
            "It is still at the ETag of If-None-Match.",
            Value::Null,
            true,
        ),
    };
    let change = |id: &str, summary: &str, types: &[&str], schema: Option<&str>| Operation {
        tag: def.plural,
        id: format!("{id}-{}", def.kind),
        summary: format!("{summary} a {}", def.kind),
        parameters: vec![p::name(def), p::project(), p::dry_run(), p::if_match(), p::idempotency_key()],
        body: schema.and_then(|what| body(types, &name(def, what), true)),
        answers: Answers::new()
            .with_body()
            .problems(&WISH)
            .problems(&[404])
            .object(200, "The object as it now stands.", &whole)
            .object(202, "The object as it now stands; the host follows.", &whole),
    };
    let json_only = ["application/json"];
    let mut delete = change("delete", "Marks for deletion", &[], None);
    delete.parameters.push(p::cascade());
    let patches = ["application/merge-patch+json", "application/json"];
    json!({
        "get": get.done(),
        "put": change("replace", "Replaces the spec of", &json_only, Some("Replacement")).done(),
        "patch": change("patch", "Changes", &patches, Some("Patch")).done(),
        "delete": delete.done(),
    })
}

pub(super) fn action(def: &KindDef, action: &ActionDef) -> Value {
    let options = match action.name {
        name if name == RECONCILE.name => "ReconcileOptions",
        "restore" => "RestoreOptions",
        _ => "NoOptions",
    };
    let whole = name(def, "");
    let post = Operation {
        tag: def.plural,
        id: format!("{}-{}", action.name, def.kind),
        summary: action.summary.to_owned(),
        parameters: vec![p::name(def), p::project(), p::dry_run(), p::idempotency_key()],
        body: body(&["application/json"], options, false),
        answers: Answers::new()
            .with_body()
            .problems(&WISH)
            .problems(&[404])
            .object(200, "The object as it now stands.", &whole)
            .object(202, "The object as it now stands; the host follows.", &whole),
    };
    json!({"post": post.done()})
}

fn document(answers: Answers, shape: &str) -> Answers {
    answers.content(200, "As it is now.", json!({"application/json": {"schema": {"type": shape}}}), false)
}

pub(super) fn sub(def: &KindDef, sub: &SubDef) -> Value {
    let answers = Answers::new().problems(&[404, 409, 422]);
    let answers = match sub.answer {
        SubAnswer::Json => document(answers, "object"),
        SubAnswer::JsonList => document(answers, "array"),
        SubAnswer::Content(kind) => {
            let schema = json!({"schema": {"type": "string", "format": "binary"}, "x-stream": true});
            answers.content(200, "The content, as it comes.", json!({kind: schema}), false)
        }
        SubAnswer::Frames | SubAnswer::Bytes => answers.content(
            101,
            "The connection is upgraded, and becomes a two-way stream.",
            Value::Null,
            false,
        ),
    };
    let mut parameters = vec![p::name(def), p::project()];
    parameters.extend(sub.params.iter().map(p::of_sub));
    if let Some(protocol) = sub.answer.protocol() {
        parameters.push(p::upgrade(protocol));
    }
    let takes_body = sub.method != SubMethod::Get && sub.answer.protocol().is_none();
    let operation = Operation {
        tag: def.plural,
        id: if def.sub(sub.name).is_some_and(|first| first.method != sub.method) {
            format!("{}-{}-{}", sub.method.as_str().to_lowercase(), sub.name, def.kind)
        } else {
            format!("{}-{}", sub.name, def.kind)
        },
        summary: sub.summary.to_owned(),
        parameters,
        body: takes_body.then(|| json!({"required": true, "content": {"application/octet-stream": {}}})),
        answers: if takes_body { answers.with_body() } else { answers },
    };
    json!({sub.method.as_str().to_lowercase(): operation.done()})
}

pub(super) fn content() -> Value {
    let whole = name(UPLOADS, "");
    let put = Operation {
        tag: UPLOADS.plural,
        id: format!("upload-{}", UPLOADS.kind),
        summary: "Sends the content of an image whose source is an upload".to_owned(),
        parameters: vec![p::name(UPLOADS), p::project()],
        body: Some(json!({"required": true, "content": {"application/octet-stream": {}}})),
        answers: Answers::new()
            .with_body()
            .problems(&WISH)
            .problems(&[404])
            .object(200, "The image as it now stands.", &whole)
            .object(202, "The content is on disk; it is being converted.", &whole),
    };
    json!({"put": put.done()})
}

pub(super) fn archives() -> Value {
    let whole = name(Vm::DEF, "");
    let post = Operation {
        tag: Vm::DEF.plural,
        id: "import-vm".to_owned(),
        summary: "Makes a VM of an archive that `export` gave; nothing where it is not whole".to_owned(),
        parameters: vec![p::project(), p::dry_run(), p::new_name(), p::spec_change()],
        body: Some(json!({"required": true, "content": {"application/octet-stream": {}}})),
        answers: Answers::new()
            .with_body()
            .problems(&WISH)
            .problems(&[404])
            .object(200, "What would be created (dry run).", &whole)
            .object(201, "Created: written down; the host follows.", &whole),
    };
    json!({"post": post.done()})
}

pub(super) fn adopt() -> Value {
    let whole = name(Container::DEF, "");
    let post = Operation {
        tag: Container::DEF.plural,
        id: "adopt-container".to_owned(),
        summary: "Makes an object of a container that somebody else made, which goes on; 422 names what no spec can say"
            .to_owned(),
        parameters: vec![p::project(), p::dry_run(), p::idempotency_key()],
        body: body(&["application/json"], "AdoptWish", true),
        answers: Answers::new()
            .with_body()
            .problems(&WISH)
            .problems(&[404])
            .object(200, "The object as it now stands.", &whole)
            .object(201, "It is an object: written down; the host follows.", &whole),
    };
    json!({"post": post.done()})
}

fn read(id: &str, summary: &str, answers: Answers) -> Value {
    let parameters = Vec::new();
    let operation = Operation {
        tag: "server",
        id: id.to_owned(),
        summary: summary.to_owned(),
        parameters,
        body: None,
        answers,
    };
    json!({"get": operation.done()})
}

pub(super) fn server() -> Vec<(Place, Value)> {
    let text = |kind: &str| json!({kind: {"schema": {"type": "string"}}});
    let any = json!({"application/json": {"schema": {"type": "object"}}});
    let json = |schema| Answers::new().json(200, "As it is now.", schema);
    let other = |content| Answers::new().content(200, "As it is now.", content, false);
    vec![
        (Place::Server, read("server", "The server, its host and its backends", json("ServerInfo"))),
        (Place::Kinds, read("kinds", "The kinds that there are", json("Kinds"))),
        (Place::Events, events()),
        (Place::Stats, stats()),
        (
            Place::Foreign,
            read("foreign", "What the host's engine has that is none of this daemon's", json("ForeignList")),
        ),
        (Place::Backup, {
            let file =
                json!({"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}});
            let text = "A line of JSON, a BackupHeader, and the store's file of which it tells.";
            let answers = Answers::new().problems(&[507]).content(200, text, file, false);
            read(
                "backup",
                "All that the daemon knows, of one revision, as one file; contents are not in it",
                answers,
            )
        }),
        (Place::Doctor, doctor(json("Report"))),
        (Place::Healthz, read("healthz", "Whether the daemon lives", other(text("text/plain")))),
        (Place::Readyz, read("readyz", "Whether the daemon does all that it should", json("Readiness"))),
        (Place::Metrics, read("metrics", "Counts and times", other(text("application/openmetrics-text")))),
        (Place::OpenApi, read("openapi", "This document", other(any))),
    ]
}

fn doctor(report: Answers) -> Value {
    let mut both =
        read("doctor", "What the host has and lacks, and where it differs from the objects", report);
    let post = Operation {
        tag: "server",
        id: "repair".to_owned(),
        summary: "Mends findings by their subjects, as far as nothing is lost by it".to_owned(),
        parameters: Vec::new(),
        body: body(&["application/json"], "RepairWish", true),
        answers: Answers::new().with_body().json(200, "What came of each.", "RepairList"),
    };
    both["post"] = post.done();
    both
}

fn stats() -> Value {
    let get = Operation {
        tag: "server",
        id: "stats".to_owned(),
        summary: "Figures of the guests that run: CPU, memory, disks, networks".to_owned(),
        parameters: p::stats(),
        body: None,
        answers: Answers::new().json(200, "Taken after the request had come.", "StatsList"),
    };
    json!({"get": get.done()})
}

fn events() -> Value {
    let stream = json!({"schema": {"type": "string"}, "x-stream": true, "x-item": reference("Event")});
    let content = json!({
        "application/json": {"schema": reference("EventList")},
        "application/x-ndjson": stream,
        "text/event-stream": stream,
    });
    let list = Operation {
        tag: "server",
        id: "list-events".to_owned(),
        summary: "What happened, and what became of a request".to_owned(),
        parameters: p::events(),
        body: None,
        answers: Answers::new().content(200, "Events, oldest first, or as they happen.", content, false),
    };
    json!({"get": list.done()})
}
