use std::io::Cursor;

use proptest::prelude::*;

use super::*;

fn look(bytes: &[u8]) -> Result<Recognised, String> {
    recognise(&mut Cursor::new(bytes)).map_err(|e| e.to_string())
}

/// A version 3 header in a file of 64 KiB; `edit` spoils it.
fn qcow2_file(edit: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut file = vec![0u8; 64 << 10];
    file[..4].copy_from_slice(b"QFI\xfb");
    file[7] = 3;
    file[23] = 16;
    file[24..32].copy_from_slice(&(1u64 << 30).to_be_bytes());
    file[100..104].copy_from_slice(&104u32.to_be_bytes());
    edit(&mut file);
    file
}

fn vmdk_file(descriptor: &str, capacity: u64) -> Vec<u8> {
    let mut file = vec![0u8; 64 << 10];
    file[..4].copy_from_slice(b"KDMV");
    file[4] = 1;
    file[12..20].copy_from_slice(&capacity.to_le_bytes());
    file[28] = 3;
    file[3 * 512..3 * 512 + descriptor.len()].copy_from_slice(descriptor.as_bytes());
    file
}

#[test]
fn a_plain_qcow2_is_taken_with_its_size() {
    let seen = look(&qcow2_file(|_| ())).expect("taken");
    assert_eq!(seen, Recognised { format: Format::Qcow2, virtual_size: Some(1 << 30) });
}

#[test]
fn what_leads_out_of_a_qcow2_is_refused() {
    type Edit = fn(&mut Vec<u8>);
    let cases: [(&str, Edit); 9] = [
        ("backing", |f| f[15] = 200),
        ("backing", |f| f[19] = 11),
        ("encrypted", |f| f[35] = 2),
        ("external data", |f| f[79] = 4),
        ("external data", |f| f[104..112].copy_from_slice(b"DATA\0\0\0\x08")),
        ("corrupt", |f| f[79] = 2),
        ("not known", |f| f[72] = 1),
        ("version", |f| f[7] = 1),
        ("cluster", |f| f[23] = 40),
    ];
    for (word, edit) in cases {
        let why = look(&qcow2_file(edit)).expect_err(word);
        assert!(why.contains(word), "{word}: {why}");
    }
}

#[test]
fn an_extension_behind_another_is_found() {
    let file = qcow2_file(|f| {
        f[104..112].copy_from_slice(&[0xe2, 0x79, 0x2a, 0xca, 0, 0, 0, 3]);
        f[120..128].copy_from_slice(b"DATA\0\0\0\x08");
    });
    assert!(look(&file).expect_err("refused").contains("external data"));
}

#[test]
fn a_vmdk_may_stand_only_for_itself() {
    let whole = "parentCID=ffffffff\ncreateType=\"monolithicSparse\"\n";
    assert_eq!(look(&vmdk_file(whole, 8)).map(|r| r.virtual_size), Ok(Some(4096)));
    for (descriptor, capacity) in [
        ("parentCID=12345678\n", 8),
        ("parentFileNameHint=\"/etc/shadow\"\n", 8),
        ("createType=\"monolithicFlat\"\nRW 8 FLAT \"/etc/shadow\" 0\n", 8),
        (whole, 0),
    ] {
        look(&vmdk_file(descriptor, capacity)).expect_err(descriptor);
    }
    // The second sector is where qemu-img looks for a parent, whatever the header says.
    let mut hidden = vmdk_file(whole, 8);
    hidden[512..535].copy_from_slice(b"parentFileNameHint=\"/x\"");
    look(&hidden).expect_err("the second sector");
}

#[test]
fn a_raw_file_must_look_like_a_disk() {
    let mut disk = vec![0u8; 1 << 20];
    look(&disk).expect_err("zeros");
    disk[510..512].copy_from_slice(b"\x55\xaa");
    assert_eq!(look(&disk).map(|r| r.format), Ok(Format::Raw));
    disk.push(0);
    assert!(look(&disk).expect_err("odd").contains("sectors"));
}

#[test]
fn other_files_are_named_for_what_they_are() {
    for (bytes, word) in [
        (&b""[..], "empty"),
        (b"root:x:0:0:root:/root:/bin/bash\n", "text"),
        (b"# Disk DescriptorFile\nversion=1\n", "descriptor"),
        (b"\x1f\x8b\x08\0\0\0\0\0", "gzip"),
        (b"\x7fELF\x02\x01\x01\0", "program"),
        (b"\0\x01\x02", "no disk image"),
    ] {
        let why = look(bytes).expect_err(word);
        assert!(why.contains(word), "{word}: {why}");
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(magic in prop::sample::select(vec![&b"QFI\xfb\0\0\0\x03"[..], b"KDMV\x01\0\0\0", b"vhdxfile", b""]),
                      rest in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = look(&[magic, &rest].concat());
    }
}
