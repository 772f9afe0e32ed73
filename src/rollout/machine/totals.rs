//! What both versions did over the whole rollout.

use crate::{
    rollout::sequential::{Side, Slice},
    spec::{FINE_BUCKETS, fine_edges_ns},
};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    /// Seconds.
    pub time: u64,
    pub stable: Total,
    pub canary: Total,
    /// Requests in a second lately, of both.
    pub rate: f64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Total {
    pub requests: u64,
    pub errors: u64,
    pub slow: u64,
    /// By bucket, up to the last that is not empty.
    latency: Vec<u64>,
}

/// Seconds after which the rate of before counts half.
const HALF_LIFE: f64 = 10.0;

impl Totals {
    pub(super) fn add(&mut self, slice: &Slice) {
        let Slice { canary, baseline } = slice;
        self.stable.add(baseline);
        self.canary.add(canary);
        let now = (canary.requests + baseline.requests) as f64;
        let decay = if self.time == 0 { 0.0 } else { (-1.0 / HALF_LIFE).exp2() };
        self.rate = self.rate * decay + now * (1.0 - decay);
        self.time += 1;
    }
}

impl Total {
    fn add(&mut self, side: &Side) {
        self.requests += side.requests;
        self.errors += side.errors;
        self.slow += side.slow;
        let used = side.latency.iter().rposition(|count| *count > 0).map_or(0, |last| last + 1);
        if self.latency.len() < used {
            self.latency.resize(used, 0);
        }
        for (sum, count) in self.latency.iter_mut().zip(side.latency) {
            *sum += count;
        }
    }

    /// 0 without requests.
    pub fn error_rate(&self) -> f64 {
        if self.requests == 0 { 0.0 } else { self.errors as f64 / self.requests as f64 }
    }

    /// Seconds: where the bucket ends in which the quantile is; `None` without requests.
    pub fn quantile(&self, level: f64) -> Option<f64> {
        let all: u64 = self.latency.iter().sum();
        if all == 0 {
            return None;
        }
        let wanted = (level * all as f64).ceil().max(1.0) as u64;
        let mut so_far = 0;
        let bucket = self.latency.iter().position(|count| {
            so_far += count;
            so_far >= wanted
        })?;
        let edge = fine_edges_ns()[(bucket + 1).min(FINE_BUCKETS - 1)];
        Some(edge as f64 / 1e9)
    }
}
