//! What to do about a running guest's disks, from what is wanted and what was seen. Pure.
//!
//! Only disks whose serials are named in what is wanted are touched: what somebody else plugged in is theirs.

use std::path::PathBuf;

use agentd_api::ByteSize;
use agentd_drivers::vm::{DiskSeen, DomainDisk};

/// What the guest should have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WantedDisks {
    /// To be there.
    pub plugged: Vec<DomainDisk>,
    /// Serials that are to be there no more.
    pub unplugged: Vec<String>,
    /// Disks that are smaller than they should be, by serial.
    pub larger: Vec<(String, ByteSize)>,
    /// In the drive, where there is one.
    pub medium: Option<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskStep {
    Attach(DomainDisk),
    Detach(String),
    Grow(String, ByteSize),
    ChangeMedium(Option<PathBuf>),
}

/// The steps, in their order: what goes makes room for what comes.
pub fn plan_disks(wanted: &WantedDisks, seen: &[DiskSeen]) -> Vec<DiskStep> {
    let find = |serial: &str| seen.iter().find(|disk| disk.serial.as_deref() == Some(serial));
    let mut steps = Vec::new();
    for serial in wanted.unplugged.iter().filter(|serial| find(serial).is_some()) {
        steps.push(DiskStep::Detach(serial.clone()));
    }
    for disk in &wanted.plugged {
        match find(&disk.serial) {
            None => steps.push(DiskStep::Attach(disk.clone())),
            // Read-only or not is fixed when it is plugged: it goes, and comes again at the next look.
            Some(other) if other.read_only != disk.read_only => {
                steps.push(DiskStep::Detach(disk.serial.clone()));
            }
            Some(_) => {}
        }
    }
    for (serial, size) in &wanted.larger {
        if find(serial).is_some() {
            steps.push(DiskStep::Grow(serial.clone(), *size));
        }
    }
    if let Some(drive) = seen.iter().find(|disk| disk.cdrom)
        && drive.source != wanted.medium
    {
        steps.push(DiskStep::ChangeMedium(wanted.medium.clone()));
    }
    steps
}

#[cfg(test)]
mod tests {
    use agentd_drivers::vm::{DiskFormat, DiskSource};

    use super::*;

    fn disk(serial: &str, read_only: bool) -> DomainDisk {
        let source = DiskSource::File(format!("/v/{serial}").into());
        DomainDisk { serial: serial.to_owned(), source, format: DiskFormat::Qcow2, read_only }
    }

    fn seen(serial: Option<&str>, target: &str) -> DiskSeen {
        DiskSeen {
            target: target.to_owned(),
            source: serial.map(|serial| format!("/v/{serial}").into()),
            serial: serial.map(str::to_owned),
            read_only: false,
            cdrom: target.starts_with('s'),
        }
    }

    #[test]
    fn a_table_of_disks() {
        let there =
            [seen(Some("root"), "vda"), seen(Some("a"), "vdc"), seen(None, "vdd"), seen(Some("x"), "vde")];
        let wanted = |plugged: &[DomainDisk], unplugged: &[&str]| WantedDisks {
            plugged: plugged.to_vec(),
            unplugged: unplugged.iter().map(|s| (*s).to_owned()).collect(),
            ..WantedDisks::default()
        };
        let (a, b) = (disk("a", false), disk("b", true));
        let detach = |serial: &str| DiskStep::Detach(serial.to_owned());
        let table = [
            (wanted(&[], &[]), vec![]),
            (wanted(std::slice::from_ref(&a), &[]), vec![]),
            (wanted(&[a.clone(), b.clone()], &[]), vec![DiskStep::Attach(b.clone())]),
            (wanted(std::slice::from_ref(&b), &["a"]), vec![detach("a"), DiskStep::Attach(b.clone())]),
            // It is gone already.
            (wanted(std::slice::from_ref(&a), &["b"]), vec![]),
            (wanted(&[disk("a", true)], &[]), vec![detach("a")]),
        ];
        for (wanted, steps) in table {
            assert_eq!(plan_disks(&wanted, &there), steps, "{wanted:?}");
        }
    }

    #[test]
    fn only_what_is_there_is_grown_and_only_a_drive_is_given_a_medium() {
        let size = ByteSize::mib(64);
        let mut wanted = WantedDisks {
            larger: vec![("a".to_owned(), size), ("gone".to_owned(), size)],
            medium: Some("/i".into()),
            ..WantedDisks::default()
        };
        let mut there = vec![seen(Some("a"), "vdc")];
        assert_eq!(plan_disks(&wanted, &there), [DiskStep::Grow("a".to_owned(), size)]);
        there.push(seen(None, "sda"));
        wanted.larger.clear();
        assert_eq!(plan_disks(&wanted, &there), [DiskStep::ChangeMedium(Some("/i".into()))]);
        there[1].source = Some("/i".into());
        assert_eq!(plan_disks(&wanted, &there), []);
        wanted.medium = None;
        assert_eq!(plan_disks(&wanted, &there), [DiskStep::ChangeMedium(None)]);
    }
}
