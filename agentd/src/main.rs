//! The program agentd; all of it is in the library, which the one file of the packages is made of too.

use std::process::ExitCode;

fn main() -> ExitCode {
    agentd::main()
}
