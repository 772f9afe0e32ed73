use super::Counts;
use serde::{Deserialize, Serialize};

/// Shares of what there is that the bets risk.
pub(super) const LAMBDAS: [f64; 8] = [0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.95];

/// Evidence that the canary's rate is below (1 + rho) times the baseline's + margin. If it is not, the chance that the
/// evidence ever reaches 1/b is at most b.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NiTest {
    rho: f64,
    margin: f64,
    one_sample: bool,
    bets: Vec<Bet>,
    most: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Bet {
    lambda: f64,
    log_wealth: f64,
}

impl NiTest {
    pub fn new(rho: f64, margin: f64) -> Self {
        Self::with(rho, margin, false, &LAMBDAS)
    }

    /// `one_sample`: there is no baseline, and the canary's rate must be below `margin`.
    pub fn with(rho: f64, margin: f64, one_sample: bool, lambdas: &[f64]) -> Self {
        let bet = |&lambda: &f64| Bet { lambda, log_wealth: 0.0 };
        Self { rho, margin, one_sample, bets: lambdas.iter().map(bet).collect(), most: 0.0 }
    }

    /// For a new stage.
    pub fn reset(&mut self) {
        self.bets.iter_mut().for_each(|bet| bet.log_wealth = 0.0);
        self.most = 0.0;
    }

    /// A second's counts at a canary share of `share`. Returns the logarithm of the evidence.
    pub fn update(&mut self, share: f64, counts: Counts) -> f64 {
        if self.one_sample || (share > 0.0 && share < 1.0) {
            let odds = if self.one_sample { 0.0 } else { (1.0 + self.rho) * share / (1.0 - share) };
            let hits = counts.canary_hits as f64;
            let misses = counts.canary.saturating_sub(counts.canary_hits) as f64;
            for Bet { lambda, log_wealth } in &mut self.bets {
                *log_wealth += misses * (*lambda * self.margin).ln_1p()
                    + hits * (-*lambda * (1.0 - self.margin)).ln_1p()
                    + counts.baseline_hits as f64 * (*lambda * odds).ln_1p();
            }
        }
        let log = self.log_evidence();
        self.most = self.most.max(log);
        log
    }

    pub fn log_evidence(&self) -> f64 {
        let logs = self.bets.iter().map(|bet| bet.log_wealth);
        let most = logs.clone().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = logs.map(|log| (log - most).exp()).sum();
        most + (sum / self.bets.len() as f64).ln()
    }

    /// The most that it came to in this stage, 0 at least.
    pub fn most_log_evidence(&self) -> f64 {
        self.most
    }
}
