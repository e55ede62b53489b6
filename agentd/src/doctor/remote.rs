//! The listener for other machines, where one is wanted.

use std::net::SocketAddr;
use std::time::Duration;

use agentd_api::Timestamp;
use agentd_api::doctor::{Check, Verdict};

use super::{check, ok};

/// A certificate that ends sooner than this is worth a word.
const SOON: Duration = Duration::from_secs(30 * 24 * 3600);
const RENEW: &str = "agentctl remote init --renew";

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RemoteSeen {
    /// Nothing while it does not listen.
    pub serves: Option<RemoteServes>,
    /// What keeps it from listening, or why changed files are not in use.
    pub amiss: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteServes {
    pub listen: SocketAddr,
    /// When its certificate ends.
    pub expires: Timestamp,
}

impl RemoteSeen {
    /// One sentence about it.
    pub fn detail(&self) -> String {
        let amiss = self.amiss.as_deref();
        match &self.serves {
            None => amiss.unwrap_or("it is not listened yet").to_owned(),
            Some(RemoteServes { listen, expires }) => {
                let more = amiss.map(|what| format!("; {what}")).unwrap_or_default();
                format!("listens on {listen} with a certificate until {expires}{more}")
            }
        }
    }
}

pub(super) fn remote(seen: &RemoteSeen) -> Check {
    const NAME: &str = "remote";
    let detail = seen.detail();
    match &seen.serves {
        None => check(NAME, Verdict::Fail, format!("other machines cannot call: {detail}"), None),
        Some(_) if seen.amiss.is_some() => check(NAME, Verdict::Warn, detail, None),
        Some(serves) if serves.expires < Timestamp::now() => {
            check(NAME, Verdict::Fail, format!("its certificate has expired: {detail}"), Some(RENEW))
        }
        Some(serves) if serves.expires < Timestamp::now().plus(SOON) => {
            check(NAME, Verdict::Warn, format!("its certificate ends soon: {detail}"), Some(RENEW))
        }
        Some(_) => ok(NAME, detail),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_keeps_others_out_fails_and_what_will_is_warned_of() {
        let listen = "127.0.0.1:7443".parse().expect("an address");
        let serving = |expires| RemoteSeen { serves: Some(RemoteServes { listen, expires }), amiss: None };
        let in_days = |days: u64| Timestamp::now().plus(Duration::from_secs(days * 24 * 3600));
        let away = RemoteSeen { serves: None, amiss: Some("the port is taken".to_owned()) };
        assert_eq!(remote(&away).verdict, Verdict::Fail);
        assert!(remote(&away).detail.contains("the port is taken"));
        assert_eq!(remote(&serving(in_days(300))).verdict, Verdict::Ok);
        assert_eq!(remote(&serving(in_days(10))).verdict, Verdict::Warn);
        assert_eq!(remote(&serving(in_days(10))).fix.as_deref(), Some(RENEW));
        assert_eq!(remote(&serving(Timestamp(0))).verdict, Verdict::Fail);
        let stale = RemoteSeen { amiss: Some("server.pem is odd".to_owned()), ..serving(in_days(300)) };
        assert_eq!(remote(&stale).verdict, Verdict::Warn);
    }
}
