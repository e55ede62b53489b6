//! Admission of networks: no two of them, and none of the host's, share an address.

use agentd_api::network::{Network, NetworkSpec, NetworkStatus};
use agentd_api::{Cidr, ErrorCode, Object, ObjectKey, Problem};
use agentd_store::Query;

use super::admission::{Admission, Desk, object, refused};
use super::guest::refuse_used;

const CIDR: &str = "spec.cidr";

impl Admission for Network {
    const FINALIZERS: &'static [&'static str] = &["bridge"];

    fn create(desk: &mut Desk<'_>, key: &ObjectKey, spec: &NetworkSpec) -> Result<NetworkStatus, Problem> {
        check_free(desk, spec.cidr)?;
        desk.tx.allocate("cidr", &spec.cidr.to_string(), key).map_err(|e| refused(e).at(CIDR))?;
        Ok(NetworkStatus::default())
    }
    fn change(
        _: &mut Desk<'_>,
        is: &Object<Self>,
        spec: &NetworkSpec,
    ) -> Result<Option<NetworkStatus>, Problem> {
        if is.spec.cidr == spec.cidr {
            return Ok(None);
        }
        Err(Problem::field(
            CIDR,
            format!("cannot be changed from {}: guests have its addresses", is.spec.cidr),
        )
        .hint("create another network"))
    }
    fn delete(desk: &mut Desk<'_>, key: &ObjectKey) -> Result<(), Problem> {
        refuse_used(desk, key, "network")
    }
}

/// All networks of this daemon are on one host, whatever project they are of.
fn check_free(desk: &mut Desk<'_>, cidr: Cidr) -> Result<(), Problem> {
    let taken = |what: String| Problem::new(ErrorCode::Conflict, format!("{cidr} overlaps {what}")).at(CIDR);
    for other in desk.tx.list(&Query::kind("network")) {
        let theirs = object::<Network>(&other)?.spec.cidr;
        if theirs.overlaps(cidr) {
            return Err(taken(format!("{theirs} of {}", other.key())));
        }
    }
    match desk.known.taken.iter().find(|t| t.overlaps(cidr)) {
        Some(theirs) => Err(taken(format!("{theirs}, which this host has an address or a route in"))),
        None => Ok(()),
    }
}
