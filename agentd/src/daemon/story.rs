//! What happens to objects, told to the journal: each event that the store records is an entry with the object's kind,
//! project and name and the request's id as fields.
//!
//! Only where the log goes to the journal: elsewhere the events are in the store (`agentctl events`), and a line each
//! would be nothing but a second copy. Events hold no secrets: every caller may read them.

use agentd_api::event::{Event, Outcome};
use agentd_store::{EventQuery, Store};
use tokio_util::sync::CancellationToken;

/// As many events as are read at a time.
const PAGE: usize = 256;

/// Tells of what happens from now on, until `end`.
pub async fn tell(store: Store, end: CancellationToken) {
    let mut news = store.watch_events();
    let mut query = EventQuery {
        limit: Some(PAGE),
        // Without a look at the events, which a start has no time to read.
        since: Some(*news.borrow_and_update()),
        ..EventQuery::default()
    };
    loop {
        // Cancel safety: what comes while the list is read moves the channel on.
        tokio::select! {
            () = end.cancelled() => return,
            news = news.changed() => if news.is_err() { return },
        }
        loop {
            let list = store.events(&query);
            list.items.iter().for_each(entry);
            query.since = Some(list.next);
            if list.items.len() < PAGE {
                break;
            }
        }
    }
}

fn entry(event: &Event) {
    let Event { kind, project, name, actor, verb, message, .. } = event;
    let request_id = event.request_id.as_deref();
    match event.outcome {
        Outcome::Failed => {
            tracing::warn!(kind, project, name, actor, verb, request_id, "{kind}/{name}: {verb}: {message}");
        }
        _ => tracing::info!(kind, project, name, actor, verb, request_id, "{kind}/{name}: {verb}: {message}"),
    }
}
