//! agentd's program in a guest: does what agentd asks for over a virtio-serial port, and nothing by itself.
//!
//! ```text
//!   port (found by its name) --bytes--> serve: greetings, messages --+--> exec     a thread or three each
//!                                                                    +--> copy     a thread each
//!                                                                    +--> facts, freeze, console size, time
//! ```
//! It is static and needs nothing of the guest but /proc, /sys and /dev. When agentd goes away, what it began is ended:
//! programs, half-made copies, frozen file systems. When it fails it ends, and the guest's init starts it again.

mod child;
mod copy;
mod exec;
mod facts;
mod freeze;
mod ioctl;
mod port;
mod serve;
mod session;
mod terminal;
mod users;

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next() {
        None => match serve::run() {
            Ok(never) => match never {},
            Err(error) => {
                eprintln!("agentd-guest: {error}");
                ExitCode::FAILURE
            }
        },
        Some(word) if word == child::WORD => child::run(arguments.collect()),
        Some(word) if word == "--version" => {
            println!("agentd-guest {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
        Some(_) => {
            eprintln!("usage: agentd-guest [--version]\n\nStarted by the guest's init, without arguments.");
            ExitCode::from(2)
        }
    }
}
