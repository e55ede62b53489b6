//! Builds the images of the recipes and boots them, without libvirt: the emulator directly, its network its own and
//! closed (`restrict=on`), one port forwarded from loopback. What is asserted is what the guest says.

#[path = "image_host/guest.rs"]
mod guest;

use std::sync::Arc;
use std::time::{Duration, Instant};

use agentd_api::image::Recipe;
use agentd_api::{ByteSize, Cidr, ObjectName};
use agentd_drivers::Instance;
use agentd_drivers::image::host::{HostImage, ImageOptions};
use agentd_drivers::image::{ImageContent, ImageDriver, Work};
use agentd_drivers::volume::host::HostVolume;
use agentd_drivers::volume::{DiskSpec, Seed, SeedNic, VolumeDriver};
use guest::Guest;
use tempfile::TempDir;
use uuid::Uuid;

const MAC: &str = "52:54:00:12:34:56";

/// A state directory with an image in it.
struct Built {
    state: TempDir,
    content: ImageContent,
    took: Duration,
    steps: Vec<String>,
}

/// agentd's program for guests, of this build.
fn guest_program() -> std::path::PathBuf {
    let exe = std::env::current_exe().expect("this program's own path");
    let program = exe.ancestors().nth(2).expect("target/<profile>/deps").join("agentd-guest");
    assert!(program.is_file(), "{} is not built: packaging/build-guest", program.display());
    program
}

async fn build(recipe: Recipe) -> Built {
    let state = tempfile::tempdir().expect("a folder");
    let driver = HostImage::new(Instance::new(state.path()), ImageOptions::default());
    assert_eq!(driver.missing().await, [], "install packaging/host-packages run");
    let work = Work::detached(Uuid::now_v7());
    let mut progress = work.progress.subscribe();
    let watch = tokio::spawn(async move {
        let mut steps = Vec::new();
        while progress.changed().await.is_ok() {
            let step = progress.borrow_and_update().step.clone();
            if steps.last() != Some(&step) {
                steps.push(step);
            }
        }
        steps
    });
    let began = Instant::now();
    let content = driver.build(recipe, &work).await.expect("built");
    let took = began.elapsed();
    let image = work.image;
    drop(work);
    let steps = watch.await.expect("joined");
    assert_eq!(driver.observe(&content.digest).await.expect("observed"), Some(content.clone()));
    // Nothing of the build is left but the empty folder that discarding removes.
    driver.discard(image).await.expect("discarded");
    assert_eq!(driver.list_incoming().await.expect("listed"), Vec::<Uuid>::new());
    eprintln!("{}: built in {:.1} s, {} stored", recipe.as_str(), took.as_secs_f32(), content.stored_size);
    Built { state, content, took, steps }
}

/// A guest on an image, with a disk and a seed as the daemon makes them.
struct Vm {
    volumes: Arc<HostVolume>,
    disk: DiskSpec,
    seed: Seed,
}

impl Vm {
    fn new(built: &Built, size: ByteSize, user_data: Option<&str>) -> Self {
        let vm = Uuid::now_v7();
        let nic = SeedNic {
            mac: MAC.parse().expect("a MAC"),
            ip: [10, 0, 2, 15].into(),
            cidr: Cidr::new([10, 0, 2, 0].into(), 24).expect("a network"),
            gateway: [10, 0, 2, 2].into(),
        };
        let seed = Seed {
            vm,
            hostname: ObjectName::parse("web").expect("a name"),
            domain: Some("default.agentd".to_owned()),
            ssh_keys: vec![
                "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGTestTestTestTestTestTestTestTestTestTestTes me@here"
                    .to_owned(),
            ],
            user_data: user_data.map(str::to_owned),
            network_config: None,
            nics: vec![nic],
            machine_id: None,
            guest_program: false,
        };
        let disk = DiskSpec { vm, backing: built.content.disk.clone(), size: Some(size) };
        Self { volumes: HostVolume::new(Instance::new(built.state.path()), None), disk, seed }
    }

