//! What the guest's machine is: its firmware or kernel, its CPUs, its clock.

use agentd_api::ByteSize;
use agentd_api::vm::Accel;

use super::element::{Element, el};
use super::tuning;
use crate::vm::{DirectBoot, DomainSpec};

/// What the guest is started with, and the most that it can be given while it runs. It sees all of the most until its
/// balloon's driver has given back what is over.
pub(super) fn memory(spec: &DomainSpec) -> [Element; 2] {
    let most = spec.memory_max.max(spec.memory);
    let size = |name: &str, size: ByteSize| el(name).attr("unit", "bytes").text(size.bytes());
    [size("memory", most), size("currentMemory", spec.memory)]
}

pub(super) fn vcpu(spec: &DomainSpec) -> Element {
    let most = spec.cpus_max.max(spec.cpus);
    el("vcpu")
        .attr("placement", "static")
        .attr("current", spec.cpus)
        .attr_if("cpuset", tuning::cpuset(spec))
        .text(most)
}

pub(super) fn os(spec: &DomainSpec) -> Element {
    let os = el("os").child(el("type").attr("arch", "x86_64").attr("machine", "q35").text("hvm"));
    let os = os.children(super::firmware::flash(spec));
    match &spec.boot {
        Some(boot) => os
            .child(el("kernel").text(boot.kernel.display()))
            .child(el("initrd").text(boot.initrd.display()))
            .child(el("cmdline").text(cmdline(boot, spec.accel))),
        None => os
            .child(el("boot").attr("dev", "hd"))
            .children(spec.cdrom.is_some().then(|| el("boot").attr("dev", "cdrom"))),
    }
}

/// The mode of a CPU that is not the host's.
const EMULATED: &str = "maximum";

pub(super) fn cpu(spec: &DomainSpec) -> Element {
    match spec.accel {
        Accel::Kvm => {
            let cpu =
                el("cpu").attr("mode", "host-passthrough").attr("check", "none").attr("migratable", "on");
            cpu.children(spec.hardware.nesting.map(|nesting| {
                let policy = if nesting.wanted { "require" } else { "disable" };
                feature(policy, nesting.feature)
            }))
        }
        // All that QEMU can emulate, but for what says that strings are moved quickly byte by byte: that is a loop here, and
        // who believes it boots an eighth slower.
        Accel::Tcg => el("cpu")
            .attr("mode", EMULATED)
            .attr("check", "none")
            .attr("migratable", "on")
            .children(["erms", "fsrm"].map(|name| feature("disable", name)))
            // A kernel that goes over to five levels of page tables on its way out of UEFI hangs when it is emulated.
            .children(spec.hardware.uefi.as_ref().map(|_| feature("disable", "la57"))),
    }
}

/// `wanted` with the CPU that the memory of `saved` ran on, where that is emulated: what another agentd leaves out of one is
/// nothing to whoever wants the machine, and is something to the guest in it.
pub fn on_the_cpu_of(saved: &str, wanted: &str) -> String {
    let emulated = |text: &str| {
        let domain = Element::parse(text)?;
        let cpu = domain.find("cpu").filter(|cpu| cpu.get("mode") == Some(EMULATED))?.clone();
        Some((domain, cpu))
    };
    match (emulated(saved), emulated(wanted)) {
        (Some((_, cpu)), Some((domain, _))) => domain.with(cpu).text_of_tree(),
        _ => wanted.to_owned(),
    }
}

fn feature(policy: &str, name: &str) -> Element {
    el("feature").attr("policy", policy).attr("name", name)
}

/// The usual settings for a guest that keeps time by the TSC or kvmclock, and slews over lost ticks.
pub(super) fn clock() -> Element {
    el("clock")
        .attr("offset", "utc")
        .child(el("timer").attr("name", "rtc").attr("tickpolicy", "catchup"))
        .child(el("timer").attr("name", "pit").attr("tickpolicy", "delay"))
        .child(el("timer").attr("name", "hpet").attr("present", "no"))
}

/// A guest that puts itself to sleep would look as if it hung.
pub(super) fn pm() -> Element {
    el("pm")
        .child(el("suspend-to-mem").attr("enabled", "no"))
        .child(el("suspend-to-disk").attr("enabled", "no"))
}

/// A busy host gives an emulated CPU its time so late that Linux takes the timer for broken, and panics.
fn cmdline(boot: &DirectBoot, accel: Accel) -> String {
    match accel {
        Accel::Kvm => boot.cmdline.clone(),
        Accel::Tcg => format!("{} no_timer_check", boot.cmdline),
    }
}
