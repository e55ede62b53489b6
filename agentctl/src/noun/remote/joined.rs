//! `agentctl remote join | list | forget`: which machines --host knows.

use std::io::{self, Read};
use std::path::PathBuf;

use agentd_api::ObjectName;
use agentd_client::RemoteAddress;
use clap::Args;
use serde_json::json;

use crate::app::App;
use crate::failure::{Exit, Failure};
use crate::output;
use crate::remotes::{self, Joined, Remotes};

/// A bundle is some two kilobytes.
const LONGEST: u64 = 1 << 20;

#[derive(Debug, Args)]
pub struct Join {
    /// What it is called here, as in `--host NAME`
    #[arg(value_name = "NAME")]
    name: ObjectName,
    /// Where it is: HOST[:PORT], by a name or address of its certificate; the port is 7443 unless it is given
    #[arg(value_name = "ADDRESS")]
    address: RemoteAddress,
    /// What `agentctl remote add-client` has made there, or `-` for stdin
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Do not call it now
    #[arg(long)]
    offline: bool,
}

impl Join {
    pub async fn run(self, app: &App) -> Result<(), Failure> {
        let known = Remotes::of_this_user()?;
        known.refuse_known(&self.name)?;
        let bundle = self.read()?;
        let identity = remotes::identity(&self.file, &bundle)?;
        let joined = Joined { name: self.name, address: self.address, identity };
        let said = if self.offline {
            format!("{} is known as '{}', and was not called", joined.address, joined.name)
        } else {
            let info = joined.client()?.info().await?;
            let (host, version) =
                (output::table::plain(&info.host.hostname), output::table::plain(&info.version));
            format!("{} is known as '{}': agentd {version} on {host}", joined.address, joined.name)
        };
        known.add(&joined.name, &joined.address, &bundle)?;
        app.say(said);
        app.say(format_args!("agentctl --host {} vm list", joined.name));
        Ok(())
    }

    fn read(&self) -> Result<Vec<u8>, Failure> {
        let mut bundle = Vec::new();
        let read = if self.file.as_os_str() == "-" {
            io::stdin().lock().take(LONGEST).read_to_end(&mut bundle)
        } else {
            std::fs::File::open(&self.file).and_then(|file| file.take(LONGEST).read_to_end(&mut bundle))
        };
        read.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                Failure::new(Exit::Usage, format!("there is no {}", self.file.display()))
                    .hint("`agentctl remote add-client NAME` makes it, on the host that is to be called")
            }
            _ => remotes::unreadable(&self.file, &error),
        })?;
        Ok(bundle)
    }
}

#[derive(Debug, Args)]
pub struct List {}

impl List {
    pub fn run(self, app: &App) -> Result<(), Failure> {
        let known = Remotes::of_this_user()?;
        let mut rows = Vec::new();
        let mut documents = Vec::new();
        for name in known.names()? {
            // One that cannot be read is shown as such: it is what one looks for.
            let (address, certificate) = match known.get(&name) {
                Ok(joined) => (joined.address.to_string(), joined.certificate()),
                Err(_) => ("-".to_owned(), None),
            };
            let (client, expires) =
                certificate.map_or(("-".to_owned(), None), |(c, at)| (c, Some(at.to_string())));
            documents
                .push(json!({"name": name, "address": address, "client": client, "expires_at": expires}));
            rows.push(vec![name, address, client, expires.unwrap_or_else(|| "-".to_owned())]);
        }
        let shown =
            output::print_rows((vec!["NAME", "ADDRESS", "CLIENT", "EXPIRES"], rows), documents, app.output)?;
        if !shown {
            app.say("no machine was joined; `agentctl remote join` adds one");
        }
        Ok(())
    }
}

#[derive(Debug, Args)]
pub struct Forget {
    /// What it is called here
    #[arg(value_name = "NAME")]
    name: ObjectName,
}

impl Forget {
    pub fn run(self, app: &App) -> Result<(), Failure> {
        Remotes::of_this_user()?.remove(&self.name)?;
        app.say(format_args!(
            "'{}' is forgotten here; its certificate holds until it is revoked there",
            self.name
        ));
        Ok(())
    }
}
