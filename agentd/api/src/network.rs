//! The kind `network`: a bridge of this host with its addresses, DHCP, DNS and way out.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::FieldError;
use crate::kind::{ColumnDef, FieldDef, Kind, KindDef, RECONCILE, RETRY};
use crate::net::Cidr;
use crate::status::{State, StatusCommon};

pub const PREFIX_MIN: u8 = 16;
pub const PREFIX_MAX: u8 = 29;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NetworkSpec {
    /// Its IPv4 addresses, /16 to /29. The first host address is the bridge's own. Cannot be changed later.
    pub cidr: Cidr,
    /// Whether guests reach what lies beyond the host, under the host's address.
    #[serde(default = "yes")]
    pub nat: bool,
}

fn yes() -> bool {
    true
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct NetworkStatus {
    #[serde(flatten)]
    pub common: StatusCommon,
    /// The bridge's name on the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bridge: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = Ipv4)]
    pub gateway: Option<std::net::Ipv4Addr>,
    /// The domain that guests' names are in: `web` is also `web.<domain>`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
}

impl Kind for Network {
    type Spec = NetworkSpec;
    type Status = NetworkStatus;

    const DEF: &'static KindDef = &KindDef {
        kind: "network",
        plural: "networks",
        summary: "A bridge network with DHCP, DNS and NAT",
        states: &[State::Pending, State::Provisioning, State::Ready, State::Failed, State::Deleting],
        columns: &[
            ColumnDef::text("NAME", "/name"),
            ColumnDef::text("STATE", "/status/state"),
            ColumnDef::text("CIDR", "/spec/cidr"),
            ColumnDef::text("GATEWAY", "/status/gateway"),
            ColumnDef::text("BRIDGE", "/status/bridge"),
            ColumnDef::age("AGE", "/created_at"),
            ColumnDef::text("NAT", "/spec/nat").wide(),
            ColumnDef::text("DOMAIN", "/status/domain").wide(),
            ColumnDef::text("REASON", "/status/reason").wide(),
        ],
        fields: &[
            FieldDef { name: "state", path: "/status/state" },
            FieldDef { name: "cidr", path: "/spec/cidr" },
        ],
        actions: &[RECONCILE, RETRY],
        subs: &[],
    };

    fn check(spec: &NetworkSpec) -> Vec<FieldError> {
        let mut errors = Vec::new();
        if !(PREFIX_MIN..=PREFIX_MAX).contains(&spec.cidr.prefix()) {
            let message =
                format!("must have a prefix of /{PREFIX_MIN} to /{PREFIX_MAX}, not /{}", spec.cidr.prefix());
            errors.push(FieldError::new("spec.cidr", message));
        }
        let address = spec.cidr.address();
        if address.is_loopback()
            || address.is_multicast()
            || address.is_link_local()
            || address.octets()[0] == 0
        {
            errors.push(FieldError::new(
                "spec.cidr",
                format!("{} is not a range that hosts can have", spec.cidr),
            ));
        }
        errors
    }
    fn common(status: &NetworkStatus) -> &StatusCommon {
        &status.common
    }
    fn common_mut(status: &mut NetworkStatus) -> &mut StatusCommon {
        &mut status.common
    }
}
