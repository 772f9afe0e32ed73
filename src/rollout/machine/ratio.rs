//! Whether the canary gets the share that it should: if not, something other than the split decides who goes there,
//! and the comparison means nothing.

use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// So many of the last requests are looked at.
const WINDOW: u64 = 10_000;

/// Off by more standard deviations than this, and by more than this part, is no chance.
const DEVIATIONS: f64 = 5.0;
const PART: f64 = 0.1;

/// Seconds that are kept at most, whatever the traffic.
const MOST_SECONDS: usize = 3600;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Ratio {
    /// Requests of the canary, of both, and the share in force.
    seconds: VecDeque<(u64, u64, f64)>,
    all: u64,
}

impl Ratio {
    pub(super) fn add(&mut self, canary: u64, both: u64, share: f64) {
        if both == 0 || share <= 0.0 || share >= 1.0 {
            return;
        }
        self.seconds.push_back((canary, both, share));
        self.all += both;
        while let Some((_, oldest, _)) = self.seconds.front()
            && (self.all - oldest >= WINDOW || self.seconds.len() > MOST_SECONDS)
        {
            self.all -= oldest;
            self.seconds.pop_front();
        }
    }

    /// The share it got and the one it should have got, when that cannot be chance.
    pub(super) fn mismatch(&self) -> Option<(f64, f64)> {
        if self.all < WINDOW {
            return None;
        }
        let (mut canary, mut expected, mut variance) = (0.0, 0.0, 0.0);
        for &(got, both, share) in &self.seconds {
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
        few.add(50, 100, 0.05);
        assert!(few.mismatch().is_some());
        (0..200).for_each(|_| few.add(5, 100, 0.05));
        assert_eq!(few.mismatch(), None, "it is over");
    }
}
