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
