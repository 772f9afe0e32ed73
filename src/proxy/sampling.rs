//! Which requests are remembered: one in so many, so many that it comes to about one a second on each core.

use rand::{Rng, RngExt};

/// Milliseconds between two that are remembered, more or less.
const AIM: u64 = 1000;

/// The most requests that one stands for.
const MOST: u64 = 1 << 24;

#[derive(Debug)]
pub(super) struct Sampling {
    /// Requests until the next one is remembered.
    left: u64,
    /// Those from the last that was remembered to the next.
    gap: u64,
    /// What gaps are drawn around.
    stride: u64,
    /// When the last was remembered.
    last: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { left: 1, gap: 1, stride: 1, last: 0 }
    }
}

impl Sampling {
    /// A request begins: whether it is one to be remembered, and [`Self::next`] is to be called.
    #[inline]
    pub(super) fn is_due(&mut self) -> bool {
        self.left -= 1;
        self.left == 0
    }

    /// Draws when the next one is due. Returns how many requests this one stands for.
    pub(super) fn next(&mut self, now_millis: u64, dice: &mut impl Rng) -> u64 {
        let elapsed = now_millis.saturating_sub(self.last);
        self.stride = match elapsed {
            0..500 => (self.stride * 2).min(MOST),
            500..=2000 => self.stride,
            _ => (self.stride * AIM / elapsed).max(1),
        };
        self.last = now_millis;
        let stands_for = self.gap;
        // Drawn, so that nothing in the traffic that comes round can keep step with it.
        self.gap = dice.random_range(1..2 * self.stride);
        self.left = self.gap;
        stands_for
    }

    /// Called every now and then: traffic that has fallen off is not to wait for as many as there were.
    pub(super) fn tidy(&mut self, now_millis: u64) {
        if now_millis.saturating_sub(self.last) > 2 * AIM && self.left > 1 {
            let spared = self.left / 2;
            self.left -= spared;
            self.gap -= spared;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{SeedableRng, rngs::SmallRng};

    /// At so many requests a second: how many were remembered, and how many they stand for.
    fn run(sampling: &mut Sampling, dice: &mut SmallRng, from: u64, rate: u64) -> (u64, u64) {
        let (mut remembered, mut stand_for) = (0, 0);
        for n in 0..60 * rate {
            let now = from + n * 1000 / rate;
            if n > 0 && now / 1000 != (from + (n - 1) * 1000 / rate) / 1000 {
                sampling.tidy(now);
            }
            if sampling.is_due() {
                remembered += 1;
                stand_for += sampling.next(now, dice);
            }
        }
        (remembered, stand_for)
    }

    #[test]
    fn about_one_a_second_whatever_the_rate() {
        let (mut sampling, mut dice) = (Sampling::default(), SmallRng::seed_from_u64(1));
        let mut from = 0;
        for rate in [1, 100, 50_000, 20, 1] {
            let (remembered, stand_for) = run(&mut sampling, &mut dice, from, rate);
            assert!((20..=180).contains(&remembered), "{remembered} at {rate}");
            let share = stand_for as f64 / (60 * rate) as f64;
            assert!((0.8..1.25).contains(&share) || rate < 100, "{share} at {rate}");
            from += 60_000;
        }
    }
}
