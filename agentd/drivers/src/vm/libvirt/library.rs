//! libvirt's library, loaded when a connection is first wanted and not with the process: a host without VMs needs
//! neither it nor the fifty libraries that it brings, and a daemon that starts does not wait for them.
//!
//! ```text
//!   virt, ffi ──call──► virDomainCreate, a jump of ours ──► its slot ──► libvirt.so.0, once it is loaded
//! ```
//! The jumps bear libvirt's own names, so the linker finds these first and has no need of the library. One that is
//! called and not listed here brings it back as one that is loaded with the process, which a test of the house finds.

#![expect(
    unsafe_code,
    reason = "functions of a library that is loaded at run time are reached by pointers only"
)]

use std::sync::atomic::{AtomicPtr, Ordering};

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use parking_lot::Mutex;

use crate::fault;

/// Where a function is: in the library, or `missing` until that is loaded.
type Slot = AtomicPtr<()>;

/// Nothing of libvirt is called before its event loop is begun, which loads it.
extern "C" fn missing() {
    std::process::abort();
}

#[cfg(target_arch = "x86_64")]
macro_rules! jump {
    ($slot:path) => {
        std::arch::naked_asm!("jmp qword ptr [rip + {}]", sym $slot)
    };
}
#[cfg(target_arch = "aarch64")]
macro_rules! jump {
    ($slot:path) => {
        std::arch::naked_asm!("adrp x16, {0}", "ldr x16, [x16, #:lo12:{0}]", "br x16", sym $slot)
    };
}

macro_rules! functions {
    ($($library:literal: $($name:ident)*;)*) => {
        #[expect(non_upper_case_globals, reason = "they are called as libvirt calls them")]
        mod slots {
            $($(pub static $name: super::Slot = super::Slot::new(super::missing as *mut ());)*)*
        }
        mod jumps {
            $($(
                // SAFETY: the name is libvirt's, whose function this is by one jump, with all that it was called with.
                #[unsafe(no_mangle)]
                #[unsafe(naked)]
                unsafe extern "C" fn $name() {
                    jump!(super::slots::$name)
                }
            )*)*
        }
        const ALL: &[(&str, &[(&str, &Slot)])] = &[$(($library, &[$((stringify!($name), &slots::$name)),*])),*];
    };
}

functions! {
    "libvirt.so.0":
        virConnectClose virConnectDomainEventDeregisterAny virConnectDomainEventRegisterAny
        virConnectGetAllDomainStats virConnectGetLibVersion virConnectGetVersion virConnectIsAlive
        virConnectListAllDomains virConnectOpen virConnectRegisterCloseCallback virConnectSetKeepAlive
        virConnectUnregisterCloseCallback virDomainAbortJob virDomainAttachDeviceFlags virDomainBlockResize
        virDomainCreate virDomainDefineXML virDomainDestroy virDomainDetachDeviceFlags virDomainFSFreeze
        virDomainFSThaw virDomainFree virDomainGetBlockInfo virDomainGetJobInfo virDomainGetMetadata virDomainGetName
        virDomainGetSchedulerParametersFlags virDomainGetSchedulerType virDomainGetState virDomainGetUUID
        virDomainGetUUIDString virDomainGetVcpusFlags virDomainGetXMLDesc virDomainIsActive virDomainIsPersistent
        virDomainLookupByUUIDString virDomainPinEmulator virDomainPinVcpuFlags virDomainRestoreFlags virDomainResume
        virDomainSave virDomainSaveImageGetXMLDesc virDomainScreenshot virDomainSetBlockIoTune
        virDomainSetInterfaceParameters virDomainSetMemoryFlags virDomainSetSchedulerParametersFlags
        virDomainSetVcpusFlags virDomainShutdownFlags virDomainSnapshotCreateXML virDomainSnapshotFree
        virDomainStatsRecordListFree virDomainSuspend virDomainUndefineFlags virDomainUpdateDeviceFlags
        virEventRegisterDefaultImpl virEventRunDefaultImpl virGetLastError virNodeGetInfo virSetErrorFunc
        virStreamEventRemoveCallback virStreamFinish virStreamFree virStreamNew virStreamRecv virTypedParamsAddUInt
        virTypedParamsAddULLong virTypedParamsFree;
    "libvirt-qemu.so.0":
        virDomainQemuMonitorCommand;
}

/// Has libvirt's functions at hand from now on, for as long as the process lives. Blocks for some milliseconds, once.
/// What fails is tried anew by the next call: libvirt may be installed while agentd runs.
pub(super) fn load() -> Result<(), String> {
    static LOADED: Mutex<bool> = Mutex::new(false);
    let mut loaded = LOADED.lock();
    if !*loaded {
        ALL.iter().try_for_each(|(library, functions)| take(library, functions))?;
        *loaded = true;
    }
    Ok(())
}

/// Each slot is filled only once all of its library are found.
fn take(library: &str, functions: &[(&str, &Slot)]) -> Result<(), String> {
    // SAFETY: libvirt's constructors are those that run where it is linked with the process.
    let open = unsafe { Library::open(Some(library), RTLD_NOW | RTLD_LOCAL) };
    let open = open.map_err(|error| fault::chain(&error))?;
    let found: Result<Vec<_>, String> = functions
        .iter()
        .map(|(name, slot)| {
            // SAFETY: only its address is taken here; who calls it does so by `virt`'s declaration of it.
            let symbol = unsafe { open.get::<*mut ()>(name.as_bytes()) };
            symbol.map(|symbol| (slot, symbol.as_raw_ptr())).map_err(|_| format!("{library} has no {name}"))
        })
        .collect();
    for (slot, address) in found? {
        slot.store(address.cast(), Ordering::Release);
    }
    // Never closed: the slots point into it.
    std::mem::forget(open);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_it_is_found_and_called_by_its_own_names() {
        load().expect("libvirt0 is installed where agentd is built");
        load().expect("again is nothing");
        assert!(
            ALL.iter()
                .flat_map(|(_, all)| *all)
                .all(|(_, slot)| slot.load(Ordering::Relaxed) != missing as *mut ())
        );
        // A host of libvirt's own invention, which needs no daemon.
        let connect = virt::connect::Connect::open(Some("test:///default")).expect("opened");
        let domains = connect.list_all_domains(0).expect("listed");
        let names: Vec<String> = domains.iter().map(|domain| domain.get_name().expect("a name")).collect();
        assert_eq!(names, ["test"]);
    }

    #[test]
    fn a_library_that_is_not_there_and_one_that_lacks_a_function_are_named() {
        let slot = Slot::new(missing as *mut ());
        let error = take("libvirt-none.so.0", &[("virConnectOpen", &slot)]).expect_err("not there");
        assert!(error.contains("libvirt-none.so.0: cannot open shared object file"), "{error}");
        let error =
            take("libvirt.so.0", &[("virConnectOpen", &slot), ("virNone", &slot)]).expect_err("lacking");
        assert_eq!(error, "libvirt.so.0 has no virNone");
        assert_eq!(slot.load(Ordering::Relaxed), missing as *mut (), "nothing is taken by halves");
    }
}
