//! What libvirt is told to have a guest's memory written down beside its disks.

use quick_xml::events::Event;

use super::element::el;

/// Of memory alone: `disks` are the targets of all the domain's disks, each of which libvirt would take a snapshot of where
/// it was not told otherwise.
pub fn render_memory_snapshot(file: &str, disks: &[String]) -> String {
    let disks = disks.iter().map(|target| el("disk").attr("name", target).attr("snapshot", "no"));
    el("domainsnapshot")
        .child(el("memory").attr("snapshot", "external").attr("file", file))
        .child(el("disks").children(disks))
        .text_of_tree()
}

/// The targets of the disks of a domain, as libvirt describes it.
pub fn disk_targets(domain: &str) -> Vec<String> {
    let mut reader = quick_xml::Reader::from_str(domain);
    let (mut targets, mut in_disk) = (Vec::new(), false);
    loop {
        match reader.read_event() {
            Ok(Event::Start(tag)) if tag.name().as_ref() == "disk" => in_disk = true,
            Ok(Event::End(tag)) if tag.name().as_ref() == "disk" => in_disk = false,
            Ok(Event::Start(tag) | Event::Empty(tag)) if in_disk && tag.name().as_ref() == "target" => {
                if let Ok(Some(found)) = tag.try_get_attribute("dev") {
                    targets.push(found.value.into_owned());
                }
            }
            Ok(Event::Eof) | Err(_) => return targets,
            Ok(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_disk_is_named_and_left_out() {
        let domain = "<domain><devices><disk><target dev='vda'/></disk><disk><source/><target dev='vdb' bus='x'/>\
            </disk><interface><target dev='tap0'/></interface></devices></domain>";
        let targets = disk_targets(domain);
        assert_eq!(targets, ["vda", "vdb"]);
        insta::assert_snapshot!(render_memory_snapshot("/a&b/m.save", &targets), @r#"
        <domainsnapshot>
          <memory snapshot="external" file="/a&amp;b/m.save"/>
          <disks>
            <disk name="vda" snapshot="no"/>
            <disk name="vdb" snapshot="no"/>
          </disks>
        </domainsnapshot>
        "#);
        assert_eq!(disk_targets("<domain"), Vec::<String>::new());
    }
}
