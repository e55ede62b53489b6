//! When something is to be done again and again: a cron pattern, in UTC. Pure.

use agentd_api::Timestamp;
use chrono::{DateTime, NaiveDateTime};
use croner::Cron;
use croner::parser::CronParser;

#[derive(Debug, Clone)]
pub struct Schedule(Cron);

impl Schedule {
    /// Five fields, or six that begin with the second. The error says what is wrong with it, as a field's.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = |why: String| {
            format!("is no schedule: {why}; write it as cron does, as in \"0 3 * * *\" for three o'clock UTC")
        };
        let fields = text.split_whitespace().count();
        if !text.trim_start().starts_with('@') && !(5..=6).contains(&fields) {
            return Err(wrong(format!("it has {fields} fields, and not five or six")));
        }
        let schedule = Self(CronParser::new().parse(text).map_err(|error| wrong(error.to_string()))?);
        match schedule.after(Timestamp::now()) {
            Some(_) => Ok(schedule),
            None => Err(wrong("its time never comes".to_owned())),
        }
    }

    /// The first time after that. None where there is none any more.
    pub fn after(&self, time: Timestamp) -> Option<Timestamp> {
        let next = self.0.find_next_occurrence(&moment(time)?, false).ok()?;
        Some(Timestamp(u64::try_from(next.and_utc().timestamp_millis()).ok()?))
    }
}

fn moment(time: Timestamp) -> Option<NaiveDateTime> {
    Some(DateTime::from_timestamp_millis(i64::try_from(time.millis()).ok()?)?.naive_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    #[test]
    fn times_are_those_of_cron_in_utc() {
        let from = at("2026-01-30T23:59:30.250Z");
        for (pattern, next) in [
            ("* * * * *", "2026-01-31T00:00:00Z"),
            ("*/5 * * * * *", "2026-01-30T23:59:35Z"),
            ("0 3 * * *", "2026-01-31T03:00:00Z"),
            ("30 4 1 * *", "2026-02-01T04:30:00Z"),
            ("0 0 * * MON", "2026-02-02T00:00:00Z"),
            ("@hourly", "2026-01-31T00:00:00Z"),
        ] {
            let schedule = Schedule::parse(pattern).unwrap_or_else(|e| panic!("{pattern}: {e}"));
            assert_eq!(schedule.after(from), Some(at(next)), "{pattern}");
            assert!(schedule.after(at(next)) > Some(at(next)), "{pattern}: a time is not its own next");
        }
    }

    #[test]
    fn what_is_no_schedule_is_told() {
        for bad in
            ["", "hourly", "* * * *", "61 * * * *", "* * * * * * *", "0 0 31 2 *", "a b c d e", "@often"]
        {
            let error = Schedule::parse(bad).expect_err(bad);
            assert!(error.starts_with("is no schedule"), "{bad}: {error}");
        }
    }
}
