//! agentd and agentctl in one file, which packages install: most of what the two are made of they share. Called as
//! `agentctl` it is that, and agentd by any other name.

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let called = std::env::args_os().next().unwrap_or_default();
    if Path::new(&called).file_name().is_some_and(|name| name == "agentctl") {
        agentctl::main()
    } else {
        agentd::main()
    }
}
