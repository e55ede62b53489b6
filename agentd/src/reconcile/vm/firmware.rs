//! What starts a VM's guest: whether the host has it and the image can be started by it, and the variables of a UEFI.

use agentd_api::ErrorCode;
use agentd_api::vm::Firmware;
use agentd_drivers::Class;
use agentd_drivers::image::ImageContent;
use agentd_drivers::vm::Uefi;
use agentd_drivers::volume::{Variables, variables_name};

use super::apply::Work;
use crate::reconcile::runtime::Fault;

impl Work<'_> {
    /// Refuses by name what cannot be, and makes what a UEFI keeps.
    pub(super) async fn firmware(&self, content: &ImageContent) -> Result<Option<Uefi>, Fault> {
        let spec = &self.object.spec;
        if spec.firmware == Some(Firmware::Direct) && content.boot.is_none() {
            let text = format!(
                "spec.firmware: image '{}' has no kernel of its own to start directly; `bios` and `uefi` start its disk",
                spec.image
            );
            return Err(Fault::permanent(ErrorCode::Invalid, text));
        }
        let host = self.vms.drivers.vm.firmware();
        if let Some(lack) = host.there().lacks(spec.firmware, spec.tpm).first() {
            let text = format!("spec.{}: {}; `{}` installs it", lack.field, lack.why, lack.fix);
            return Err(Fault::new(Class::Unsupported, ErrorCode::Unsupported, text));
        }
        if let Some(files) = spec.firmware.and_then(|firmware| host.files(firmware)) {
            let secure = spec.firmware == Some(Firmware::UefiSecure);
            let variables = Variables { template: files.variables.clone(), secure };
            self.vms.drivers.volume.ensure_variables(self.object.meta.id, &variables).await?;
        }
        self.uefi()
    }

    /// The UEFI that it would be started with now.
    pub(super) fn uefi(&self) -> Result<Option<Uefi>, Fault> {
        let Some(firmware @ (Firmware::Uefi | Firmware::UefiSecure)) = self.object.spec.firmware else {
            return Ok(None);
        };
        let host = self.vms.drivers.vm.firmware();
        let Some(files) = host.files(firmware) else {
            return Err(Fault::transient("the host's UEFI is gone"));
        };
        let secure = firmware == Firmware::UefiSecure;
        let variables = self.vms.instance.vm_dir(self.object.meta.id).join(variables_name(secure));
        Ok(Some(Uefi { code: files.code.clone(), variables, secure }))
    }
}
