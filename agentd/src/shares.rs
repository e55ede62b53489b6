//! A guest's share of scarce processors, as specs have it and as engines do.

/// What engines give to each; ours is a hundred.
const ENGINE: u32 = 1024;
const OURS: u32 = 100;
/// The least that a kernel takes.
const MIN: u32 = 2;

pub fn engines(ours: u32) -> u32 {
    (ours.saturating_mul(ENGINE) / OURS).max(MIN)
}

/// The nearest from above.
pub fn ours(engines: u32) -> u32 {
    u32::try_from((u64::from(engines) * u64::from(OURS)).div_ceil(u64::from(ENGINE))).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_we_say_comes_back() {
        for shares in 1..=10_000 {
            assert_eq!(ours(engines(shares)), shares);
        }
        assert_eq!((engines(100), ours(1024), ours(512)), (1024, 100, 50));
    }
}
