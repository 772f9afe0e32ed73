//! Draws among up to three parties, exact at every moment and still random.
//!
//! After `i` draws a party with share `p` has had either the floor or the ceiling of `i × p` of them, with
//! the probabilities that make the mean exactly `i × p`. So each draw, seen from the start, falls to a party
//! with exactly its share; any stretch of draws has its share within less than 2; and the counts are exact
//! whenever `i × p` is whole.
//!
//! For two parties this is one place, uniformly drawn, in every stretch of `1/p` draws; a draw on the
//! border of two stretches belongs to both by its parts, and is not taken twice (ordered pivotal sampling:
//! Deville and Tillé 1998, Chauvet 2012). For three the parties' places also keep out of each other's way:
//! at any moment exactly one of the three is rounded up or exactly one is rounded down, so that who it is
//! is all there is to know, and how it passes on from draw to draw is worked out in `draw`.

use rand::{Rng, RngExt};

#[derive(Clone, Debug)]
pub(super) struct Apportion {
    weights: [u32; 3],
    total: u32,
    /// `i × weight mod total`: the fractions of what each party is due, in parts of `total`. They add up
    /// to 0, 1 or 2 times the total, which is how many parties are rounded up.
    due: [u32; 3],
    /// Which party is rounded up when one is, which is rounded down when two are up.
    odd: usize,
}

impl Apportion {
    /// Two parties at least have weight; the weights add up to less than 2^31.
    pub(super) fn new(weights: [u32; 3]) -> Self {
        Self { weights, total: weights.iter().sum(), due: [0; 3], odd: 0 }
    }

    /// The next draw: the index of a party.
    pub(super) fn draw<R: Rng + ?Sized>(&mut self, dice: &mut R) -> usize {
        let (w, total, f, odd) = (self.weights, self.total, self.due, self.odd);
        let due: u32 = f.iter().sum();
        let up = usize::from(due >= total) + usize::from(due >= 2 * total);
        let next: [u32; 3] = std::array::from_fn(|j| f[j] + w[j]);
        // A party whose due passes a whole number must have had it: if it was not up, this draw is its own.
        let passes: [bool; 3] = next.map(|due| due >= total);
        let passing = passes.iter().filter(|&&passes| passes).count();
        self.due = next.map(|due| if due >= total { due - total } else { due });

        let others = |j: usize| [(j + 1) % 3, (j + 2) % 3];
        let the_one = |passes_is: bool| passes.iter().position(|&p| p == passes_is).unwrap_or(0);
        match (up, passing) {
            (0, _) => {
                let parts = w;
                self.odd = pick(parts, dice);
                self.odd
            }
            // One up, and then two: another one than the one that is up.
            (1, 0) => {
                let [a, b] = others(odd);
                let pick = if chance(self.passed_on(f, odd, a), f[odd], dice) { a } else { b };
                self.odd = 3 - odd - pick;
                pick
            }
            (1, 1) => {
                let due = the_one(true);
                if odd == due {
                    let mut parts = w;
                    parts[due] = self.due[due];
                    self.odd = pick(parts, dice);
                    self.odd
                } else {
                    due
                }
            }
            // Only with two parties: both come out even.
            (1, _) => {
                let [a, b] = others(odd);
                if passes[a] { a } else { b }
            }
            (_, 1) => {
                let due = the_one(true);
                if odd != due && chance(w[odd], total - f[odd], dice) {
                    let pick = odd;
                    self.odd = due;
                    pick
                } else {
                    due
                }
            }
            (_, 2) => {
                let stays = the_one(false);
                if odd == stays {
                    let mut parts = self.due;
                    parts[stays] = w[stays];
                    self.odd = pick(parts, dice);
                    self.odd
                } else {
                    self.odd = stays;
                    odd
                }
            }
            // All three come out even.
            _ => odd,
        }
    }

