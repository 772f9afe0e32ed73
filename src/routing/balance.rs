//! Which backend of a pool.

use super::{PoolTable, hash::rendezvous};
use crate::spec::Balance;
use rand::{Rng, RngExt};
use std::time::Duration;

/// The readiness of a backend that takes its full share.
pub const FULL: u32 = 1000;

/// The readiness, in parts of [`FULL`], of a backend that became healthy `elapsed` ago: it rises from a
/// tenth to the full share over `window`; zero: at once.
pub fn slow_start(elapsed: Duration, window: Duration) -> u32 {
    if elapsed >= window {
        return FULL;
    }
    let passed = elapsed.as_secs_f64() / window.as_secs_f64();
    FULL / 10 + (f64::from(FULL - FULL / 10) * passed) as u32
}

/// The backends of a pool as they are at the moment of a choice.
#[derive(Clone, Copy, Debug)]
pub struct Candidates<'a, A, L> {
    pub pool: &'a PoolTable,
    /// Parts of [`FULL`] of its share that a backend can take now; 0: not available.
    pub readiness: A,
    /// Requests in flight on a backend; asked of two backends at most, and only by `least_request`.
    pub load: L,
    /// Backends that were tried already.
    pub exclude: &'a [usize],
}

impl<A: Fn(usize) -> u32, L: Fn(usize) -> u64> Candidates<'_, A, L> {
    fn len(&self) -> usize {
        self.pool.backends.len()
    }

    /// 0: not to be chosen. At most [`PoolTable::heaviest`] times [`FULL`].
    fn weight(&self, backend: usize) -> u32 {
        let entry = &self.pool.backends[backend];
        if entry.drained || self.exclude.contains(&backend) {
            return 0;
        }
        entry.weight.get() * (self.readiness)(backend).min(FULL)
    }

    fn heaviest(&self) -> u32 {
        self.pool.heaviest.get() * FULL
    }
}

/// What one core remembers of one pool between choices.
#[derive(Clone, Debug, Default)]
pub struct BalanceState {
    cursor: usize,
    /// Of the turns that a backend lighter than the heaviest must wait for.
    credits: Vec<u32>,
}

/// An index into the pool's backends, or `None` when no candidate is left. `key` is the hash of the sticky
/// key or of the client's address; only [`Balance::Hash`] uses it.
pub fn choose<A: Fn(usize) -> u32, L: Fn(usize) -> u64, R: Rng + ?Sized>(
    balance: Balance,
    candidates: &Candidates<'_, A, L>,
    state: &mut BalanceState,
    dice: &mut R,
    key: u64,
) -> Option<usize> {
    match balance {
        Balance::RoundRobin => round_robin(candidates, state, dice),
        Balance::LeastRequest => least_request(candidates, dice),
        Balance::Random => weighted(candidates, dice, None),
        Balance::Hash => rendezvous(
            key,
            (0..candidates.len())
                .map(|at| (at, candidates.pool.backends[at].hash, candidates.weight(at))),
        ),
    }
}

/// Goes round. Each time it passes a backend, that one's weight is added to its credit; a credit of the
/// heaviest weight buys the choice. So all take turns when all weigh the same, and each gets its share to
/// within one choice when they don't.
fn round_robin<A: Fn(usize) -> u32, L: Fn(usize) -> u64, R: Rng + ?Sized>(
    candidates: &Candidates<'_, A, L>,
    state: &mut BalanceState,
    dice: &mut R,
) -> Option<usize> {
    let (len, price) = (candidates.len(), candidates.heaviest());
    if len == 0 || price == 0 {
        return None;
    }
    if state.credits.len() != len {
        // Cores begin at different places, so that they don't all hit the first backend at once.
        state.cursor = dice.random_range(0..len);
        state.credits = (0..len).map(|_| dice.random_range(0..price)).collect();
    }
    if let Some(chosen) = one_round(candidates, state, price) {
        return Some(chosen);
    }
    // Nobody could pay: skip the rounds in which nobody can.
    let rounds = |(at, &credit): (usize, &u32)| {
        let weight = candidates.weight(at);
        (weight > 0).then(|| (price - credit.min(price - 1)).div_ceil(weight))
    };
    let skipped = state.credits.iter().enumerate().filter_map(rounds).min()?.saturating_sub(1);
    for (at, credit) in state.credits.iter_mut().enumerate() {
        let earned = skipped.saturating_mul(candidates.weight(at));
        *credit = credit.saturating_add(earned).min(price - 1);
    }
    one_round(candidates, state, price)
}

