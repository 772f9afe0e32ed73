//! The split of a service: exact and still random.

use super::tree::Tree;
use crate::spec::Service;
use rand::Rng;

/// A set of pools of one service, by index; it holds [`Service::MAX_POOLS`] of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolSet(u64);

impl PoolSet {
    pub const EMPTY: Self = Self(0);
    pub const ALL: Self = Self(u64::MAX);

    pub fn contains(self, pool: usize) -> bool {
        let bit = u32::try_from(pool).ok().and_then(|pool| 1_u64.checked_shl(pool));
        bit.is_some_and(|bit| self.0 & bit != 0)
    }

    /// Of all pools in order, those that are true.
    pub fn of(pools: impl Iterator<Item = bool>) -> Self {
        let (mut set, mut bit) = (0, 1_u64);
        for is_in in pools {
            set |= if is_in { bit } else { 0 };
            bit <<= 1;
        }
        Self(set)
    }

    /// Those that are in the other too.
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

const _: () = assert!(Service::MAX_POOLS == u64::BITS as usize);

/// The weights of a service's pools in lowest terms: splits are equal when they share traffic alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    weights: Box<[u32]>,
}

impl Split {
    pub fn new(weights: impl IntoIterator<Item = u32>) -> Self {
        let mut weights: Box<[u32]> = weights.into_iter().collect();
        let divisor = weights.iter().copied().fold(0, gcd).max(1);
        weights.iter_mut().for_each(|weight| *weight /= divisor);
        Self { weights }
    }

    /// The share of each pool, 0 to 1, when only `available` ones get traffic; all 0 when none of them
    /// has weight.
    pub fn shares(&self, available: PoolSet) -> Vec<f64> {
        let weights = self.weights(available);
        let total: f64 = weights.iter().copied().map(f64::from).sum();
        let share = |weight: u32| if weight > 0 { f64::from(weight) / total } else { 0.0 };
        weights.into_iter().map(share).collect()
    }

