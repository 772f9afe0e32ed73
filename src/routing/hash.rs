//! Hashes that every proxy computes alike: SipHash-2-4 under fixed keys, and weighted rendezvous hashing
//! in integers, so that neither the platform nor its mathematical library has a say.

use siphasher::sip::SipHasher24;

/// SipHash-2-4 under keys of its own, derived from a text. Keys are fixed: the point is that proxies
/// agree, not that the hash is secret.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeyedHash(SipHasher24);

impl KeyedHash {
    pub(super) fn new(text: &str) -> Self {
        let half = |n: u64| SipHasher24::new_with_keys(n, 0).hash(text.as_bytes());
        Self(SipHasher24::new_with_keys(half(1), half(2)))
    }

    pub(super) fn of(&self, bytes: &[u8]) -> u64 {
        self.0.hash(bytes)
    }
}

/// Mixes two hashes into one. A bijection of either for a fixed other (the finaliser of MurmurHash3), so
/// two members never draw the same number for one key.
pub(super) fn mix(key: u64, member: u64) -> u64 {
    let mut x = key ^ member;
    x = (x ^ (x >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    x = (x ^ (x >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ (x >> 33)
}

/// Weighted rendezvous hashing: the member with the highest `weight / -ln(u)`, where `u` is uniform and
/// belongs to the key and the member. A member is chosen in proportion to its weight; raising a weight
/// moves keys to that member only, and taking one away moves only its own.
///
/// `members` gives index, hash and weight; members of weight 0 are never chosen.
pub(super) fn rendezvous(
    key: u64,
    members: impl Iterator<Item = (usize, u64, u32)>,
) -> Option<usize> {
    let mut best: Option<Entry> = None;
    for (index, hash, weight) in members.filter(|member| member.2 > 0) {
        let mut entry = Entry { index, drawn: mix(key, hash), weight, cost: None };
        if best.as_mut().is_none_or(|best| entry.beats(best)) {
            best = Some(entry);
        }
    }
    best.map(|entry| entry.index)
}

struct Entry {
    index: usize,
    drawn: u64,
    weight: u32,
    /// -ln(u), once it is needed.
    cost: Option<u64>,
}

impl Entry {
    fn beats(&mut self, other: &mut Self) -> bool {
        if self.weight == other.weight {
            // -ln(u) falls as u rises, so the logarithms need not be known.
            return self.drawn > other.drawn;
        }
        // Each cost times the other's weight: no division.
        let theirs = u128::from(other.cost()) * u128::from(self.weight);
        let mine = |cost: u64| u128::from(cost) * u128::from(other.weight);
        if mine(least_cost(self.drawn)) > theirs {
            return false;
        }
        let mine = mine(self.cost());
        mine < theirs || (mine == theirs && self.drawn > other.drawn)
    }

    fn cost(&mut self) -> u64 {
        *self.cost.get_or_insert_with(|| cost(self.drawn))
    }
}

/// Bits of the fraction of a cost.
const FRACTION: u32 = 32;

/// -log2(x / 2^64) in units of 2^-32, rounded up; falls as `x` rises and is never 0.
fn cost(x: u64) -> u64 {
    (64 << FRACTION) - log2(x.max(1))
}

/// What [`cost`] is at least, without a logarithm: log2(1 + f) is less than f + 0.0861.
fn least_cost(x: u64) -> u64 {
    const ABOVE: u64 = ((1_u64 << FRACTION) * 861).div_ceil(10_000);
    let zeros = x.max(1).leading_zeros();
    let fraction = ((x.max(1) << zeros) << 1) >> FRACTION;
    (64_u64 << FRACTION).saturating_sub((u64::from(63 - zeros) << FRACTION) + fraction + ABOVE)
}

/// log2 in units of 2^-32, rounded down: one bit of the fraction for each squaring of the mantissa.
/// Truncation keeps the order of its arguments at every step, so the result never falls as `x` rises.
fn log2(x: u64) -> u64 {
    let zeros = x.leading_zeros();
    let mut mantissa = x << zeros;
    let mut log = u64::from(63 - zeros);
    for _ in 0..FRACTION {
        let square = u128::from(mantissa) * u128::from(mantissa);
        let bit = (square >> 127) as u64;
        mantissa = (square >> (63 + bit)) as u64;
        log = (log << 1) | bit;
    }
    log
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng, rngs::StdRng};

    #[test]
    fn the_logarithm_is_accurate() {
        let mut dice = StdRng::seed_from_u64(1);
        for shift in 0..64 {
            for _ in 0..200 {
                let x = (dice.next_u64() >> shift).max(1);
                let exact = (x as f64).log2();
                let ours = log2(x) as f64 / f64::from(FRACTION).exp2();
                // f64 itself is off by up to 2^-46 here.
                assert!(ours <= exact + 1e-13 && ours > exact - 3e-10, "{x}: {ours} {exact}");
            }
        }
        assert_eq!(log2(1), 0);
        assert_eq!(log2(1 << 63), 63 << FRACTION);
    }

    #[test]
    fn the_logarithm_is_monotone_and_the_cost_never_zero() {
        let mut dice = StdRng::seed_from_u64(2);
        for _ in 0..20_000 {
            let x = dice.next_u64() >> (dice.next_u64() % 64);
            let (low, high) = (x.max(1), x.saturating_add(1 + dice.next_u64() % 5));
            assert!(log2(low) <= log2(high), "{low} {high}");
        }
        assert!(cost(u64::MAX) > 0);
        for x in (0..20_000).map(|_| dice.next_u64() >> (dice.next_u64() % 64)).chain([0, u64::MAX])
        {
            let (least, cost) = (least_cost(x), cost(x));
            assert!(least <= cost && cost - least < 400_000_000, "{x}: {least} {cost}");
        }
        assert_eq!(cost(0), cost(1));
    }

    #[test]
    fn mixing_is_a_bijection_of_the_member() {
        let mut seen = std::collections::HashSet::new();
        assert!((0..10_000).all(|member| seen.insert(mix(77, member))));
    }
}
