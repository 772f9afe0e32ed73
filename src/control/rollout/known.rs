//! What is known of each service's traffic before a rollout begins. Looked at every few seconds; a look costs a sum over
//! the backends, and over the buckets of those services that are counted.

use super::spread::Spread;
use crate::{
    control::{parts::Parts, trials::side},
    live::{LivePool, TrialTotals},
    rollout::sequential::Histogram,
    spec::{FINE_BUCKETS, Name},
};
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

const PAUSE: Duration = Duration::from_secs(5);

/// Seconds after which latencies count half, as in the statistics.
const HALF_LIFE: f64 = 300.0;

pub(in crate::control) struct Knowns {
    pools: HashMap<(Name, Name), Known>,
    due: Instant,
}

struct Known {
    pool: Arc<LivePool>,
    started: u64,
    at: Instant,
    /// Requests in a second.
    rate: Option<f64>,
    counts: Option<TrialTotals>,
    latency: Box<[f64; FINE_BUCKETS]>,
    requests: f64,
    errors: f64,
    spread: Spread,
}

impl Default for Knowns {
    fn default() -> Self {
        Self { pools: HashMap::new(), due: Instant::now() }
    }
}

impl Knowns {
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    pub(in crate::control) fn look(&mut self, parts: &Parts, now: Instant) {
        if now < self.due {
            return;
        }
        self.due = now + PAUSE;
        let mut before = std::mem::take(&mut self.pools);
        for pool in parts.pools() {
            let key = (pool.service.clone(), pool.name.clone());
            let known = before.remove(&key).filter(|known| Arc::ptr_eq(&known.pool, pool));
            self.pools.insert(key, Known::of(pool, known, now));
        }
    }

    /// Requests in a second; `None`: not known yet.
    pub(in crate::control) fn rate(&self, service: &Name, pool: &Name) -> Option<f64> {
        self.of(service, pool)?.rate
    }

    /// Of the requests lately; 0 where nobody counts.
    pub(in crate::control) fn error_rate(&self, service: &Name, pool: &Name) -> f64 {
        self.of(service, pool).map_or(0.0, |known| known.errors / known.requests.max(1.0))
    }

    pub(in crate::control) fn latency(
        &self,
        service: &Name,
        pool: &Name,
    ) -> Option<Box<Histogram>> {
        let known = self.of(service, pool).filter(|known| known.requests >= 1.0)?;
        Some(Box::new(known.latency.map(|count| count.round() as u64)))
    }

    /// How much errors came together on single backends; 1: not.
    pub(in crate::control) fn dispersion(&self, service: &Name, pool: &Name) -> f64 {
        self.of(service, pool).map_or(1.0, |known| known.spread.dispersion())
    }

    fn of(&self, service: &Name, pool: &Name) -> Option<&Known> {
        self.pools.get(&(service.clone(), pool.clone()))
    }
}

impl Known {
    fn of(pool: &Arc<LivePool>, before: Option<Self>, now: Instant) -> Self {
        let started = pool.tally().started;
        let counts = pool.counts().map(|counts| counts.read());
        let backends = pool.backends();
        let Some(mut known) = before else {
            return Self {
                pool: pool.clone(),
                started,
                at: now,
                rate: None,
                counts,
                latency: Box::new([0.0; FINE_BUCKETS]),
                requests: 0.0,
                errors: 0.0,
                spread: Spread::new(&backends, now),
            };
        };
        known.spread.look(&backends, now);
        let seconds = now.duration_since(known.at).as_secs_f64();
        if seconds > 0.0 {
            known.rate = Some(started.saturating_sub(known.started) as f64 / seconds);
        }
        if let (Some(then), Some(now)) = (&known.counts, &counts) {
            let new = side(then, now);
            let decay = (-seconds / HALF_LIFE).exp2();
            known.requests = known.requests * decay + new.requests as f64;
            known.errors = known.errors * decay + new.errors as f64;
            for (known, new) in known.latency.iter_mut().zip(new.latency) {
                *known = *known * decay + new as f64;
            }
        }
        Self { started, at: now, counts, ..known }
    }
}
