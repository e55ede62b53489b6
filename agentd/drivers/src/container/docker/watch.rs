//! Tells when a link of a container's has gone, or is on its bridge no more. What was lost of that, and what came about
//! while agentd was away, is found by the next list, which counts links.

use futures_util::StreamExt;
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::{MulticastGroup, new_multicast_connection};
use tokio::sync::broadcast;
use tokio::task::JoinHandle;

use super::{Inner, plugs};
use crate::Instance;
use crate::container::ContainerEvent;

/// Ends with this.
#[derive(Debug)]
pub(super) struct Watching(JoinHandle<()>);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Inner {
    /// From here on. Must be called within a tokio runtime.
    pub(super) fn watch_links(&self) {
        self.watching.get_or_init(|| watch(self.instance.clone(), self.events.clone()));
    }
}

fn watch(instance: Instance, events: broadcast::Sender<ContainerEvent>) -> Watching {
    Watching(tokio::spawn(async move {
        let (connection, _handle, mut told) = match new_multicast_connection(&[MulticastGroup::Link]) {
            Ok(opened) => opened,
            Err(error) => return tracing::warn!(%error, "changes of containers' links are not watched"),
        };
        let connection = tokio::spawn(connection);
        while let Some((message, _)) = told.next().await {
            let about = match &message.payload {
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(link)) => {
                    plugs::read(link, &instance).map(|plug| Some(plug.container))
                }
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => {
                    let off = plugs::read(link, &instance).filter(|plug| !plug.bridged);
                    off.map(|plug| Some(plug.container))
                }
                NetlinkPayload::Overrun(_) => Some(None),
                _ => None,
            };
            if let Some(id) = about {
                // Nobody listening is no error.
                let _ = events.send(ContainerEvent { id });
            }
        }
        connection.abort();
    }))
}
