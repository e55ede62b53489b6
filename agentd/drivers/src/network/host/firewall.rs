//! Puts the table of `ruleset` into the kernel through `nft`, and notices when it is no longer what was put there.
//!
//! What the kernel lists differs from what it was given in form, and the form differs between versions of nft. So the
//! listing is compared with the listing that followed our own last change, and the wish with the wish of that change;
//! where either differs, or nothing is known yet (after a start), the whole table is replaced, in one transaction that
//! cuts no connection. A rule added, changed or removed by hand is found in this way whatever it is.

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{failed_to, sysctl};
use crate::exec::{ExecError, Program};
use crate::network::ruleset::{render_ruleset, table_name};
use crate::network::{FirewallSetup, Forward, NetworkError};
use crate::{Instance, fault};

type Sum = [u8; 32];

/// What the last change left. Behind a lock: one change at a time.
#[derive(Debug, Default)]
pub struct Firewall {
    last: Option<Last>,
}

#[derive(Debug, PartialEq, Eq)]
struct Last {
    wanted: Sum,
    listed: Option<Sum>,
}

impl Firewall {
    /// `bridges` are all of this daemon's that are there, also those that `setup` does not name.
    pub async fn ensure(
        &mut self,
        instance: &Instance,
        setup: &FirewallSetup,
        bridges: &[String],
    ) -> Result<(), NetworkError> {
        let ruleset = serde_json::to_vec(&render_ruleset(setup, instance)).map_err(|e| {
            NetworkError::Failed { step: "writing the firewall".to_owned(), detail: e.to_string() }
        })?;
        let loopback = |bridge: &String| {
            setup.forwards.iter().any(|f| &instance.bridge(f.network) == bridge && wants_loopback(f))
        };
        let listed = list(&table_name(instance)).await?;
        let now = Last { wanted: sum(&ruleset), listed };
        let right = if setup.networks.is_empty() { listed.is_none() } else { self.last == Some(now) };
        // Closed before the table that guards it changes, opened after.
        for bridge in bridges.iter().filter(|bridge| !loopback(bridge)) {
            sysctl::set_route_localnet(bridge, false)?;
        }
        if !right {
            self.last = None;
            let wanted = sum(&ruleset);
            let nft = Program::new("nft").args(["-j", "-f", "-"]).stdin(ruleset);
            nft.run().await.map_err(failed_to("changing the firewall"))?;
            let listed = list(&table_name(instance)).await?;
            self.last = Some(Last { wanted, listed });
        }
        for bridge in bridges.iter().filter(|bridge| loopback(bridge)) {
            sysctl::set_route_localnet(bridge, true)?;
        }
        if setup.networks.iter().any(|n| n.nat) || !setup.forwards.is_empty() {
            sysctl::forward_ipv4()?;
        }
        Ok(())
    }
}

fn wants_loopback(forward: &Forward) -> bool {
    forward.address.is_none_or(|address| address.is_loopback())
}

/// A sum over the table as the kernel lists it, or None where there is none.
async fn list(table: &str) -> Result<Option<Sum>, NetworkError> {
    let nft = Program::new("nft").args(["-j", "list", "table", "inet", table]);
    let listing = match nft.run().await {
        Ok(listing) => listing,
        Err(ExecError::Status { stderr, .. }) if stderr.contains("No such file or directory") => {
            return Ok(None);
        }
        Err(error) => return Err(failed_to("reading the firewall")(error)),
    };
    let mut listing: Value = serde_json::from_slice(&listing).map_err(|e| NetworkError::Failed {
        step: "reading the firewall".to_owned(),
        detail: fault::chain(&e),
    })?;
    drop_handles(&mut listing);
    Ok(Some(sum(listing.to_string().as_bytes())))
}

/// Handles are numbers that the kernel counts up: the same rules, made anew, have others.
fn drop_handles(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.remove("handle");
            fields.remove("metainfo");
            fields.values_mut().for_each(drop_handles);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_handles),
        _ => {}
    }
}

fn sum(bytes: &[u8]) -> Sum {
    Sha256::digest(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_do_not_count_and_all_else_does() {
        let listing = |handle: u32, port: u32| {
            let mut value = serde_json::json!({"nftables": [
                {"metainfo": {"version": "1.0.6"}},
                {"rule": {"handle": handle, "expr": [{"match": {"right": port}}]}},
            ]});
            drop_handles(&mut value);
            value
        };
        assert_eq!(listing(4, 80), listing(9, 80));
        assert_ne!(listing(4, 80), listing(4, 81));
    }
}
