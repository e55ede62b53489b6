//! How long to wait before the next try: 0.5 s doubled with each, up to 60 s, a fifth of it by chance, so that what
//! failed together does not come back together.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

pub const FIRST: Duration = Duration::from_millis(500);
pub const LONGEST: Duration = Duration::from_secs(60);

/// The middle of the wait after the `count`-th failure; `count` is 1 or more.
pub fn plain(count: u32) -> Duration {
    let doublings = count.saturating_sub(1).min(16);
    FIRST.saturating_mul(1 << doublings).min(LONGEST)
}

/// The wait after the `count`-th failure: between 90 % and 110 % of [`plain`], never above [`LONGEST`].
pub fn delay(count: u32) -> Duration {
    let plain = plain(count);
    // Each RandomState is keyed anew: a source of chance that is already there.
    let chance = RandomState::new().hash_one(count) % 1000;
    let share = u32::try_from(chance).unwrap_or(500);
    (plain * 9 / 10 + plain * share / 5000).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_from_half_a_second_to_a_minute() {
        let waits: Vec<u128> = (1..=9).map(|n| plain(n).as_millis()).collect();
        assert_eq!(waits, [500, 1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000]);
        assert_eq!(plain(u32::MAX), LONGEST);
    }

    #[test]
    fn chance_spreads_them_by_a_tenth_each_way() {
        let waits: Vec<Duration> = (0..200).map(|_| delay(3)).collect();
        let (least, most) = (plain(3) * 9 / 10, plain(3) * 11 / 10);
        assert!(waits.iter().all(|w| (least..=most).contains(w)));
        assert!(waits.iter().max() > waits.iter().min(), "all waits are equal");
        assert!((0..200).all(|_| delay(12) <= LONGEST));
    }
}
