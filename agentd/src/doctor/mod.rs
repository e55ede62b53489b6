//! What this host lacks for agentd to do its work, and the command that mends each.
//!
//! `observe` looks at the host, `report` judges what was seen; the second is pure. Nothing here changes anything. A
//! check that cannot be made says so and is no success. Where the host and the objects differ is [`sides`].

mod observe;
mod programs;
mod remote;
mod sides;
#[cfg(test)]
mod tests;

use agentd_api::ByteSize;
use agentd_api::doctor::{Check, Report, Verdict};
use agentd_api::vm::FirmwareThere;
use agentd_api::vm::firmware::{NO_SECURE_UEFI, NO_TPM, NO_UEFI};
use agentd_drivers::vm::AccelAnswer;

pub use observe::{Looking, observe};
pub use programs::{PROGRAMS, ProgramNeed};
pub use remote::{RemoteSeen, RemoteServes};
pub use sides::Sides;

/// Less free space than this is worth a word.
const SPACE_LOW: u64 = 5 << 30;
const SPACE_GONE: u64 = 256 << 20;

/// How services are started here: where systemd is PID 1 by it, else by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Init {
    Systemd,
    Other,
}

/// All that the judgement needs.
#[derive(Debug, Clone)]
pub struct Seen {
    pub init: Init,
    pub root: bool,
    /// Of [`PROGRAMS`], those that are not there.
    pub missing: Vec<&'static ProgramNeed>,
    /// What drivers say they lack beyond that: (what, package).
    pub lacks: Vec<(String, String)>,
    /// libvirt's version, or why it does not answer.
    pub libvirt: Result<String, String>,
    /// The container engine's version, or why it does not answer.
    pub engine: Result<String, String>,
    pub engine_installed: bool,
    pub accel: Option<AccelAnswer>,
    /// /dev/kvm: Ok where it opens, else why it does not.
    pub kvm: Result<(), String>,
    /// What is amiss with it although it opens, and what mends it.
    pub kvm_trouble: Option<(String, String)>,
    pub vendor_flags: bool,
    pub group: String,
    pub group_exists: bool,
    pub store: Result<(), String>,
    /// Free bytes below the state directory.
    pub space: Result<u64, String>,
    pub ip_forward: Option<bool>,
    /// What went wrong with the network `default`, where something did.
    pub default_network: Option<String>,
    /// Of huge pages: how much is reserved, and how much of that is free. None where the kernel has none.
    pub huge_pages: Option<(ByteSize, ByteSize)>,
    /// Where agentd's program for guests is.
    pub guest_program: Option<std::path::PathBuf>,
    pub firmware: FirmwareThere,
    /// The listener for other machines, where one is wanted.
    pub remote: Option<RemoteSeen>,
}

pub fn report(seen: &Seen) -> Report {
    let mut checks = Vec::new();
    checks.push(libvirt(seen));
    checks.push(engine(seen));
    checks.extend(programs(seen));
    checks.push(guest_program(seen));
    checks.extend(firmware(seen));
    checks.extend([kvm(seen), accel(seen), group(seen), store(seen), space(seen), forwarding(seen)]);
    checks.push(huge_pages(seen));
    checks.extend(seen.remote.as_ref().map(remote::remote));
    if let Some(why) = &seen.default_network {
        let fix = "set [network] cidr in /etc/agentd/agentd.toml, and restart agentd";
        checks.push(check("default network", Verdict::Warn, why.clone(), Some(fix)));
    }
    if !seen.root {
        let detail = "agentd does not run as root: it can make no bridge, firewall rule or guest";
        checks.push(check("root", Verdict::Fail, detail, Some("sudo agentd")));
    }
    Report { checks, findings: Vec::new() }
}

fn check(name: &str, verdict: Verdict, detail: impl Into<String>, fix: Option<&str>) -> Check {
    Check { name: name.to_owned(), verdict, detail: detail.into(), fix: fix.map(str::to_owned) }
}

fn ok(name: &str, detail: impl Into<String>) -> Check {
    check(name, Verdict::Ok, detail, None)
}

fn libvirt(seen: &Seen) -> Check {
    match &seen.libvirt {
        Ok(version) => ok("libvirt", version.clone()),
        Err(why) => {
            let installed = !seen.missing.iter().any(|p| p.program == "libvirtd");
            let fix = match (installed, seen.init) {
                (false, _) => "apt-get install -y libvirt-daemon-system",
                (true, Init::Systemd) => "systemctl enable --now libvirtd",
                (true, Init::Other) => "virtlogd -d; libvirtd -d",
            };
            check("libvirt", Verdict::Fail, format!("no VM can run: {why}"), Some(fix))
        }
    }
}

/// Only containers need one.
fn engine(seen: &Seen) -> Check {
    match &seen.engine {
        Ok(version) => ok("containers", version.clone()),
        Err(why) => {
            let fix = match (seen.engine_installed, seen.init) {
                (false, _) => "apt-get install -y docker.io",
                (true, Init::Systemd) => "systemctl enable --now docker",
                (true, Init::Other) => "dockerd &",
            };
            check("containers", Verdict::Warn, format!("no container can run: {why}"), Some(fix))
        }
    }
}

