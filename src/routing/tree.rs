//! Draws among any number of pools.

use super::{apportion::Apportion, leash::Leash};
use rand::Rng;
use std::cmp::Reverse;

/// A node shares draws among three; further pools stand below.
///
/// Up to three pools every stretch of draws is within 2 of the weights ([`Apportion`]). Below a node a pool
/// strays by its own node and, in proportion to its part of it, by the nodes above; a [`Leash`] keeps that
/// short.
#[derive(Clone, Debug, Default)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    root: Option<Branch>,
    /// Where one node is not enough.
    leash: Option<Leash>,
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
    /// Those that are nearest in weight go under one node: a pool takes over the straying of the node above
    /// in proportion to its part of its own, so the largest part should be small.
    pub(super) fn new(weights: &[u32]) -> Self {
        let mut tree = Self::default();
        let pools = weights.iter().enumerate().filter(|&(_, &weight)| weight > 0);
        let mut open: Vec<(u32, Branch)> =
            pools.map(|(pool, &weight)| (weight, Branch::Pool(pool))).collect();
        while open.len() > 1 {
            open.sort_by_key(|&(weight, _)| Reverse(weight));
            // Two or three, so that three are left for the root.
            let size = if open.len().is_multiple_of(2) { 2 } else { 3 };
            let groups = open.windows(size).enumerate();
            let part = |group: &[(u32, Branch)]| {
                let sum: u32 = group.iter().map(|&(weight, _)| weight).sum();
                f64::from(group[0].0) / f64::from(sum)
            };
            let best = groups.min_by(|(_, a), (_, b)| part(a).total_cmp(&part(b)));
            let first = best.map_or(0, |(at, _)| at);
            let group: Vec<(u32, Branch)> = open.drain(first..first + size).collect();
            let node = tree.join(&group);
            open.push(node);
        }
        tree.root = open.first().map(|&(_, branch)| branch);
        tree.leash = (tree.nodes.len() > 1).then(|| Leash::new(weights));
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

    /// `None` when no pool has weight.
    pub(super) fn draw<R: Rng + ?Sized>(&mut self, dice: &mut R) -> Option<usize> {
        let mut branch = self.root?;
        let drawn = loop {
            match branch {
                Branch::Pool(pool) => break pool,
                Branch::Node(at) => {
                    let node = &mut self.nodes[at];
                    branch = node.branches[node.draws.draw(dice)];
                }
            }
        };
        Some(self.leash.as_mut().map_or(drawn, |leash| leash.hold(drawn)))
    }
}
