//! `agentctl doctor`: each thing that agentd needs of a host, whether it is there, and the command that mends it. Where
//! no daemon answers it says how to start one and looks itself at what can be seen from here.

mod local;

use std::io::{self, Write};

use agentd_api::doctor::{Report, Verdict};
use agentd_api::paths;
use agentd_client::ClientError;
use clap::Args;

use crate::app::App;
use crate::failure::{Exit, Failure};
use crate::output::table::plain;
use crate::output::{self, undecodable};

#[derive(Debug, Args)]
pub struct Doctor {}

impl Doctor {
    pub async fn run(self, app: &App) -> Result<(), Failure> {
        let (body, unanswered) = match app.client.raw(paths::DOCTOR).await {
            Ok(body) => (body.to_vec(), None),
            Err(error @ (ClientError::NoDaemon { .. } | ClientError::SocketForbidden { .. })) => {
                let report = local::report(&error);
                (serde_json::to_vec(&report).map_err(|e| undecodable(&e))?, Some(Failure::from(error)))
            }
            Err(error) => return Err(error.into()),
        };
        let report: Report = serde_json::from_slice(&body).map_err(|e| undecodable(&e))?;
        if !output::print_raw(&body, app.output)? {
            io::stdout().lock().write_all(render(&report).as_bytes())?;
        }
        match (unanswered, report.worst()) {
            (Some(failure), _) => Err(failure),
            (None, Verdict::Fail) => Err(Failure::silent(Exit::Failed)),
            (None, Verdict::Ok | Verdict::Warn) => Ok(()),
        }
    }
}

/// `ok    name  detail`, and below it what mends it.
fn render(report: &Report) -> String {
    let width = report.checks.iter().map(|c| c.name.chars().count()).max().unwrap_or(0);
    let mut text = String::new();
    for check in &report.checks {
        let verdict = match check.verdict {
            Verdict::Ok => "ok",
            Verdict::Warn => "warn",
            Verdict::Fail => "FAIL",
        };
        text.push_str(&format!("{verdict:4}  {:width$}  {}\n", plain(&check.name), plain(&check.detail)));
        if let Some(fix) = check.fix.as_ref().filter(|_| check.verdict != Verdict::Ok) {
            text.push_str(&format!("{:4}  {:width$}  fix: {}\n", "", "", plain(fix)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use agentd_api::doctor::Check;

    #[test]
    fn a_fix_stands_below_what_it_mends() {
        let check = |name: &str, verdict, fix: Option<&str>| Check {
            name: name.into(),
            verdict,
            detail: format!("{name} is so"),
            fix: fix.map(Into::into),
        };
        let report = Report {
            checks: vec![
                check("libvirt", Verdict::Ok, Some("not shown")),
                check("dnsmasq", Verdict::Fail, Some("apt-get install dnsmasq-base")),
                check("kvm", Verdict::Warn, None),
            ],
        };
        insta::assert_snapshot!(render(&report), @r"
        ok    libvirt  libvirt is so
        FAIL  dnsmasq  dnsmasq is so
                       fix: apt-get install dnsmasq-base
        warn  kvm      kvm is so
        ");
    }
}
