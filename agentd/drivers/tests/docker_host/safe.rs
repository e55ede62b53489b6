//! What a container may, as its own kernel's view tells.

use std::os::unix::fs::MetadataExt;

use agentd_drivers::container::{
    ContainerError, ContainerLife, ContainerLook, ContainerVolumes, Mount, MountSource, Seccomp, Security,
    Userns,
};
use agentd_drivers::fault::Classed;

use crate::bed::{Bed, Kind, def, inside, shell, staying, with};
use crate::netns;

/// The usual capabilities, as a mask of their numbers in the kernel.
const USUAL: &str = "00000000800405fb";

fn host_has_all_capabilities() -> bool {
    let read = |path: &str| std::fs::read_to_string(path).expect("of the kernel");
    let last: u32 = read("/proc/sys/kernel/cap_last_cap").trim().parse().expect("a number");
    let all = format!("CapBnd:\t{:016x}", (1_u64 << (last + 1)) - 1);
    read("/proc/self/status").contains(&all)
}

#[test]
#[ignore = "needs the test host: run by tests/run"]
fn docker_a_container_is_safe_unless_it_is_told_otherwise() {
    netns::inside(async || {
        inside(async |bed: &Bed| {
            let plain = def("plain", staying(""));
            bed.up(&plain).await;
            let status = bed.says(plain.id, "cat /proc/1/status").await;
            for line in
                ["NoNewPrivs:\t1", "Seccomp:\t2", &format!("CapEff:\t{USUAL}"), &format!("CapBnd:\t{USUAL}")]
            {
                assert!(status.contains(line), "no {line}:\n{status}");
            }
            assert_eq!(bed.says(plain.id, "ls /sys/class/net").await, "lo", "no network is joined");
            assert_ne!(bed.exec(plain.id, "mount -t tmpfs x /tmp").await.1, 0);

            let mut closed = def("closed", shell("while :; do sleep 1000; done"));
            closed.security = Security {
                read_only: true,
                cap_drop: vec!["ALL".to_owned()],
                cap_add: vec!["NET_RAW".to_owned()],
                seccomp: Seccomp::Unconfined,
                new_privileges: true,
                ..Security::default()
            };
            let folder = tempfile::tempdir_in("/var/tmp").expect("a folder");
            std::fs::write(folder.path().join("file"), "from the host").expect("a file");
            let bind = |target: &str, read_only| Mount {
                source: MountSource::Bind(folder.path().to_owned()),
                target: target.to_owned(),
                read_only,
            };
            let size = Some(agentd_api::ByteSize::mib(4));
            let tmpfs =
                Mount { source: MountSource::Tmpfs { size }, target: "/mem".to_owned(), read_only: false };
            closed.mounts = vec![bind("/ro", true), bind("/rw", false), tmpfs];
            bed.driver.ensure_created(&closed).await.expect("made");
            bed.driver.start(closed.id).await.expect("started");
            let status = bed.says(closed.id, "cat /proc/1/status").await;
            for line in ["NoNewPrivs:\t0", "Seccomp:\t0", "CapEff:\t0000000000002000"] {
                assert!(status.contains(line), "no {line}:\n{status}");
            }
            assert_ne!(bed.exec(closed.id, "touch /tmp/x").await.1, 0, "its root cannot be written to");
            assert_eq!(bed.says(closed.id, "cat /ro/file").await, "from the host");
            assert_ne!(bed.exec(closed.id, "touch /ro/x").await.1, 0);
            bed.says(closed.id, "touch /rw/x /mem/x").await;
            assert!(folder.path().join("x").exists());
            assert_eq!(
                bed.says(closed.id, "df /mem | grep mem").await.split_whitespace().nth(1),
                Some("4096")
            );
        })
        .await;
    });
}

#[test]
#[ignore = "needs the test host: run by tests/run"]
fn docker_more_than_usual_is_given_where_it_is_asked_for_by_name() {
    netns::inside(async || {
        inside(async |bed: &Bed| {
            let mut open = def("open", staying(""));
            open.security.privileged = true;
            bed.driver.ensure_created(&open).await.expect("made");
            let seen = bed.driver.observe(open.id).await.expect("observed").expect("there");
            assert!(seen.privileged);
            let started = bed.driver.start(open.id).await;
            match started {
                Ok(_) => {
                    bed.ready(open.id).await;
                    bed.says(open.id, "mount -t tmpfs x /tmp").await;
                }
                // What the host itself lacks it cannot give: runc before 1.1.13 refuses then, and later ones give the rest.
                Err(error) => {
                    assert!(!host_has_all_capabilities(), "{error}");
                    assert!(error.to_string().contains("apply caps"), "{error}");
                }
            }

            let mut own = def("own", staying(""));
            own.security.userns = Userns::Own;
            let error = bed.driver.ensure_created(&own).await.expect_err("not by this engine");
            assert!(
                matches!(error, ContainerError::Unsupported(_))
                    && error.to_string().contains("spec.userns")
                    && error.to_string().contains("userns-remap"),
                "{error}"
            );
            assert_eq!(bed.driver.observe(own.id).await.expect("observed"), None, "nothing is half made");
            own.security.userns = Userns::Host;
            bed.up(&own).await;
        })
        .await;
    });
}

/// Whom root is on the host in a container of an engine that was started so.
const REMAPPED: u32 = 200_000;

