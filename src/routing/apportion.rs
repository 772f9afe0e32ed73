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
//! at any moment exactly one of the three is rounded up or exactly one is rounded down. Who that is is all
//! there is to remember, and the probabilities of a draw follow from what they must be before and after it.

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
        let before = self.due;
        let sum: u32 = before.iter().sum();
        let passes = self.advance();
        let (drawn, odd) = if sum < self.total {
            let drawn = pick(self.weights, dice);
            (drawn, drawn)
        } else if sum < 2 * self.total {
            self.draw_with_one_up(before, passes, dice)
        } else {
            self.draw_with_two_up(before, passes, dice)
        };
        self.odd = odd;
        drawn
    }

    /// Which parties' dues pass a whole number with this draw. They must have had it by then: who was not
    /// up gets the draw.
    fn advance(&mut self) -> [bool; 3] {
        std::array::from_fn(|party| {
            let due = self.due[party] + self.weights[party];
            let passes = due >= self.total;
            self.due[party] = if passes { due - self.total } else { due };
            passes
        })
    }

    /// Who gets the draw, and who is the odd one then.
    fn draw_with_one_up<R: Rng + ?Sized>(
        &self,
        before: [u32; 3],
        passes: [bool; 3],
        dice: &mut R,
    ) -> (usize, usize) {
        let up = self.odd;
        let [next, last] = [(up + 1) % 3, (up + 2) % 3];
        match count(passes) {
            // Two are up then: whoever gets it besides the one that is.
            0 if chance(self.passed_on(before, up), before[up], dice) => (next, last),
            0 => (last, next),
            1 if passes[up] => {
                let mut parts = self.weights;
                parts[up] = self.due[up];
                let drawn = pick(parts, dice);
                (drawn, drawn)
            }
            // One passes that was not up. Or of two parties both pass, and come out even.
            _ => (if passes[next] { next } else { last }, up),
        }
    }

    /// Who gets the draw, and who is the odd one then.
    fn draw_with_two_up<R: Rng + ?Sized>(
        &self,
        before: [u32; 3],
        passes: [bool; 3],
        dice: &mut R,
    ) -> (usize, usize) {
        let down = self.odd;
        let first = |passing: bool| passes.iter().position(|&p| p == passing).unwrap_or(down);
        match count(passes) {
            1 => {
                let due = first(true);
                let early =
                    due != down && chance(self.weights[down], self.total - before[down], dice);
                if early { (down, due) } else { (due, down) }
            }
            2 if !passes[down] => {
                let mut parts = self.due;
                parts[down] = self.weights[down];
                let drawn = pick(parts, dice);
                (drawn, drawn)
            }
            2 => (down, first(false)),
            // All come out even.
            _ => (down, down),
        }
    }

    /// The joint weight, in parts of `total`, of "party `from` is up" and "the next in the circle gets this
    /// draw", when nobody passes a whole number. A party that is up gets nothing, so the 3 × 3 table of
    /// joint weights has an empty diagonal; its rows add up to `f`, its columns to the weights. That leaves
    /// one number free; the middle of its range is as good as any.
    fn passed_on(&self, f: [u32; 3], from: usize) -> u32 {
        let [_, w1, w2] = self.weights.map(i64::from);
        let [f0, f1, f2] = f.map(i64::from);
        let low = 0.max(w1 - f2).max(f0 - w2);
        let high = f0.min(w1).min(f0 + f1 - w2);
        let free = low + (high - low) / 2;
        let joint = [free, w2 - f0 + free, f2 - w1 + free][from];
        u32::try_from(joint).unwrap_or(0)
    }
}

fn count(passes: [bool; 3]) -> usize {
    passes.into_iter().filter(|&passes| passes).count()
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
        #![proptest_config(ProptestConfig::with_cases(100))]

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
        const SEEDS: usize = 20_000;
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
