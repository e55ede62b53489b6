//! Makes what the other tests begin with, and so is the test of `agentctl image build micro`.

use agent_tests::host::{namespace, template};

/// Run by `template::ensure` when the first test needs it, in a namespace and not by itself.
#[test]
#[ignore = "needs a host of its own: run by tests/run"]
fn micro_is_built() {
    match namespace::inside() {
        None => template::ensure(),
        Some(scratch) => {
            namespace::furnish(&scratch).expect("a furnished namespace");
            template::make(&mut agent_tests::host::Host::new(scratch));
        }
    }
}
