//! What can be seen of a host without a daemon. It starts nothing and opens no backend, so it sees less than the
//! daemon's own checks: whether things are there, not whether they work.

use std::path::Path;

use agentd_api::doctor::{Check, Report, Verdict};
use agentd_client::ClientError;

use crate::failure::caused;

/// Programs that agentd starts: name, Debian's package, what does not work without.
const PROGRAMS: [(&str, &str, &str); 7] = [
    ("libvirtd", "libvirt-daemon-system", "no VM can run"),
    ("qemu-system-x86_64", "qemu-system-x86", "no VM can run"),
    ("qemu-img", "qemu-utils", "no image can be converted and no disk made"),
    ("dnsmasq", "dnsmasq-base", "guests get no address and no names"),
    ("nft", "nftables", "guests reach nothing beyond the host"),
    ("mmdebstrap", "mmdebstrap", "the image debian-12 cannot be built"),
    ("busybox", "busybox-static", "the image micro cannot be built"),
];
/// Where programs of administration are, also where the user's PATH leaves them out.
const FOLDERS: [&str; 6] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin", "/usr/local/bin"];

pub fn report(unanswered: &ClientError) -> Report {
    let mut checks = vec![daemon(unanswered), kvm(Path::new("/dev/kvm"))];
    checks.extend(PROGRAMS.iter().map(|program| self::program(program, &FOLDERS)));
    Report { checks, findings: Vec::new() }
}

fn daemon(unanswered: &ClientError) -> Check {
    let fix = match unanswered {
        ClientError::SocketForbidden { .. } => "sudo usermod -aG agentd $USER   (then log in again)",
        _ if Path::new("/run/systemd/system").is_dir() => "sudo systemctl start agentd",
        _ => "sudo agentd &",
    };
    check("daemon", Verdict::Fail, caused(unanswered), Some(fix.to_owned()))
}

fn kvm(device: &Path) -> Check {
    if device.exists() {
        let detail = format!("{} is there; agentd finds out whether guests run with it", device.display());
        check("kvm", Verdict::Ok, detail, None)
    } else {
        let detail =
            format!("no {}: guests run by QEMU's own emulation, many times slower", device.display());
        check("kvm", Verdict::Warn, detail, None)
    }
}

fn program((name, package, without): &(&str, &str, &str), folders: &[&str]) -> Check {
    match folders.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.is_file()) {
        Some(path) => check(name, Verdict::Ok, path.display().to_string(), None),
        None => {
            let detail = format!("not installed: {without}");
            check(name, Verdict::Fail, detail, Some(format!("sudo apt-get install {package}")))
        }
    }
}

fn check(name: &str, verdict: Verdict, detail: String, fix: Option<String>) -> Check {
    Check { name: name.to_owned(), verdict, detail, fix }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_its_package() {
        let folder = tempfile::tempdir().expect("a folder");
        let folders = [folder.path().to_str().expect("text")];
        let missing = program(&PROGRAMS[3], &folders);
        assert_eq!(missing.verdict, Verdict::Fail);
        assert_eq!(missing.fix.as_deref(), Some("sudo apt-get install dnsmasq-base"));
        std::fs::write(folder.path().join("dnsmasq"), "").expect("written");
        assert_eq!(program(&PROGRAMS[3], &folders).verdict, Verdict::Ok);
        assert_eq!(kvm(&folder.path().join("kvm")).verdict, Verdict::Warn);
    }
}
