//! What it runs, and what that finds.

use clap::Args;
use serde_json::{Map, Value, json};

use crate::noun::exec::variable;
use crate::noun::vm::put;

#[derive(Debug, Default, Args)]
pub struct ProgramArgs {
    /// In place of the image's own entry point; empty is none
    #[arg(long, value_name = "PROGRAM")]
    entrypoint: Option<String>,
    /// Set a variable of its environment
    #[arg(short, long = "env", value_name = "K=V", value_parser = variable)]
    env: Vec<(String, String)>,
    /// The folder that it begins in [default: the image's own]
    #[arg(short = 'w', long, value_name = "DIR")]
    cwd: Option<String>,
    /// The user that it runs as, also as USER:GROUP [default: the image's own]
    #[arg(short, long, value_name = "USER")]
    user: Option<String>,
    /// What it calls itself [default: its name]
    #[arg(long, value_name = "NAME")]
    hostname: Option<String>,
    /// Give it a terminal
    #[arg(short, long)]
    tty: bool,
    /// Keep its input open; `run` sits at it, and at what it says, until it ends or is left (Ctrl-P Ctrl-Q with --tty)
    #[arg(short, long)]
    pub interactive: bool,
}

impl ProgramArgs {
    pub fn fill(&self, spec: &mut Map<String, Value>) {
        if let Some(program) = &self.entrypoint {
            let words: Vec<&String> =
                Some(program).filter(|program| !program.is_empty()).into_iter().collect();
            spec.insert("entrypoint".to_owned(), json!(words));
        }
        if !self.env.is_empty() {
            let env: Map<String, Value> = self.env.iter().map(|(k, v)| (k.clone(), json!(v))).collect();
            spec.insert("env".to_owned(), Value::Object(env));
        }
        put(spec, "cwd", self.cwd.as_ref());
        put(spec, "user", self.user.as_ref());
        put(spec, "hostname", self.hostname.as_ref());
        put(spec, "tty", self.tty.then_some(true));
        put(spec, "stdin_open", self.interactive.then_some(true));
    }
}
