/// Keeps pools from straying where draws come from several nodes: now and then the draw of one pool is
/// given to the one that is furthest behind what it is due.
///
/// It acts at a distance of [`LIMIT`], which pools seldom reach unless their weights are far apart (each a
/// tenth of the next, say); there, and only there, a draw's probability may differ from the share. What it
/// leaves was measured, not proven: of 8 × 10^8 stretches of 1,000 draws, of 4 to 64 pools with random and
/// with ill-chosen weights, all were within 3 of the weights; without it one in 100,000 was not.
#[derive(Clone, Debug)]
pub(super) struct Leash {
    weights: Box<[i64]>,
    total: i64,
    /// By how much each pool is behind what it is due, in parts of `total`; below 0: ahead.
    behind: Box<[i64]>,
}

/// In draws: a numerator and a denominator.
const LIMIT: (i64, i64) = (7, 5);

impl Leash {
    pub(super) fn new(weights: &[u32]) -> Self {
        let weights: Box<[i64]> = weights.iter().copied().map(i64::from).collect();
        Self {
            total: weights.iter().sum(),
            behind: vec![0; weights.len()].into_boxed_slice(),
            weights,
        }
    }

    /// The pool that gets the draw which fell to `drawn`.
    pub(super) fn hold(&mut self, drawn: usize) -> usize {
        let mut last = 0;
        for (pool, weight) in self.weights.iter().enumerate() {
            self.behind[pool] += weight;
            if self.behind[pool] > self.behind[last] {
                last = pool;
            }
        }
        let limit = self.total * LIMIT.0 / LIMIT.1;
        let too_far = self.behind[last] >= limit || self.behind[drawn] - self.total <= -limit;
        let pool = if too_far { last } else { drawn };
        self.behind[pool] -= self.total;
        pool
    }
}
