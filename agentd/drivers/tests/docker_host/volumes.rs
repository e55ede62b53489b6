//! Volumes with a file system, as the containers that have them see them.

use agentd_api::ByteSize;
use agentd_drivers::container::{
    ContainerDef, ContainerLife, ContainerLook, ContainerVolumes, EngineVolume, Mount, MountSource,
};
use agentd_drivers::volume::pool::PoolDriver;
use agentd_drivers::volume::pool::contract as pools;

use crate::bed::{Bed, def, inside, staying};
use crate::netns;

fn on(name: &str, volume: &EngineVolume, read_only: bool) -> ContainerDef {
    let source = MountSource::Volume(volume.clone());
    let mounts = vec![Mount { source, target: "/data".to_owned(), read_only }];
    ContainerDef { mounts, ..def(name, staying("")) }
}

/// What `df -k` says of /data: its size in KiB.
async fn size(bed: &Bed, of: &ContainerDef) -> u64 {
    let said = bed.says(of.id, "df -kP /data").await;
    let line = said.lines().last().unwrap_or_default().to_owned();
    line.split_whitespace().nth(1).and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{said}"))
}

/// CAP_SYS_RESOURCE.
fn may_grow_what_is_mounted() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").expect("of the kernel");
    let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:\t")).expect("a mask");
    u64::from_str_radix(mask.trim(), 16).expect("a mask") & 1 << 24 != 0
}

/// From 32 to 96 MiB under both of them, as both of them see; or, where this host's kernel does not let it, once neither
/// runs.
async fn grows(bed: &Bed, volume: &EngineVolume, both: [&ContainerDef; 2]) {
    let grown = bed.pool.grow(volume.id, ByteSize::mib(96)).await;
    if may_grow_what_is_mounted() {
        grown.expect("grown");
    } else {
        let error = grown.expect_err("the kernel does not let it").to_string();
        assert!(error.contains("CAP_SYS_RESOURCE"), "{error}");
        let seen = bed.pool.observe(volume.id).await.expect("observed").expect("there");
        assert_eq!(seen.size, ByteSize::mib(32), "what it has, not what its file has");
        for container in both {
            bed.driver.kill(container.id).await.expect("killed");
        }
        bed.pool.grow(volume.id, ByteSize::mib(96)).await.expect("grown");
        for container in both {
            bed.driver.start(container.id).await.expect("started");
            bed.ready(container.id).await;
        }
    }
    let seen = bed.pool.observe(volume.id).await.expect("observed").expect("there");
    assert_eq!(seen.size, ByteSize::mib(96));
    for container in both {
        let now = size(bed, container).await;
        assert!((80 << 10..=96 << 10).contains(&now), "{now}");
    }
}

#[test]
#[ignore = "needs the test host: run by tests/run"]
fn docker_volumes_hold_what_they_are_promised_and_grow_under_containers() {
    netns::inside(async || {
        inside(async |bed: &Bed| {
            pools::devices(&*bed.pool).await;
            let volume = bed.file_system(ByteSize::mib(32)).await;
            bed.driver.ensure_volume(&volume).await.expect("made");
            let (one, two) = (on("one", &volume, false), on("two", &volume, true));
            bed.up(&one).await;
            bed.up(&two).await;
            assert_eq!(bed.says(one.id, "ls -A /data").await, "", "it begins empty");
            bed.says(one.id, "echo kept >/data/file").await;
            assert_eq!(bed.says(two.id, "cat /data/file").await, "kept");
            let (said, status) = bed.exec(two.id, "echo x >/data/other").await;
            assert!(status != 0 && said.contains("Read-only"), "{said}");

            // As much as it has room for and no more.
            let before = size(bed, &one).await;
            assert!((24 << 10..=32 << 10).contains(&before), "{before}");
            let (said, status) = bed.exec(one.id, "dd if=/dev/zero of=/data/much bs=1M count=100").await;
            assert!(status != 0 && said.contains("No space left"), "{said}");
            grows(bed, &volume, [&one, &two]).await;
            bed.says(one.id, "dd if=/dev/zero of=/data/more bs=1M count=40 && rm /data/more /data/much")
                .await;

            // The engine is killed, and comes again: nothing is mounted twice, and what was written is there.
            bed.kill_dockerd();
            bed.start_dockerd().await;
            for id in [one.id, two.id] {
                assert!(!bed.driver.observe(id).await.expect("observed").expect("there").state.is_on());
            }
            bed.driver.start(one.id).await.expect("started");
            bed.ready(one.id).await;
            assert_eq!(bed.says(one.id, "cat /data/file").await, "kept");
            for id in [one.id, two.id] {
                bed.driver.remove(id).await.expect("removed");
            }
            bed.driver.remove_volume(volume.id).await.expect("removed");
            bed.pool.detach(volume.id).await.expect("detached");
            let mounts = std::fs::read_to_string("/proc/mounts").expect("of the kernel");
            assert!(!mounts.contains(&volume.id.to_string()), "{mounts}");
            assert!(bed.pool.attached().await.expect("listed").is_empty());

            // Another daemon's life later, on a device that may have another name.
            let device = bed.pool.attach(volume.id).await.expect("attached");
            assert_eq!(device, volume.device);
            bed.driver.ensure_volume(&volume).await.expect("made");
            let three = on("three", &volume, false);
            bed.up(&three).await;
            assert_eq!(bed.says(three.id, "cat /data/file").await, "kept");
        })
        .await;
    });
}
