use super::{Counts, RATIOS};
use serde::{Deserialize, Serialize};

/// What a [`BetTest`] takes for no worse, and how it bets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BetConfig {
    /// The canary's rate may be this share above the baseline's...
    pub rho: f64,
    /// ...and this much besides.
    pub tau: f64,
    /// There is no baseline: the canary's rate may be `tau`.
    pub one_sample: bool,
    /// How many times worse than is tolerated each bet takes the canary to be.
    pub ratios: Vec<f64>,
    /// The most that a bet may gain at once, in nats, and what comes back to that each second: a short burst cannot
    /// decide alone.
    pub credit: f64,
    pub refill: f64,
    /// What is staked of the reserve at first, at the start of each stage at least, and over how many seconds the rest is.
    pub first_stake: f64,
    pub stage_stake: f64,
    pub horizon: f64,
    /// How much more errors come together than chance would have it, 1 or more.
    pub phi: f64,
}

impl Default for BetConfig {
    fn default() -> Self {
        Self {
            rho: 0.25,
            tau: 0.001,
            one_sample: false,
            ratios: RATIOS.to_vec(),
            credit: 3.0,
            refill: 1.0,
            first_stake: 0.5,
            stage_stake: 0.2,
            horizon: 1800.0,
            phi: 1.0,
        }
    }
}

/// Evidence that the canary's rate is above (1 + rho) times the baseline's + tau. If it never is, the chance that the
/// evidence ever reaches 1/a is at most a (Ville), however the baseline and the shares change meanwhile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BetTest {
    config: BetConfig,
    cash: f64,
    slices: f64,
    bets: Vec<Bet>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Bet {
    ratio: f64,
    wealth: f64,
    credit: f64,
}

impl BetTest {
    pub fn new(config: BetConfig) -> Self {
        let bet = |&ratio: &f64| Bet { ratio, wealth: 0.0, credit: config.credit };
        Self { bets: config.ratios.iter().map(bet).collect(), cash: 1.0, slices: 0.0, config }
    }

    /// A second's counts at a canary share of `share`; `stage_start`: it is the first of its stage. Returns the
    /// evidence.
    pub fn update(&mut self, share: f64, counts: Counts, stage_start: bool) -> f64 {
        let BetConfig { rho, tau, one_sample, credit, refill, phi, .. } = self.config;
        self.slices += 1.0;
        let is_first = self.slices == 1.0;
        let mut stake = match is_first {
            true => self.config.first_stake,
            false => 1.0 / (self.config.horizon + self.slices),
        };
        if stage_start && !is_first {
            stake = stake.max(self.config.stage_stake);
        }
        let staked = stake * self.cash;
        self.cash -= staked;
        let is_active = one_sample || (share > 0.0 && share < 1.0);
        // What a hit of the baseline costs.
        let odds = if one_sample || !is_active { 0.0 } else { (1.0 + rho) * share / (1.0 - share) };
        let hits = counts.canary_hits as f64;
        let misses = counts.canary.saturating_sub(counts.canary_hits) as f64;
        let baseline_hits = counts.baseline_hits as f64;
        let each = staked / self.bets.len() as f64;
        for bet in &mut self.bets {
            bet.wealth += each;
            if is_active {
                let mut lambda = (bet.ratio - 1.0) / (1.0 + bet.ratio * odds);
                if tau > 0.0 {
                    lambda = lambda.min(0.9 / tau);
                }
                let mut growth =
                    hits * (lambda * (1.0 - tau)).ln_1p() + misses * (-lambda * tau).ln_1p();
                if !one_sample {
                    growth += baseline_hits * (-lambda * odds).ln_1p();
                }
                let growth = (growth / phi).min(bet.credit);
                bet.wealth *= growth.exp();
                bet.credit -= growth.max(0.0);
            }
            bet.credit = credit.min(bet.credit + refill);
        }
        self.evidence()
    }

    /// 1 at the beginning.
    pub fn evidence(&self) -> f64 {
        self.cash + self.bets.iter().map(|bet| bet.wealth).sum::<f64>()
    }

    /// What has not been staked yet.
    pub fn cash(&self) -> f64 {
        self.cash
    }
}
