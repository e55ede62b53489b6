//! The programs that agentd works through on a Debian or Ubuntu host, and the packages that bring them.

#[derive(Debug, PartialEq, Eq)]
pub struct ProgramNeed {
    pub program: &'static str,
    pub package: &'static str,
    /// What does not work without it.
    pub without: &'static str,
    /// Whether no VM at all comes up without it.
    pub vital: bool,
}

const fn need(
    program: &'static str,
    package: &'static str,
    without: &'static str,
    vital: bool,
) -> ProgramNeed {
    ProgramNeed { program, package, without, vital }
}

pub static PROGRAMS: &[ProgramNeed] = &[
    need("libvirtd", "libvirt-daemon-system", "no VM can run", true),
    need("virtlogd", "libvirt-daemon-system", "no guest's console is logged", true),
    need("qemu-system-x86_64", "qemu-system-x86", "no VM can run", true),
    need("qemu-img", "qemu-utils", "no disk and no image can be made", true),
    need("dnsmasq", "dnsmasq-base", "guests get no address and no names", true),
    need("nft", "nftables", "guests reach nothing beyond this host, and no port is published", true),
    need("mmdebstrap", "mmdebstrap", "no image can be built of Debian", false),
    need(
        "mke2fs",
        "e2fsprogs",
        "no image can be built of Debian, and no volume with a file system be made",
        false,
    ),
    need("debugfs", "e2fsprogs", "no volume with a file system can be made", false),
    need("losetup", "mount", "no container can mount a volume", false),
    need("busybox", "busybox-static", "the image 'micro' cannot be built", false),
    need("cpio", "cpio", "the image 'micro' cannot be built", false),
    need("curl", "curl", "no image can be pulled", false),
];
