use super::quantile::quantile;
use crate::{
    live::{CODES, LivePool, PoolTotals},
    spec::FINE_BUCKETS,
};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// What the figures of a pool are taken over.
const WINDOW: Duration = Duration::from_secs(30);

/// What those are taken over that show what happens now: long enough for a 99th percentile to mean something, short enough
/// to see at once that something is wrong.
pub(super) const SHORT: Duration = Duration::from_secs(10);

/// So many figures of [`SHORT`], one after the other, are kept of each pool: an hour.
const TRAIL: usize = 360;

/// A younger window says too little about a second to divide by its length.
const SHORTEST: Duration = Duration::from_secs(1);

/// The recent traffic of every pool, from counters that are looked at once a second.
#[derive(Default)]
pub(super) struct Traffic {
    windows: Mutex<Vec<Window>>,
}

struct Window {
    pool: Arc<LivePool>,
    /// Oldest first; never empty.
    samples: VecDeque<Sample>,
    /// Oldest first.
    trail: VecDeque<Point>,
}

/// What a pool did in the [`SHORT`] before `at`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Point {
    pub(super) at: Instant,
    /// Those of [`Recent`] in their order, in half the space; not a number where there is none.
    pub(super) figures: [f32; 5],
}

struct Sample {
    at: Instant,
    replies: u64,
    errors: u64,
    fine: [u64; FINE_BUCKETS],
}

/// What a pool did in the last half minute, or since it is there.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Recent {
    /// Replies a second.
    pub(super) rate: f64,
    /// Share of replies that were a server's error (5xx). As all below: `None` without replies.
    pub(super) error_rate: Option<f64>,
    /// Seconds.
    pub(super) p50: Option<f64>,
    pub(super) p95: Option<f64>,
    pub(super) p99: Option<f64>,
}

impl Traffic {
    /// Notes where the counters of `pools` stand; forgets all other pools.
    pub(super) fn sample(&self, pools: &[Arc<LivePool>], now: Instant) {
        self.visit(pools, now, |window| {
            window.note(Sample::new(&window.pool.stats.totals(), now));
            // One sample at the window's age is kept: it is what the figures are counted from.
            while window.samples.get(1).is_some_and(|s| now.duration_since(s.at) >= WINDOW) {
                window.samples.pop_front();
            }
        });
    }

    /// Begins to watch those of `pools` that are new, so that nothing of theirs is missed.
    pub(super) fn meet(&self, pools: &[Arc<LivePool>], now: Instant) {
        self.visit(pools, now, |_| ());
    }

    fn visit(&self, pools: &[Arc<LivePool>], now: Instant, mut known: impl FnMut(&mut Window)) {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        windows.retain(|window| pools.iter().any(|pool| Arc::ptr_eq(pool, &window.pool)));
        for pool in pools {
            match windows.iter_mut().find(|window| Arc::ptr_eq(pool, &window.pool)) {
                Some(window) => known(window),
                None => windows.push(Window {
                    pool: Arc::clone(pool),
                    samples: VecDeque::from([Sample::new(&pool.stats.totals(), now)]),
                    trail: VecDeque::new(),
                }),
            }
        }
    }

    pub(super) fn recent(&self, pool: &Arc<LivePool>, now: Instant) -> Recent {
        self.over(pool, WINDOW, now)
    }

    /// The same over [`SHORT`].
    pub(super) fn lately(&self, pool: &Arc<LivePool>, now: Instant) -> Recent {
        self.over(pool, SHORT, now)
    }

    fn over(&self, pool: &Arc<LivePool>, length: Duration, now: Instant) -> Recent {
        let windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let window = windows.iter().find(|window| Arc::ptr_eq(pool, &window.pool));
        let first = window.and_then(|window| window.first(length, now));
        first.map_or_else(Recent::default, |first| {
            Sample::new(&pool.stats.totals(), now).since(first)
        })
    }

    /// What a pool did in the last hour, the oldest first.
    pub(super) fn trail(&self, pool: &Arc<LivePool>) -> Vec<Point> {
        let windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let window = windows.iter().find(|window| Arc::ptr_eq(pool, &window.pool));
        window.map_or_else(Vec::new, |window| window.trail.iter().copied().collect())
    }
}

impl Window {
    fn note(&mut self, sample: Sample) {
        let now = sample.at;
        let last =
            self.trail.back().map_or_else(|| self.samples.front().map(|s| s.at), |p| Some(p.at));
        if last.is_some_and(|last| now.duration_since(last) >= SHORT)
            && let Some(first) = self.first(SHORT, now)
        {
            let point = Point { at: now, figures: sample.since(first).figures() };
            self.trail.push_back(point);
            if self.trail.len() > TRAIL {
                self.trail.pop_front();
            }
        }
        self.samples.push_back(sample);
    }

    /// The sample from which to count what happened in `length`: the youngest of that age, else the oldest.
    fn first(&self, length: Duration, now: Instant) -> Option<&Sample> {
        let old = self.samples.partition_point(|sample| now.duration_since(sample.at) >= length);
        self.samples.get(old.saturating_sub(1))
    }
}

