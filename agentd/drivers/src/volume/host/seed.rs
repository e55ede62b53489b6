//! The NoCloud seed: files on a FAT disk with the label CIDATA, where cloud-init looks for nothing else.
//!
//! The files are rendered as JSON, which is YAML, so that no name or key can break out of its place. Equal seeds give
//! equal bytes: the disk carries no time and no random id. What is in here is secret, and no error shows any of it.

use std::io::{self, Cursor, Write};

use fatfs::{FileSystem, FormatVolumeOptions, FsOptions};
use serde_json::{Value, json};

use crate::volume::Seed;

/// meta-data: who the guest is, and the keys, which are here so that a user's own user-data does not lose them.
pub(super) fn render_meta_data(seed: &Seed) -> String {
    let hostname = match &seed.domain {
        Some(domain) => format!("{}.{domain}", seed.hostname),
        None => seed.hostname.to_string(),
    };
    yaml(&json!({
        "instance-id": seed.vm.to_string(),
        "local-hostname": hostname,
        "public-keys": seed.ssh_keys,
    }))
}

/// user-data: the user's own as it is, or ours: the root file system grows with the disk, nobody is asked the time,
/// and nobody logs in by a password.
pub(super) fn render_user_data(seed: &Seed) -> String {
    if let Some(own) = &seed.user_data {
        return own.clone();
    }
    let config = json!({
        "growpart": {"mode": "auto", "devices": ["/"]},
        "resize_rootfs": true,
        "ntp": {"enabled": false},
        "ssh_pwauth": false,
    });
    format!("#cloud-config\n{}", yaml(&config))
}

/// vendor-data, where agentd's program for guests goes with the seed or a machine id: a script of its own, so that no key
/// of the user's user-data takes its place.
pub(super) fn render_vendor_data(seed: &Seed, program: bool) -> Option<String> {
    const HEAD: &str = "#!/bin/sh\n";
    let renew = seed.machine_id.as_ref().map(|id| include_str!("machine-id").replace("@ID@", id));
    let install = program.then(|| include_str!("vendor-data").replace("@UNIT@", crate::volume::GUEST_UNIT));
    match (renew, install) {
        (None, install) => install,
        (Some(renew), None) => Some(format!("{HEAD}{renew}")),
        (Some(renew), Some(install)) => Some(install.replacen(HEAD, &format!("{HEAD}{renew}"), 1)),
    }
}

/// network-config: the user's own as it is, or ours, version 2: each interface is found by its MAC address and asks agentd's own DHCP.
pub(super) fn render_network_config(seed: &Seed) -> String {
    if let Some(own) = &seed.network_config {
        return own.clone();
    }
    let ethernets: serde_json::Map<String, Value> = seed
        .nics
        .iter()
        .enumerate()
        .map(|(n, nic)| {
            let name = format!("eth{n}");
            let mac = nic.mac.to_string();
            // Guests find each other by bare names: the domain that DHCP names is searched, which networkd does only
            // when it is told to.
            let config = json!({
                "match": {"macaddress": mac},
                "set-name": name,
                "dhcp4": true,
                "dhcp4-overrides": {"use-domains": true},
            });
            (name, config)
        })
        .collect();
    yaml(&json!({"version": 2, "ethernets": ethernets}))
}

/// JSON that YAML readers take too: they refuse some control characters even inside quotes.
fn yaml(value: &Value) -> String {
    let mut text = String::new();
    for c in format!("{value:#}\n").chars() {
        match c {
            '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                text.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => text.push(c),
        }
    }
    text
}

/// The first day that FAT knows.
#[derive(Debug)]
struct NoTime;

impl fatfs::TimeProvider for NoTime {
    fn get_current_date(&self) -> fatfs::Date {
        fatfs::Date { year: 1980, month: 1, day: 1 }
    }
    fn get_current_date_time(&self) -> fatfs::DateTime {
        let time = fatfs::Time { hour: 0, min: 0, sec: 0, millis: 0 };
        fatfs::DateTime { date: self.get_current_date(), time }
    }
}

/// The disk with the files on it, and the program for guests where there is one.
pub(super) fn render_image(seed: &Seed, program: Option<&[u8]>) -> io::Result<Vec<u8>> {
    let mut files = vec![
        ("meta-data", render_meta_data(seed).into_bytes()),
        ("user-data", render_user_data(seed).into_bytes()),
        ("network-config", render_network_config(seed).into_bytes()),
    ];
    if let Some(script) = render_vendor_data(seed, program.is_some()) {
        files.push(("vendor-data", script.into_bytes()));
    }
    if let Some(program) = program {
        files.push(("agentd-guest", program.to_vec()));
    }
    let content: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
    let size = (content + (256 << 10)).next_multiple_of(1 << 20);
    let mut disk = Cursor::new(vec![0u8; size]);
    let options = FormatVolumeOptions::new().volume_label(*b"CIDATA     ").volume_id(0x4147_4e54);
    fatfs::format_volume(&mut disk, options)?;
    {
        let options = FsOptions::new().time_provider(&NoTime);
        let fs = FileSystem::new(&mut disk, options)?;
        for (name, bytes) in &files {
            let mut file = fs.root_dir().create_file(name)?;
            file.write_all(bytes)?;
            file.flush()?;
        }
        fs.unmount()?;
    }
    Ok(disk.into_inner())
}
