use agentd_api::registry::{self, field_values};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn vm() -> Value {
    json!({"kind": "vm", "name": "web", "created_at": "1970-01-01T00:00:00Z", "deleting_at": null,
        "spec": {"image": "micro", "cpus": 2, "memory": "1GiB", "networks": [{"network": "default"}]},
        "status": {"state": "running", "reason": null,
                   "addresses": [{"network": "a", "ip": "10.0.0.2"}, {"network": "b", "ip": "10.1.0.2"}]}})
}

#[test]
fn a_row_is_what_the_columns_point_at() {
    let def = registry::by_kind("vm").expect("a kind");
    let columns: Vec<&ColumnDef> = def.columns.iter().collect();
    let row = row(&columns, vm().to_string().as_bytes()).map_err(|f| f.text()).expect("a row");
    let age = row[6].clone();
    assert!(age.ends_with('d'), "{age}");
    let wanted =
        ["web", "running", "10.0.0.2,10.1.0.2", "micro", "2", "1GiB", &age, "-", "-", "-", "-", "-", "-"];
    assert_eq!(row, wanted);
}

#[test]
fn a_list_is_its_pages() {
    let page = |names: &[&str]| {
        let items: Vec<Value> = names.iter().map(|n| json!({"x": [1, {"name": "no"}], "name": n})).collect();
        Bytes::from(json!({"continue": null, "items": items, "revision": 1}).to_string())
    };
    let pages = [page(&["a", "b"]), page(&[]), page(&["c"])];
    assert_eq!(names(&pages).map_err(|f| f.text()), Ok(["a", "b", "c"].map(String::from).to_vec()));
}

#[test]
fn what_is_no_list_is_refused() {
    for bad in
        ["", "[]", "{\"items\":{}}", "{\"items\":[{\"name\":\"a\"}]} trailing", "{\"items\":[{\"name\":"]
    {
        assert!(names(&[Bytes::from(bad)]).is_err(), "{bad}");
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z\"\\\\é\n]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("(a|b|c|name)", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    /// The fast way agrees with the plain way that the server selects by.
    #[test]
    fn the_walk_agrees_with_the_pointer(object in any_json()) {
        static COLUMNS: [ColumnDef; 4] = [
            ColumnDef::text("A", "/a"), ColumnDef::text("B", "/a/b"),
            ColumnDef::text("C", "/a/*/b"), ColumnDef::text("D", "/b/*"),
        ];
        let columns: Vec<&ColumnDef> = COLUMNS.iter().collect();
        let row = row(&columns, object.to_string().as_bytes()).map_err(|f| TestCaseError::fail(f.text()))?;
        for (column, cell) in columns.iter().zip(row) {
            let plain: Vec<String> = field_values(&object, column.path).into_iter()
                .filter(|text| !text.starts_with(['[', '{'])).filter(|text| !text.is_empty()).collect();
            let wanted = if plain.is_empty() { "-".to_owned() } else { plain.join(",") };
            let tidy: Vec<&str> = cell.split(',').filter(|part| !part.is_empty()).collect();
            prop_assert_eq!(tidy.join(","), wanted, "{}", column.path);
        }
    }
}
