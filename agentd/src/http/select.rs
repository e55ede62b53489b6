//! Selectors: `labels=a=b,c!=d,e,!f` and `fields=state=running,image!=micro`.

use agentd_api::kind::KindDef;
use agentd_api::{LabelKey, LabelValue, Problem};
use agentd_store::LabelSelector;

use super::request::shown;

/// More terms than anyone needs are refused: each is looked at for each object.
const TERMS_MAX: usize = 32;

fn terms<'a>(field: &str, text: &'a str) -> Result<Vec<&'a str>, Problem> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let all: Vec<&str> = text.split(',').map(str::trim).collect();
    if all.len() > TERMS_MAX {
        let message = format!("has {} terms; at most {TERMS_MAX} are allowed", all.len());
        return Err(Problem::field(field, message));
    }
    if all.iter().any(|t| t.is_empty()) {
        return Err(Problem::field(field, "has an empty term; write terms with one comma between them"));
    }
    Ok(all)
}

/// A term's key, whether it must be equal, and the value, where it has one. `==` is taken for `=`.
fn split(term: &str) -> Option<(&str, bool, &str)> {
    let (key, value) = term.split_once('=')?;
    match key.strip_suffix('!') {
        Some(key) => Some((key.trim(), false, value.trim())),
        None => Some((key.trim(), true, value.strip_prefix('=').unwrap_or(value).trim())),
    }
}

pub(super) fn labels(text: &str) -> Result<Vec<LabelSelector>, Problem> {
    let wrong = |term: &str, error: &dyn std::fmt::Display| {
        Problem::field("labels", format!("'{}': {error}", shown(term)))
    };
    terms("labels", text)?
        .into_iter()
        .map(|term| {
            let key = |k: &str| LabelKey::parse(k).map_err(|e| wrong(term, &format!("the key {e}")));
            match split(term) {
                Some((k, equal, v)) => {
                    let value = LabelValue::parse(v).map_err(|e| wrong(term, &format!("the value {e}")))?;
                    let (k, v) = (key(k)?.to_string(), value.to_string());
                    Ok(if equal { LabelSelector::Equals(k, v) } else { LabelSelector::NotEquals(k, v) })
                }
                None => match term.strip_prefix('!') {
                    Some(k) => Ok(LabelSelector::HasNot(key(k.trim())?.to_string())),
                    None => Ok(LabelSelector::Has(key(term)?.to_string())),
                },
            }
        })
        .collect()
}

pub(super) fn fields(def: &KindDef, text: &str) -> Result<Vec<(String, bool, String)>, Problem> {
    terms("fields", text)?
        .into_iter()
        .map(|term| {
            let Some((name, equal, value)) = split(term) else {
                let message = format!("'{}' is neither NAME=VALUE nor NAME!=VALUE", shown(term));
                return Err(Problem::field("fields", message));
            };
            if name != "name" && def.field(name).is_none() {
                let known: Vec<&str> = def.fields.iter().map(|f| f.name).collect();
                let message = format!(
                    "a {} cannot be selected by '{}'; it can by name, {}",
                    def.kind,
                    shown(name),
                    known.join(", ")
                );
                return Err(Problem::field("fields", message));
            }
            Ok((name.to_owned(), equal, value.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use agentd_api::registry;

    #[test]
    fn labels_are_read_as_people_write_them() {
        let read = labels("a=b, c!=d,e,!f,g==h,i=").expect("read");
        let text = format!("{read:?}");
        for part in [
            r#"Equals("a", "b")"#,
            r#"NotEquals("c", "d")"#,
            r#"Has("e")"#,
            r#"HasNot("f")"#,
            r#"Equals("g", "h")"#,
            r#"Equals("i", "")"#,
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(labels("").expect("read").is_empty());
        for bad in [",", "a,,b", "=b", "!", "a b", "a=b=c", "!=x", &"a,".repeat(40)] {
            assert_eq!(labels(bad).expect_err(bad).errors[0].field, "labels", "{bad}");
        }
    }

    #[test]
    fn only_declared_fields_can_be_selected_by() {
        let vm = registry::by_kind("vm").expect("a kind");
        let read = fields(vm, "state=running,image!=micro,name=web").expect("read");
        assert_eq!(read[1], ("image".to_owned(), false, "micro".to_owned()));
        for bad in ["cpus=1", "state", "!state", "=x"] {
            let problem = fields(vm, bad).expect_err(bad);
            assert_eq!(problem.errors[0].field, "fields");
        }
        assert!(fields(vm, "nope=1").expect_err("refused").detail.contains("ssh_key"));
    }
}
