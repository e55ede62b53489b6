//! All about one object, for a person: what everybody asks first, then the whole of spec and status.

use agentd_api::event::Event;

use crate::failure::Failure;
use crate::output::quantity;
use crate::output::table::{Table, plain};
use crate::output::tree::Tree;
use crate::output::{undecodable, yaml};

/// `object` is the API's JSON.
pub fn render(object: &[u8]) -> Result<String, Failure> {
    let tree: Tree = serde_json::from_slice(object).map_err(|e| undecodable(&e))?;
    let status = tree.field("status").unwrap_or(&Tree::Null);
    let mut out = String::new();
    let mut row = |heading: &str, value: String| {
        if !value.is_empty() {
            out.push_str(&format!("{:13}{}\n", format!("{heading}:"), plain(&value)));
        }
    };
    for (heading, field) in [("Name", "name"), ("Kind", "kind"), ("Project", "project"), ("Id", "id")] {
        row(heading, scalar(tree.field(field)));
    }
    row("State", scalar(status.field("state")));
    row("Reason", scalar(status.field("reason")));
    row("Progress", progress(status.field("progress")));
    row("Created", since(tree.field("created_at")));
    row("Deleting", since(tree.field("deleting_at")));
    row("Generation", generation(&tree, status));
    row("Revision", scalar(tree.field("revision")));
    row("Labels", pairs(tree.field("labels")));
    row("Annotations", pairs(tree.field("annotations")));
    for (heading, part) in [("Spec", tree.field("spec")), ("Status", Some(&rest(status)))] {
        if let Some(part) = part.filter(|part| !part.is_empty()) {
            out.push_str(&format!("{heading}:\n"));
            for line in yaml::render(part).lines() {
                out.push_str(&format!("  {line}\n"));
            }
        }
    }
    Ok(out)
}

/// What happened to it, the last first.
pub fn events(events: &[Event]) -> Result<String, Failure> {
    if events.is_empty() {
        return Ok("Events:      none\n".to_owned());
    }
    let rows = events
        .iter()
        .rev()
        .map(|e| vec![quantity::age(e.at), outcome(e), e.verb.clone(), e.actor.clone(), e.message.clone()])
        .collect();
    let mut table = Vec::new();
    Table::with_headings(vec!["AGE", "OUTCOME", "VERB", "ACTOR", "MESSAGE"], rows).write(&mut table)?;
    let lines: String = String::from_utf8_lossy(&table).lines().map(|line| format!("  {line}\n")).collect();
    Ok(format!("Events:\n{lines}"))
}

pub fn outcome(event: &Event) -> String {
    match event.outcome {
        agentd_api::event::Outcome::Accepted => "accepted",
        agentd_api::event::Outcome::Done => "done",
        agentd_api::event::Outcome::Failed => "failed",
        agentd_api::event::Outcome::Seen => "seen",
    }
    .to_owned()
}

/// The status without what stands above it already and without what is empty.
fn rest(status: &Tree) -> Tree {
    const SHOWN: [&str; 4] = ["state", "reason", "progress", "observed_generation"];
    match status {
        Tree::Map(fields) => Tree::Map(
            fields
                .iter()
                .filter(|(name, value)| !SHOWN.contains(&name.as_str()) && !value.is_empty())
                .cloned()
                .collect(),
        ),
        other => other.clone(),
    }
}

fn scalar(value: Option<&Tree>) -> String {
    match value {
        Some(Tree::Text(text) | Tree::Number(text)) => text.clone(),
        Some(Tree::Bool(value)) => value.to_string(),
        _ => String::new(),
    }
}

fn since(value: Option<&Tree>) -> String {
    let text = scalar(value);
    text.parse().map(|at| format!("{text} ({} ago)", quantity::age(at))).unwrap_or(text)
}

fn generation(tree: &Tree, status: &Tree) -> String {
    let (wanted, seen) = (scalar(tree.field("generation")), scalar(status.field("observed_generation")));
    if wanted == seen || seen.is_empty() { wanted } else { format!("{wanted} (status is of {seen})") }
}

fn progress(value: Option<&Tree>) -> String {
    let Some(value) = value.filter(|v| !v.is_empty()) else { return String::new() };
    let number = |name| scalar(value.field(name)).parse().ok();
    quantity::progress(&agentd_api::Progress {
        step: scalar(value.field("step")),
        done: number("done").unwrap_or(0),
        total: number("total"),
        unit: scalar(value.field("unit")),
        ..agentd_api::Progress::default()
    })
}

fn pairs(value: Option<&Tree>) -> String {
    match value {
        Some(Tree::Map(fields)) => {
            let pairs: Vec<String> = fields.iter().map(|(k, v)| format!("{k}={}", scalar(Some(v)))).collect();
            pairs.join(", ")
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_shown_from_the_top() {
        let json = r#"{"kind":"vm","project":"default","name":"web","id":"0197","revision":7,"generation":2,
            "labels":{"app":"web"},"annotations":{},"created_at":"not a time","deleting_at":null,"finalizers":[],
            "spec":{"image":"micro","cpus":1},
            "status":{"state":"provisioning","reason":"waiting for\u001b[2J image","observed_generation":1,
                      "progress":{"step":"packages","done":3,"total":4,"unit":"packages"},
                      "conditions":[],"addresses":[{"network":"default","ip":"10.77.0.2"}]}}"#;
        let text = render(json.as_bytes()).map_err(|f| f.text()).expect("a page");
        insta::assert_snapshot!(text, @r#"
        Name:        web
        Kind:        vm
        Project:     default
        Id:          0197
        State:       provisioning
        Reason:      waiting for�[2J image
        Progress:    packages 3 of 4 packages (75 %)
        Created:     not a time
        Generation:  2 (status is of 1)
        Revision:    7
        Labels:      app=web
        Spec:
          image: micro
          cpus: 1
        Status:
          addresses:
            - network: default
              ip: "10.77.0.2"
        "#);
    }
}
