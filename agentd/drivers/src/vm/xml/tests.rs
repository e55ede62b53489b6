use std::path::Path;

use agentd_api::ByteSize;
use agentd_api::vm::Accel;
use proptest::prelude::*;

use super::*;
use crate::vm::{DirectBoot, DomainNic};

fn instance() -> Instance {
    Instance::new(Path::new("/var/lib/agentd"))
}

fn spec() -> DomainSpec {
    DomainSpec {
        id: Uuid::parse_str("01970000-0000-7000-8000-000000000001").expect("an id"),
        project: "default".parse().expect("a name"),
        name: "web".parse().expect("a name"),
        cpus: 2,
        memory: ByteSize::gib(1),
        disk: "/var/lib/agentd/vms/1/disk.qcow2".into(),
        boot: None,
        seed: Some("/var/lib/agentd/vms/1/seed.img".into()),
        nics: vec![DomainNic {
            mac: "52:54:00:00:00:01".parse().expect("a mac"),
            bridge: "agb00000001".to_owned(),
            tap: "agt00000001-0".to_owned(),
        }],
        console_log: "/var/lib/agentd/vms/1/console.log".into(),
        accel: Accel::Kvm,
    }
}

fn micro() -> DomainSpec {
    let boot = DirectBoot {
        kernel: "/var/lib/agentd/images/k".into(),
        initrd: "/var/lib/agentd/images/i".into(),
        cmdline: "console=ttyS0 quiet".to_owned(),
    };
    DomainSpec { boot: Some(boot), seed: None, nics: Vec::new(), accel: Accel::Tcg, cpus: 1, ..spec() }
}

#[test]
fn a_vm_with_everything_under_kvm() {
    insta::assert_snapshot!(render_domain(&spec(), &instance()));
}

#[test]
fn a_vm_with_its_own_kernel_under_tcg() {
    insta::assert_snapshot!(render_domain(&micro(), &instance()));
}

#[test]
fn markup_in_strings_stays_text() {
    let mut bad = micro();
    if let Some(boot) = &mut bad.boot {
        boot.cmdline = "a='\"<&>\"' ]]> </cmdline><devices/>".to_owned();
    }
    bad.disk = "/x/\"/><!--&amp;'".into();
    insta::assert_snapshot!(render_domain(&bad, &instance()));
}

#[test]
fn the_digest_follows_each_part_of_the_definition() {
    let base = spec();
    let mut seen = std::collections::BTreeSet::from([digest(&base, &instance())]);
    let changes: [fn(&mut DomainSpec); 9] = [
        |s| s.cpus = 3,
        |s| s.memory = ByteSize::mib(512),
        |s| s.disk = "/d".into(),
        |s| s.seed = None,
        |s| s.nics.clear(),
        |s| s.nics[0].tap = "agt00000002-0".to_owned(),
        |s| s.console_log = "/c".into(),
        |s| s.accel = Accel::Tcg,
        |s| s.boot = micro().boot,
    ];
    for change in changes {
        let mut changed = base.clone();
        change(&mut changed);
        assert!(seen.insert(digest(&changed, &instance())), "{changed:?}");
    }
    assert_eq!(digest(&base, &instance()), digest(&base.clone(), &instance()));
}

#[test]
fn the_mark_is_read_back_as_libvirt_gives_it() {
    let text = "<vm xmlns=\"https://agentd.invalid/libvirt/1\" instance=\"0a0b0c0d\" project=\"default\" name=\"web\" \
                id=\"01970000-0000-7000-8000-000000000001\" accel=\"tcg\" digest=\"ff\"/>";
    let mark = read_mark(text).expect("a mark");
    assert_eq!((mark.instance.as_str(), mark.digest.as_str(), mark.accel), ("0a0b0c0d", "ff", Accel::Tcg));
    assert_eq!(mark.id, spec().id);
    for bad in ["", "<vm/>", "<vm", "<other instance=\"a\"/>", &text.replace("tcg", "x")] {
        assert_eq!(read_mark(bad), None, "{bad}");
    }
}

#[test]
fn what_no_c_string_or_xml_can_carry_is_refused() {
    let with_disk = |path: &str| DomainSpec { disk: path.into(), ..spec() };
    assert!(matches!(check_spec(&with_disk("/a\0b")), Err(VmError::Nul(_))));
    assert!(matches!(check_spec(&with_disk("/a\nb")), Err(VmError::Refused(_))));
    assert!(matches!(check_spec(&with_disk("/a\u{ffff}b")), Err(VmError::Refused(_))));
    assert!(matches!(check_spec(&with_disk("a")), Err(VmError::Refused(_))));
    assert!(check_spec(&with_disk("/a \"<&>' ü")).is_ok());
}

proptest! {
    /// Whatever a string holds, the text is well-formed and the string comes back out of it.
    #[test]
    fn any_string_survives(cmdline in "\\PC{0,60}", path in "/\\PC{0,60}") {
        let mut spec = micro();
        spec.disk = path.clone().into();
        if let Some(boot) = &mut spec.boot {
            boot.cmdline = cmdline.clone();
        }
        let text = render_domain(&spec, &instance());
        let mut reader = quick_xml::Reader::from_str(&text);
        let (mut inside, mut read, mut source) = (false, String::new(), None);
        loop {
            match reader.read_event().expect("well-formed") {
                Event::Eof => break,
                Event::Start(tag) => inside = tag.name().as_ref() == "cmdline",
                Event::End(_) => inside = false,
                Event::Empty(tag) if tag.name().as_ref() == "source" => {
                    let file = tag.try_get_attribute("file").expect("attributes").expect("a file");
                    source = Some(quick_xml::escape::unescape(&file.value).expect("escapes").into_owned());
                }
                Event::Text(part) if inside => read.push_str(&part),
                Event::GeneralRef(name) if inside => {
                    let reference = format!("&{};", &*name);
                    read.push_str(&quick_xml::escape::unescape(&reference).expect("an escape"));
                }
                _ => (),
            }
        }
        prop_assert_eq!(source, Some(path));
        prop_assert_eq!(read, cmdline);
    }
}
