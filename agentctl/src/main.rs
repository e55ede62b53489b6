//! The program agentctl; all of it is in the library, which the packaging asks for manual pages and completions.

use std::process::ExitCode;

fn main() -> ExitCode {
    agentctl::main()
}
