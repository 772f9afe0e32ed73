use super::{BetConfig, BetTest, Counts, NiTest};
use crate::spec::FINE_BUCKETS;
use serde::{Deserialize, Serialize};

/// Requests by the bucket of their latency.
pub type Histogram = [u64; FINE_BUCKETS];

/// How much slower is tolerated, in buckets of which eight are twice the time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LatencyConfig {
    /// The quantiles that are looked at.
    pub levels: Vec<f64>,
    pub tolerated: usize,
    /// The same while the canary warms up.
    pub tolerated_cold: usize,
    /// Slower than this is not let go on...
    pub margin: usize,
    /// ...at these quantiles.
    pub margin_levels: Vec<f64>,
    /// Seconds after which what is known of the baseline counts half.
    pub half_life: f64,
    /// So many requests of the baseline must be above a quantile.
    pub least_tail: f64,
}

impl Default for LatencyConfig {
    fn default() -> Self {
        Self {
            levels: vec![0.75, 0.95, 0.99],
            tolerated: 1,
            tolerated_cold: 16,
            margin: 2,
            margin_levels: vec![0.95, 0.99],
            half_life: 300.0,
            least_tail: 5.0,
        }
    }
}

/// Tests on the tails of the histograms. Where a tail begins is taken from what was known of the baseline before, so
/// it is no part of what is tested, and the test is valid wherever that is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    config: LatencyConfig,
    decay: f64,
    /// Of the baseline, decayed.
    known: Vec<f64>,
    main: Vec<BetTest>,
    cold: Vec<BetTest>,
    margins: Vec<NiTest>,
}

impl Latency {
    pub fn new(config: LatencyConfig, bets: &BetConfig) -> Self {
        let bets = BetConfig { rho: 0.0, tau: 0.0, one_sample: false, phi: 1.0, ..bets.clone() };
        let tests = || config.levels.iter().map(|_| BetTest::new(bets.clone())).collect();
        let margins = config.margin_levels.iter().map(|level| NiTest::new(0.0, 1.0 - level));
        Self {
            decay: (-1.0 / config.half_life).exp2(),
            known: vec![0.0; FINE_BUCKETS],
            main: tests(),
            cold: tests(),
            margins: margins.collect(),
            config,
        }
    }

    /// The first bucket of the tail above a quantile; `None`: too little is known.
    pub fn threshold(&self, level: f64) -> Option<usize> {
        let total: f64 = self.known.iter().sum();
        let share = (1.0 - level) * total;
        if share < self.config.least_tail {
            return None;
        }
        let mut tail = 0.0;
        let mut first = FINE_BUCKETS;
        while first > 0 && tail + self.known[first - 1] <= share {
            first -= 1;
            tail += self.known[first];
        }
        (0 < first && first < FINE_BUCKETS).then_some(first)
    }

    /// The baseline as it is, before and during a rollout.
    pub fn learn(&mut self, baseline: &Histogram) {
        for (known, new) in self.known.iter_mut().zip(baseline) {
            *known = *known * self.decay + *new as f64;
        }
    }

    /// A second's latencies at a canary share of `share`. While it is `cold` another set of tests is fed, and none for
    /// going on. Returns the evidence that the canary is slower.
    pub fn update(
        &mut self,
        share: f64,
        (canary, baseline): (&Histogram, &Histogram),
        stage_start: bool,
        cold: bool,
    ) -> f64 {
        let thresholds = |levels: &[f64]| -> Vec<Option<usize>> {
            levels.iter().map(|level| self.threshold(*level)).collect()
        };
        let of_levels = thresholds(&self.config.levels);
        let of_margins = thresholds(&self.config.margin_levels);
        let counts = |threshold: usize, tolerated: usize| Counts {
            canary: canary.iter().sum(),
            canary_hits: tail(canary, threshold + tolerated),
            baseline: baseline.iter().sum(),
            baseline_hits: tail(baseline, threshold),
        };
        let (tests, tolerated) = match cold {
            true => (&mut self.cold, self.config.tolerated_cold),
            false => (&mut self.main, self.config.tolerated),
        };
        for (test, threshold) in tests.iter_mut().zip(of_levels) {
            let counts = threshold.map_or_else(Counts::default, |it| counts(it, tolerated));
            test.update(share, counts, stage_start);
        }
        if !cold {
            for (test, threshold) in self.margins.iter_mut().zip(of_margins) {
                if let Some(threshold) = threshold {
                    test.update(share, counts(threshold, self.config.margin));
                }
            }
        }
        self.learn(baseline);
        self.evidence()
    }

    pub fn evidence(&self) -> f64 {
        let both = self.main.iter().zip(&self.cold);
        let sum: f64 = both.map(|(main, cold)| 0.8 * main.evidence() + 0.2 * cold.evidence()).sum();
        sum / self.main.len() as f64
    }

    /// For a new stage.
    pub(super) fn reset_margins(&mut self) {
        self.margins.iter_mut().for_each(NiTest::reset);
    }

    /// As `fresh`, but that the baseline is known.
    pub(super) fn forget(&mut self, fresh: Self) {
        let known = std::mem::take(&mut self.known);
        *self = Self { known, ..fresh };
    }

    /// By the quantiles that are asked for before it goes on.
    pub(super) fn margins(&self) -> impl Iterator<Item = f64> {
        self.margins.iter().map(NiTest::most_log_evidence)
    }
}

fn tail(histogram: &Histogram, from: usize) -> u64 {
    histogram.get(from..).unwrap_or_default().iter().sum()
}
