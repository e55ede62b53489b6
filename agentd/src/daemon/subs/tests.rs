use std::collections::BTreeSet;

use agentd_api::registry;

use super::Subs;

#[test]
fn each_declared_subresource_has_its_opener_and_no_other_has() {
    let declared: BTreeSet<(&str, &str)> =
        registry::ALL.iter().flat_map(|k| k.def.subs.iter().map(|s| (k.def.kind, s.name))).collect();
    let opened: BTreeSet<(&str, &str)> = Subs::new().table.keys().copied().collect();
    assert_eq!(opened, declared);
}
