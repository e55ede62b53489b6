//! What a host has to start guests with beside QEMU's own BIOS: UEFI in flash memory, with and without secure boot, and a
//! TPM. Looked at anew each time, so that what is installed meanwhile is found.

use std::path::{Path, PathBuf};

use agentd_api::vm::{Firmware, FirmwareThere};
use uuid::Uuid;

/// The firmware's program and what its variables are at first, by distribution: Debian and Ubuntu, Fedora, Arch.
const PLAIN: [(&str, &str); 3] = [
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
    ("/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd"),
    ("/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd"),
];
/// As [`PLAIN`], with secure boot, whose keys are in the variables. Arch enrols none.
const SECURE: [(&str, &str); 2] = [
    ("/usr/share/OVMF/OVMF_CODE_4M.secboot.fd", "/usr/share/OVMF/OVMF_VARS_4M.ms.fd"),
    ("/usr/share/edk2/ovmf/OVMF_CODE.secboot.fd", "/usr/share/edk2/ovmf/OVMF_VARS.secboot.fd"),
];
/// The TPM, and what libvirt makes its keys with.
const TPM: [&str; 2] = ["swtpm", "swtpm_setup"];

/// Where libvirt keeps the contents of TPMs, a folder a domain.
const TPMS: &str = "/var/lib/libvirt/swtpm";

/// Where the content of that domain's TPM is, if it has one.
pub fn tpm_folder(id: Uuid) -> PathBuf {
    Path::new(TPMS).join(id.to_string())
}

/// A UEFI as the host has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UefiFiles {
    pub code: PathBuf,
    /// What a guest's variables begin as.
    pub variables: PathBuf,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostFirmware {
    pub uefi: Option<UefiFiles>,
    pub uefi_secure: Option<UefiFiles>,
    pub tpm: bool,
}

impl HostFirmware {
    /// `root` is `/`, but for tests; `find` says whether a program is installed.
    pub fn look(root: &Path, find: impl Fn(&str) -> bool) -> Self {
        let whole = |pairs: &[(&str, &str)]| {
            let at = |path: &str| root.join(path.trim_start_matches('/'));
            let there = pairs.iter().find(|(code, variables)| at(code).is_file() && at(variables).is_file());
            there.map(|(code, variables)| UefiFiles { code: code.into(), variables: variables.into() })
        };
        Self { uefi: whole(&PLAIN), uefi_secure: whole(&SECURE), tpm: TPM.into_iter().all(find) }
    }

    pub fn of_this_host() -> Self {
        Self::look(Path::new("/"), |program| crate::exec::find(program).is_ok())
    }

    /// A host that has all of it.
    pub fn whole() -> Self {
        let files =
            |(code, variables): (&str, &str)| UefiFiles { code: code.into(), variables: variables.into() };
        Self { uefi: Some(files(PLAIN[0])), uefi_secure: Some(files(SECURE[0])), tpm: true }
    }

    /// The files of a UEFI. None for what is no UEFI, and for one that is not there.
    pub fn files(&self, firmware: Firmware) -> Option<&UefiFiles> {
        match firmware {
            Firmware::Direct | Firmware::Bios => None,
            Firmware::Uefi => self.uefi.as_ref(),
            Firmware::UefiSecure => self.uefi_secure.as_ref(),
        }
    }

    pub fn there(&self) -> FirmwareThere {
        FirmwareThere { uefi: self.uefi.is_some(), uefi_secure: self.uefi_secure.is_some(), tpm: self.tpm }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_found_and_no_half_of_it() {
        let root = tempfile::tempdir().expect("a folder");
        let look = || HostFirmware::look(root.path(), |program| program == "swtpm");
        assert_eq!(look(), HostFirmware::default());
        let ovmf = root.path().join("usr/share/OVMF");
        std::fs::create_dir_all(&ovmf).expect("a folder");
        for name in ["OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd", "OVMF_CODE_4M.secboot.fd"] {
            std::fs::write(ovmf.join(name), "").expect("a file");
        }
        // The keys are missing.
        let some = look();
        assert_eq!(some.there(), FirmwareThere { uefi: true, ..FirmwareThere::default() });
        let files = some.files(Firmware::Uefi).expect("found");
        assert_eq!(files.variables, Path::new("/usr/share/OVMF/OVMF_VARS_4M.fd"));
        assert_eq!(some.files(Firmware::Bios), None);
        std::fs::write(ovmf.join("OVMF_VARS_4M.ms.fd"), "").expect("a file");
        assert!(look().there().uefi_secure);
        assert!(HostFirmware::look(root.path(), |_| true).there() == HostFirmware::whole().there());
    }
}
