//! Ages, sizes and progress as people read them.

use std::time::Duration;

use agentd_api::{Progress, Timestamp};

/// How long ago, in the largest unit that says enough: 90s, 45m, 30h, 12d.
pub fn age(at: Timestamp) -> String {
    span(at.age())
}

pub fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A size to three digits: 1.21GiB. For people; what is exact is in the JSON.
pub fn bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1000.0 {
            return number(value, unit);
        }
        value /= 1024.0;
    }
    number(value, "TiB")
}

fn number(value: f64, unit: &str) -> String {
    let digits = if value >= 100.0 || unit == "B" {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.digits$}{unit}")
}

/// `converting 12MiB of 40MiB (30 %)`, `packages 120 of 340 packages (35 %)`, `booting`
pub fn progress(progress: &Progress) -> String {
    let amount = |n: u64| if progress.unit == "bytes" { bytes(n) } else { n.to_string() };
    let unit = if progress.unit == "bytes" || progress.unit.is_empty() {
        String::new()
    } else {
        format!(" {}", progress.unit)
    };
    match progress.total {
        Some(total) if total > 0 => {
            let percent = u128::from(progress.done.min(total)) * 100 / u128::from(total);
            format!("{} {} of {}{unit} ({percent} %)", progress.step, amount(progress.done), amount(total))
        }
        _ if progress.done > 0 => format!("{} {}{unit}", progress.step, amount(progress.done)),
        _ => progress.step.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_one_unit() {
        let shown: Vec<String> =
            [0, 119, 120, 7199, 7200, 172_799, 172_800].map(|s| span(Duration::from_secs(s))).to_vec();
        assert_eq!(shown, ["0s", "119s", "2m", "119m", "2h", "47h", "2d"]);
    }

    #[test]
    fn sizes_have_three_digits() {
        let shown: Vec<String> = [0, 999, 1000, 1 << 20, 161_480_704, 5 << 30, u64::MAX].map(bytes).to_vec();
        assert_eq!(shown, ["0B", "999B", "0.98KiB", "1.00MiB", "154MiB", "5.00GiB", "16777216TiB"]);
    }

    #[test]
    fn progress_without_a_total_says_what_it_has() {
        let at = |done, total, unit: &str| {
            progress(&Progress { step: "step".into(), done, total, unit: unit.into(), ..Progress::default() })
        };
        assert_eq!(at(1 << 20, Some(4 << 20), "bytes"), "step 1.00MiB of 4.00MiB (25 %)");
        assert_eq!(at(3, None, "packages"), "step 3 packages");
        assert_eq!(at(0, None, "steps"), "step");
        assert_eq!(at(9, Some(3), "steps"), "step 9 of 3 steps (100 %)");
        assert_eq!(at(0, Some(0), ""), "step");
    }
}
