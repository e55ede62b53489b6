use std::path::Path;

use agentd_api::ByteSize;
use serde_json::json;

use super::*;
use crate::container::MountSource;

fn foreign_of(change: impl FnOnce(&mut Value)) -> ForeignDef {
    // As Docker 20.10 tells of `docker run -d --name db busybox sleep 1000`.
    let mut raw: Value = serde_json::from_str(include_str!("plain.json")).expect("JSON");
    change(&mut raw);
    let found = serde_json::from_value(raw.clone()).expect("an answer");
    foreign(Told {
        raw: &raw,
        found,
        flavor: Flavor::Docker,
        instance: &Instance::new(Path::new("/var/lib/agentd")),
    })
}

#[test]
fn a_plain_one_is_said_whole() {
    let def = foreign_of(|_| {});
    assert_eq!(def.beyond, []);
    assert_eq!(
        (def.seen.name.as_str(), def.seen.image.as_str(), def.image_id.as_str()),
        ("db", "busybox", "sha256:00ff")
    );
    assert_eq!(def.command, ["sleep", "1000"]);
    assert!(def.entrypoint.is_empty());
    assert_eq!(def.env[1], ("A".to_owned(), "b=c".to_owned()));
    assert_eq!(def.networks, ["bridge"]);
    // It has what Docker gives, and says so.
    assert_eq!(def.security.cap_add, DOCKERS_OWN);
    assert!(def.security.cap_drop.is_empty() && def.security.new_privileges && !def.security.privileged);
    assert_eq!(def.seen.privileged, Some(false));
    assert_eq!(
        (def.restart, def.remove_when_stopped, def.health),
        (EngineRestart::Never, false, HealthWish::Image)
    );
}

