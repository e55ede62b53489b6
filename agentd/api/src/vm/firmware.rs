//! What starts a guest.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What starts a guest. Of these only `direct` needs an image that has a kernel of its own, and only it does without what
/// boots from a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Firmware {
    /// The image's own kernel, put into the guest's memory: no boot loader, no menu, no cards' programs.
    Direct,
    /// What its disk begins with.
    Bios,
    /// A boot loader on its disk's EFI partition. Its variables are kept with the VM.
    Uefi,
    /// As `uefi`, with secure boot: only what is signed by a key that the firmware knows is started, which are
    /// Microsoft's, by which distributions' boot loaders are signed.
    UefiSecure,
}

impl Firmware {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Bios => "bios",
            Self::Uefi => "uefi",
            Self::UefiSecure => "uefi-secure",
        }
    }
}

/// What of all this a host has, beside the BIOS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FirmwareThere {
    pub uefi: bool,
    pub uefi_secure: bool,
    pub tpm: bool,
}

/// What a guest was to have and the host has not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lack {
    /// Of the VM's spec.
    pub field: &'static str,
    pub why: &'static str,
    /// The command that mends it.
    pub fix: &'static str,
}

const OVMF: &str = "apt-get install -y ovmf";
pub const NO_UEFI: Lack = Lack { field: "firmware", why: "this host has no UEFI for guests", fix: OVMF };
pub const NO_SECURE_UEFI: Lack =
    Lack { why: "this host has no UEFI for guests that has the keys for secure boot", ..NO_UEFI };
pub const NO_TPM: Lack = Lack {
    field: "tpm",
    why: "this host has no TPM for guests",
    fix: "apt-get install -y swtpm swtpm-tools",
};

impl FirmwareThere {
    /// A host that has all of it.
    pub const ALL: Self = Self { uefi: true, uefi_secure: true, tpm: true };

    /// All that is not there.
    pub fn lacks(self, firmware: Option<Firmware>, tpm: bool) -> Vec<Lack> {
        let uefi = match firmware {
            Some(Firmware::Uefi) if !self.uefi => Some(NO_UEFI),
            Some(Firmware::UefiSecure) if !self.uefi_secure => Some(NO_SECURE_UEFI),
            _ => None,
        };
        uefi.into_iter().chain((tpm && !self.tpm).then_some(NO_TPM)).collect()
    }
}
