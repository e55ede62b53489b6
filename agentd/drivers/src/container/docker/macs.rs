//! The MACs of Docker's links: what agentd says, whatever Docker makes of it.
//!
//! Docker 25 to 29.2 heeds a MAC only as a container is made (moby 48192). The link of an endpoint that is plugged in later
//! has one of Docker's own making, and so it has after each start. Before version 1.44 of the API so has one that is plugged
//! into a container that is off, as all are there but the first.
//!
//! It is set in the container's namespace, by the name that Docker keeps it under. From outside that cannot be done: in a
//! request to change a link the kernel takes `IFLA_TARGET_NETNSID` for where it is to be moved. The unit of agentd is not
//! let into namespaces of network, so there a unit that is there for this alone does it (`agentd-mac@PATH.service`, the
//! program's own `set-mac`).

use std::path::{Path, PathBuf};

use agentd_api::MacAddr;
use bollard::models::ContainerInspectResponse;
use futures_util::TryStreamExt;
use rtnetlink::LinkUnspec;

use super::plugs::{name_of, step};
use super::podman::netns;
use super::{Inner, ends};
use crate::container::{Change, ContainerError, ContainerSeen, Endpoint};
use crate::engine::EngineError;
use crate::unit::{self, Unit};

/// The template of the unit that is let into containers' namespaces.
const UNIT: &str = "agentd-mac";

/// Where Docker keeps the namespace of one that runs.
pub(super) fn namespace(found: &ContainerInspectResponse) -> Option<PathBuf> {
    let key = found.network_settings.as_ref().and_then(|settings| settings.sandbox_key.as_deref());
    key.filter(|key| !key.is_empty()).map(PathBuf::from)
}

impl Inner {
    /// Has the link of an endpoint bear the MAC that is wanted. One that is off has no link; its next one is seen to after
    /// its start.
    pub(super) async fn have_mac(
        &self,
        seen: &ContainerSeen,
        namespace: Option<PathBuf>,
        wanted: &Endpoint,
    ) -> Result<Change, ContainerError> {
        let mac = seen.endpoint(wanted.network).and_then(|there| there.mac);
        let (Some(pid), Some(_)) = (seen.pid, mac.filter(|mac| *mac != wanted.mac)) else {
            return Ok(Change::AlreadySo);
        };
        let set = self.set_mac(pid, namespace, wanted).await;
        set.map(|()| Change::Made)
            .map_err(|detail| EngineError::Failed { call: "give a container its MAC", detail }.into())
    }

    async fn set_mac(&self, pid: u32, namespace: Option<PathBuf>, wanted: &Endpoint) -> Result<(), String> {
        let end = self.end_on(pid, wanted.network).await?.ok_or("the kernel does not tell of its link")?;
        let namespace = namespace.ok_or("the engine does not tell of its namespace")?;
        let from = end.mac.ok_or("the kernel does not tell of its MAC")?;
        let change = Readdress { namespace, index: end.inner, from, to: wanted.mac };
        match unit::of(UNIT, &change.path()) {
            Some(unit) => by(unit).await,
            None => change.make().await,
        }
    }
}

async fn by(unit: Unit) -> Result<(), String> {
    let made = unit.start().await.map_err(|error| error.to_string());
    if made.is_err() {
        // Or it would stand among what has failed on this host, long after it was made good.
        let _ = unit.stop().await;
    }
    made
}

/// Gives a link the MAC that `path` tells, as [`Readdress::path`] writes it.
pub async fn set_mac(path: &Path) -> Result<(), String> {
    let change = Readdress::of(path);
    change.ok_or_else(|| format!("{}: not NAMESPACE/INDEX/FROM/TO", path.display()))?.make().await
}

/// What is changed in the container's namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Readdress {
    namespace: PathBuf,
    index: u32,
    from: MacAddr,
    to: MacAddr,
}

impl Readdress {
    /// All of it, as the name of a unit can tell it.
    fn path(&self) -> PathBuf {
        self.namespace.join(format!("{}/{}/{}", self.index, self.from, self.to))
    }

    fn of(path: &Path) -> Option<Self> {
        let mut parts = path.ancestors();
        let mut last = || parts.next()?.file_name()?.to_str();
        let (to, from, index) = (last()?.parse().ok()?, last()?.parse().ok()?, last()?.parse().ok()?);
        let namespace = parts.next().filter(|namespace| namespace.is_absolute())?;
        Some(Self { namespace: namespace.to_owned(), index, from, to })
    }

    async fn make(self) -> Result<(), String> {
        let Self { namespace, index, from, to } = self;
        netns::inside(namespace, async move |handle| {
            let links = handle.link();
            let mut found = links.get().match_index(index).execute();
            let there = found.try_next().await.map_err(step("looking at its link"))?;
            // An index alone may be of another namespace.
            let there = there.filter(|link| ends::mac(link) == Some(from));
            let there = there.ok_or("the namespace that the engine tells has not the container's link")?;
            let _announced = name_of(&there).and_then(Announced::of);
            let link = LinkUnspec::new_with_index(index).address(to.0.to_vec()).build();
            links.set(link).execute().await.map_err(step("giving its link its MAC"))
        })
        .await
    }
}

/// While this lives the kernel tells the neighbours of a link's new MAC. Where it cannot be told to, they learn of it in
/// their own time.
struct Announced {
    switch: String,
    before: String,
}

impl Announced {
    fn of(link: &str) -> Option<Self> {
        let switch = format!("/proc/sys/net/ipv4/conf/{link}/arp_notify");
        let before = std::fs::read_to_string(&switch).ok()?;
        std::fs::write(&switch, "1").ok()?;
        Some(Self { switch, before })
    }
}

impl Drop for Announced {
    fn drop(&mut self) {
        if let Err(error) = std::fs::write(&self.switch, self.before.trim()) {
            tracing::debug!(%error, switch = self.switch, "it stays on");
        }
    }
}

#[cfg(test)]
mod tests {
    use bollard::models::NetworkSettings;

    use super::*;

    #[test]
    fn what_is_changed_goes_through_a_units_name() {
        let change = Readdress {
            namespace: "/var/run/docker/netns/0123456789ab".into(),
            index: 7,
            from: MacAddr([2, 0x42, 10, 77, 0, 2]),
            to: MacAddr([0x52, 0x54, 0, 1, 2, 3]),
        };
        let path = "/var/run/docker/netns/0123456789ab/7/02:42:0a:4d:00:02/52:54:00:01:02:03";
        assert_eq!(change.path(), Path::new(path));
        assert_eq!(Readdress::of(Path::new(path)), Some(change));
        for other in
            ["/", "7/02:42:0a:4d:00:02/52:54:00:01:02:03", "/run/x/seven/02:42:0a:4d:00:02/52:54:00:01:02:03"]
        {
            assert_eq!(Readdress::of(Path::new(other)), None, "{other}");
        }
    }

    #[test]
    fn one_that_is_off_has_no_namespace() {
        let told = |key: Option<&str>| ContainerInspectResponse {
            network_settings: Some(NetworkSettings {
                sandbox_key: key.map(str::to_owned),
                ..NetworkSettings::default()
            }),
            ..ContainerInspectResponse::default()
        };
        assert_eq!(namespace(&ContainerInspectResponse::default()), None);
        assert_eq!(namespace(&told(None)), None);
        assert_eq!(namespace(&told(Some(""))), None);
        let path = "/var/run/docker/netns/0123456789ab";
        assert_eq!(namespace(&told(Some(path))), Some(path.into()));
    }
}