    /// The joint weight, in parts of `total`, of "party `from` is up" and "party `to` gets this draw", when
    /// nobody passes a whole number. A party that is up gets nothing, so the 3 × 3 table of joint weights
    /// has an empty diagonal; its rows add up to `f`, its columns to the weights. That leaves one number
    /// free; the middle of its range is as good as any.
    fn passed_on(&self, f: [u32; 3], from: usize, to: usize) -> u32 {
        let [w0, w1, w2] = self.weights.map(i64::from);
        let [f0, f1, f2] = f.map(i64::from);
        let low = 0.max(w1 - f2).max(f0 - w2);
        let high = f0.min(w1).min(w0 + w1 - f2);
        let free = low + (high - low) / 2;
        let joint = match (from, to) {
            (0, 1) => free,
            (0, _) => f0 - free,
            (1, 0) => w0 + w1 - f2 - free,
            (1, _) => f1 + f2 - w0 - w1 + free,
            (_, 0) => f2 - w1 + free,
            (_, _) => w1 - free,
        };
        u32::try_from(joint).unwrap_or(0)
    }
}

/// True with probability `part / whole`.
fn chance<R: Rng + ?Sized>(part: u32, whole: u32, dice: &mut R) -> bool {
    part > 0 && (part >= whole || dice.random_range(0..whole) < part)
}

/// An index in proportion to its part.
fn pick<R: Rng + ?Sized>(parts: [u32; 3], dice: &mut R) -> usize {
    if chance(parts[0], parts.iter().sum(), dice) {
        0
    } else if chance(parts[1], parts[1] + parts[2], dice) {
        1
    } else {
        2
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::{SeedableRng, rngs::StdRng};

    /// Every party's count stays at the floor or the ceiling of its due.
    fn never_a_whole_one_off(weights: [u32; 3], draws: u64, seed: u64) {
        let mut dice = StdRng::seed_from_u64(seed);
        let mut apportion = Apportion::new(weights);
        let total = u64::from(apportion.total);
        let mut counts = [0_u64; 3];
        for i in 1..=draws {
            counts[apportion.draw(&mut dice)] += 1;
            for j in 0..3 {
                let due = i * u64::from(weights[j]);
                assert!(
                    counts[j] == due / total || counts[j] == due.div_ceil(total),
                    "{weights:?} seed {seed}: {counts:?} after {i}"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn two_parties_are_never_a_whole_one_off(a in 1..2000_u32, b in 1..2000_u32, seed: u64) {
            never_a_whole_one_off([a, b, 0], 3000, seed);
        }

        #[test]
        fn three_parties_are_never_a_whole_one_off(w in prop::array::uniform3(1..50_u32), seed: u64) {
            never_a_whole_one_off(w, 1000, seed);
        }

        #[test]
        fn far_apart_parties_are_never_a_whole_one_off(
            e in prop::array::uniform3(0..20_u32), m in prop::array::uniform3(1..=999_999_u32), seed: u64,
        ) {
            never_a_whole_one_off(std::array::from_fn(|j| (m[j] >> e[j]).max(1)), 3000, seed);
        }
    }

    /// Seen from the start, each draw falls to each party with exactly its share.
    #[test]
    fn each_draw_has_the_probability_of_its_share() {
        const SEEDS: usize = 40_000;
        const DRAWS: usize = 24;
        for weights in
            [[2, 3, 0], [1, 1, 0], [9, 11, 0], [1, 2, 3], [5, 4, 2], [1, 1, 1], [7, 2, 2]]
        {
            let mut counts = [[0_u32; 3]; DRAWS];
            let mut dice = StdRng::seed_from_u64(7);
            for _ in 0..SEEDS {
                let mut apportion = Apportion::new(weights);
                for place in &mut counts {
                    place[apportion.draw(&mut dice)] += 1;
                }
            }
            let total: u32 = weights.iter().sum();
            for (place, count) in counts.iter().enumerate() {
                for j in 0..3 {
                    let share = f64::from(weights[j]) / f64::from(total);
                    let sigma = (SEEDS as f64 * share * (1.0 - share)).sqrt();
                    let off = (f64::from(count[j]) - SEEDS as f64 * share).abs();
                    assert!(off <= 4.5 * sigma, "{weights:?} draw {place}: {count:?}");
                }
            }
        }
    }
}
