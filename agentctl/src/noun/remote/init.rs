//! `agentctl remote init`: an authority of this host's own, and a certificate of the daemon's by it.

use agentd_api::remote;
use agentd_client::RemoteAddress;
use clap::Args;

use super::authority::{Authority, server_names};
use super::{Days, Dir};
use crate::app::App;
use crate::failure::Failure;

/// What every host is called by itself.
const OWN: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

#[derive(Debug, Args)]
pub struct Init {
    /// A name or address that this host is called by, beside its host name; may be given several times
    #[arg(long = "name", value_name = "HOST", value_parser = host)]
    names: Vec<String>,
    /// Make a new certificate of the daemon's by the authority that is there, for the same names and those given
    #[arg(long)]
    renew: bool,
    #[command(flatten)]
    days: Days,
    #[command(flatten)]
    dir: Dir,
}

impl Init {
    pub fn run(self, app: &App) -> Result<(), Failure> {
        let dir = &self.dir.dir;
        let own = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        // A host name that no certificate can have is left out; what is given is checked before.
        let own = host(own.trim()).ok();
        let named = own.iter().cloned().chain(OWN.map(str::to_owned)).chain(self.names);
        let mut names: Vec<String> = if self.renew { server_names(dir)? } else { Vec::new() };
        for name in named {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        if self.renew {
            Authority::open(dir)?.certify_server(&names, self.days.days)?;
        } else {
            let authority = Authority::make(dir, own.as_deref().unwrap_or("a host"))?;
            authority.certify_server(&names, self.days.days)?;
            authority.complete()?;
            app.say(format_args!(
                "made an authority in {}; whoever has its {} is it",
                dir.display(),
                remote::CA_KEY
            ));
        }
        let days = self.days.days;
        app.say(format_args!("made a certificate of the daemon's for {days} days, as {}", names.join(", ")));
        if !self.renew {
            app.say(format_args!(
                "next: [remote] listen = \"0.0.0.0:{}\" in /etc/agentd/agentd.toml, `systemctl restart agentd`, and \
                 `agentctl remote add-client NAME`",
                remote::PORT
            ));
        }
        Ok(())
    }
}

/// A name or address that a certificate can have.
fn host(text: &str) -> Result<String, String> {
    let address: RemoteAddress =
        text.parse().map_err(|_| format!("'{text}' is no host's name or address"))?;
    if address.host() == text { Ok(text.to_owned()) } else { Err("give it without a port".to_owned()) }
}
