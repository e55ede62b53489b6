//! What starts it.

use clap::Args;
use serde_json::{Map, Value, json};

use super::put;

#[derive(Debug, Default, Args)]
pub struct FirmwareArgs {
    /// What starts it: its image's own kernel, the BIOS, UEFI, or UEFI with secure boot; auto is the kernel, or the BIOS
    /// where the image has none
    #[arg(long, value_name = "FIRMWARE", value_parser = ["auto", "direct", "bios", "uefi", "uefi-secure"])]
    pub firmware: Option<String>,
    /// Give it a TPM 2.0
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub tpm: Option<bool>,
}

impl FirmwareArgs {
    pub fn fill(&self, spec: &mut Map<String, Value>) {
        if let Some(firmware) = &self.firmware {
            let firmware = if firmware == "auto" { Value::Null } else { json!(firmware) };
            spec.insert("firmware".to_owned(), firmware);
        }
        put(spec, "tpm", self.tpm);
    }
}
