//! The split of a service: exact and still random.

use super::apportion::Apportion;
use rand::Rng;

/// A set of pools of one service, by index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolSet(u64);

impl PoolSet {
    pub const EMPTY: Self = Self(0);
    pub const ALL: Self = Self(u64::MAX);

    /// Indexes beyond the largest number of pools are left out.
    pub fn insert(&mut self, pool: usize) {
        self.0 |= Self::bit(pool);
    }

    pub fn remove(&mut self, pool: usize) {
        self.0 &= !Self::bit(pool);
    }

    pub fn contains(self, pool: usize) -> bool {
        self.0 & Self::bit(pool) != 0
    }

    fn bit(pool: usize) -> u64 {
        u32::try_from(pool).ok().and_then(|pool| 1_u64.checked_shl(pool)).unwrap_or(0)
    }
}

impl FromIterator<usize> for PoolSet {
    fn from_iter<I: IntoIterator<Item = usize>>(pools: I) -> Self {
        let mut set = Self::EMPTY;
        pools.into_iter().for_each(|pool| set.insert(pool));
        set
    }
}

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
        let weights = || self.weights(available).map(f64::from);
        let total: f64 = weights().sum();
        weights().map(|weight| if total > 0.0 { weight / total } else { 0.0 }).collect()
    }

    fn weights(&self, available: PoolSet) -> impl Iterator<Item = u32> {
        self.weights
            .iter()
            .enumerate()
            .map(move |(pool, &weight)| if available.contains(pool) { weight } else { 0 })
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
    /// The next pool; `None` when no available pool has weight.
    pub fn draw<R: Rng + ?Sized>(
        &mut self,
        split: &Split,
        available: PoolSet,
        dice: &mut R,
    ) -> Option<usize> {
        if !matches!(&self.of, Some((of, set)) if *set == available && of == split) {
            self.tree = Tree::new(split.weights(available));
            self.of = Some((split.clone(), available));
        }
        self.tree.draw(dice)
    }
}

/// Shares draws among any number of pools: a node shares among three, further pools stand below.
#[derive(Clone, Debug, Default)]
struct Tree {
    nodes: Vec<Node>,
    root: Option<Branch>,
}

#[derive(Clone, Debug)]
struct Node {
    draws: Apportion,
    branches: [Branch; 3],
}

#[derive(Clone, Copy, Debug)]
enum Branch {
    Pool(usize),
    Node(usize),
}

impl Tree {
    /// The pools of least weight go deepest (Huffman's tree): there a pool strays by its own node and,
    /// in proportion to its part of it, by the nodes above.
    fn new(weights: impl Iterator<Item = u32>) -> Self {
        let mut tree = Self::default();
        let mut open: Vec<(u32, Branch)> = weights
            .enumerate()
            .filter(|&(_, weight)| weight > 0)
            .map(|(pool, weight)| (weight, Branch::Pool(pool)))
            .collect();
        while open.len() > 1 {
            open.sort_by_key(|&(weight, _)| std::cmp::Reverse(weight));
            // Two or three, so that three are left for the root.
            let take = if open.len().is_multiple_of(2) { 2 } else { 3 };
            let node = tree.join(&open.split_off(open.len() - take));
            open.push(node);
        }
        tree.root = open.first().map(|&(_, branch)| branch);
        tree
    }

    /// A node over two or three branches.
    fn join(&mut self, of: &[(u32, Branch)]) -> (u32, Branch) {
        let part = |i: usize| of.get(i).copied().unwrap_or((0, of[0].1));
        let parts = [part(0), part(1), part(2)];
        let draws = Apportion::new(parts.map(|(weight, _)| weight));
        self.nodes.push(Node { draws, branches: parts.map(|(_, branch)| branch) });
        (parts.iter().map(|(weight, _)| weight).sum(), Branch::Node(self.nodes.len() - 1))
    }

    fn draw<R: Rng + ?Sized>(&mut self, dice: &mut R) -> Option<usize> {
        let mut branch = self.root?;
        loop {
            match branch {
                Branch::Pool(pool) => return Some(pool),
                Branch::Node(at) => {
                    let node = &mut self.nodes[at];
                    branch = node.branches[node.draws.draw(dice)];
                }
            }
        }
    }
}
