//! All kinds, in one place. Everything generic goes through here.

use serde_json::Value;
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::container::Container;
use crate::error::FieldError;
use crate::flavor::Flavor;
use crate::image::Image;
use crate::kind::{Kind, KindDef};
use crate::network::Network;
use crate::snapshot::Snapshot;
use crate::ssh_key::SshKey;
use crate::vm::Vm;
use crate::volume::Volume;

/// A kind with its types erased.
pub struct AnyKind {
    pub def: &'static KindDef,
    /// Parses and checks a spec, and writes it in its canonical form with all defaults filled in.
    pub normalise: fn(&Value) -> Result<Value, Vec<FieldError>>,
    pub spec_schema: fn() -> RefOr<Schema>,
    pub status_schema: fn() -> RefOr<Schema>,
    /// The schemas that the two above refer to, by name.
    pub referenced: fn(&mut Vec<(String, RefOr<Schema>)>),
}

const fn entry<K: Kind>() -> AnyKind {
    AnyKind {
        def: K::DEF,
        normalise: normalise::<K>,
        spec_schema: <K::Spec as PartialSchema>::schema,
        status_schema: <K::Status as PartialSchema>::schema,
        referenced: |schemas| {
            <K::Spec as ToSchema>::schemas(schemas);
            <K::Status as ToSchema>::schemas(schemas);
        },
    }
}

/// In the order in which they are shown. A kind stands behind those it refers to.
pub static ALL: [AnyKind; 8] = [
    entry::<SshKey>(),
    entry::<Network>(),
    entry::<Image>(),
    entry::<Volume>(),
    entry::<Flavor>(),
    entry::<Vm>(),
    entry::<Container>(),
    entry::<Snapshot>(),
];

pub fn by_kind(kind: &str) -> Option<&'static KindDef> {
    any(kind).map(|k| k.def)
}

pub fn by_plural(plural: &str) -> Option<&'static KindDef> {
    ALL.iter().find(|k| k.def.plural == plural).map(|k| k.def)
}

pub fn any(kind: &str) -> Option<&'static AnyKind> {
    ALL.iter().find(|k| k.def.kind == kind)
}

/// Parses a spec, naming the field that is wrong: `spec.networks[0].ip`, not a line and a column.
pub fn parse_spec<K: Kind>(spec: &Value) -> Result<K::Spec, Vec<FieldError>> {
    let parsed: K::Spec = crate::fields::from_value(spec).map_err(|e| vec![e.below("spec")])?;
    let errors = K::check(&parsed);
    if errors.is_empty() { Ok(parsed) } else { Err(errors) }
}

fn normalise<K: Kind>(spec: &Value) -> Result<Value, Vec<FieldError>> {
    let parsed = parse_spec::<K>(spec)?;
    serde_json::to_value(parsed).map_err(|e| vec![FieldError::new("spec", e.to_string())])
}

/// The values of a declared field in an object: its JSON pointer followed, `*` taken as every element.
pub fn field_values(object: &Value, path: &str) -> Vec<String> {
    let mut found = vec![object];
    for part in path.split('/').skip(1) {
        found = found
            .into_iter()
            .flat_map(|value| match (part, value) {
                ("*", Value::Array(items)) => items.iter().collect(),
                (_, Value::Object(map)) => map.get(part).into_iter().collect(),
                _ => Vec::new(),
            })
            .collect();
    }
    found
        .into_iter()
        .filter_map(|value| match value {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn declarations_hold_together() {
        for kind in &ALL {
            assert!(kind.def.columns.first().is_some_and(|c| c.path == "/name"), "{}", kind.def.kind);
            assert!(kind.def.field("state").is_some(), "{} can be selected by state", kind.def.kind);
            assert!(kind.def.action("reconcile").is_some() && kind.def.action("retry").is_some());
            assert_eq!(by_plural(kind.def.plural).map(|d| d.kind), Some(kind.def.kind));
        }
    }

    #[test]
    fn a_bad_field_is_named_by_its_path() {
        let vm = any("vm").expect("a kind");
        let field = |spec: Value| (vm.normalise)(&spec).expect_err("refused")[0].field.clone();
        assert_eq!(field(json!({"image": "micro", "memory": "1GB2"})), "spec.memory");
        assert_eq!(
            field(json!({"image": "micro", "networks": [{"network": "default", "ip": "x"}]})),
            "spec.networks[0].ip"
        );
        assert_eq!(field(json!({"image": "../x"})), "spec.image");
        assert_eq!(field(json!({"image": "micro", "cpu": 1})), "spec.cpu");
        assert_eq!(field(json!({})), "spec.image");
        assert_eq!(field(json!("micro")), "spec");
    }

    #[test]
    fn a_normal_form_is_a_fixed_point() {
        let vm = any("vm").expect("a kind");
        let once = (vm.normalise)(&json!({"image": "micro", "memory": "1024MiB"})).expect("a spec");
        assert_eq!(once["memory"], "1GiB");
        assert_eq!((vm.normalise)(&once), Ok(once));
    }

    #[test]
    fn fields_are_read_through_lists() {
        let object =
            json!({"spec": {"networks": [{"network": "a"}, {"network": "b"}]}, "status": {"state": null}});
        assert_eq!(field_values(&object, "/spec/networks/*/network"), ["a", "b"]);
        assert!(field_values(&object, "/status/state").is_empty());
    }
}
