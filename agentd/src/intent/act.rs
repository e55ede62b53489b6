//! Actions: `POST /v1/{kinds}/{name}/{action}`. Those that every kind has are here; a kind's own are in its admission.

use std::time::Duration;

use agentd_api::{ErrorCode, ObjectKey, Problem, Span};
use agentd_store::{Expect, Update};
use serde_json::Value;

use super::admission::{self, Desk, no_such_action, refused};
use super::commit::{Request, reply};
use super::write::{changeable, present};
use super::{Caller, Intents, Reply};

/// The longest time ahead for which a pass can be asked.
const DELAY_MAX: Span = Span::seconds(86_400);

impl Intents {
    /// 202 with the object as it was written down, 200 where it was so already.
    pub async fn act(
        &self,
        caller: &Caller,
        key: &ObjectKey,
        action: &str,
        body: Value,
    ) -> Result<Reply, Problem> {
        let known = agentd_api::registry::by_kind(&key.kind).and_then(|d| d.action(action));
        let Some(action) = known.map(|a| a.name) else {
            return Err(no_such_action(key, action));
        };
        let delay = parse_body(action, &body)?;
        let options = body.clone();
        let wanted = key.clone();
        let request = Request { verb: action, key, if_match: None, body: &body };
        let done = self
            .commit(caller, request, self.known(), move |desk| match action {
                "reconcile" => reconcile(desk, &wanted, delay),
                "retry" => retry(desk, &wanted),
                "rename" => renamed(desk, &wanted, &options),
                _ => own(desk, &wanted, action, &options),
            })
            .await?;
        if !caller.dry_run {
            match (action, delay) {
                ("reconcile", Some(delay)) => self.wake.wake_after(key.clone(), delay),
                ("reconcile" | "retry", _) => self.wake.wake(key.clone()),
                // A change wakes by itself.
                _ => {}
            }
        }
        Ok(done)
    }
}

/// Nothing, null and {} are no body. `reconcile` takes more, `{"delay":"5s"}`, and so do kinds' own actions where their
/// declaration says so.
fn parse_body(action: &str, body: &Value) -> Result<Option<Duration>, Problem> {
    let map = match body {
        Value::Null => return Ok(None),
        Value::Object(map) => map,
        _ => return Err(Problem::field("", "the body must be a JSON object")),
    };
    let mut delay = None;
    for (field, value) in map {
        if agentd_api::kind::action_fields(action).contains(&field.as_str()) && field != "delay" {
            continue;
        }
        if action != "reconcile" || field != "delay" {
            return Err(Problem::field(field, format!("unknown field `{field}`")));
        }
        let text =
            value.as_str().ok_or_else(|| Problem::field("delay", "must be a string such as \"5s\""))?;
        let span: Span = text.parse().map_err(|e| Problem::field("delay", format!("{e}")))?;
        if span > DELAY_MAX {
            return Err(Problem::field("delay", format!("must be at most {DELAY_MAX}, not {span}")));
        }
        delay = Some(span.duration());
    }
    Ok(delay)
}

fn reconcile(desk: &mut Desk<'_>, key: &ObjectKey, delay: Option<Duration>) -> Result<Reply, Problem> {
    let is = present(desk, key, None)?;
    let when = delay.map_or_else(|| "now".to_owned(), |d| format!("in {}", Span(d)));
    desk.record(&is, "reconcile", format!("to be looked at {when}"));
    Ok(reply(202, &is))
}

/// Works on what is being deleted too: a delete that the backend refused is retried like all else.
fn retry(desk: &mut Desk<'_>, key: &ObjectKey) -> Result<Reply, Problem> {
    let is = present(desk, key, None)?;
    let status = (admission::of(&key.kind)?.retried)(&is)?;
    let update = Update { status: Some(status), ..Update::default() };
    let now = desk.tx.update(key, Expect::Any, update).map_err(refused)?;
    desk.record(&now, "retry", "failed attempts are forgotten");
    Ok(reply(202, &now))
}

/// Only containers declare it.
fn renamed(desk: &mut Desk<'_>, key: &ObjectKey, options: &Value) -> Result<Reply, Problem> {
    let now = super::container::rename(desk, key, options)?;
    if now.key() == key {
        return Ok(reply(200, &now));
    }
    desk.record(&now, "rename", format!("from '{}'", key.name));
    Ok(reply(202, &now))
}

fn own(
    desk: &mut Desk<'_>,
    key: &ObjectKey,
    action: &'static str,
    options: &Value,
) -> Result<Reply, Problem> {
    let is = changeable(desk, key, None)?;
    let acted = (admission::of(&key.kind)?.act)(desk, &is, action, options)?;
    let update =
        Update { spec: acted.spec, status: acted.status, touch_generation: acted.touch, ..Update::default() };
    let now = desk.tx.update(key, Expect::Any, update).map_err(refused)?;
    if now.revision() == is.revision() && !acted.elsewhere {
        return Ok(reply(200, &now));
    }
    desk.record(&now, action, "wanted");
    Ok(reply(202, &now))
}

/// What an action cannot be done to.
pub(super) fn not_now(key: &ObjectKey, action: &str, why: &str) -> Problem {
    Problem::new(ErrorCode::Conflict, format!("{key} cannot {action}: {why}"))
}
