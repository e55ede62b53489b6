//! The MACs of Docker's links: what agentd says, whatever Docker makes of it.
//!
//! Docker 25 to 29.2 heeds a MAC only as a container is made (moby 48192). The link of an endpoint that is plugged in later
//! has one of Docker's own making, and so it has after each start.
//!
//! It is set in the container's namespace, by the name that Docker keeps it under. From outside that cannot be done: in a
//! request to change a link the kernel takes `IFLA_TARGET_NETNSID` for where it is to be moved.

use std::path::PathBuf;

use agentd_api::MacAddr;
use bollard::models::ContainerInspectResponse;
use futures_util::TryStreamExt;
use rtnetlink::{Handle, LinkUnspec};

use super::plugs::{name_of, step};
use super::podman::netns;
use super::{Inner, ends};
use crate::container::{Change, ContainerError, ContainerSeen, Endpoint};
use crate::engine::EngineError;

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
        let change = Readdress { index: end.inner, from: end.mac, to: wanted.mac };
        netns::inside(namespace, async move |handle| change.make(&handle).await).await
    }
}

/// What is changed in the container's namespace.
struct Readdress {
    index: u32,
    from: Option<MacAddr>,
    to: MacAddr,
}

impl Readdress {
    async fn make(self, handle: &Handle) -> Result<(), String> {
        let links = handle.link();
        let mut found = links.get().match_index(self.index).execute();
        let there = found.try_next().await.map_err(step("looking at its link"))?;
        // An index alone may be of another namespace.
        let there = there.filter(|link| ends::mac(link) == self.from);
        let there = there.ok_or("the namespace that the engine tells has not the container's link")?;
        let _announced = name_of(&there).and_then(Announced::of);
        let link = LinkUnspec::new_with_index(self.index).address(self.to.0.to_vec()).build();
        links.set(link).execute().await.map_err(step("giving its link its MAC"))
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
