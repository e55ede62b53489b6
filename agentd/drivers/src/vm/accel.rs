//! How guests run on this host: under KVM, or under QEMU's own emulation.

use serde::Deserialize;

/// What the administrator asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AccelWish {
    #[default]
    Auto,
    Kvm,
    Tcg,
}
