//! `agentctl top`: what guests of all kinds use, the busiest first, again and again on a terminal and once elsewhere.

use std::io::{self, IsTerminal, Write};

use agentd_api::Span;
use clap::Args;

use super::stats::{INTERVAL_MIN, Looker, show};
use crate::app::App;
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::output::figures::Order;

#[derive(Debug, Args)]
pub struct Top {
    /// How often the figures are taken
    #[arg(long, value_name = "DURATION", default_value = "2s")]
    interval: Span,
    /// End after so many tables
    #[arg(short = 'n', long, value_name = "N")]
    count: Option<u64>,
}

/// A screen of its own, so that what stood on the terminal comes back, however this ends.
struct Screen;

impl Screen {
    fn open() -> io::Result<Self> {
        let screen = Self;
        io::stdout().write_all(b"\x1b[?1049h\x1b[?25l")?;
        io::stdout().flush()?;
        Ok(screen)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing back.
        let _ = io::stdout().write_all(b"\x1b[?25h\x1b[?1049l");
        let _ = io::stdout().flush();
    }
}

impl Top {
    pub async fn run(self, app: &App) -> Result<(), Failure> {
        if !app.output.is_table() {
            let other =
                if app.output == Output::Json { " (`agentctl vm stats -o json` prints them)" } else { "" };
            return Err(Failure::new(Exit::Usage, format!("top prints tables only{other}")));
        }
        let terminal = io::stdout().is_terminal();
        let mut left = self.count.unwrap_or(if terminal { u64::MAX } else { 1 });
        let looker = Looker { app, def: None, names: Vec::new() };
        let mut before = looker.decoded().await?;
        for missing in &before.missing {
            app.say(format_args!("{}s are missing: {}", missing.kind, missing.reason));
        }
        let screen = if terminal { Some(Screen::open()?) } else { None };
        let interval = self.interval.duration().max(INTERVAL_MIN);
        while left > 0 {
            // Cancel safety: both arms only wait.
            tokio::select! {
                _ = tokio::signal::ctrl_c() => break,
                () = tokio::time::sleep(interval) => {}
            }
            let now = looker.decoded().await?;
            show(&before, &now, Order::Cpu, true, terminal)?;
            before = now;
            left -= 1;
        }
        drop(screen);
        Ok(())
    }
}
