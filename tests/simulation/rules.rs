//! What others judge by: an interval, a threshold and a number of times that it may be missed, on the canary alone. As
//! their documentation describes them, with its usual numbers. None of them suffers from a delay of its metrics here.

use crate::{lane::Run, traffic::Traffic};
use crossfade::{
    rollout::sequential::{Histogram, Side, Slice},
    spec::{FINE_BUCKETS, fine_edges_ns},
};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    pub(crate) name: &'static str,
    /// Seconds of each step, and between two looks at what has happened since the last.
    stage: u64,
    interval: u64,
    /// Looks that may be bad; one more and the canary is cut.
    tolerated: u64,
    /// A look is bad when more of the canary's requests fail, or its p99 is above so many seconds.
    errors: f64,
    p99: f64,
}

pub(crate) const RULES: [Rule; 3] = [
    // Background analysis each minute, failureLimit 3.
    Rule { name: "argo", stage: 300, interval: 60, tolerated: 3, errors: 0.01, p99: 0.5 },
    // A check each minute, threshold 5.
    Rule { name: "flagger", stage: 300, interval: 60, tolerated: 4, errors: 0.01, p99: 0.5 },
    // A release script: ten minutes a step, then a look at the whole of them.
    Rule { name: "script", stage: 600, interval: 600, tolerated: 0, errors: 0.01, p99: 1.0 },
];

const SHARES: [f64; 4] = [0.05, 0.25, 0.5, 1.0];

impl Rule {
    /// With steps of 5, 25, 50 and 100 percent.
    pub(crate) fn run(&self, traffic: &Traffic) -> Run {
        let (mut run, mut bad) = (Run::default(), 0);
        let mut seen = Seen::default();
        for share in SHARES {
            for second in 1..=self.stage {
                let Slice { canary, .. } = traffic.second(run.seconds, share);
                run.add(canary.requests, canary.errors, traffic.case().stable_errors);
                seen.add(&canary);
                if second % self.interval == 0 {
                    bad += u64::from(std::mem::take(&mut seen).is_bad(self));
                }
                if bad > self.tolerated {
                    run.cut = Some(self.name.to_owned());
                    return run;
                }
            }
        }
        run.through = true;
        run
    }
}

struct Seen {
    requests: u64,
    errors: u64,
    latency: Histogram,
}

impl Default for Seen {
    fn default() -> Self {
        Self { requests: 0, errors: 0, latency: [0; FINE_BUCKETS] }
    }
}

impl Seen {
    fn add(&mut self, side: &Side) {
        self.requests += side.requests;
        self.errors += side.errors;
        self.latency.iter_mut().zip(side.latency).for_each(|(sum, count)| *sum += count);
    }

    fn is_bad(&self, rule: &Rule) -> bool {
        let above = self.latency.iter().zip(fine_edges_ns());
        let above =
            above.filter(|(_, from)| **from as f64 >= rule.p99 * 1e9).map(|(count, _)| count);
        let (requests, slow) = (self.requests as f64, above.sum::<u64>() as f64);
        requests > 0.0 && (self.errors as f64 > rule.errors * requests || slow > 0.01 * requests)
    }
}
