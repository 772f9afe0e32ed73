//! How much the backends of a pool differ by themselves: errors that come together on single backends are fewer
//! independent witnesses than they seem.

use crate::{live::LiveBackend, rollout::sequential::dispersion};
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

/// What is compared between backends is counted over so long.
const BLOCK: Duration = Duration::from_secs(10);

/// What was longer ago says little of now.
const LONGEST: Duration = Duration::from_secs(3600);

pub(super) struct Spread {
    since: Instant,
    from: Readings,
    blocks: VecDeque<(Instant, Vec<(u64, u64)>)>,
}

/// Attempts and errors of each backend so far, by its place in memory, which is nobody else's as long as it is held.
type Readings = HashMap<usize, (Weak<LiveBackend>, (u64, u64))>;

fn read(backends: &[Arc<LiveBackend>]) -> Readings {
    let read = |backend: &Arc<LiveBackend>| {
        let place = Arc::as_ptr(backend) as usize;
        (place, (Arc::downgrade(backend), backend.attempts()))
    };
    backends.iter().map(read).collect()
}

impl Spread {
    pub(super) fn new(backends: &[Arc<LiveBackend>], now: Instant) -> Self {
        Self { since: now, from: read(backends), blocks: VecDeque::new() }
    }

    pub(super) fn look(&mut self, backends: &[Arc<LiveBackend>], now: Instant) {
        if now.duration_since(self.since) < BLOCK {
            return;
        }
        self.since = now;
        let from = std::mem::replace(&mut self.from, read(backends));
        let since = |(place, (_, now)): (&usize, &(_, (u64, u64)))| {
            let (_, then) = from.get(place)?;
            Some((now.0.saturating_sub(then.0), now.1.saturating_sub(then.1)))
        };
        let block: Vec<_> = self.from.iter().filter_map(since).collect();
        self.blocks.retain(|(at, _)| now.duration_since(*at) < LONGEST);
        // Without an error there is nothing to compare.
        if block.len() > 1 && block.iter().any(|(_, errors)| *errors > 0) {
            self.blocks.push_back((now, block));
        }
    }

    pub(super) fn dispersion(&self) -> f64 {
        let blocks: Vec<_> = self.blocks.iter().map(|(_, block)| block.clone()).collect();
        dispersion(&blocks)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        live::{HealthState, LivePool, Slots},
        spec::PoolProtocol,
    };

    /// Each tenth request of `sick` backends of three, every hundredth of the others fails, for so many blocks.
    fn dispersion_of(sick: usize, blocks: u32) -> f64 {
        let pool = LivePool::new(1, "shop".into(), "blue".into(), "v1".into());
        let slots = Slots::default();
        let backends = [1, 2, 3].map(|port| {
            let address = format!("127.0.0.1:{port}").parse().unwrap();
            let (state, slot) = ((HealthState::Healthy, 0), slots.take());
            LiveBackend::new(1, address, pool.clone(), PoolProtocol::default(), state, slot)
        });
        let begin = Instant::now();
        let mut spread = Spread::new(&backends, begin);
        for block in 1..=blocks {
            for (index, backend) in backends.iter().enumerate() {
                let each = if index < sick { 10 } else { 100 };
                for request in 0..200 {
                    match request % each {
                        0 if block % 2 == 0 => assert!(backend.attempt_failed(0) > 0),
                        0 => backend.answered_with_error(0),
                        _ => backend.attempt_succeeded(0),
                    }
                }
            }
            // Halfway, too: that is not yet a block.
            spread.look(&backends, begin + BLOCK * block - BLOCK / 2);
            spread.look(&backends, begin + BLOCK * block);
        }
        spread.dispersion()
    }

    #[test]
    fn errors_on_single_backends_are_told_from_errors_on_all() {
        assert_eq!(dispersion_of(0, 40), 1.0, "all alike");
        assert_eq!(dispersion_of(3, 40), 1.0, "all alike");
        assert!(dispersion_of(1, 40) > 5.0);
        assert_eq!(dispersion_of(1, 14), 1.0, "too little is known");
    }

    #[test]
    fn what_was_long_ago_is_forgotten() {
        let mut spread = Spread::new(&[], Instant::now());
        let begin = spread.since;
        spread.blocks.extend((0..40).map(|_| (begin, vec![(100, 10), (100, 0)])));
        assert!(spread.dispersion() > 1.0);
        spread.look(&[], begin + 2 * LONGEST);
        assert_eq!(spread.dispersion(), 1.0);
    }
}