    async fn boot(&self, built: &Built, memory: &str, port: u16) -> Guest {
        let disk = self.volumes.ensure_disk(&self.disk).await.expect("a disk");
        let seed = self.volumes.ensure_seed(&self.seed).await.expect("a seed");
        let boot = built.content.boot.as_ref().expect("a recipe's image boots by its own kernel");
        Guest::start(boot, [&disk, &seed], memory, port)
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the test host: run by tests/run"]
async fn micro_boots_serves_keeps_its_disk_and_powers_off() {
    let built = build(Recipe::Micro).await;
    assert!(built.took < Duration::from_secs(120), "{:?}", built.took);
    assert!(built.steps.len() >= 5, "{:?}", built.steps);
    assert_eq!(built.content.virtual_size, ByteSize::mib(64));
    let vm = Vm::new(&built, ByteSize::mib(128), Some("#!/bin/sh\necho hello from the seed\n"));

    let mut guest = vm.boot(&built, "128", 80).await;
    guest.says("micro: up, address 10.0.2.15", Duration::from_secs(60)).await;
    eprintln!("micro: up after {:.1} s", guest.age().as_secs_f32());
    let page = guest.get("/").await;
    for line in ["boots: 1\n", "disk_bytes: 134217728\n", "cpus: 1\n", "address: eth0=10.0.2.15/24"] {
        assert!(page.contains(line), "{line:?} in {page}");
    }
    assert_eq!(guest.get("/cgi-bin/write?kept%20text").await.trim(), "kept text");
    let itself = guest.get("/cgi-bin/get?10.0.2.15/cgi-bin/write").await;
    assert!(itself.contains("kept text") && itself.contains("status: 0"), "{itself}");
    guest.says("user-data: hello from the seed", Duration::from_secs(30)).await;
    guest.press_power().await;
    guest.says("micro: power button pressed, powering off", Duration::from_secs(20)).await;
    guest.says("micro: powering off cleanly", Duration::from_secs(20)).await;
    guest.ends(Duration::from_secs(20)).await;

    let mut guest = vm.boot(&built, "128", 80).await;
    guest.says("micro: up, address 10.0.2.15", Duration::from_secs(60)).await;
    assert!(guest.get("/").await.contains("boots: 2\n"));
    assert_eq!(guest.get("/cgi-bin/write").await.trim(), "kept text");
    guest.press_power().await;
    guest.ends(Duration::from_secs(20)).await;
}

/// Run by cloud-init in the guest; what it prints goes to the console.
const LOOK: &str = r#"#!/bin/sh
export SYSTEMD_PAGER=cat SYSTEMD_COLORS=0
exec >/dev/console 2>&1
echo "look: root $(df --output=size -B 1M / | tail -n 1 | tr -d ' ')"
echo "look: key $(cat /home/debian/.ssh/authorized_keys)"
echo "look: name $(hostname -f)"
echo "look: address $(ip -4 -o addr show dev eth0 | tr -s ' ')"
echo "look: search $(resolvectl domain eth0)"
echo "look: source $(cloud-id)"
echo "look: failed $(systemctl --failed --no-legend --plain | tr '\n' ' ')"
echo "look: timers $(systemctl list-timers --all --no-legend --plain | tr -s ' ' | rev | cut -d ' ' -f 2 | rev | tr '\n' ' ')"
echo "look: clock $(systemctl list-unit-files --no-legend 'systemd-timesyncd*' 'chrony*' 'ntp*' | tr '\n' ' ')"
echo "look: sshd $(systemctl is-active ssh) agent $(systemctl is-enabled qemu-guest-agent)"
echo "look: shadow $(grep -E '^(root|debian):' /etc/shadow | cut -d : -f 1,2 | tr '\n' ' ')"
echo "look: done"
"#;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the test host: run by tests/run"]
async fn debian_boots_is_set_up_by_cloud_init_and_powers_off() {
    let built = build(Recipe::Debian12).await;
    assert!(built.took < Duration::from_secs(300), "{:?}", built.took);
    assert!(built.steps.iter().any(|s| s == "installing packages"), "{:?}", built.steps);
    // It was built without agentd's program for guests, as an image of somebody else's is.
    let mut vm = Vm::new(&built, ByteSize::gib(5), Some(LOOK));
    vm.seed.guest_program = true;
    vm.volumes = HostVolume::new(Instance::new(built.state.path()), Some(guest_program()));
    let mut guest = vm.boot(&built, "1024", 22).await;
    guest.says(" login:", Duration::from_secs(900)).await;
    eprintln!("debian-12: login after {:.1} s", guest.age().as_secs_f32());
    guest.says("look: done", Duration::from_secs(900)).await;
    eprintln!("debian-12: cloud-init's user-data was done after {:.1} s", guest.age().as_secs_f32());
    let said = guest.console();
    let line = |what: &str| {
        let begins = format!("look: {what} ");
        let line = said.lines().find_map(|l| l.split(&begins).nth(1));
        line.unwrap_or_else(|| panic!("no {begins:?} in:\n{said}")).trim().to_owned()
    };
    let root: u64 = line("root").parse().expect("a number of MiB");
    assert!((4600..5120).contains(&root), "the root has grown to {root} MiB");
    assert_eq!(line("key"), vm.seed.ssh_keys[0]);
    assert_eq!(line("name"), "web.default.agentd");
    assert!(line("address").contains("inet 10.0.2.15/24"), "{}", line("address"));
    assert!(line("search").contains("default.agentd"), "{}", line("search"));
    assert_eq!(line("source"), "nocloud");
    assert!(line("sshd").starts_with("active agent"), "{}", line("sshd"));
    assert!(
        line("shadow").split(' ').all(|entry| entry.contains(":!") || entry.contains(":*")),
        "{}",
        line("shadow")
    );
    for (what, not) in [("timers", "apt"), ("clock", "service"), ("failed", "service")] {
        let begins = format!("look: {what}");
        let text = said
            .lines()
            .find_map(|l| l.split(&begins).nth(1))
            .unwrap_or_else(|| panic!("no {what}:\n{said}"));
        assert!(!text.contains(not), "{what}: {text}");
    }
    // cloud-init has installed that program from the seed, beside the user's own script; it answers.
    let script = "hostname; systemctl is-enabled agentd-guest; cmp /usr/local/sbin/agentd-guest /proc/$PPID/exe && echo same";
    assert_eq!(guest.exec(script, Duration::from_secs(300)).await, "web\nenabled\nsame\n");
    guest.press_power().await;
    guest.says("Power down", Duration::from_secs(300)).await;
    guest.ends(Duration::from_secs(30)).await;
}
