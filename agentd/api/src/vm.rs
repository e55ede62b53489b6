//! The kind `vm`: a KVM or TCG guest of libvirt.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::FieldError;
use crate::kind::{ActionDef, ColumnDef, FieldDef, Kind, KindDef, RECONCILE, RETRY};
use crate::name::ObjectName;
use crate::net::{MacAddr, PortMap};
use crate::quantity::{ByteSize, Span};
use crate::status::{State, StatusCommon};
use crate::time::Timestamp;

pub const CPUS_MAX: u32 = 256;
pub const MEMORY_MIN: ByteSize = ByteSize::mib(64);
pub const DISK_MIN: ByteSize = ByteSize::mib(16);
pub const DISK_MAX: ByteSize = ByteSize::gib(64 << 10);
pub const USER_DATA_MAX: usize = 256 << 10;
pub const GRACE_MAX: Span = Span::seconds(3600);
const LIST_MAX: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vm;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VmSpec {
    /// The image its disk starts as. A recipe's name builds the image when it is not there.
    pub image: ObjectName,
    #[serde(default = "one")]
    #[schema(minimum = 1, maximum = 256)]
    pub cpus: u32,
    #[serde(default = "default_memory")]
    pub memory: ByteSize,
    /// The size of its disk; the image's own where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<ByteSize>,
    #[serde(default = "default_networks")]
    #[schema(max_items = 64)]
    pub networks: Vec<VmNic>,
    /// Names of `ssh-key` objects, put into the guest by cloud-init.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ssh_keys: Vec<ObjectName>,
    /// cloud-init user-data, at most 256 KiB, given to the guest as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_data: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub publish: Vec<PortMap>,
    #[serde(default)]
    pub desired: VmDesired,
    /// What happens when the guest ends by itself or by somebody else's hand.
    #[serde(default)]
    pub restart: RestartPolicy,
    /// How long a guest has to power off after ACPI asked it to, before it is forced off.
    #[serde(default = "default_grace")]
    pub grace: Span,
    /// Deletes the VM once it has stopped.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub remove_when_stopped: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VmNic {
    pub network: ObjectName,
    /// A fixed address of the network; one is chosen where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = Ipv4)]
    pub ip: Option<Ipv4Addr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddr>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum VmDesired {
    #[default]
    Running,
    Stopped,
    Paused,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// It stays stopped, and says why, until it is started.
    #[default]
    Never,
    /// It is started again after a crash, a kill or a destroy, not after its own clean power-off.
    OnFailure,
    Always,
}

fn one() -> u32 {
    1
}
fn default_memory() -> ByteSize {
    ByteSize::mib(512)
}
fn default_grace() -> Span {
    Span::seconds(30)
}
fn default_networks() -> Vec<VmNic> {
    let network = ObjectName::parse("default").expect("a valid name");
    vec![VmNic { network, ip: None, mac: None }]
}

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct VmStatus {
    #[serde(flatten)]
    pub common: StatusCommon,
    /// One for each of `spec.networks`, in that order. Allocated when the VM is written down.
    pub addresses: Vec<VmAddress>,
    /// How its instructions run: "kvm" or "tcg". Known once it was started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accel: Option<Accel>,
    /// The digest of the image that its disk stands on. Fixed when the disk is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_digest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Timestamp>,
    /// How it last went from running to off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_stop: Option<VmStop>,
    /// What its guest says on the serial console is kept here, on the host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub console_log: Option<String>,
    /// The boot of the host (its boot_id) in which the guest was last seen running.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_boot: Option<String>,
    /// Set while a restart that was asked for has not been done.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub restart_requested: bool,
    /// The last generation of the spec at which the guest was seen running.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_generation: Option<u64>,
    /// How often in a row its restart policy started it again after less than a minute.
    #[serde(skip_serializing_if = "is_zero")]
    pub restarts: u32,
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VmAddress {
    pub network: ObjectName,
    #[schema(value_type = String, format = Ipv4)]
    pub ip: Ipv4Addr,
    pub mac: MacAddr,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VmStop {
    pub how: StopKind,
    pub at: Timestamp,
    /// The generation of the spec at that time: a guest that ended by itself stays off until that changes.
    pub generation: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StopKind {
    /// agentd asked by ACPI and the guest powered off within its grace.
    Acpi,
    /// The grace ran out, and agentd cut the power.
    Forced,
    /// The guest powered off by itself.
    Guest,
    /// The guest crashed, or its emulator died.
    Crashed,
    /// Somebody else destroyed the domain.
    Destroyed,
    /// The host went down with the guest running.
    HostDown,
    /// It ended while nobody watched, and libvirt does not know how.
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Accel {
    Kvm,
    Tcg,
}

impl Accel {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }
}

impl Kind for Vm {
    type Spec = VmSpec;
    type Status = VmStatus;

    const DEF: &'static KindDef = &KindDef {
        kind: "vm",
        plural: "vms",
        summary: "A virtual machine",
        states: &[
            State::Pending,
            State::Provisioning,
            State::Running,
            State::Stopped,
            State::Paused,
            State::Failed,
            State::Deleting,
        ],
        columns: &[
            ColumnDef::text("NAME", "/name"),
            ColumnDef::text("STATE", "/status/state"),
            ColumnDef::text("ADDRESS", "/status/addresses/*/ip"),
            ColumnDef::text("IMAGE", "/spec/image"),
            ColumnDef::text("CPUS", "/spec/cpus"),
            ColumnDef::text("MEMORY", "/spec/memory"),
            ColumnDef::age("AGE", "/created_at"),
            ColumnDef::text("ACCEL", "/status/accel").wide(),
            ColumnDef::text("DISK", "/spec/disk").wide(),
            ColumnDef::text("REASON", "/status/reason").wide(),
        ],
        fields: &[
            FieldDef { name: "state", path: "/status/state" },
            FieldDef { name: "image", path: "/spec/image" },
            FieldDef { name: "network", path: "/spec/networks/*/network" },
            FieldDef { name: "ssh_key", path: "/spec/ssh_keys/*" },
            FieldDef { name: "publish", path: "/spec/publish/*/host" },
        ],
        actions: &[
            ActionDef { name: "start", summary: "Start it" },
            ActionDef { name: "stop", summary: "Power it off by ACPI, and by force once its grace is over" },
            ActionDef { name: "restart", summary: "Stop it and start it again" },
            ActionDef { name: "pause", summary: "Halt its CPUs" },
            ActionDef { name: "resume", summary: "Let its CPUs run on" },
            RECONCILE,
            RETRY,
        ],
    };

    fn check(spec: &VmSpec) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let mut wrong =
            |field: &str, message: String| errors.push(FieldError::new(format!("spec.{field}"), message));
        if !(1..=CPUS_MAX).contains(&spec.cpus) {
            wrong("cpus", format!("must be 1 to {CPUS_MAX}, not {}", spec.cpus));
        }
        if spec.memory < MEMORY_MIN {
            wrong("memory", format!("must be at least {MEMORY_MIN}, not {}", spec.memory));
        } else if !spec.memory.bytes().is_multiple_of(ByteSize::mib(1).bytes()) {
            wrong("memory", format!("must be a whole number of MiB, not {}", spec.memory));
        }
        if let Some(disk) = spec.disk {
            if !(DISK_MIN..=DISK_MAX).contains(&disk) {
                wrong("disk", format!("must be {DISK_MIN} to {DISK_MAX}, not {disk}"));
            } else if !disk.bytes().is_multiple_of(512) {
                wrong("disk", format!("must be a multiple of 512 bytes, not {disk}"));
            }
        }
        if spec.grace > GRACE_MAX {
            wrong("grace", format!("must be at most {GRACE_MAX}, not {}", spec.grace));
        }
        for (field, length) in [
            ("networks", spec.networks.len()),
            ("publish", spec.publish.len()),
            ("ssh_keys", spec.ssh_keys.len()),
        ] {
            if length > LIST_MAX {
                wrong(field, format!("has {length} entries; at most {LIST_MAX} are allowed"));
            }
        }
        check_user_data(spec, &mut wrong);
        check_nics(spec, &mut wrong);
        check_ports(spec, &mut wrong);
        errors
    }
    fn common(status: &VmStatus) -> &StatusCommon {
        &status.common
    }
    fn common_mut(status: &mut VmStatus) -> &mut StatusCommon {
        &mut status.common
    }
}

fn check_user_data(spec: &VmSpec, wrong: &mut impl FnMut(&str, String)) {
    let Some(data) = &spec.user_data else { return };
    if data.len() > USER_DATA_MAX {
        wrong("user_data", format!("is {} bytes long; at most {USER_DATA_MAX} are allowed", data.len()));
    }
    if data.contains('\0') {
        wrong("user_data", "contains a NUL character".to_owned());
    }
}

fn check_nics(spec: &VmSpec, wrong: &mut impl FnMut(&str, String)) {
    let (mut ips, mut macs) = (BTreeSet::new(), BTreeSet::new());
    for (n, nic) in spec.networks.iter().enumerate() {
        if nic.ip.is_some_and(|ip| !ips.insert((&nic.network, ip))) {
            wrong(&format!("networks[{n}].ip"), "is given to another interface of this VM".to_owned());
        }
        if nic.mac.is_some_and(|mac| !macs.insert(mac)) {
            wrong(&format!("networks[{n}].mac"), "is given to another interface of this VM".to_owned());
        }
    }
}

fn check_ports(spec: &VmSpec, wrong: &mut impl FnMut(&str, String)) {
    if !spec.publish.is_empty() && spec.networks.is_empty() {
        wrong("publish", "a port can be published only of a VM that has a network".to_owned());
    }
    for (n, port) in spec.publish.iter().enumerate() {
        if port.host == 0 || port.guest == 0 {
            wrong(&format!("publish[{n}]"), "a port is 1 to 65535".to_owned());
        }
        let same = |other: &PortMap| {
            other.host == port.host
                && other.protocol == port.protocol
                && (other.address == port.address || other.address.is_none() || port.address.is_none())
        };
        if spec.publish[..n].iter().any(same) {
            wrong(
                &format!("publish[{n}].host"),
                format!("{}/{} is published twice", port.host, port.protocol),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(json: serde_json::Value) -> Result<VmSpec, serde_json::Error> {
        serde_json::from_value(json)
    }

    #[test]
    fn defaults_are_those_of_the_contract() {
        let vm = spec(serde_json::json!({"image": "micro"})).expect("a spec");
        assert_eq!((vm.cpus, vm.memory, vm.grace), (1, ByteSize::mib(512), Span::seconds(30)));
        assert_eq!(vm.networks.len(), 1);
        assert_eq!(vm.desired, VmDesired::Running);
        assert_eq!(Vm::check(&vm), []);
    }

    #[test]
    fn each_bad_field_is_named() {
        let bad = spec(serde_json::json!({
            "image": "micro", "cpus": 0, "memory": "1MiB", "disk": "1B", "grace": "2h",
            "user_data": "a\u{0}b",
            "networks": [{"network": "default", "ip": "10.77.0.9"}, {"network": "default", "ip": "10.77.0.9"}],
            "publish": [{"host": 80, "guest": 80}, {"address": "127.0.0.1", "host": 80, "guest": 81}, {"host": 0, "guest": 1}],
        }))
        .expect("a spec");
        let fields: Vec<String> = Vm::check(&bad).into_iter().map(|e| e.field).collect();
        for field in [
            "cpus",
            "memory",
            "disk",
            "grace",
            "user_data",
            "networks[1].ip",
            "publish[1].host",
            "publish[2]",
        ] {
            assert!(fields.contains(&format!("spec.{field}")), "{field} in {fields:?}");
        }
    }

    #[test]
    fn unknown_fields_are_refused_by_name() {
        let error = spec(serde_json::json!({"image": "micro", "cpu": 2})).expect_err("refused").to_string();
        assert!(error.contains("cpu"), "{error}");
    }
}
