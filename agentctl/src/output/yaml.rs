//! Writes JSON as YAML 1.2 that a YAML 1.1 reader takes the same way: whatever could be taken for something else than
//! the text it is stands in double quotes, escaped as in JSON.

use crate::output::tree::Tree;

/// A document, each line ended.
pub fn render(tree: &Tree) -> String {
    let mut out = String::new();
    match tree {
        Tree::Map(fields) if !fields.is_empty() => map(&mut out, fields, 0),
        Tree::List(items) if !items.is_empty() => list(&mut out, items, 0),
        other => {
            out.push_str(&scalar(other));
            out.push('\n');
        }
    }
    out
}

fn map(out: &mut String, fields: &[(String, Tree)], depth: usize) {
    for (n, (name, value)) in fields.iter().enumerate() {
        // The first field of a map in a list stands behind the list's hyphen.
        if n > 0 || !out.ends_with("- ") {
            indent(out, depth);
        }
        out.push_str(&text(name));
        out.push(':');
        below(out, value, depth);
    }
}

fn list(out: &mut String, items: &[Tree], depth: usize) {
    for item in items {
        indent(out, depth);
        match item {
            Tree::Map(fields) if !fields.is_empty() => {
                out.push_str("- ");
                map(out, fields, depth + 1);
            }
            Tree::List(items) if !items.is_empty() => {
                out.push_str("-\n");
                list(out, items, depth + 1);
            }
            other => {
                out.push_str("- ");
                out.push_str(&scalar(other));
                out.push('\n');
            }
        }
    }
}

fn below(out: &mut String, value: &Tree, depth: usize) {
    match value {
        Tree::Map(fields) if !fields.is_empty() => {
            out.push('\n');
            map(out, fields, depth + 1);
        }
        Tree::List(items) if !items.is_empty() => {
            out.push('\n');
            list(out, items, depth + 1);
        }
        other => {
            out.push(' ');
            out.push_str(&scalar(other));
            out.push('\n');
        }
    }
}

fn indent(out: &mut String, depth: usize) {
    for _ in 0..depth {
        out.push_str("  ");
    }
}

fn scalar(value: &Tree) -> String {
    match value {
        Tree::Null => "null".to_owned(),
        Tree::Bool(value) => value.to_string(),
        Tree::Number(number) => number.clone(),
        Tree::Text(value) => text(value),
        Tree::List(_) => "[]".to_owned(),
        Tree::Map(_) => "{}".to_owned(),
    }
}

/// Words that some reader takes for a boolean or nothing.
const WORDS: [&str; 10] = ["true", "false", "yes", "no", "on", "off", "y", "n", "null", "nan"];

fn text(value: &str) -> String {
    let begins = value.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'/');
    let inner = value.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'/'));
    let word = WORDS.iter().any(|word| value.eq_ignore_ascii_case(word));
    if begins && inner && !word { value.to_owned() } else { quoted(value) }
}

fn quoted(value: &str) -> String {
    let mut out = String::from("\"");
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            // Control characters, and the two that YAML takes for ends of lines.
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn yaml(json: &str) -> String {
        render(&serde_json::from_str(json).expect("JSON"))
    }

    #[test]
    fn documents_keep_their_order() {
        let json = r##"{"kind":"vm","name":"web","labels":{},"finalizers":[],"deleting_at":null,
            "spec":{"cpus":2,"memory":"1GiB","user_data":"#cloud-config\nruncmd: [\"a\"]\n",
                    "networks":[{"network":"default","ip":"10.77.0.2"},{"network":"b"}],"matrix":[[1,2],[]]},
            "status":{"state":"running","ok":true}}"##;
        insta::assert_snapshot!(yaml(json), @r##"
        kind: vm
        name: web
        labels: {}
        finalizers: []
        deleting_at: null
        spec:
          cpus: 2
          memory: "1GiB"
          user_data: "#cloud-config\nruncmd: [\"a\"]\n"
          networks:
            - network: default
              ip: "10.77.0.2"
            - network: b
          matrix:
            -
              - 1
              - 2
            - []
        status:
          state: running
          ok: true
        "##);
    }

    #[test]
    fn what_looks_like_something_else_is_quoted() {
        for (json, shown) in [
            (r#""no""#, "\"no\""),
            (r#""12""#, "\"12\""),
            (r#""a: b""#, "\"a: b\""),
            (r#""""#, "\"\""),
            (r#""-x""#, "\"-x\""),
            ("\"a\\u0007\\u2028\"", "\"a\\u0007\\u2028\""),
            (r#""/dev/vda""#, "/dev/vda"),
            ("1.5", "1.5"),
            ("null", "null"),
            ("[]", "[]"),
        ] {
            assert_eq!(yaml(json), format!("{shown}\n"), "{json}");
        }
    }
}
