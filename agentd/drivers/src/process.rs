//! Processes of the host, by what the kernel says of them.

use std::fmt::Display;
use std::fs;
use std::time::Duration;

use agentd_api::Timestamp;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::{SysconfVar, sysconf};

/// When a process began, in the kernel's ticks: with its pid, who it is. None where it is gone or a zombie.
pub fn born(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name is in parentheses and may hold anything; state is field 3, the begin field 22.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") { None } else { fields.nth(18)?.parse().ok() }
}

/// When a process began, by the clock.
pub fn began(pid: i32) -> Option<Timestamp> {
    let ticks = u64::try_from(sysconf(SysconfVar::CLK_TCK).ok()??).ok().filter(|ticks| *ticks > 0)?;
    let began = Duration::from_millis(born(pid)?.saturating_mul(1000) / ticks);
    let age = Duration::from(clock_gettime(ClockId::CLOCK_BOOTTIME).ok()?).saturating_sub(began);
    let age = u64::try_from(age.as_millis()).ok()?;
    Some(Timestamp(Timestamp::now().millis().saturating_sub(age)))
}

/// The name of a process as it says it, which may be any bytes.
pub fn name(pid: impl Display) -> Option<Vec<u8>> {
    let name = fs::read(format!("/proc/{pid}/comm")).ok()?;
    Some(name.trim_ascii_end().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A thread is to the kernel what a process is.
    #[test]
    fn one_began_when_it_was_started() {
        let before = Timestamp::now();
        let born_then = std::thread::spawn(|| began(nix::unistd::gettid().as_raw()).expect("there"));
        let (born_then, after) = (born_then.join().expect("an end"), Timestamp::now());
        // The kernel counts in hundredths.
        let tick = 20;
        assert!(
            born_then.millis() + tick >= before.millis() && born_then.millis() <= after.millis() + tick,
            "{born_then}"
        );
        assert_eq!((born(i32::MAX), began(i32::MAX)), (None, None));
    }
}