impl Recent {
    fn figures(self) -> [f32; 5] {
        let of = |figure: Option<f64>| figure.map_or(f32::NAN, |figure| figure as f32);
        [self.rate as f32, of(self.error_rate), of(self.p50), of(self.p95), of(self.p99)]
    }
}

impl Sample {
    fn new(totals: &PoolTotals, at: Instant) -> Self {
        let mut replies = 0;
        let mut errors = 0;
        for by_code in &totals.requests {
            for (count, code) in by_code.iter().zip(CODES) {
                replies += count;
                if code.starts_with('5') {
                    errors += count;
                }
            }
        }
        Self { at, replies, errors, fine: totals.fine }
    }

    fn since(&self, first: &Self) -> Recent {
        let replies = self.replies.saturating_sub(first.replies);
        let errors = self.errors.saturating_sub(first.errors);
        let seconds = self.at.saturating_duration_since(first.at).max(SHORTEST).as_secs_f64();
        let fine = std::array::from_fn(|b| self.fine[b].saturating_sub(first.fine[b]));
        Recent {
            rate: replies as f64 / seconds,
            error_rate: (replies > 0).then(|| errors as f64 / replies as f64),
            p50: quantile(&fine, 0.5),
            p95: quantile(&fine, 0.95),
            p99: quantile(&fine, 0.99),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool() -> Arc<LivePool> {
        LivePool::new(1, "shop".into(), "blue".into(), "v1".into())
    }

    fn replies(pool: &LivePool, count: usize, code: u16, millis: u64) {
        for _ in 0..count {
            pool.stats.record_reply(0, 0, code, millis * 1_000_000);
        }
    }

    #[test]
    fn figures_are_of_the_window_alone() {
        let (traffic, pool, begin) = (Traffic::default(), pool(), Instant::now());
        let at = |seconds| begin + Duration::from_secs(seconds);
        let pools = [Arc::clone(&pool)];
        traffic.meet(&pools, begin);
        replies(&pool, 1_000, 500, 900);
        for second in 1..=100 {
            traffic.sample(&pools, at(second));
            replies(&pool, 9, 200, 10);
            replies(&pool, 1, 503, 100);
        }
        let recent = traffic.recent(&pool, at(100));
        assert!((9.5..=10.5).contains(&recent.rate), "{recent:?}");
        assert_eq!(recent.error_rate, Some(0.1));
        let close = |figure: Option<f64>, to: f64| {
            assert!(figure.is_some_and(|s| (s / to).log2().abs() <= 0.125), "{figure:?} {to}");
        };
        close(recent.p50, 0.01);
        close(recent.p95, 0.1);
        assert!(traffic.windows.lock().unwrap()[0].samples.len() <= 32);
    }

    #[test]
    fn an_hour_is_kept_in_steps_of_ten_seconds() {
        let (traffic, pool, begin) = (Traffic::default(), pool(), Instant::now());
        let at = |seconds| begin + Duration::from_secs(seconds);
        let pools = [Arc::clone(&pool)];
        traffic.meet(&pools, begin);
        for second in 1..=25 {
            replies(&pool, if second <= 10 { 10 } else { 30 }, 200, 10);
            traffic.sample(&pools, at(second));
        }
        let trail = traffic.trail(&pool);
        let told: Vec<_> = trail.iter().map(|p| (p.at - begin, p.figures[0])).collect();
        let step = |number: u32| number * SHORT;
        assert_eq!(told, [(step(1), 10.0), (step(2), 30.0)]);
        assert_eq!(traffic.lately(&pool, at(25)).rate, 30.0);
        assert!(traffic.recent(&pool, at(25)).rate < 30.0, "a longer window");
        for second in 26..=4_000 {
            traffic.sample(&pools, at(second));
        }
        let trail = traffic.trail(&pool);
        assert_eq!(trail.len(), TRAIL);
        let last = trail.last().unwrap();
        assert_eq!((last.at, last.figures[0]), (at(4_000), 0.0));
        assert!(last.figures[1].is_nan(), "nothing is no share of nothing");
    }

    #[test]
    fn a_first_request_does_not_look_like_a_storm() {
        let (traffic, pool, begin) = (Traffic::default(), pool(), Instant::now());
        traffic.meet(&[Arc::clone(&pool)], begin);
        replies(&pool, 5, 200, 1);
        assert_eq!(traffic.recent(&pool, begin + Duration::from_millis(1)).rate, 5.0);
    }

    #[test]
    fn what_has_left_is_forgotten_and_silence_has_no_figures() {
        let (traffic, pool, now) = (Traffic::default(), pool(), Instant::now());
        traffic.sample(&[Arc::clone(&pool)], now);
        assert_eq!(traffic.recent(&pool, now), Recent::default());
        traffic.sample(&[], now);
        assert!(traffic.windows.lock().unwrap().is_empty());
    }
}
