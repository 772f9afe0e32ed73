//! Whether the canary gets the share that it should: if not, something other than the split decides who goes there,
//! and the comparison means nothing.

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// So many of the last requests are looked at.
const WINDOW: u64 = 10_000;

/// Off by more standard deviations than this, and by more than this part, is no chance.
const DEVIATIONS: f64 = 5.0;
const PART: f64 = 0.1;

/// With more there would be nothing to compare with.
const MOST_SHARE: f64 = 0.999;

/// Seconds with few requests are counted together up to so many of these.
const TOGETHER: u64 = WINDOW / 100;

/// What is kept at most, however often the share changes.
const MOST_PARTS: usize = 300;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Ratio {
    /// Requests of the canary, of both, and the share in force.
    parts: VecDeque<(u64, u64, f64)>,
    all: u64,
}

impl Ratio {
    pub(super) fn add(&mut self, canary: u64, both: u64, share: f64) {
        if both == 0 || share <= 0.0 || share >= 1.0 {
            return;
        }
        self.all += both;
        match self.parts.back_mut() {
            Some(last) if last.2 == share && last.1 + both <= TOGETHER => {
                last.0 += canary;
                last.1 += both;
            }
            _ => self.parts.push_back((canary, both, share)),
        }
        while let Some((_, oldest, _)) = self.parts.front()
            && (self.all - oldest >= WINDOW || self.parts.len() > MOST_PARTS)
        {
            self.all -= oldest;
            self.parts.pop_front();
        }
    }

    /// The share to compare with: what comes to the canary though it should not must not make it look worse.
    pub(super) fn correct(&self, share: f64) -> f64 {
        match self.mismatch() {
            Some((got, wanted)) if got > wanted && share < 1.0 => {
                (share * got / wanted).min(MOST_SHARE)
            }
            _ => share,
        }
    }

    /// The share it got and the one it should have got, when that cannot be chance.
    pub(super) fn mismatch(&self) -> Option<(f64, f64)> {
        if self.all < WINDOW {
            return None;
        }
        let (mut canary, mut expected, mut variance) = (0.0, 0.0, 0.0);
        for &(got, both, share) in &self.parts {
            canary += got as f64;
            expected += both as f64 * share;
            variance += both as f64 * share * (1.0 - share);
        }
        let off = (canary - expected).abs();
        let is_off = off > DEVIATIONS * variance.sqrt() && off > PART * expected;
        is_off.then(|| (canary / self.all as f64, expected / self.all as f64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_that_is_not_what_was_asked_for_is_seen_and_chance_is_not() {
        let after = |canary: u64| {
            let mut ratio = Ratio::default();
            (0..200).for_each(|_| ratio.add(canary, 100, 0.05));
            ratio.mismatch()
        };
        assert_eq!(after(5), None);
        assert_eq!(after(8), Some((0.08, 0.05)));
        let mut few = Ratio::default();
        (0..99).for_each(|_| few.add(50, 100, 0.05));
        assert_eq!(few.mismatch(), None, "not enough");
        assert_eq!(few.correct(0.05), 0.05);
        few.add(50, 100, 0.05);
        assert!(few.mismatch().is_some());
        assert!((few.correct(0.05) - 0.5).abs() < 1e-9);
        assert_eq!((few.correct(0.5), few.correct(1.0)), (MOST_SHARE, 1.0));
        (0..200).for_each(|_| few.add(5, 100, 0.05));
        assert_eq!(few.mismatch(), None, "it is over");
    }

    #[test]
    fn few_requests_a_second_or_many_shares_are_kept_in_little_space() {
        let mut ratio = Ratio::default();
        (0..100_000).for_each(|_| ratio.add(1, 1, 0.05));
        assert!(ratio.parts.len() <= 101, "{}", ratio.parts.len());
        assert!((WINDOW..WINDOW + TOGETHER).contains(&ratio.all), "{}", ratio.all);
        assert!(ratio.mismatch().is_some());
        (0..10_000).for_each(|nth| ratio.add(0, 1, 0.01 + 0.01 * f64::from(nth % 2)));
        assert_eq!((ratio.parts.len(), ratio.all), (MOST_PARTS, MOST_PARTS as u64));
    }
}