#[test]
fn what_it_was_given_is_taken_over() {
    let def = foreign_of(|raw| {
        let host = &mut raw["HostConfig"];
        host["CapDrop"] = json!(["ALL"]);
        host["CapAdd"] = json!(["CAP_CHOWN", "NET_ADMIN"]);
        host["SecurityOpt"] = json!(["no-new-privileges"]);
        host["RestartPolicy"] = json!({"Name": "unless-stopped", "MaximumRetryCount": 0});
        host["Memory"] = json!(64 << 20);
        host["MemorySwap"] = json!(96 << 20);
        host["NanoCpus"] = json!(500_000_000);
        host["Ulimits"] = json!([{"Name": "nofile", "Soft": 10, "Hard": -1}]);
        host["Tmpfs"] = json!({"/run": "rw,size=1m,noexec"});
        host["Mounts"] = json!([{"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 4096}}]);
        raw["Mounts"] = json!([
            {"Type": "bind", "Source": "/srv/a", "Destination": "/a", "RW": false, "Propagation": "rprivate"},
            {"Type": "tmpfs", "Source": "", "Destination": "/t", "RW": true, "Propagation": ""},
        ]);
        raw["Config"]["StopSignal"] = json!("SIGINT");
        raw["Config"]["StopTimeout"] = json!(3);
        raw["Config"]["Healthcheck"] =
            json!({"Test": ["CMD-SHELL", "test -e /ok"], "Interval": 1_000_000_000});
    });
    assert_eq!(def.beyond, []);
    assert_eq!(def.security.cap_add, ["NET_ADMIN"]);
    assert_eq!(def.security.cap_drop.len(), USUAL_CAPABILITIES.len() - 1);
    assert!(!def.security.cap_drop.iter().any(|name| name == "CHOWN") && !def.security.new_privileges);
    assert_eq!(def.restart, EngineRestart::Always);
    assert_eq!((def.limits.memory, def.limits.swap), (Some(ByteSize::mib(64)), Some(ByteSize::mib(32))));
    assert_eq!(def.limits.nanocpus, Some(500_000_000));
    assert_eq!((def.restraints.ulimits[0].soft, def.restraints.ulimits[0].hard), (10, u64::MAX));
    assert_eq!((def.stop_signal.as_deref(), def.grace), (Some("SIGINT"), Some(3)));
    let mounts: Vec<_> =
        def.mounts.iter().map(|m| (m.target.as_str(), m.source.clone(), m.read_only)).collect();
    assert_eq!(
        mounts,
        [
            ("/a", MountSource::Bind("/srv/a".into()), true),
            ("/t", MountSource::Tmpfs { size: Some(ByteSize(4096)) }, false),
            ("/run", MountSource::Tmpfs { size: Some(ByteSize::mib(1)) }, false),
        ]
    );
    let HealthWish::Program { argv, interval, timeout, retries, .. } = def.health else {
        panic!("{:?}", def.health)
    };
    assert_eq!(argv, ["/bin/sh", "-c", "test -e /ok"]);
    assert_eq!((interval.as_secs(), timeout.as_secs(), retries), (1, 30, 3));
}

#[test]
fn what_cannot_be_said_is_named() {
    let named = |change: fn(&mut Value)| -> Vec<String> {
        foreign_of(change).beyond.into_iter().map(|beyond| beyond.field).collect()
    };
    for (field, change) in [
        (
            "HostConfig.NetworkMode",
            (|raw| raw["HostConfig"]["NetworkMode"] = json!("host")) as fn(&mut Value),
        ),
        ("HostConfig.NetworkMode", |raw| raw["HostConfig"]["NetworkMode"] = json!("container:12")),
        ("HostConfig.PortBindings", |raw| {
            raw["HostConfig"]["PortBindings"] = json!({"80/tcp": [{"HostIp": "", "HostPort": "8080"}]});
        }),
        ("HostConfig.PublishAllPorts", |raw| raw["HostConfig"]["PublishAllPorts"] = json!(true)),
        ("HostConfig.Devices", |raw| {
            raw["HostConfig"]["Devices"] = json!([{"PathOnHost": "/dev/kvm", "PathInContainer": "/dev/kvm"}]);
        }),
        ("HostConfig.PidMode", |raw| raw["HostConfig"]["PidMode"] = json!("host")),
        ("HostConfig.UsernsMode", |raw| raw["HostConfig"]["UsernsMode"] = json!("host")),
        ("HostConfig.IpcMode", |raw| raw["HostConfig"]["IpcMode"] = json!("host")),
        ("HostConfig.SecurityOpt", |raw| raw["HostConfig"]["SecurityOpt"] = json!(["seccomp=unconfined"])),
        ("HostConfig.MaskedPaths", |raw| raw["HostConfig"]["MaskedPaths"] = json!([])),
        ("HostConfig.CapAdd", |raw| raw["HostConfig"]["CapAdd"] = json!(["ALL"])),
        ("HostConfig.Dns", |raw| raw["HostConfig"]["Dns"] = json!(["9.9.9.9"])),
        ("HostConfig.ExtraHosts", |raw| raw["HostConfig"]["ExtraHosts"] = json!(["a:1.2.3.4"])),
        ("HostConfig.Sysctls", |raw| raw["HostConfig"]["Sysctls"] = json!({"net.ipv4.ip_forward": "1"})),
        ("HostConfig.Init", |raw| raw["HostConfig"]["Init"] = json!(true)),
        ("HostConfig.MemoryReservation", |raw| raw["HostConfig"]["MemoryReservation"] = json!(1 << 20)),
        ("HostConfig.BlkioWeight", |raw| raw["HostConfig"]["BlkioWeight"] = json!(500)),
        ("HostConfig.CpuQuota", |raw| raw["HostConfig"]["CpuQuota"] = json!(50_000)),
        ("HostConfig.LogConfig", |raw| raw["HostConfig"]["LogConfig"]["Type"] = json!("syslog")),
        ("HostConfig.RestartPolicy", |raw| {
            raw["HostConfig"]["RestartPolicy"] = json!({"Name": "on-failure", "MaximumRetryCount": 5});
        }),
        ("HostConfig.Runtime", |raw| raw["HostConfig"]["Runtime"] = json!("kata")),
        ("HostConfig.Tmpfs", |raw| raw["HostConfig"]["Tmpfs"] = json!({"/run": "mode=700"})),
        // What a later engine may have.
        ("HostConfig.Whatever", |raw| raw["HostConfig"]["Whatever"] = json!({"new": 1})),
        ("Mounts", |raw| {
            raw["Mounts"] =
                json!([{"Type": "volume", "Name": "v", "Source": "/x", "Destination": "/data", "RW": true}]);
        }),
        ("Mounts", |raw| {
            raw["Mounts"] =
                json!([{"Type": "bind", "Source": "/x", "Destination": "/x", "Propagation": "rshared"}]);
        }),
        ("Config.Domainname", |raw| raw["Config"]["Domainname"] = json!("example.org")),
        ("Config.Env", |raw| raw["Config"]["Env"] = json!(["ALONE"])),
        ("Config.Labels", |raw| raw["Config"]["Labels"] = json!({"com.docker.swarm.task.id": "1"})),
        ("NetworkSettings.Networks", |raw| {
            raw["NetworkSettings"]["Networks"] = json!({"app": {"Aliases": ["ab12ab12ab12", "database"]}});
        }),
    ] {
        assert_eq!(named(change), [field], "{field}");
    }
    let both = foreign_of(|raw| {
        raw["HostConfig"]["Memory"] = json!(64 << 20);
        raw["HostConfig"]["MemorySwap"] = json!(-1);
    });
    assert_eq!(both.beyond[0].field, "HostConfig.MemorySwap");
}

#[test]
fn a_privileged_one_is_known_to_be() {
    let def = foreign_of(|raw| {
        raw["HostConfig"]["Privileged"] = json!(true);
        raw["HostConfig"]["SecurityOpt"] = json!(["label=disable"]);
        raw["HostConfig"]["MaskedPaths"] = Value::Null;
    });
    assert_eq!(def.beyond, []);
    assert!(def.security.privileged && def.security.cap_add.is_empty());
    assert_eq!(def.seen.privileged, Some(true));
}