fn one_round<A: Fn(usize) -> u32, L: Fn(usize) -> u64>(
    candidates: &Candidates<'_, A, L>,
    state: &mut BalanceState,
    price: u32,
) -> Option<usize> {
    let len = state.credits.len();
    for _ in 0..len {
        let at = state.cursor % len;
        state.cursor = (at + 1) % len;
        // The price may have fallen since the credit was earned.
        let credit = state.credits[at].min(price - 1) + candidates.weight(at);
        if credit >= price {
            state.credits[at] = credit - price;
            return Some(at);
        }
        state.credits[at] = credit;
    }
    None
}

/// The less loaded of two, both drawn by weight. Loads count relative to weights; between equals the first
/// is taken, so that an idle pool is shared by weight too.
fn least_request<A: Fn(usize) -> u32, L: Fn(usize) -> u64, R: Rng + ?Sized>(
    candidates: &Candidates<'_, A, L>,
    dice: &mut R,
) -> Option<usize> {
    if candidates.len() == 1 {
        return (candidates.weight(0) > 0).then_some(0);
    }
    let first = weighted(candidates, dice, None)?;
    let Some(second) = weighted(candidates, dice, Some(first)) else { return Some(first) };
    let relative = |load: usize, weight: usize| {
        u128::from((candidates.load)(load)) * u128::from(candidates.weight(weight))
    };
    Some(if relative(second, first) < relative(first, second) { second } else { first })
}

/// Blind tries before all weights are added up.
const TRIES: usize = 4;

