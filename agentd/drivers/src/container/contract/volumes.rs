//! Volumes of the engine's on our block devices.

use uuid::Uuid;

use super::{Bed, Does, gone};
use crate::container::{Change, ContainerError, ContainerState, Created, EngineVolume, Mount, MountSource};

pub(super) async fn volumes_are_had_by_several_and_outlive_them(bed: &dyn Bed) {
    let driver = bed.driver();
    let volume = EngineVolume { id: Uuid::now_v7(), device: bed.device().await };
    let on = |name: &str, read_only| {
        let source = MountSource::Volume(volume.clone());
        let mut def = bed.def(name, Does::Stays);
        def.mounts = vec![Mount { source, target: "/data".to_owned(), read_only }];
        def
    };
    let (one, two) = (on("one", false), on("two", true));
    assert_eq!(driver.remove_volume(volume.id).await.expect("removed"), Change::AlreadySo);
    let error = driver.ensure_created(&one).await.expect_err("there is no such volume yet");
    assert!(matches!(error, ContainerError::NoVolume(id) if id == volume.id), "{error:?}");
    assert_eq!(driver.observe(one.id).await.expect("observed"), None, "nothing is half made");

    // One that nobody has may be on another device.
    let elsewhere = EngineVolume { device: "/dev/no-such-device".into(), ..volume.clone() };
    assert_eq!(driver.ensure_volume(&elsewhere).await.expect("made"), Change::Made);
    let error = driver.ensure_created(&one).await.expect_err("it is another");
    assert!(matches!(error, ContainerError::Conflict(_)), "{error:?}");
    assert_eq!(driver.ensure_volume(&volume).await.expect("made anew"), Change::Made);
    assert_eq!(driver.ensure_volume(&volume).await.expect("made"), Change::AlreadySo);
    assert_eq!(driver.volumes().await.expect("listed"), [volume.id]);

    for def in [&one, &two] {
        assert_eq!(driver.ensure_created(def).await.expect("made"), Created::Made);
        assert_eq!(driver.start(def.id).await.expect("started"), Change::Made);
        bed.begun(def, Does::Stays).await;
    }
    assert_eq!(driver.ensure_created(&two).await.expect("there"), Created::AlreadySo);
    assert!(matches!(driver.ensure_volume(&elsewhere).await, Err(ContainerError::Conflict(_))));
    gone(driver, one.id).await;
    driver.kill(two.id).await.expect("killed");
    let off = driver.observe(two.id).await.expect("observed").expect("there");
    assert_eq!(off.state, ContainerState::Exited);
    let error = driver.remove_volume(volume.id).await.expect_err("one that is off has it");
    assert!(
        matches!(&error, ContainerError::VolumeInUse { volume: id, .. } if *id == volume.id),
        "{error:?}"
    );
    driver.start(two.id).await.expect("started again");
    bed.begun(&two, Does::Stays).await;
    gone(driver, two.id).await;
    assert_eq!(driver.volumes().await.expect("listed"), [volume.id], "it outlives them");
    assert_eq!(driver.remove_volume(volume.id).await.expect("removed"), Change::Made);
    assert_eq!(driver.remove_volume(volume.id).await.expect("removed"), Change::AlreadySo);
    assert_eq!(driver.volumes().await.expect("listed"), Vec::<Uuid>::new());
}