    fn weights(&self, available: PoolSet) -> Vec<u32> {
        let pools = self.weights.iter().enumerate();
        pools.map(|(pool, &weight)| if available.contains(pool) { weight } else { 0 }).collect()
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The draws of one core for one service, one after the other.
///
/// It goes on as long as split and availability stay the same and begins anew when they change. Because
/// every draw has the probability of its share from the first on, beginning anew favours nobody, however
/// often pools come and go.
#[derive(Clone, Debug, Default)]
pub struct Sequence {
    of: Option<(Split, PoolSet)>,
    tree: Tree,
}

impl Sequence {
    /// The next pool; `None` when no available pool has weight. Where the share of an unavailable pool is
    /// not for the others (`unhealthy_pool: fail`), all pools are to be passed as available.
    pub fn draw<R: Rng + ?Sized>(
        &mut self,
        split: &Split,
        available: PoolSet,
        dice: &mut R,
    ) -> Option<usize> {
        if !matches!(&self.of, Some((of, set)) if *set == available && of == split) {
            self.tree = Tree::new(&split.weights(available));
            self.of = Some((split.clone(), available));
        }
        self.tree.draw(dice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::testing::pools;
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng, rngs::SmallRng};

    fn draws(weights: &[u32], seed: u64) -> impl Iterator<Item = usize> {
        let split = Split::new(weights.iter().copied());
        let (mut sequence, mut dice) = (Sequence::default(), SmallRng::seed_from_u64(seed));
        std::iter::from_fn(move || sequence.draw(&split, PoolSet::ALL, &mut dice))
    }

    /// By how much the worst of all stretches of `window` draws is off.
    fn worst_window(weights: &[u32], window: usize, number: usize, seed: u64) -> f64 {
        let drawn: Vec<usize> = draws(weights, seed).take(number).collect();
        let total: u32 = weights.iter().sum();
        let mut worst = 0.0_f64;
        for (pool, &weight) in weights.iter().enumerate() {
            let due = window as f64 * f64::from(weight) / f64::from(total);
            let mut count = drawn[..window].iter().filter(|&&p| p == pool).count();
            for at in window..=drawn.len() {
                worst = worst.max((count as f64 - due).abs());
                if let Some(&next) = drawn.get(at) {
                    count += usize::from(next == pool);
                    count -= usize::from(drawn[at - window] == pool);
                }
            }
        }
        worst
    }

    #[test]
    fn windows_of_the_usual_splits_are_within_two() {
        for weights in [[95, 5], [50, 50], [70, 30], [333, 667], [999, 1], [1_000_000, 1]] {
            let worst = worst_window(&weights, 1000, 200_000, 11);
            assert!(worst < 2.0, "{weights:?}: {worst}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn windows_of_two_and_three_pools_are_within_two(
            weights in prop::collection::vec(1..=1_000_000_u32, 2..=3), seed: u64,
        ) {
            prop_assert!(worst_window(&weights, 1000, 8000, seed) < 2.0);
        }

        #[test]
        fn windows_of_more_pools_are_within_three(
            weights in prop::collection::vec((1..=999_u32, 0..=3_u32), 4..=8), seed: u64,
        ) {
            let weights: Vec<u32> = weights.iter().map(|&(w, e)| w * 10_u32.pow(e)).collect();
            prop_assert!(worst_window(&weights, 1000, 8000, seed) <= 3.0);
        }

        #[test]
        fn a_whole_cycle_is_exact(weights in prop::collection::vec(0..=20_u32, 1..=3), seed: u64) {
            let total: u32 = weights.iter().sum();
            prop_assume!(total > 0);
            for cycle in draws(&weights, seed).take(total as usize * 5).collect::<Vec<_>>().chunks(total as usize) {
                for (pool, &weight) in weights.iter().enumerate() {
                    prop_assert_eq!(cycle.iter().filter(|&&p| p == pool).count(), weight as usize);
                }
            }
        }
    }

    #[test]
    fn weights_far_apart_are_kept_within_three() {
        for weights in
            [&[729, 81, 9, 1][..], &[94_988, 550, 7983, 57_058], &[14_641, 1331, 121, 11, 1]]
        {
            let worst = worst_window(weights, 1000, 400_000, 5);
            assert!(worst <= 3.0, "{weights:?}: {worst}");
        }
    }

    /// The rarest pool is the one most easily lost or favoured.
    #[test]
    fn nothing_drifts() {
        for weights in [&[99_999, 1][..], &[1000, 30, 1], &[729, 81, 9, 1]] {
            let number = 500_000_u64;
            let mut counts = vec![0_u64; weights.len()];
            draws(weights, 3).take(number as usize).for_each(|pool| counts[pool] += 1);
            let total: u64 = weights.iter().map(|&w| u64::from(w)).sum();
            for (&count, &weight) in counts.iter().zip(weights) {
                let due = number as f64 * f64::from(weight) / total as f64;
                assert!((count as f64 - due).abs() < 2.0, "{weights:?}: {counts:?}");
            }
        }
    }

    #[test]
    fn each_draw_of_four_pools_has_the_probability_of_its_share() {
        const SEEDS: u64 = 20_000;
        let weights = [40, 30, 20, 10];
        let mut counts = [[0_u32; 4]; 24];
        for seed in 0..SEEDS {
            for (pool, place) in draws(&weights, seed).zip(&mut counts) {
                place[pool] += 1;
            }
        }
        for (place, count) in counts.iter().enumerate() {
            for (&count, &weight) in count.iter().zip(&weights) {
                let share = f64::from(weight) / 100.0;
                let sigma = (SEEDS as f64 * share * (1.0 - share)).sqrt();
                assert!(
                    (f64::from(count) - SEEDS as f64 * share).abs() < 4.5 * sigma,
                    "draw {place}"
                );
            }
        }
    }

    /// Traffic of any period meets the canary in proportion: the draws 0, 20, 40, ... of 95/5 too.
    #[test]
    fn there_is_no_period_to_fall_into_step_with() {
        let mut of_phase = [0_u32; 20];
        let stretches = 20_000;
        for (at, pool) in draws(&[95, 5], 17).take(20 * stretches).enumerate() {
            of_phase[at % 20] += u32::from(pool == 1);
        }
        let due = stretches as f64 / 20.0;
        for count in of_phase {
            assert!((f64::from(count) - due).abs() < 4.5 * (due * 0.95).sqrt(), "{of_phase:?}");
        }
    }

    #[test]
    fn pools_without_weight_or_availability_get_nothing() {
        let split = Split::new([0, 3, 0, 1, 6]);
        let (mut sequence, mut dice) = (Sequence::default(), SmallRng::seed_from_u64(1));
        let mut draw = |available| sequence.draw(&split, available, &mut dice);
        let without_last = pools(&[0, 1, 2, 3]);
        for _ in 0..100 {
            assert!(matches!(draw(PoolSet::ALL), Some(1 | 3 | 4)));
            assert!(matches!(draw(without_last), Some(1 | 3)));
        }
        assert_eq!(draw(PoolSet::EMPTY), None);
        assert_eq!(draw(pools(&[0, 2])), None);
        assert_eq!(draw(pools(&[3])), Some(3));
        assert_eq!(Sequence::default().draw(&Split::new([]), PoolSet::ALL, &mut dice), None);
    }

    /// A pool that comes and goes gives its share away in proportion and gets it back.
    #[test]
    fn changing_availability_favours_nobody() {
        let split = Split::new([70, 20, 10]);
        let (mut sequence, mut dice) = (Sequence::default(), SmallRng::seed_from_u64(8));
        let without_last = pools(&[0, 1]);
        let (mut all, mut some) = ([0_f64; 3], [0_f64; 3]);
        for _ in 0..60_000 {
            for _ in 0..dice.random_range(0..4) {
                all[sequence.draw(&split, PoolSet::ALL, &mut dice).unwrap()] += 1.0;
            }
            for _ in 0..dice.random_range(0..4) {
                some[sequence.draw(&split, without_last, &mut dice).unwrap()] += 1.0;
            }
        }
        for (counts, available) in [(all, PoolSet::ALL), (some, without_last)] {
            let number: f64 = counts.iter().sum();
            for (count, share) in counts.iter().zip(split.shares(available)) {
                let sigma = (number * share * (1.0 - share)).sqrt();
                assert!((count - number * share).abs() <= 4.5 * sigma, "{counts:?}");
            }
        }
    }

    #[test]
    fn shares_are_those_of_the_available_pools() {
        let split = Split::new([60, 30, 10]);
        assert_eq!(split.shares(PoolSet::ALL), [0.6, 0.3, 0.1]);
        assert_eq!(split.shares(pools(&[1, 2])), [0.0, 0.75, 0.25]);
        assert_eq!(split.shares(PoolSet::EMPTY), [0.0; 3]);
    }

    #[test]
    fn a_sequence_goes_on_while_the_split_is_the_same() {
        assert_eq!(Split::new([50, 50]), Split::new([1, 1]));
        assert_ne!(Split::new([2, 1]), Split::new([1, 2]));
        // One pool of two for ever, then its turn would be over: only a new beginning can repeat it.
        let goes_on = (0..64).all(|seed| {
            let (mut sequence, mut dice) = (Sequence::default(), SmallRng::seed_from_u64(seed));
            let first = sequence.draw(&Split::new([50, 50]), PoolSet::ALL, &mut dice);
            first != sequence.draw(&Split::new([1, 1]), PoolSet::ALL, &mut dice)
        });
        assert!(goes_on);
    }

    #[test]
    fn a_changed_split_is_in_force_with_the_next_draw() {
        let (mut sequence, mut dice) = (Sequence::default(), SmallRng::seed_from_u64(1));
        for cutover in [[1, 0, 0], [0, 0, 1], [0, 1, 0]] {
            let split = Split::new(cutover);
            let to = cutover.iter().position(|&weight| weight == 1);
            assert_eq!(sequence.draw(&split, PoolSet::ALL, &mut dice), to);
        }
    }

    #[test]
    fn a_set_of_pools_ignores_what_it_cannot_hold() {
        let set = pools(&[0, 63]);
        assert!(set.contains(0) && set.contains(63) && !set.contains(1));
        assert!(![64, usize::MAX].iter().any(|&pool| PoolSet::ALL.contains(pool)));
    }
}
