//! `agentctl completion`: a script for the shell that completes what can be typed.

use std::io::{self, Write};

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::cli::Cli;
use crate::failure::Failure;

#[derive(Debug, Args)]
pub struct Completion {
    /// bash, zsh, fish, elvish or powershell
    #[arg(value_name = "SHELL", value_enum, hide_possible_values = true)]
    shell: Shell,
}

impl Completion {
    pub fn run(self) -> Result<(), Failure> {
        // Into memory first: the generator panics where its output is closed.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "agentctl", &mut script);
        io::stdout().lock().write_all(&script)?;
        Ok(())
    }
}