/// This mount namespace's own /etc, with ids for the user that dockerd is to remap to.
async fn remap() -> Kind {
    netns::ok(
        "cp -a /etc /run/etc && for f in subuid subgid; do echo remapped:200000:65536 > /run/etc/$f; done && \
         echo remapped:x:2000:2000::/:/bin/false >> /run/etc/passwd && echo remapped:x:2000: >> /run/etc/group && \
         mount --bind /run/etc /etc",
    )
    .await;
    Kind::Docker(vec!["--userns-remap=remapped".to_owned()])
}

/// Its map of user ids, and who its program is to the host.
pub async fn users(bed: &Bed, id: uuid::Uuid) -> (String, u32) {
    let pid = bed.driver.observe(id).await.expect("observed").expect("there").pid.expect("it runs");
    assert_eq!(bed.says(id, "id -u").await, "0", "to itself it is root");
    let map = std::fs::read_to_string(format!("/proc/{pid}/uid_map")).expect("of the kernel");
    let owner = std::fs::metadata(format!("/proc/{pid}")).expect("of the kernel").uid();
    (map.split_whitespace().collect::<Vec<_>>().join(" "), owner)
}

#[test]
#[ignore = "needs the test host: run by tests/run"]
fn docker_root_in_a_container_is_not_the_hosts_where_the_engine_is_set_up_so() {
    netns::inside(async || {
        let kind = remap().await;
        with(kind, async |bed: &Bed| {
            let others = (format!("0 {REMAPPED} 65536"), REMAPPED);
            let hosts = ("0 0 4294967295".to_owned(), 0);
            let cases = [
                ("own", Userns::Own, others.clone()),
                ("as-is", Userns::Engine, others),
                ("host", Userns::Host, hosts),
            ];
            for (name, userns, wanted) in cases {
                let mut def = def(name, staying(""));
                def.security.userns = userns;
                bed.up(&def).await;
                assert_eq!(users(bed, def.id).await, wanted, "{name}");
                bed.driver.remove(def.id).await.expect("removed");
            }
            // As good as the host's root is what it says, here too.
            let mut open = def("open", staying(""));
            open.security.privileged = true;
            bed.driver.ensure_created(&open).await.expect("made");
            let seen = bed.driver.observe(open.id).await.expect("observed").expect("there");
            let raw = bed.other.inspect_container(&seen.engine_id, None).await.expect("there");
            assert_eq!(raw.host_config.and_then(|host| host.userns_mode).as_deref(), Some("host"));

            // A volume is its root's to write to, and the next one's.
            let volume = bed.file_system(agentd_api::ByteSize::mib(16)).await;
            bed.driver.ensure_volume(&volume).await.expect("known");
            let mut kept = def("kept", staying(""));
            kept.security.userns = Userns::Own;
            let mount = |read_only| Mount {
                source: MountSource::Volume(volume.clone()),
                target: "/data".to_owned(),
                read_only,
            };
            kept.mounts = vec![mount(false)];
            bed.up(&kept).await;
            bed.says(kept.id, "echo kept > /data/file").await;
            bed.driver.remove(kept.id).await.expect("removed");
            let mut next = def("next", staying(""));
            next.mounts = vec![mount(false)];
            bed.up(&next).await;
            assert_eq!(
                bed.says(next.id, "cat /data/file; ls -ln /data/file | grep -c ' 0 *0 '").await,
                "kept\n1"
            );
            bed.says(next.id, "echo more >> /data/file").await;
            bed.driver.remove(next.id).await.expect("removed");
            bed.driver.remove_volume(volume.id).await.expect("removed");
        })
        .await;
    });
}

#[test]
#[ignore = "needs the test host: run by tests/run"]
fn docker_what_cannot_be_is_refused_by_name() {
    netns::inside(async || {
        inside(async |bed: &Bed| {
            use agentd_drivers::container::ContainerState;
            let missing = def("missing", vec!["no-such-program".to_owned()]);
            bed.driver.ensure_created(&missing).await.expect("made");
            let error = bed.driver.start(missing.id).await.expect_err("there is no such program");
            assert!(matches!(error, ContainerError::Refused(_)), "{error:?}");
            assert!(error.to_string().contains("no-such-program"), "{error}");
            assert_eq!(error.class(), agentd_drivers::Class::Permanent);
            let seen = bed.driver.observe(missing.id).await.expect("observed").expect("there");
            assert_eq!(seen.state, ContainerState::Created);
            assert!(seen.exit.is_some_and(|exit| exit.code == 127 && exit.error.is_some()));

            let mut nowhere = def("nowhere", staying(""));
            nowhere.mounts = vec![Mount {
                source: MountSource::Bind("/run/no-such-folder".into()),
                target: "/x".to_owned(),
                read_only: true,
            }];
            let error = bed.driver.ensure_created(&nowhere).await.expect_err("there is no such folder");
            assert!(
                matches!(error, ContainerError::Refused(_)) && error.to_string().contains("no-such-folder"),
                "{error}"
            );
            let mut small = def("small", staying(""));
            small.limits.memory = Some(agentd_api::ByteSize::mib(1));
            let error = bed.driver.ensure_created(&small).await.expect_err("too little");
            assert!(matches!(error, ContainerError::Refused(_)), "{error:?}");
            for id in [nowhere.id, small.id] {
                assert_eq!(bed.driver.observe(id).await.expect("observed"), None);
            }
        })
        .await;
    });
}
