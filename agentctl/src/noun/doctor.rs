//! `agentctl doctor`: each thing that agentd needs of a host, whether it is there, and the command that mends it. Where
//! no daemon answers it says how to start one and looks itself at what can be seen from here. Below that stands where the
//! host and the objects differ; `--fix` has mended of it what loses nothing.

mod local;

use std::io::{self, BufRead, IsTerminal, Write};

use agentd_api::doctor::{FindingSort, Repair, RepairWish, Report, Verdict};
use agentd_api::paths;
use agentd_client::{Address, ClientError};
use clap::Args;

use crate::app::App;
use crate::failure::{Exit, Failure};
use crate::output::table::plain;
use crate::output::{self, undecodable};

#[derive(Debug, Args)]
pub struct Doctor {
    /// Mend what was found and can be mended without a loss: ask first, and tell what came of each
    #[arg(long)]
    fix: bool,
    /// Do not ask
    #[arg(long, requires = "fix")]
    yes: bool,
}

impl Doctor {
    pub async fn run(self, app: &App) -> Result<(), Failure> {
        let (body, unanswered) = match app.client.raw(paths::DOCTOR).await {
            Ok(body) => (body.to_vec(), None),
            // Another machine cannot be looked at from here.
            Err(
                error @ (ClientError::NoDaemon { at: Address::Socket(_), .. }
                | ClientError::SocketForbidden { .. }),
            ) => {
                let report = local::report(&error);
                (serde_json::to_vec(&report).map_err(|e| undecodable(&e))?, Some(Failure::from(error)))
            }
            Err(error) => return Err(error.into()),
        };
        let report: Report = serde_json::from_slice(&body).map_err(|e| undecodable(&e))?;
        if !output::print_raw(&body, app.output)? {
            io::stdout().lock().write_all(render(&report).as_bytes())?;
        }
        let mended = match &unanswered {
            None if self.fix => self.mend(app, &report).await?,
            _ => true,
        };
        match (unanswered, report.worst()) {
            (Some(failure), _) => Err(failure),
            (None, _) if !mended => Err(Failure::silent(Exit::Failed)),
            (None, Verdict::Fail) => Err(Failure::silent(Exit::Failed)),
            (None, Verdict::Ok | Verdict::Warn) => Ok(()),
        }
    }
}

impl Doctor {
    /// Whether all of it was done.
    async fn mend(&self, app: &App, report: &Report) -> Result<bool, Failure> {
        let safe = report.findings.iter().filter(|finding| finding.fix.is_some());
        let subjects: Vec<String> = safe.map(|finding| finding.subject.clone()).collect();
        if subjects.is_empty() {
            app.say("nothing was found that can be mended without a loss");
            return Ok(true);
        }
        if !self.yes && !agreed(app, subjects.len())? {
            app.say("nothing was changed");
            return Ok(true);
        }
        let done = app.client.repair(&RepairWish { subjects }).await?;
        app.say(repaired(&done.items).trim_end());
        Ok(done.items.iter().all(|repair| repair.done))
    }
}

/// Asks at a terminal; elsewhere nobody could answer.
fn agreed(app: &App, count: usize) -> Result<bool, Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::new(Exit::Usage, "there is no terminal to ask at")
            .hint("`agentctl doctor --fix --yes` does it unasked"));
    }
    app.say(format_args!("do what stands behind --fix, {count} in all? [y/N]"));
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// `done  subject  detail`
fn repaired(repairs: &[Repair]) -> String {
    let width = repairs.iter().map(|repair| repair.subject.chars().count()).max().unwrap_or(0);
    let line = |repair: &Repair| {
        let end = if repair.done { "done" } else { "FAIL" };
        format!("{end}  {:width$}  {}\n", plain(&repair.subject), plain(&repair.detail))
    };
    repairs.iter().map(line).collect()
}

/// `ok    name  detail`, and below it what mends it; then what was found beside, in the same form.
fn render(report: &Report) -> String {
    let names = report.checks.iter().map(|check| &check.name);
    let width = names.map(|name| name.chars().count()).max().unwrap_or(0);
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
    for finding in &report.findings {
        let sort = match finding.sort {
            FindingSort::Orphan => "orphan",
            FindingSort::Missing => "missing",
        };
        text.push_str(&format!("{sort:7}  {}: {}\n", plain(&finding.subject), plain(&finding.detail)));
        if let Some(fix) = &finding.fix {
            text.push_str(&format!("{:7}  --fix: {}\n", "", plain(fix)));
        }
        if let Some(by_hand) = &finding.by_hand {
            text.push_str(&format!("{:7}  by hand: {}\n", "", plain(by_hand)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use agentd_api::doctor::{Check, Finding};

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
            findings: Vec::new(),
        };
        insta::assert_snapshot!(render(&report), @r"
        ok    libvirt  libvirt is so
        FAIL  dnsmasq  dnsmasq is so
                       fix: apt-get install dnsmasq-base
        warn  kvm      kvm is so
        ");
    }

    #[test]
    fn what_differs_stands_below_the_checks_with_what_is_done_and_by_whom() {
        let finding = |sort, subject: &str, fix: Option<&str>, by_hand: Option<&str>| Finding {
            sort,
            subject: subject.into(),
            detail: "it is so".into(),
            fix: fix.map(Into::into),
            by_hand: by_hand.map(Into::into),
        };
        let report = Report {
            checks: Vec::new(),
            findings: vec![
                finding(FindingSort::Orphan, "domain/0197", Some("removes its definition"), None),
                finding(FindingSort::Orphan, "volume/0198", None, Some("rm -r /var/lib/agentd/volumes/0198")),
                finding(FindingSort::Missing, "vm/default/web", Some("has the object looked at now"), None),
            ],
        };
        insta::assert_snapshot!(render(&report), @r"
        orphan   domain/0197: it is so
                 --fix: removes its definition
        orphan   volume/0198: it is so
                 by hand: rm -r /var/lib/agentd/volumes/0198
        missing  vm/default/web: it is so
                 --fix: has the object looked at now
        ");
        let came = |subject: &str, done| Repair { subject: subject.into(), done, detail: "so".into() };
        insta::assert_snapshot!(repaired(&[came("domain/0197", true), came("vm/default/web", false)]), @r"
        done  domain/0197     so
        FAIL  vm/default/web  so
        ");
    }
}
