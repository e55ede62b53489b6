//! Tells when a link of a container's has gone, or is on its bridge no more.

use futures_util::StreamExt;
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::{MulticastGroup, new_multicast_connection};
use tokio::sync::broadcast;
use tokio::task::JoinHandle;

use super::links;
use crate::Instance;
use crate::container::ContainerEvent;

/// Ends with this.
#[derive(Debug)]
pub struct Watching(JoinHandle<()>);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Must be called within a tokio runtime.
pub fn watch(instance: Instance, events: broadcast::Sender<ContainerEvent>) -> Watching {
    Watching(tokio::spawn(async move {
        let (connection, _handle, mut told) = match new_multicast_connection(&[MulticastGroup::Link]) {
            Ok(opened) => opened,
            // The slow resync finds what is missed.
            Err(error) => return tracing::warn!(%error, "changes of containers' links are not watched"),
        };
        let connection = tokio::spawn(connection);
        while let Some((message, _)) = told.next().await {
            let plug = match &message.payload {
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelLink(link)) => {
                    links::read(link, &instance)
                }
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => {
                    links::read(link, &instance).filter(|plug| !plug.bridged)
                }
                _ => None,
            };
            if let Some(plug) = plug {
                // Nobody listening is no error.
                let _ = events.send(ContainerEvent { id: Some(plug.container) });
            }
        }
        connection.abort();
    }))
}