/// By weight. Tries at random and keeps a backend with the probability of its weight in parts of the
/// heaviest, which succeeds at once when all weigh the same and are available; else adds all up.
fn weighted<A: Fn(usize) -> u32, L: Fn(usize) -> u64, R: Rng + ?Sized>(
    candidates: &Candidates<'_, A, L>,
    dice: &mut R,
    but: Option<usize>,
) -> Option<usize> {
    let (len, heaviest) = (candidates.len(), candidates.heaviest());
    if len == 0 || heaviest == 0 {
        return None;
    }
    let weight = |at: usize| if Some(at) == but { 0 } else { candidates.weight(at) };
    for _ in 0..TRIES {
        let at = dice.random_range(0..len);
        let weight = weight(at);
        if weight == heaviest || (weight > 0 && dice.random_range(0..heaviest) < weight) {
            return Some(at);
        }
    }
    let total: u64 = (0..len).map(|at| u64::from(weight(at))).sum();
    if total == 0 {
        return None;
    }
    let mut left = dice.random_range(0..total);
    let mut last = None;
    for at in 0..len {
        let weight = u64::from(weight(at));
        if weight > left {
            return Some(at);
        }
        left -= weight;
        last = if weight > 0 { Some(at) } else { last };
    }
    // Weights fell between the two looks.
    last
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::testing::{heavy, pool};
    use proptest::prelude::*;
    use rand::{SeedableRng, rngs::SmallRng};
    use std::cell::{Cell, RefCell};

    const ALL: [Balance; 4] =
        [Balance::RoundRobin, Balance::LeastRequest, Balance::Random, Balance::Hash];

    fn table(weights: &[u32]) -> PoolTable {
        PoolTable::new(&"blue".into(), &pool("v1", 1, weights))
    }

    /// How often each backend is chosen, idle as all are.
    fn count(
        balance: Balance,
        table: &PoolTable,
        readiness: &[u32],
        exclude: &[usize],
        number: u64,
    ) -> Vec<u64> {
        let candidates = Candidates {
            pool: table,
            readiness: |at: usize| readiness[at],
            load: |_: usize| 0,
            exclude,
        };
        let (mut state, mut dice) = (BalanceState::default(), SmallRng::seed_from_u64(4));
        let mut counts = vec![0; table.backends.len()];
        for _ in 0..number {
            let key = dice.next_u64();
            if let Some(at) = choose(balance, &candidates, &mut state, &mut dice, key) {
                counts[at] += 1;
            }
        }
        counts
    }

    fn assert_shares(counts: &[u64], weights: &[u64]) {
        let (n, total): (u64, u64) = (counts.iter().sum(), weights.iter().sum());
        for (&count, &weight) in counts.iter().zip(weights) {
            let share = weight as f64 / total as f64;
            let sigma = (n as f64 * share * (1.0 - share)).sqrt();
            let off = (count as f64 - n as f64 * share).abs();
            assert!(off <= 4.5 * sigma, "{counts:?} by {weights:?}");
        }
    }

    #[test]
    fn shares_follow_the_weights() {
        for weights in [&[1, 1, 1][..], &[1, 2, 3], &[100, 1], &[5], &[1, 0, 7, 2]] {
            let table = table(weights);
            let all: Vec<u64> = weights.iter().map(|&w| u64::from(w)).collect();
            for balance in ALL {
                assert_shares(&count(balance, &table, &[FULL; 4], &[], 20_000), &all);
            }
        }
    }

    #[test]
    fn shares_follow_what_is_ready_and_not_excluded() {
        let table = table(&[4, 4, 2, 2]);
        for balance in ALL {
            let counts = count(balance, &table, &[FULL, 0, 500, FULL], &[], 20_000);
            assert_shares(&counts, &[4, 0, 1, 2]);
            let counts = count(balance, &table, &[FULL; 4], &[0, 2], 20_000);
            assert_shares(&counts, &[0, 4, 0, 2]);
            assert_eq!(count(balance, &table, &[0; 4], &[], 9), [0; 4]);
            assert_eq!(count(balance, &table, &[FULL, 0, 0, 0], &[0], 9), [0; 4]);
        }
    }

    #[test]
    fn round_robin_is_exact() {
        let equal = count(Balance::RoundRobin, &table(&[3, 3, 3]), &[FULL; 3], &[], 300);
        assert_eq!(equal, [100; 3]);
        let weighted = count(Balance::RoundRobin, &table(&[5, 1, 1]), &[FULL; 3], &[], 700);
        assert_eq!(weighted, [500, 100, 100]);
        // The heaviest is away, so nobody can pay the price in one round.
        let light =
            count(Balance::RoundRobin, &table(&[1_000_000, 1, 3]), &[0, FULL, FULL], &[], 400);
        assert_eq!(light, [0, 100, 300]);
    }

    /// Every stretch of as many choices as there are turns in a cycle is off by one at most.
    #[test]
    fn round_robin_spreads_turns_over_the_cycle() {
        let table = table(&[3, 2, 1]);
        let candidates = Candidates {
            pool: &table,
            readiness: |_: usize| FULL,
            load: |_: usize| 0,
            exclude: &[],
        };
        let (mut state, mut dice) = (BalanceState::default(), SmallRng::seed_from_u64(1));
        let chosen: Vec<usize> = (0..600)
            .map(|_| choose(Balance::RoundRobin, &candidates, &mut state, &mut dice, 0).unwrap())
            .collect();
        for window in chosen.windows(6) {
            for (at, due) in [(0, 3), (1, 2), (2, 1)] {
                let count = window.iter().filter(|&&chosen| chosen == at).count();
                assert!(count.abs_diff(due) <= 1, "{window:?}");
            }
        }
    }

    /// The state outlives changes of the table.
    #[test]
    fn round_robin_gives_no_credit_of_heavier_days() {
        let (heavy, light) = (table(&[1_000_000, 999_999]), table(&[2, 1]));
        let (mut state, mut dice) = (BalanceState::default(), SmallRng::seed_from_u64(1));
        let mut choose_of = |pool| {
            let candidates =
                Candidates { pool, readiness: |_: usize| FULL, load: |_: usize| 0, exclude: &[] };
            choose(Balance::RoundRobin, &candidates, &mut state, &mut dice, 0).unwrap()
        };
        let _warm_up: usize = (0..10).map(|_| choose_of(&heavy)).sum();
        let second: usize = (0..300).map(|_| choose_of(&light)).sum();
        assert!(second.abs_diff(100) <= 1, "{second}");
    }

    #[test]
    fn cores_begin_their_round_at_different_places() {
        let table = table(&[1; 8]);
        let candidates = Candidates {
            pool: &table,
            readiness: |_: usize| FULL,
            load: |_: usize| 0,
            exclude: &[],
        };
        let first = |seed| {
            let mut dice = SmallRng::seed_from_u64(seed);
            choose(Balance::RoundRobin, &candidates, &mut BalanceState::default(), &mut dice, 0)
        };
        let seen: std::collections::HashSet<_> = (0..100).map(first).collect();
        assert_eq!(seen.len(), 8);
    }

    #[test]
    fn least_request_prefers_the_less_loaded_and_asks_two() {
        let table = table(&[2, 1, 1, 1]);
        let asked = RefCell::new(Vec::new());
        let loads = [2, 9, 0, 9];
        let candidates = Candidates {
            pool: &table,
            readiness: |_: usize| FULL,
            load: |at: usize| {
                asked.borrow_mut().push(at);
                loads[at]
            },
            exclude: &[],
        };
        let mut dice = SmallRng::seed_from_u64(3);
        for _ in 0..1000 {
            asked.borrow_mut().clear();
            let chosen = least_request(&candidates, &mut dice).unwrap();
            let asked = asked.borrow();
            assert!(asked.len() == 2 && asked[0] != asked[1], "{asked:?}");
            assert!(chosen != 1 || !asked.contains(&0), "2 of weight 2 is less than 9 of weight 1");
            assert!(!asked.contains(&2) || chosen == 2);
        }
    }

    /// Each request stays for ten more: the busier of two never gets the next one.
    #[test]
    fn least_request_levels_loads_by_weight() {
        let table = table(&[2, 1]);
        let loads = [Cell::new(0_u64), Cell::new(0_u64)];
        let candidates = Candidates {
            pool: &table,
            readiness: |_: usize| FULL,
            load: |at: usize| loads[at].get(),
            exclude: &[],
        };
        let mut dice = SmallRng::seed_from_u64(3);
        let mut open = std::collections::VecDeque::new();
        let mut counts = [0_u32; 2];
        for _ in 0..30_000 {
            let at = least_request(&candidates, &mut dice).unwrap();
            counts[at] += 1;
            loads[at].update(|load| load + 1);
            open.push_back(at);
            if open.len() > 30 {
                let done: usize = open.pop_front().unwrap();
                loads[done].update(|load| load - 1);
            }
        }
        assert!((18_500..21_500).contains(&counts[0]), "{counts:?}");
    }

    #[test]
    fn a_hash_moves_only_what_it_must() {
        let choice = |table: &PoolTable, readiness: [u32; 4], key: u64| {
            let candidates = Candidates {
                pool: table,
                readiness: |at: usize| readiness[at],
                load: |_: usize| 0,
                exclude: &[],
            };
            let mut dice = SmallRng::seed_from_u64(0);
            choose(Balance::Hash, &candidates, &mut BalanceState::default(), &mut dice, key)
                .unwrap()
        };
        let (four, three) = (table(&[1, 2, 1, 3]), table(&[1, 2, 1]));
        let mut keys = SmallRng::seed_from_u64(6);
        for _ in 0..5000 {
            let key = keys.next_u64();
            let all = choice(&four, [FULL; 4], key);
            let without = choice(&four, [FULL, 0, FULL, FULL], key);
            assert!(if all == 1 { without != 1 } else { without == all });
            assert!(all == 3 || choice(&three, [FULL; 4], key) == all, "another one in the table");
            let slow = choice(&four, [FULL, 100, FULL, FULL], key);
            assert!(slow == all || all == 1);
        }
    }

    #[test]
    fn slow_start_rises_from_a_tenth() {
        let window = Duration::from_secs(10);
        for (seconds, part) in [(0, 100), (1, 190), (5, 550), (10, 1000), (99, 1000)] {
            assert_eq!(slow_start(Duration::from_secs(seconds), window), part);
        }
        assert_eq!(slow_start(Duration::ZERO, Duration::ZERO), FULL);
    }

    #[test]
    fn drained_backends_are_no_candidates() {
        let mut blue = pool("v1", 1, &[1_000_000, 2]);
        blue.backends[0].drained = true;
        let table = PoolTable::new(&"blue".into(), &blue);
        assert_eq!(table.heaviest, heavy(2));
        for balance in ALL {
            assert_eq!(count(balance, &table, &[FULL; 2], &[], 10), [0, 10]);
        }
    }

    proptest! {
        /// Whatever happens between choices, no backend is chosen that must not be, and one is if any may.
        #[test]
        fn only_candidates_are_chosen(
            weights in prop::collection::vec(prop_oneof![Just(0), 1..5_u32, Just(1_000_000)], 0..6),
            steps in prop::collection::vec((any::<[u16; 6]>(), prop::collection::vec(0..6_usize, 0..3)), 1..30),
            seed: u64,
        ) {
            let table = table(&weights);
            let mut dice = SmallRng::seed_from_u64(seed);
            let mut states = [(); 4].map(|()| BalanceState::default());
            for (readiness, exclude) in &steps {
                let ready = |at: usize| if readiness[at] % 3 == 0 { 0 } else { u32::from(readiness[at]) };
                let candidates = Candidates {
                    pool: &table, readiness: ready, load: |at: usize| u64::from(readiness[at]), exclude,
                };
                let may = |at: usize| weights[at] > 0 && ready(at) > 0 && !exclude.contains(&at);
                for (balance, state) in ALL.into_iter().zip(&mut states) {
                    match choose(balance, &candidates, state, &mut dice, seed) {
                        Some(at) => prop_assert!(may(at), "{balance:?} {at}"),
                        None => prop_assert!(!(0..weights.len()).any(may), "{balance:?}"),
                    }
                }
            }
        }
    }
}
