//! `agentctl remote add-client | revoke | list-clients`: whom this host lets in.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::authority::{Authority, issued};
use super::{Days, Dir};
use crate::app::App;
use crate::failure::{Exit, Failure};
use crate::noun::private;
use crate::output;

#[derive(Debug, Args)]
pub struct AddClient {
    /// What it is called in events: a machine, a person
    #[arg(value_name = "NAME", value_parser = client_name)]
    name: String,
    /// The file that is made, which is secret [default: stdout, where that is no terminal]
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    days: Days,
    #[command(flatten)]
    dir: Dir,
}

impl AddClient {
    pub fn run(self, app: &App) -> Result<(), Failure> {
        let name = &self.name;
        let out = self.out.as_deref().filter(|out| out.as_os_str() != "-");
        if out.is_none() && io::stdout().is_terminal() {
            return Err(Failure::new(Exit::Usage, "a key is nothing to look at")
                .hint(format!("name a file (--out {name}.pem), or send stdout where it is needed")));
        }
        if let Some(out) = out.filter(|out| out.symlink_metadata().is_ok()) {
            return Err(Failure::new(Exit::Conflict, format!("{} is there already", out.display()))
                .hint("name another file"));
        }
        let dir = &self.dir.dir;
        let authority = Authority::open(dir)?;
        if let Some(one) = issued(dir)?.iter().find(|one| one.name == *name && one.holds()) {
            let message = format!("client '{name}' has a certificate until {}", one.expires);
            return Err(Failure::new(Exit::Conflict, message)
                .hint(format!("choose another name, or `agentctl remote revoke {name}` first")));
        }
        let pair = authority.certify_client(name, self.days.days)?;
        // The client's comes first: that is how it is told from the authority's.
        let bundle = [pair.certificate.as_str(), &pair.key, authority.ca()].concat();
        let written = match out {
            Some(out) => {
                private::create(out, bundle.as_bytes(), 0o600).map_err(|e| (out.display().to_string(), e))
            }
            None => {
                let mut stdout = io::stdout().lock();
                stdout
                    .write_all(bundle.as_bytes())
                    .and_then(|()| stdout.flush())
                    .map_err(|e| ("stdout".to_owned(), e))
            }
        };
        written.map_err(|(to, error)| {
            Failure::new(Exit::Failed, format!("cannot write {to}: {error}")).hint(format!(
                "the certificate was made and is lost: `agentctl remote revoke {name}`, and add it again"
            ))
        })?;
        if let Some(out) = out {
            app.say(format_args!("client '{name}' is let in by what is in {}", out.display()));
            app.say(format_args!("there: agentctl remote join HOST ADDRESS {}", out.display()));
        }
        Ok(())
    }
}

#[derive(Debug, Args)]
pub struct Revoke {
    /// The client's name
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    dir: Dir,
}

impl Revoke {
    pub fn run(self, app: &App) -> Result<(), Failure> {
        let (name, dir) = (&self.name, &self.dir.dir);
        let authority = Authority::open(dir)?;
        let of_it = issued(dir)?.into_iter().filter(|one| one.name == *name && !one.revoked);
        let serials: Vec<_> = of_it.map(|one| one.serial).collect();
        if serials.is_empty() {
            return Err(Failure::new(
                Exit::NotFound,
                format!("no client '{name}' has a certificate that holds"),
            )
            .hint("`agentctl remote list-clients` shows who has"));
        }
        let count = serials.len();
        authority.revoke(serials)?;
        app.say(format_args!(
            "client '{name}' is let in no more ({count} of its certificates); agentd closes what it has open"
        ));
        Ok(())
    }
}

#[derive(Debug, Args)]
pub struct ListClients {
    #[command(flatten)]
    dir: Dir,
}

impl ListClients {
    pub fn run(self, app: &App) -> Result<(), Failure> {
        let clients = issued(&self.dir.dir)?;
        let state = |one: &super::authority::Issued| match (one.revoked, one.expired()) {
            (true, _) => "revoked",
            (false, true) => "expired",
            (false, false) => "holds",
        };
        let rows = clients.iter().map(|one| {
            let (serial, expires) = (one.serial_text(), one.expires.to_string());
            let document =
                json!({"name": one.name, "state": state(one), "expires_at": expires, "serial": serial});
            (vec![one.name.clone(), state(one).to_owned(), expires, serial], document)
        });
        let (rows, documents) = rows.unzip();
        let shown =
            output::print_rows((vec!["NAME", "STATE", "EXPIRES", "SERIAL"], rows), documents, app.output)?;
        if !shown {
            app.say("nobody has a certificate of this host's; `agentctl remote add-client` makes one");
        }
        Ok(())
    }
}

/// One that can stand in an event and on a command line.
fn client_name(text: &str) -> Result<String, String> {
    let fit = agentd_api::remote::is_client_name(text) && !text.starts_with('-');
    if fit {
        Ok(text.to_owned())
    } else {
        Err("must be 1 to 64 letters, digits and signs, without spaces".to_owned())
    }
}
