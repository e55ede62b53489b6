//! What becomes of a guest when nobody looks: what happens when it ends, when it goes, whether and when it is started after
//! a boot of the host.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::quantity::Span;
use crate::time::Timestamp;

pub const AUTOSTART_ORDER_MAX: u32 = 65_535;
pub const AUTOSTART_DELAY_MAX: Span = Span::seconds(3600);
pub const GRACE_MAX: Span = Span::seconds(3600);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// It stays stopped, and says why, until it is started.
    #[default]
    Never,
    /// It is started again after a crash, a kill or a destroy, not after its own clean power-off.
    OnFailure,
    Always,
}

/// How a guest that was wanted to run is started after a boot of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Autostart {
    /// Whether it is. Otherwise it stays off after a boot until somebody starts it.
    pub enabled: bool,
    /// Lower ones are started first and stopped last; those that are equal, side by side. One without comes after
    /// all that have one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(maximum = 65535)]
    pub order: Option<u32>,
    /// How long those that come after it wait once it has been started.
    #[serde(skip_serializing_if = "is_zero")]
    pub delay: Span,
}

impl Default for Autostart {
    fn default() -> Self {
        Self { enabled: true, order: None, delay: Span::default() }
    }
}

impl Autostart {
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
    /// What orders are compared by.
    pub fn rank(&self) -> u32 {
        self.order.unwrap_or(u32::MAX)
    }
}

fn is_zero(span: &Span) -> bool {
    *span == Span::default()
}

/// When it is deleted. A missing time and the zero of the clock (1970-01-01T00:00:00Z) are both never.
pub(crate) fn expiry(expires_at: Option<Timestamp>) -> Option<Timestamp> {
    expires_at.filter(|at| *at != Timestamp::default())
}

pub(crate) fn check_autostart(autostart: Autostart, wrong: &mut impl FnMut(&str, String)) {
    let Autostart { order, delay, .. } = autostart;
    if let Some(order) = order.filter(|order| *order > AUTOSTART_ORDER_MAX) {
        wrong("autostart.order", format!("must be at most {AUTOSTART_ORDER_MAX}, not {order}"));
    }
    if delay > AUTOSTART_DELAY_MAX {
        wrong("autostart.delay", format!("must be at most {AUTOSTART_DELAY_MAX}, not {delay}"));
    }
}

pub(crate) fn check_grace(grace: Span, wrong: &mut impl FnMut(&str, String)) {
    if grace > GRACE_MAX {
        wrong("grace", format!("must be at most {GRACE_MAX}, not {grace}"));
    }
}