fn programs(seen: &Seen) -> Vec<Check> {
    let mut checks = Vec::new();
    for need in PROGRAMS {
        if seen.missing.iter().any(|m| m.program == need.program) {
            let verdict = if need.vital { Verdict::Fail } else { Verdict::Warn };
            let fix = format!("apt-get install -y {}", need.package);
            checks.push(check(
                need.program,
                verdict,
                format!("is not installed: {}", need.without),
                Some(&fix),
            ));
        } else {
            checks.push(ok(need.program, "is installed"));
        }
    }
    for (what, package) in &seen.lacks {
        if !checks.iter().any(|c| c.name == *what) {
            let fix = format!("apt-get install -y {package}");
            checks.push(check(what, Verdict::Warn, "is missing", Some(&fix)));
        }
    }
    checks
}

fn guest_program(seen: &Seen) -> Check {
    match &seen.guest_program {
        Some(path) => ok("agentd-guest", format!("images get {}", path.display())),
        None => {
            let detail = "the program for guests is neither beside agentd nor in /usr/lib/agentd: in guests made \
                          from now on, exec, cp and facts have no answer";
            let fix = "packaging/build-guest /usr/lib/agentd, and restart agentd";
            check("agentd-guest", Verdict::Warn, detail, Some(fix))
        }
    }
}

/// What VMs that ask for it need, and no other.
fn firmware(seen: &Seen) -> [Check; 3] {
    let there = seen.firmware;
    [
        ("UEFI", there.uefi, NO_UEFI, "guests can be started by it"),
        ("secure boot", there.uefi_secure, NO_SECURE_UEFI, "guests can have it"),
        ("TPM", there.tpm, NO_TPM, "guests can have one"),
    ]
    .map(|(name, is, lack, good)| match is {
        true => ok(name, good),
        false => check(name, Verdict::Warn, lack.why, Some(lack.fix)),
    })
}

fn kvm(seen: &Seen) -> Check {
    if let (Ok(()), Some((what, fix))) = (&seen.kvm, &seen.kvm_trouble) {
        return check("/dev/kvm", Verdict::Warn, what.clone(), Some(fix));
    }
    match &seen.kvm {
        Ok(()) => ok("/dev/kvm", "opens; whether a guest runs under it is what 'acceleration' says"),
        Err(why) => {
            let fix = seen.vendor_flags.then_some("modprobe kvm_intel || modprobe kvm_amd");
            let hint = if seen.vendor_flags {
                ""
            } else {
                "; the processor shows neither vmx nor svm (in a VM: nested virtualisation is off)"
            };
            check(
                "/dev/kvm",
                Verdict::Warn,
                format!("{why}{hint}: guests are emulated, some ten times slower"),
                fix,
            )
        }
    }
}

fn accel(seen: &Seen) -> Check {
    use agentd_api::vm::Accel;
    match &seen.accel {
        Some(answer) if answer.accel == Accel::Kvm => ok("acceleration", format!("kvm: {}", answer.reason)),
        Some(answer) => check("acceleration", Verdict::Warn, format!("tcg: {}", answer.reason), None),
        None => {
            check("acceleration", Verdict::Warn, "not known yet: it is probed once libvirt answers", None)
        }
    }
}

fn group(seen: &Seen) -> Check {
    if seen.group_exists {
        return ok("group", format!("members of '{}' may use the socket", seen.group));
    }
    let fix = format!("groupadd --system {}", seen.group);
    let detail = format!("there is no group '{}': only root may use the socket", seen.group);
    check("group", Verdict::Warn, detail, Some(&fix))
}

fn store(seen: &Seen) -> Check {
    match &seen.store {
        Ok(()) => ok("store", "can be written"),
        Err(why) => check("store", Verdict::Fail, why.clone(), None),
    }
}

fn space(seen: &Seen) -> Check {
    const FIX: &str = "agentctl image list";
    match &seen.space {
        Ok(free) => {
            let detail = format!("{} MiB are free below the state directory", free >> 20);
            match *free {
                0..SPACE_GONE => check("disk space", Verdict::Fail, detail, Some(FIX)),
                SPACE_GONE..SPACE_LOW => check("disk space", Verdict::Warn, detail, Some(FIX)),
                _ => ok("disk space", detail),
            }
        }
        Err(why) => check("disk space", Verdict::Warn, format!("cannot be told: {why}"), None),
    }
}

/// Only VMs that ask for them need any.
fn huge_pages(seen: &Seen) -> Check {
    let detail = match seen.huge_pages {
        None => "this kernel has none: VMs with huge_pages are refused".to_owned(),
        Some((all, _)) if all.bytes() == 0 => "none are reserved: VMs with huge_pages are refused until \
             `sysctl vm.nr_hugepages=N` has reserved as many as they need"
            .to_owned(),
        Some((all, free)) => format!("{all} are reserved for VMs with huge_pages, of which {free} are free"),
    };
    ok("huge pages", detail)
}

fn forwarding(seen: &Seen) -> Check {
    match seen.ip_forward {
        Some(true) => ok("ip_forward", "packets of guests are forwarded"),
        // agentd sets it with the first network that has NAT; until then it is as the host has it.
        Some(false) => {
            let detail = "is off: guests reach this host and each other, but nothing beyond";
            check("ip_forward", Verdict::Warn, detail, Some("sysctl -w net.ipv4.ip_forward=1"))
        }
        None => check("ip_forward", Verdict::Warn, "cannot be read", None),
    }
}
